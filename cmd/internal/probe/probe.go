// Package probe asks protected hosts through their real front doors, and says which let
// a stranger in.
//
// A proxy that is set up wrongly asks nobody, or takes everybody for known, and all logs
// look healthy: only a request from outside shows it. What cannot be asked proves
// nothing, and is a failure, too.
package probe

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Config is what a Prober works with.
type Config struct {
	Doors   []Door
	Token   string                                                  // a token that no rule accepts, sent beside other junk; empty: none
	Timeout time.Duration                                           // of one request; zero: 5 s
	Connect map[string]string                                       // host:port → host:port to connect to instead; nil: as names resolve
	TLS     *tls.Config                                             // nil: the authorities of the system
	Dial    func(context.Context, string, string) (net.Conn, error) // nil: net.Dialer
}

// Door is a place that must not let strangers in.
type Door struct {
	Rule   string // that protects it
	Origin string // https://app.example.com
	Path   string // without query
	Method string
	Start  []string // prefixes of addresses that a stranger may be sent to
}

// Finding is what a door did with one kind of stranger.
type Finding struct {
	Rule    string `json:"rule"`
	Origin  string `json:"origin"`
	URL     string `json:"url"`
	As      string `json:"as"`                // nobody, garbage, pretender, stranger
	Status  int    `json:"status,omitempty"`  // of the answer
	Open    bool   `json:"open"`              // the stranger was not refused
	Problem string `json:"problem,omitempty"` // empty: refused, as it should be
}

// Failed reports whether the finding proves nothing good.
func (f Finding) Failed() bool { return f.Problem != "" }

// maxAtOnce bounds the requests under way.
const maxAtOnce = 8

// maxBody bounds what is read of an answer.
const maxBody = 4 << 10

// Prober asks doors. Safe for concurrent use.
type Prober struct {
	cfg    Config
	client *http.Client
}

// New does no I/O.
func New(cfg Config) *Prober {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	p := &Prober{cfg: cfg}
	p.client = &http.Client{
		Timeout:       cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if to := cfg.Connect[address]; to != "" {
					address = to
				}
				return cfg.Dial(ctx, network, address)
			},
		},
	}
	return p
}

// Run asks every door as every kind of stranger, in the order of the doors. What ctx
// cut short is among the failures.
func (p *Prober) Run(ctx context.Context) []Finding {
	kinds := p.strangers()
	findings := make([]Finding, len(p.cfg.Doors)*len(kinds))
	slots := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, d := range p.cfg.Doors {
		for j, s := range kinds {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				findings[i*len(kinds)+j] = p.ask(ctx, d, s)
			})
		}
	}
	wg.Wait()
	return findings
}

// stranger is somebody whom no rule lets in.
type stranger struct {
	name   string
	header http.Header
}

func (p *Prober) strangers() []stranger {
	junk := rand.Text()
	all := []stranger{
		{"nobody", http.Header{}},
		{"garbage", http.Header{"Cookie": {"__Host-gh_corp=" + junk}, "Authorization": {"Bearer " + junk + "." + junk + "." + junk}}},
		// What believes such lines from outside would open to everybody who sends them.
		{"pretender", http.Header{"X-Auth-Request-User": {"root"}, "X-Auth-Request-Groups": {"admins"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Original-Url": {"/"}}},
	}
	if p.cfg.Token != "" {
		all = append(all, stranger{"stranger", http.Header{"Authorization": {"Bearer " + p.cfg.Token}}})
	}
	return all
}

func (p *Prober) ask(ctx context.Context, d Door, s stranger) Finding {
	f := Finding{Rule: d.Rule, Origin: d.Origin, URL: d.Origin + d.Path, As: s.name}
	req, err := http.NewRequestWithContext(ctx, d.Method, f.URL, http.NoBody)
	if err != nil {
		f.Problem = "the address cannot be asked"
		return f
	}
	req.Header = s.header.Clone()
	req.Header.Set("User-Agent", "gatehouse-probe")
	req.Header.Set("Accept", "text/html")
	resp, err := p.client.Do(req)
	if err != nil {
		f.Problem = "no answer: " + reason(err)
		return f
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	f.Status = resp.StatusCode
	f.Open, f.Problem = judge(d, resp)
	return f
}

// judge says whether an answer is a refusal.
func judge(d Door, resp *http.Response) (open bool, problem string) {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusBadRequest:
		return false, ""
	case code == http.StatusFound, code == http.StatusSeeOther:
		to := resp.Header.Get("Location")
		for _, start := range d.Start {
			if strings.HasPrefix(to, start) {
				return false, ""
			}
		}
		return true, fmt.Sprintf("it redirects to %.100q, which is not where people sign in", to)
	case code >= 500:
		// Nobody got in, but nothing is proven either.
		return false, fmt.Sprintf("it answers %d: whether it is closed cannot be told", code)
	default:
		return true, fmt.Sprintf("it answers %d to a stranger", code)
	}
}

// reason leaves the address out of an error: it stands beside it.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
