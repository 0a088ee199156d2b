package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// format is the first word of a key file.
const format = "gatehouse-key-v1"

// maxKeyFile bounds the text that ParseKey looks at.
const maxKeyFile = 256

// Key is one sealing key, as a key file carries it:
//
//	gatehouse-key-v1 ID CREATED BASE64
//
// ID is eight lower-case hexadecimal digits, CREATED is RFC 3339 in UTC with
// whole seconds, BASE64 is 32 random bytes in the standard alphabet with padding.
// The fields are separated by one space, and one newline may follow.
type Key struct {
	ID      string // names the key in everything it sealed; public
	Created time.Time
	secret  [32]byte
}

// NewKey makes a random key that was created at now.
func NewKey(now time.Time) Key {
	var id [4]byte
	rand.Read(id[:])
	k := Key{ID: hex.EncodeToString(id[:]), Created: now.UTC().Truncate(time.Second)}
	rand.Read(k.secret[:])
	return k
}

// ParseKey reads the content of a key file. There is one spelling of each key:
// what it accepts, MarshalText writes again. Errors say what to change and never
// contain the secret.
func ParseKey(text []byte) (Key, error) {
	if len(text) > maxKeyFile {
		return Key{}, fmt.Errorf("key file is longer than %d bytes: is this the right file?", maxKeyFile)
	}
	text, _ = bytes.CutSuffix(text, []byte("\n"))
	word := bytes.Split(text, []byte(" "))
	if string(word[0]) != format {
		return Key{}, fmt.Errorf("key file does not begin with %q: make one with \"gatehouse keys new\"", format)
	}
	if len(word) != 4 {
		return Key{}, fmt.Errorf("key file has %d fields, want 4: %s ID CREATED BASE64, one space between them, on one line", len(word), format)
	}
	var k Key
	var err error
	if k.ID, err = parseID(string(word[1])); err != nil {
		return Key{}, err
	}
	if k.Created, err = parseCreated(string(word[2])); err != nil {
		return Key{}, err
	}
	if k.secret, err = parseSecret(string(word[3])); err != nil {
		return Key{}, err
	}
	return k, nil
}

func parseID(s string) (string, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 || hex.EncodeToString(b) != s {
		return "", errors.New("key id is not eight lower-case hexadecimal digits")
	}
	return s, nil
}

func parseCreated(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Format(time.RFC3339) != s {
		return time.Time{}, errors.New("creation time of the key is not RFC 3339 in UTC with whole seconds, like 2026-01-02T15:04:05Z")
	}
	return t.UTC(), nil
}

func parseSecret(s string) (secret [32]byte, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// The decoder skips line breaks, so one text is insisted on.
	if err != nil || len(b) != len(secret) || base64.StdEncoding.EncodeToString(b) != s {
		return secret, errors.New("secret of the key is not 32 bytes of padded standard base64 (44 characters)")
	}
	if secret = [32]byte(b); secret == [32]byte{} {
		return secret, errors.New("secret of the key is all zero: make a key with \"gatehouse keys new\"")
	}
	return secret, nil
}

// MarshalText returns the content of a key file, secret included.
func (k Key) MarshalText() ([]byte, error) {
	if k.secret == [32]byte{} {
		return nil, errors.New("key has no secret: use NewKey or ParseKey")
	}
	return fmt.Appendf(nil, "%s %s %s %s\n", format, k.ID, k.Created.Format(time.RFC3339),
		base64.StdEncoding.EncodeToString(k.secret[:])), nil
}

// Format writes only the ID, whatever the verb, so that no print shows the secret.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "seal.Key("+k.ID+")") }

// LogValue keeps a logger from using MarshalText.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID) }

// MarshalJSON does the same for a key inside of something else: package slog asks
// for a LogValue only where the key is the value itself.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.ID) }
