package seal

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

// Vectors of c2sp.org/XAES-256-GCM. The accumulated one covers 10,000 random
// keys, nonces, plaintexts and additional data.
func TestXAESVectors(t *testing.T) {
	for _, v := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		got := xaesSeal(t, bytes.Repeat([]byte{v.key}, 32), []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM"), []byte(v.aad))
		if hex.EncodeToString(got) != v.want {
			t.Errorf("key %x.., aad %q: %x, want %s", v.key, v.aad, got, v.want)
		}
	}
}

func TestXAESAccumulated(t *testing.T) {
	s, d := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		s.Read(b)
		return b
	}
	for range 10_000 {
		key, nonce := read(32), read(xaesNonce)
		plaintext := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		d.Write(xaesSeal(t, key, nonce, plaintext, aad))
	}
	sum := make([]byte, 32)
	d.Read(sum)
	if got, want := hex.EncodeToString(sum), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"; got != want {
		t.Errorf("accumulated %s, want %s", got, want)
	}
}

func xaesSeal(t *testing.T, key, nonce, plaintext, aad []byte) []byte {
	t.Helper()
	x, err := newXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := x.under(nonce)
	if err != nil {
		t.Fatal(err)
	}
	sealed := gcm.Seal(nil, nonce[gcmNonce:], plaintext, aad)
	if opened, err := gcm.Open(nil, nonce[gcmNonce:], sealed, aad); err != nil || !bytes.Equal(opened, plaintext) {
		t.Fatalf("open of what was sealed = %x, %v", opened, err)
	}
	return sealed
}
