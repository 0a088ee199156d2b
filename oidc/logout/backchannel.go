package logout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz"
	"github.com/gatehouse-mesh/gatehouse/oidc"
	"github.com/gatehouse-mesh/gatehouse/oidc/login"
)

const (
	maxBody      = 64 << 10 // a token has at most 16 KiB
	maxVerifying = 64       // logout tokens being looked at, at a time
	// backChannelTimeout is for keys and store together. A provider that hangs up
	// earlier does not tear an ending in two.
	backChannelTimeout = 10 * time.Second
)

// Why a logout token was not obeyed, for the log. The list is fixed.
const (
	reasonMethod     = "method"
	reasonType       = "content_type"
	reasonTooLarge   = "too_large"
	reasonForm       = "malformed_form"
	reasonToken      = "malformed_token"
	reasonIssuer     = "unknown_issuer"
	reasonRejected   = "rejected"
	reasonReplayed   = "replayed"
	reasonOverloaded = "overloaded"
	reasonProvider   = "provider_unavailable"
	reasonStore      = "store_unavailable"
)

// refusal is a logout request that was not carried out.
type refusal struct {
	status int
	reason string
	err    error
}

// BackChannel takes the logout tokens of providers (OpenID Connect Back-Channel Logout
// 1.0 section 2.5). It is an HTTP handler and no Endpoint: the token is in the body,
// which a Check does not see.
//
// 200: nothing that the token names is alive. 400: the token counts for nothing.
// 503: whether it counts cannot be told, or the ending could not be written down; the
// specification knows no such answer (section 2.8 has 400 for every failure, and no
// 501 any more), but a provider repeats a request after an error that passes (section
// 2.5), and has no reason to after a 400.
func (l *Logout) BackChannel() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		r := l.sender(in)
		w.Header().Set("Cache-Control", "no-store") // section 2.8
		w.Header().Set("X-Content-Type-Options", "nosniff")
		raw, no := readToken(w, in)
		if no == nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(in.Context()), backChannelTimeout)
			defer cancel()
			no = l.obey(ctx, r, raw)
		}
		if no != nil {
			l.refuse(w, r, no)
		}
	})
}

// TakesBackChannel reports whether BackChannel serves a request: on the login host, or
// on every host when there is none.
func (l *Logout) TakesBackChannel(in *http.Request) bool {
	if in.URL.Path != l.address("backchannel-logout") || in.URL.RawPath != "" {
		return false
	}
	h, ok := l.cfg.Login.LoginHost()
	if !ok {
		return true
	}
	r, err := authz.NewRequest(authz.Raw{Method: in.Method, Authority: in.Host, Target: "/"})
	return err == nil && r.Host == h.Name
}

// sender is in without what belongs to the token: who it was, for the log.
func (l *Logout) sender(in *http.Request) *authz.Request {
	var h authz.Header
	for name, values := range in.Header {
		for _, value := range values {
			h = append(h, authz.Field{Name: strings.ToLower(name), Value: value})
		}
	}
	peer := authz.Peer{Address: in.RemoteAddr}
	if host, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		peer.Address = host
	}
	peer.Client = l.cfg.Client(h, peer.Address)
	// What cannot be read is left out: it is not what the request is judged by.
	r, _ := authz.NewRequest(authz.Raw{Method: in.Method, Authority: in.Host, Target: "/", Peer: peer, ID: in.Header.Get("X-Request-Id")})
	return r
}

// readToken finds the one logout_token of a form.
func readToken(w http.ResponseWriter, in *http.Request) (string, *refusal) {
	if in.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return "", &refusal{http.StatusMethodNotAllowed, reasonMethod, fmt.Errorf("method %.32q", in.Method)}
	}
	if kind, _, err := mime.ParseMediaType(in.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return "", &refusal{http.StatusBadRequest, reasonType, fmt.Errorf("content type %.100q", in.Header.Get("Content-Type"))}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, maxBody))
	if errors.As(err, new(*http.MaxBytesError)) {
		return "", &refusal{http.StatusRequestEntityTooLarge, reasonTooLarge, err}
	}
	if err != nil {
		return "", &refusal{http.StatusBadRequest, reasonForm, errForm}
	}
	raw, err := only(string(body), "logout_token")
	if err != nil {
		return "", &refusal{http.StatusBadRequest, reasonForm, err}
	}
	return raw, nil
}

// obey carries out what a logout token says. nil means that it is done.
func (l *Logout) obey(ctx context.Context, r *authz.Request, raw string) *refusal {
	select {
	case l.verifying <- struct{}{}:
		defer func() { <-l.verifying }()
	default:
		return &refusal{http.StatusServiceUnavailable, reasonOverloaded, errors.New("too many logout tokens at a time")}
	}
	p, t, no := l.verify(ctx, raw)
	if no != nil {
		return no
	}
	jti := p.Issuer() + "\x00" + p.ClientID() + "\x00" + t.ID
	switch seen, err := l.cfg.Sessions.Seen(ctx, "jti", jti); {
	case err != nil:
		return &refusal{http.StatusServiceUnavailable, reasonStore, err}
	case seen: // section 2.6 (8)
		return &refusal{http.StatusBadRequest, reasonReplayed, errors.New("jti was used before")}
	}
	ended, by, err := l.endNamed(ctx, t)
	if err == nil {
		// Only now, so that a token whose sessions could not be ended works when it
		// is sent again. Of two that come at the same moment both end the same.
		_, err = l.cfg.Sessions.Once(ctx, "jti", jti, lifeOf(t))
	}
	if err != nil {
		return &refusal{http.StatusServiceUnavailable, reasonStore, err}
	}
	l.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "backchannel_logout", slog.String("provider", p.Name()), slog.String("issuer", t.Issuer),
		slog.String("subject", t.Subject), slog.String("by", by), slog.Int("ended", ended), slog.String("client", r.Peer.Client), slog.String("request_id", r.ID))
	return nil
}

// verify finds the provider that a token comes from. Several may share an issuer; aud
// says whose it is.
func (l *Logout) verify(ctx context.Context, raw string) (*oidc.Provider, *oidc.LogoutToken, *refusal) {
	issuer, err := oidc.LogoutIssuer(raw)
	if err != nil {
		return nil, nil, &refusal{http.StatusBadRequest, reasonToken, err}
	}
	no := &refusal{http.StatusBadRequest, reasonIssuer, fmt.Errorf("no provider with logins has issuer %.200q", issuer)}
	for _, p := range l.cfg.Providers {
		if p.Issuer() != issuer {
			continue
		}
		t, err := p.VerifyLogoutToken(ctx, raw)
		switch {
		case err == nil:
			return p, t, nil
		case !errors.Is(err, oidc.ErrRejected): // one that cannot tell outweighs those that say no
			no = &refusal{http.StatusServiceUnavailable, reasonProvider, err}
		case no.status != http.StatusServiceUnavailable:
			no = &refusal{http.StatusBadRequest, reasonRejected, err}
		}
	}
	return nil, nil, no
}

// endNamed ends the sessions that a token names, and says how they were found.
//
// Without sid they are all of the subject (section 2.4). A sid is one session at the
// provider, and those that came out of it are ended and no others: the subject is
// signed in elsewhere by his own wish. When nobody has this sid, it has ended already,
// which is a success (section 2.7), or came without it: those without any sid are
// ended, since it may be one of them.
func (l *Logout) endNamed(ctx context.Context, t *oidc.LogoutToken) (ended int, by string, err error) {
	if t.SessionID == "" {
		ended, err = l.cfg.Sessions.EndUser(ctx, t.Issuer, t.Subject)
		return ended, "sub", err
	}
	ended, err = l.cfg.Sessions.EndProviderSession(ctx, t.Issuer, t.SessionID)
	if err != nil || ended > 0 || t.Subject == "" {
		return ended, "sid", err
	}
	ended, err = l.cfg.Sessions.EndProviderSession(ctx, t.Issuer, login.Unnamed(t.Subject))
	return ended, "sub_without_sid", err
}

// lifeOf is how long a token could be used again: to its end by the slowest clock that
// the configuration allows. It is bounded for one that says it lives forever, since
// its age is, too.
func lifeOf(t *oidc.LogoutToken) time.Duration {
	const skew, most = 10 * time.Minute, 24 * time.Hour
	return min(max(time.Until(t.Expires), 0), most) + skew
}

// refuse says no without a reason, which is in the log.
func (l *Logout) refuse(w http.ResponseWriter, r *authz.Request, no *refusal) {
	level, event, body := slog.LevelInfo, "backchannel_refused", `{"error":"invalid_request"}`
	if no.status == http.StatusServiceUnavailable {
		level, event, body = slog.LevelError, "backchannel_failed", `{"error":"temporarily_unavailable"}`
		w.Header().Set("Retry-After", "5")
	}
	l.cfg.Log.LogAttrs(context.Background(), level, event, slog.String("reason", no.reason), slog.String("error", no.err.Error()),
		slog.String("host", r.Host), slog.String("client", r.Peer.Client), slog.String("request_id", r.ID))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(no.status)
	_, _ = io.WriteString(w, body+"\n") // a provider that has gone away needs no word
}
