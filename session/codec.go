package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-mesh/gatehouse/authz"
	sessionv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/session/v1"
	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const (
	format    = 1       // of the records that this version writes
	maxRecord = 1 << 20 // bytes of all fields together
)

// codec turns sessions into sealed fields and back. Each field is bound to its
// handle, its name and the record's version, so fields cannot be swapped.
type codec struct {
	identity, tokens, summary *seal.Box
}

func newCodec(ring *seal.Ring) codec {
	return codec{identity: ring.Box("session identity"), tokens: ring.Box("session tokens"), summary: ring.Box("session summary")}
}

// encode returns the record of a new session. It refuses what would not load again.
func (c *codec) encode(id ID, s *Session) (Record, error) {
	r, err := c.reseal(id, s, 0)
	if err != nil {
		return Record{}, err
	}
	summary, err := proto.Marshal(&sessionv1.Summary{Device: s.Summary.Device, Address: s.Summary.Address, Created: timestamppb.New(s.Created)})
	if err != nil {
		return Record{}, fmt.Errorf("encode summary: %w", err)
	}
	r.Summary = []byte(c.summary.Seal(summary, r.summaryAAD()))
	return r, nil
}

// reseal returns a record of the given revision with everything but the summary.
func (c *codec) reseal(id ID, s *Session, revision uint64) (Record, error) {
	r := Record{Handle: s.Handle, Version: fmt.Sprintf("%d.%d", format, revision)}
	login, err := encodeLogin(s)
	if err != nil {
		return Record{}, err
	}
	tokens, err := encodeTokens(s.Tokens)
	if err != nil {
		return Record{}, err
	}
	r.Identity = c.identity.SealUnder(id[:], login, r.aad("i"))
	r.Tokens = c.tokens.SealUnder(id[:], tokens, r.aad("t"))
	if size := len(r.Identity) + len(r.Tokens); size > maxRecord {
		return Record{}, fmt.Errorf("identity and tokens need %d bytes, at most %d are kept", size, maxRecord)
	}
	if _, err := c.decode(id, r, FieldIdentity|FieldTokens); err != nil {
		return Record{}, fmt.Errorf("identity would not load again: %w", err)
	}
	return r, nil
}

// decode opens the fields that were loaded. Errors wrap ErrNewer or ErrDamaged, or
// mean that the ring lacks a key: cannot tell.
func (c *codec) decode(id ID, r Record, f Fields) (*Session, error) {
	if _, err := revision(r.Version); err != nil {
		return nil, err
	}
	login, err := open(c.identity, id, r.Identity, r.aad("i"))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	s := &Session{Handle: r.Handle, version: r.Version, size: len(r.Identity)}
	if err := decodeLogin(login, s); err != nil {
		return nil, fmt.Errorf("identity: %w: %w", ErrDamaged, err)
	}
	if f&FieldTokens == 0 {
		return s, nil
	}
	tokens, err := open(c.tokens, id, r.Tokens, r.aad("t"))
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if s.Tokens, err = decodeTokens(tokens); err != nil {
		return nil, fmt.Errorf("tokens: %w: %w", ErrDamaged, err)
	}
	return s, nil
}

func open(b *seal.Box, id ID, sealed []byte, aad string) ([]byte, error) {
	plaintext, err := b.OpenUnder(id[:], sealed, aad)
	if err == nil || errors.Is(err, seal.ErrUnknownKey) {
		return plaintext, err
	}
	return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
}

// decodeSummary opens what a list of sessions shows.
func (c *codec) decodeSummary(r Record) (Summary, time.Time, error) {
	plain, err := c.summary.Open(string(r.Summary), r.summaryAAD())
	if err != nil {
		return Summary{}, time.Time{}, fmt.Errorf("summary: %w", err)
	}
	var m sessionv1.Summary
	if err := proto.Unmarshal(plain, &m); err != nil {
		return Summary{}, time.Time{}, fmt.Errorf("summary: %w: %w", ErrDamaged, err)
	}
	return Summary{Device: m.Device, Address: m.Address}, fromTimestamp(m.Created), nil
}

// aad binds a field to its place.
func (r *Record) aad(field string) string {
	return r.Handle.String() + "/" + field + "/" + r.Version
}

// summaryAAD leaves the revision out: the summary is written once.
func (r *Record) summaryAAD() string { return r.Handle.String() + "/m" }

// revision accepts "FORMAT.REVISION" of formats that this version reads.
func revision(version string) (uint64, error) {
	f, text, ok := strings.Cut(version, ".")
	n, err := strconv.ParseUint(f, 10, 16)
	rev, err2 := strconv.ParseUint(text, 10, 64)
	switch {
	case !ok || err != nil || err2 != nil || n == 0:
		return 0, fmt.Errorf("%w: version is not FORMAT.REVISION", ErrDamaged)
	case n > format:
		return 0, fmt.Errorf("%w: %d, this version reads up to %d", ErrNewer, n, format)
	}
	return rev, nil
}

func encodeLogin(s *Session) ([]byte, error) {
	claims, err := encodeClaims(s.Identity.Claims)
	if err != nil {
		return nil, err
	}
	i := s.Identity
	b, err := proto.Marshal(&sessionv1.Login{
		Identity: &sessionv1.Identity{
			Provider: i.Provider, Issuer: i.Issuer, Subject: i.Subject, User: i.User, Email: i.Email, EmailVerified: i.EmailVerified,
			PreferredUsername: i.PreferredUsername, Groups: i.Groups, Audience: i.Audience, Claims: claims, Expires: timestamp(i.Expires),
		},
		Created: timestamp(s.Created), Expires: timestamp(s.Expires), Renewed: timestamp(s.renewed), RenewBy: timestamp(s.renewBy),
	})
	if err != nil {
		return nil, fmt.Errorf("encode identity: %w", err)
	}
	return b, nil
}

// decodeLogin fills s from an opened field.
func decodeLogin(data []byte, s *Session) error {
	var l sessionv1.Login
	if err := proto.Unmarshal(data, &l); err != nil {
		return err
	}
	if l.Identity == nil || !l.Created.IsValid() || !l.Expires.IsValid() {
		return errors.New("incomplete")
	}
	claims, err := decodeClaims(l.Identity.Claims)
	if err != nil {
		return err
	}
	i := l.Identity
	s.Created, s.Expires = l.Created.AsTime(), l.Expires.AsTime()
	s.renewed, s.renewBy = fromTimestamp(l.Renewed), fromTimestamp(l.RenewBy)
	s.Identity = &authz.Identity{
		Provider: i.Provider, Issuer: i.Issuer, Subject: i.Subject, User: i.User, Email: i.Email, EmailVerified: i.EmailVerified,
		PreferredUsername: i.PreferredUsername, Groups: i.Groups, Audience: i.Audience, Claims: claims, Expires: fromTimestamp(i.Expires),
		Session: s.Handle.Name(),
	}
	return nil
}

// encodeClaims writes numbers as the token had them: they are json.Number.
func encodeClaims(c authz.Claims) ([]byte, error) {
	if c == nil {
		return nil, nil
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func decodeClaims(data []byte) (authz.Claims, error) {
	if len(data) == 0 {
		return authz.Claims(nil), nil
	}
	return authz.ParseClaims(data)
}

func encodeTokens(t *Tokens) ([]byte, error) {
	if t == nil {
		t = &Tokens{}
	}
	b, err := proto.Marshal(&sessionv1.Tokens{
		Access: t.Access, Refresh: t.Refresh, Id: t.ID,
		AccessExpires: timestamp(t.AccessExpires), ProviderSession: t.ProviderSession,
	})
	if err != nil {
		return nil, fmt.Errorf("encode tokens: %w", err)
	}
	return b, nil
}

func decodeTokens(data []byte) (*Tokens, error) {
	var t sessionv1.Tokens
	if err := proto.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	return &Tokens{
		Access: t.Access, Refresh: t.Refresh, ID: t.Id,
		AccessExpires: fromTimestamp(t.AccessExpires), ProviderSession: t.ProviderSession,
	}, nil
}

// timestamp and fromTimestamp keep the zero time as absence.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromTimestamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
