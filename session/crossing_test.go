package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session"
)

// An ending that arrives while a request waits for a store that hangs, or for a
// provider that does, is not answered with what was known before it.
func TestEndingWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		name string
		hang func(*provider, replica)
	}{
		{"for the store", func(p *provider, r replica) {
			time.Sleep(6 * time.Second) // it has to be proven again
			r.line.set(func(l *line) { l.delay = time.Hour })
		}},
		{"for the provider", func(p *provider, _ replica) {
			p.set(func(p *provider) { p.takes = 30 * time.Second })
			time.Sleep(p.life)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				all := replicas(t, 2, session.Config{Renew: p.renew, ProviderGrace: 5 * time.Minute, StoreGrace: 10 * time.Second})
				id := p.signIn(t, all[0].Manager)
				synctest.Wait()
				wantAllowed(t, all[0], id)
				c.hang(p, all[0])
				go func() {
					time.Sleep(50 * time.Millisecond)
					if err := all[1].End(t.Context(), id); err != nil {
						t.Error(err)
					}
				}()
				wantOver(t, all[0], id)
				time.Sleep(time.Minute)
			})
		})
	}
}
