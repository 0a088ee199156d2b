package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ring(t testing.TB, keys ...seal.Key) *seal.Ring {
	t.Helper()
	if keys == nil {
		keys = []seal.Key{seal.NewKey(day)}
	}
	r, err := seal.NewRing(keys, 5*time.Minute, func() time.Time { return day.Add(time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseKey(t *testing.T) {
	const (
		b64  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
		good = "gatehouse-key-v1 0badcafe 2026-01-02T03:04:05Z " + b64
	)
	for _, c := range []struct{ in, want string }{
		{good, ""},
		{good + "\n", ""},
		{good + "\n\n", "44 characters"},
		{good + "\r\n", "44 characters"},
		{" " + good, "does not begin"},
		{"", "does not begin"},
		{b64, "does not begin"},
		{strings.Replace(good, " 0bad", "  0bad", 1), "5 fields"},
		{strings.Replace(good, " 0bad", "\t0bad", 1), "does not begin"},
		{strings.Replace(good, "0badcafe", "0BADCAFE", 1), "lower-case"},
		{strings.Replace(good, "0badcafe", "0badcaf", 1), "eight"},
		{strings.Replace(good, "05Z", "05.5Z", 1), "RFC 3339"},
		{strings.Replace(good, "05Z", "05+00:00", 1), "RFC 3339"},
		{strings.Replace(good, "05Z", "05+01:00", 1), "RFC 3339"},
		{strings.TrimSuffix(good, "="), "44 characters"},
		{strings.Replace(good, "Hh8=", "Hh9=", 1), "44 characters"}, // trailing bits set
		{strings.Replace(good, "AAEC", "AA\nEC", 1), "44 characters"},
		{strings.Replace(good, b64, strings.Repeat("A", 43)+"=", 1), "all zero"},
		{good + strings.Repeat(" ", 300), "longer than"},
	} {
		k, err := seal.ParseKey([]byte(c.in))
		if c.want == "" {
			if err != nil {
				t.Errorf("ParseKey(%q): %v", c.in, err)
				continue
			}
			if out, _ := k.MarshalText(); string(out) != good+"\n" || k.ID != "0badcafe" || !k.Created.Equal(day) {
				t.Errorf("ParseKey(%q) writes %q", c.in, out)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseKey(%q) = %v, want an error with %q", c.in, err, c.want)
		} else if strings.Contains(err.Error(), "AwQF") {
			t.Errorf("ParseKey(%q): the error shows the secret: %v", c.in, err)
		}
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	k := seal.NewKey(day)
	text, err := k.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Fields(string(text))[3]
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	for name, v := range map[string]any{"slice": []seal.Key{k}, "pointer": &k, "struct": struct{ K seal.Key }{k}, "map": map[string]any{"k": k}} {
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", name, v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", name, v)
	}
	want := "seal.Key(" + k.ID + ")"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, k); got != want {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	if got := fmt.Sprintf("%v", []seal.Key{k}); got != "["+want+"]" {
		t.Errorf("a slice prints %s", got)
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("log shows the secret: %s", log.String())
	}
	if _, err := (seal.Key{ID: "0badcafe"}).MarshalText(); err == nil {
		t.Error("a key without a secret was written")
	}
}

// The keys of each use are HKDF-Expand (RFC 5869) under a label of their own: what is
// written today opens and is found tomorrow, and no two uses share a key.
func TestDerivation(t *testing.T) {
	k, err := seal.ParseKey([]byte("gatehouse-key-v1 0badcafe 2026-01-02T03:04:05Z AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	expand := func(use string) []byte {
		key, err := hkdf.Expand(sha256.New, secret, "gatehouse/v1/"+use+"/purpose", 32)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	sealWith := func(key []byte, text, aad string) []byte {
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		nonce := []byte("twelve bytes")
		return gcm.Seal(append([]byte{0x0b, 0xad, 0xca, 0xfe}, nonce...), nonce, []byte(text), []byte(aad))
	}
	box := ring(t, k).Box("purpose")
	mac := hmac.New(sha256.New, expand("mac"))
	mac.Write([]byte("text"))
	if got := box.MAC("text"); !bytes.Equal(got, mac.Sum(nil)) {
		t.Errorf("MAC = %x", got)
	}
	sealed := base64.RawURLEncoding.EncodeToString(sealWith(expand("aes-256-gcm"), "text", "aad"))
	if got, err := box.Open(sealed, "aad"); err != nil || string(got) != "text" {
		t.Errorf("Open = %q, %v", got, err)
	}
	under, err := hkdf.Key(sha256.New, []byte("secret of 16 b.."), expand("under"), "gatehouse/v1/under secret/purpose", 32)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := box.OpenUnder([]byte("secret of 16 b.."), sealWith(under, "text", "aad"), "aad"); err != nil || string(got) != "text" {
		t.Errorf("OpenUnder = %q, %v", got, err)
	}
}

// X4: a text beyond the limit is not looked at, whoever sealed it.
func TestOpenIsBounded(t *testing.T) {
	box := ring(t).Box("purpose")
	for _, c := range []struct {
		size int
		ok   bool
	}{{6000, true}, {seal.MaxText, false}} {
		if _, err := box.Open(box.Seal(make([]byte, c.size), ""), ""); (err == nil) != c.ok {
			t.Errorf("Open of %d sealed bytes: %v", c.size, err)
		}
	}
}

func TestNewRingRefuses(t *testing.T) {
	k := seal.NewKey(day)
	twin := seal.NewKey(day)
	twin.ID = k.ID
	for _, c := range []struct {
		name string
		keys []seal.Key
		want string
	}{
		{"none", nil, "no sealing key"},
		{"twice", []seal.Key{k, k}, "there twice"},
		{"two secrets of one id", []seal.Key{k, twin}, "there twice"},
		{"without secret", []seal.Key{{ID: "0badcafe", Created: day}}, "made by neither"},
		{"bad id", []seal.Key{{ID: "x"}}, "made by neither"},
	} {
		if _, err := seal.NewRing(c.keys, 0, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
	if _, err := seal.NewRing([]seal.Key{k}, -1, nil); err == nil {
		t.Error("a negative activation delay was accepted")
	}
	r := ring(t, k)
	if err := r.Set(nil); err == nil || r.Sealing() != k.ID {
		t.Errorf("Set(nil) = %v and the ring seals with %q", err, r.Sealing())
	}
}

// D15: a new key opens at once, seals after the delay, and the old one goes on opening.
func TestActivation(t *testing.T) {
	now := day
	old, young := seal.NewKey(day.Add(-24*time.Hour)), seal.NewKey(day)
	r, err := seal.NewRing([]seal.Key{young, old}, 5*time.Minute, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	box := r.Box("test")
	first, firstMAC := box.Seal([]byte("x"), ""), box.MAC("name")
	for _, c := range []struct {
		at   time.Duration
		want seal.Key
	}{{-time.Hour, old}, {0, old}, {5*time.Minute - 1, old}, {5 * time.Minute, young}, {time.Hour, young}} {
		now = day.Add(c.at)
		if got := r.Sealing(); got != c.want.ID {
			t.Errorf("at %v key %s seals, want %s", c.at, got, c.want.ID)
		}
	}
	if macs := box.MACs("name"); len(macs) != 2 || !bytes.Equal(macs[0], box.MAC("name")) || !bytes.Equal(macs[1], firstMAC) {
		t.Error("MACs are not those of the newest and the oldest key, in this order")
	}
	second := box.Seal([]byte("y"), "")
	if _, err := box.Open(first, ""); err != nil {
		t.Errorf("what the old key sealed: %v", err)
	}
	if err := r.Set([]seal.Key{young}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Open(first, ""); !errors.Is(err, seal.ErrUnknownKey) || !errors.Is(err, seal.ErrOpen) {
		t.Errorf("what a removed key sealed: %v", err)
	}
	if _, err := box.Open(second, ""); err != nil {
		t.Errorf("what the kept key sealed: %v", err)
	}
}

func TestFirstStart(t *testing.T) {
	older, newer := seal.NewKey(day.Add(-time.Second)), seal.NewKey(day)
	r, err := seal.NewRing([]seal.Key{newer, older}, 5*time.Minute, func() time.Time { return day })
	if err != nil {
		t.Fatal(err)
	}
	if r.Sealing() != older.ID {
		t.Error("no key is active, but the oldest does not seal")
	}
}

// C9: no byte can be changed, and nothing moves to another purpose, kind of box or aad.
func TestOpenRefuses(t *testing.T) {
	r := ring(t)
	for name, box := range map[string]*seal.Box{"narrow": r.Box("a"), "wide": r.WideBox("a")} {
		sealed := box.Seal([]byte("plaintext"), "aad")
		if got, err := box.Open(sealed, "aad"); err != nil || string(got) != "plaintext" {
			t.Fatalf("%s: Open = %q, %v", name, got, err)
		}
		for i := range sealed {
			for _, c := range []byte("A_Z=\n\x00\xff") {
				if c == sealed[i] {
					continue
				}
				bad := sealed[:i] + string(c) + sealed[i+1:]
				if _, err := box.Open(bad, "aad"); !errors.Is(err, seal.ErrOpen) {
					t.Fatalf("%s: byte %d as %q: %v", name, i, c, err)
				}
				bad = sealed[:i] + string(c) + sealed[i:]
				if _, err := box.Open(bad, "aad"); !errors.Is(err, seal.ErrOpen) {
					t.Fatalf("%s: %q before byte %d: %v", name, c, i, err)
				}
			}
			if _, err := box.Open(sealed[:i], "aad"); !errors.Is(err, seal.ErrOpen) {
				t.Fatalf("%s: cut at %d: %v", name, i, err)
			}
		}
		for what, other := range map[string]*seal.Box{
			"another purpose": r.Box("b"), "another ring": ring(t).Box("a"),
			"the other kind": map[string]*seal.Box{"narrow": r.WideBox("a"), "wide": r.Box("a")}[name],
		} {
			if _, err := other.Open(sealed, "aad"); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("%s: opened by %s: %v", name, what, err)
			}
		}
		if _, err := box.Open(sealed, "aae"); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: opened with other aad: %v", name, err)
		}
		for _, junk := range []string{"", "A", "AA", sealed + "\n", sealed + "==", strings.Repeat("A", seal.MaxText+1)} {
			if _, err := box.Open(junk, "aad"); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("%s: Open(%.20q) = %v", name, junk, err)
			}
		}
	}
}

func TestSealUnder(t *testing.T) {
	r := ring(t)
	box := r.Box("a")
	secret := bytes.Repeat([]byte{7}, 32)
	sealed := box.SealUnder(secret, []byte("plaintext"), "aad")
	keep := bytes.Clone(sealed)
	if got, err := box.OpenUnder(secret, sealed, "aad"); err != nil || string(got) != "plaintext" {
		t.Fatalf("OpenUnder = %q, %v", got, err)
	}
	if !bytes.Equal(sealed, keep) {
		t.Error("OpenUnder changed what it was given")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := box.OpenUnder(secret, bad, "aad"); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if _, err := box.OpenUnder(secret, sealed[:i], "aad"); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	other := bytes.Clone(secret)
	other[31]++
	if _, err := box.OpenUnder(other, sealed, "aad"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("opened under another secret: %v", err)
	}
	if _, err := box.OpenUnder(secret, sealed, "b"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("opened with other aad: %v", err)
	}
	if _, err := r.Box("b").OpenUnder(secret, sealed, "aad"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("opened for another purpose: %v", err)
	}
	if _, err := ring(t).Box("a").OpenUnder(secret, sealed, "aad"); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("opened by another ring: %v", err)
	}
}

func TestSetWhileInUse(t *testing.T) {
	keys := []seal.Key{seal.NewKey(day), seal.NewKey(day.Add(-time.Hour))}
	r := ring(t, keys...)
	box := r.WideBox("a")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if got, err := box.Open(box.Seal([]byte("x"), ""), ""); err != nil || string(got) != "x" {
					t.Errorf("Open = %q, %v", got, err)
				}
			}
		})
	}
	for range 100 {
		keys[0], keys[1] = keys[1], keys[0]
		if err := r.Set(keys); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// Whatever parses is written again as the same bytes, and no error shows the input.
func FuzzParseKey(f *testing.F) {
	text, _ := seal.NewKey(day).MarshalText()
	f.Add(text)
	f.Add([]byte("gatehouse-key-v1 0badcafe 2026-01-02T03:04:05Z AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	f.Add([]byte("gatehouse-key-v1   "))
	f.Fuzz(func(t *testing.T, in []byte) {
		k, err := seal.ParseKey(in)
		if err != nil {
			return
		}
		if out, err := k.MarshalText(); err != nil || string(out) != strings.TrimSuffix(string(in), "\n")+"\n" {
			t.Errorf("ParseKey(%q) writes %q, %v", in, out, err)
		}
	})
}

// Nothing opens but what was sealed, and its text has one spelling.
func FuzzOpen(f *testing.F) {
	k, err := seal.ParseKey([]byte("gatehouse-key-v1 0badcafe 2026-01-02T03:04:05Z AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		f.Fatal(err)
	}
	r := ring(f, k)
	boxes := []*seal.Box{r.Box("a"), r.WideBox("a")}
	plaintexts := []string{"", "x", "xy", "a longer value of forty bytes and a bit more"}
	for _, b := range boxes {
		for _, plaintext := range plaintexts {
			s := b.Seal([]byte(plaintext), "aad")
			f.Add(s, "aad")
			f.Add(s+"\n", "aad")
		}
	}
	f.Add("C63K_g", "")
	f.Fuzz(func(t *testing.T, sealed, aad string) {
		for _, b := range boxes {
			if got, err := b.Open(sealed, aad); err == nil {
				raw, err := base64.RawURLEncoding.DecodeString(sealed)
				if err != nil || base64.RawURLEncoding.EncodeToString(raw) != sealed || aad != "aad" || !slices.Contains(plaintexts, string(got)) {
					t.Errorf("Open(%q, %q) = %q, which was never sealed so", sealed, aad, got)
				}
			}
			if _, err := b.OpenUnder([]byte("secret"), []byte(sealed), aad); err == nil {
				t.Errorf("OpenUnder(%q, %q) opened what was never sealed", sealed, aad)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	keys := []seal.Key{seal.NewKey(day), seal.NewKey(day.Add(-time.Hour)), seal.NewKey(day.Add(-2 * time.Hour))}
	r := ring(b, keys...)
	cookie := bytes.Repeat([]byte{1}, 40) // session id and absolute end
	for name, box := range map[string]*seal.Box{"narrow": r.Box("a"), "wide": r.WideBox("a")} {
		sealed := box.Seal(cookie, "app.example.com __Host-gh_corp")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := box.Open(sealed, "app.example.com __Host-gh_corp"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("junk", func(b *testing.B) {
		junk := strings.Repeat("A", 140)
		box := r.Box("a")
		for b.Loop() {
			if _, err := box.Open(junk, "app.example.com __Host-gh_corp"); err == nil {
				b.Fatal("opened")
			}
		}
	})
	b.Run("under", func(b *testing.B) {
		b.ReportAllocs()
		box, secret := r.Box("a"), bytes.Repeat([]byte{1}, 32)
		sealed := box.SealUnder(secret, bytes.Repeat([]byte{1}, 800), "aad")
		for b.Loop() {
			if _, err := box.OpenUnder(secret, sealed, "aad"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
