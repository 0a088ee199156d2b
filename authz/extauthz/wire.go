package extauthz

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

var errWire = errors.New("not a protobuf message")

// part is a piece of a message, beside the copy of it that its strings come from.
type part struct {
	bytes []byte
	text  string
}

// field is one field of a message. Its part is empty unless it is length-delimited.
type field struct {
	number int32
	typ    protowire.Type
	part
}

// fields shows every field in order. A field that comes again is shown again: what is
// read into the same place is merged, as the specification of protobuf has it.
func (p part) fields(visit func(field) error) error {
	for at := 0; at < len(p.bytes); {
		number, typ, n := protowire.ConsumeTag(p.bytes[at:])
		if n < 0 {
			return errWire
		}
		at += n
		f := field{number: int32(number), typ: typ}
		if typ == protowire.BytesType {
			size, n := protowire.ConsumeVarint(p.bytes[at:])
			if n < 0 || size > uint64(len(p.bytes)-at-n) { //nolint:gosec // what is left is not negative
				return errWire
			}
			at += n
			end := at + int(size) //nolint:gosec // at most what is left
			f.part = part{p.bytes[at:end], p.text[at:end]}
			at = end
		} else if n = protowire.ConsumeFieldValue(number, typ, p.bytes[at:]); n < 0 {
			return errWire
		} else {
			at += n
		}
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// message shows the fields of a field that is a message. One of another wire type is an
// unknown field, here and below.
func (f field) message(visit func(field) error) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	return f.fields(visit)
}

// string takes a text, which has to be UTF-8.
func (f field) string(into *string) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	if !utf8.ValidString(f.text) {
		return errWire
	}
	*into = f.text
	return nil
}

// octets takes bytes as they are.
func (f field) octets(into *string) error {
	if f.typ == protowire.BytesType {
		*into = f.text
	}
	return nil
}

// appendText appends a field with a text.
func appendText(b []byte, number protowire.Number, text string) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendString(b, text)
}

// appendNumber appends a field with a number that is not zero: zero is said by saying nothing.
func appendNumber(b []byte, number protowire.Number, v int) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(v)) //nolint:gosec // codes and statuses are not negative
}

// appendMessage appends a field that is a message of the given size, to be written next.
func appendMessage(b []byte, number protowire.Number, size int) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size)) //nolint:gosec // a size is not negative
}

// sizeText is the size of appendText for a field number below 16.
func sizeText(text string) int { return 1 + protowire.SizeBytes(len(text)) }
