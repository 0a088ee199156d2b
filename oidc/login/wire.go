package login

import (
	"encoding/binary"
	"time"
)

// pack joins fields into bytes to seal; unpack takes exactly n of them apart.
func pack(fields ...string) []byte {
	var b []byte
	for _, field := range fields {
		b = binary.AppendUvarint(b, uint64(len(field)))
		b = append(b, field...)
	}
	return b
}

func unpack(b []byte, n int) ([]string, bool) {
	fields := make([]string, 0, n)
	for range n {
		size, used := binary.Uvarint(b)
		if used <= 0 || size > uint64(len(b)-used) { //nolint:gosec // used is at most len(b)
			return nil, false
		}
		b = b[used:]
		fields = append(fields, string(b[:size]))
		b = b[size:]
	}
	return fields, len(b) == 0
}

// packTime keeps every digit: whether a login or a sign-out came first is told by them.
func packTime(t time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())))
}

func unpackTime(s string) time.Time {
	if len(s) != 8 {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64([]byte(s)))) //nolint:gosec // packTime's bits
}
