package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/authz/forwardauth"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/admin"
	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// maxAskedHeader leaves room for what proxies add to the 60 KiB of a client.
const maxAskedHeader = 128 << 10

// openForwardAuth opens the listeners of proxies that ask over HTTP.
func (p *program) openForwardAuth(ctx context.Context, cfg *config.Config) (doors []*door, err error) {
	defer func() {
		if err != nil {
			for _, d := range doors {
				_ = d.Listener.Close()
			}
			doors = nil
		}
	}()
	for i := range cfg.Listen.ForwardAuth {
		f, name := &cfg.Listen.ForwardAuth[i], fmt.Sprintf("forward_auth[%d]", i)
		h, err := p.forwardAuth(cfg, f, name)
		if err != nil {
			return doors, err
		}
		d, err := p.openDoor(ctx, cfg, name, &config.HTTP{Address: f.Address, TLS: f.TLS}, h)
		if err != nil {
			return doors, err
		}
		d.MaxHeaderBytes = maxAskedHeader
		doors = append(doors, d)
	}
	return doors, nil
}

func (p *program) forwardAuth(cfg *config.Config, f *config.ForwardAuth, name string) (*forwardauth.Handler, error) {
	faults := &faultLog{log: p.logger(), listener: name, count: p.metrics.Miswired, said: map[string]said{}}
	fc := forwardauth.Config{
		Current: p.asked, Profile: forwardauth.Profile(f.Profile), Trusted: f.Trusted(), Proven: f.Proven(),
		Timeout: cfg.CheckTimeout, Miswired: faults.miswired,
	}
	if f.SecretFile != "" {
		path := cfg.Path(f.SecretFile)
		read := func() (string, error) {
			secret, err := config.ReadSecret(path)
			if err == nil {
				err = admin.CheckToken(secret)
			}
			return secret, err
		}
		if _, err := read(); err != nil {
			return nil, cfg.Mistake("listen."+name+".secret_file", err.Error(), "", "")
		}
		fc.Secret = func() (string, error) {
			secret, err := read()
			if err != nil {
				faults.unreadable(err)
			}
			return secret, err
		}
	}
	return forwardauth.New(fc)
}

// asked is what questions are answered from: the graph of the moment.
func (p *program) asked() forwardauth.Current {
	g := p.current.Load()
	if g == nil {
		return forwardauth.Current{}
	}
	return forwardauth.Current{
		Authorizer: g.authorizer, Prefix: g.config.Prefix,
		Origin: func(host string) string { return g.origins[host] },
	}
}

// sayAgain is how long the same fault of a listener is counted without a word.
const sayAgain = time.Minute

// faultLog says what is wrong with the proxies of one listener: each kind once a minute,
// however many requests show it.
type faultLog struct {
	log      *slog.Logger
	listener string
	count    func(listener, kind string)

	mu   sync.Mutex // guards said
	said map[string]said
}

// said is when a kind of fault was logged last, and how often it was not since.
type said struct {
	at     time.Time
	silent int
}

func (l *faultLog) miswired(f *forwardauth.Fault) {
	l.count(l.listener, string(f.Kind))
	l.say(string(f.Kind), "a proxy is set up wrongly", slog.LevelWarn, f)
}

func (l *faultLog) unreadable(err error) {
	l.say("secret", "the secret of a proxy cannot be read; nobody may ask", slog.LevelError, err)
}

func (l *faultLog) say(kind, message string, level slog.Level, err error) {
	l.mu.Lock()
	last := l.said[kind]
	if !last.at.IsZero() && time.Since(last.at) < sayAgain {
		l.said[kind] = said{last.at, last.silent + 1}
		l.mu.Unlock()
		return
	}
	l.said[kind] = said{at: time.Now()}
	l.mu.Unlock()
	l.log.Log(context.Background(), level, message, "listener", l.listener, "fault", kind, "why", err.Error(), "times_before", last.silent)
}
