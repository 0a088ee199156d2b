package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-mesh/gatehouse/session"
)

const (
	beatEvery     = time.Second
	beatWait      = 500 * time.Millisecond // for a nonce to come back
	subscribeWait = 2 * time.Second        // finding the server, connecting, subscribing
	retryAfter    = 250 * time.Millisecond
)

// Watch implements session.Store.
//
// A subscription that answers PING proves nothing: after a failover it may hang on the
// old master for ten seconds while new endings are published on the new one. So the
// connections that write publish a nonce every second, and while it comes back on the
// subscription endings do, too. When it does not, or the subscription breaks, a new
// one is made.
func (s *Store) Watch(ctx context.Context, w session.Watcher) error {
	f := &feed{store: s, watcher: w}
	for {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.down(err)
		if s.cluster != nil {
			s.cluster.ReloadState(ctx) // which node to subscribe at may have changed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

// feed tells a Watcher, from one goroutine, so that what it hears has the order of the
// stream.
type feed struct {
	store       *Store
	watcher     session.Watcher
	told, alive bool
}

func (f *feed) up() {
	if !f.told || !f.alive {
		f.told, f.alive = true, true
		f.watcher.Alive(true)
	}
}

func (f *feed) down(err error) {
	if f.told && !f.alive {
		return
	}
	f.told, f.alive = true, false
	f.watcher.Alive(false)
	if f.store.lost != nil {
		f.store.lost(err)
	}
}

// follow makes one subscription and listens as long as it can be trusted.
func (f *feed) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	sub := f.store.client.Subscribe(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		_ = sub.Close()
		wg.Wait()
	}()
	if err := f.store.subscribe(ctx, sub); err != nil {
		return fmt.Errorf("redis: subscribe: %w", err)
	}
	in, broken := make(chan string), make(chan error, 1)
	wg.Go(func() { broken <- receive(ctx, sub, in) })
	return f.listen(ctx, &wg, in, broken)
}

func (s *Store) subscribe(ctx context.Context, sub *redis.PubSub) error {
	ctx, cancel := context.WithTimeout(ctx, subscribeWait)
	defer cancel()
	if err := sub.Subscribe(ctx, s.channel()); err != nil {
		return err
	}
	_, err := sub.ReceiveTimeout(ctx, subscribeWait)
	return err
}

// receive passes messages on until the subscription breaks. The client would mend it by
// itself, but what was published meanwhile is lost: that must not go unnoticed.
func receive(ctx context.Context, sub *redis.PubSub, in chan<- string) error {
	for {
		got, err := sub.Receive(ctx)
		if err != nil {
			return fmt.Errorf("redis: subscription: %w", err)
		}
		m, ok := got.(*redis.Message)
		if !ok {
			return fmt.Errorf("redis: subscription was made anew (%T)", got)
		}
		select {
		case in <- m.Payload:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listen returns why the subscription cannot be trusted any more.
func (f *feed) listen(ctx context.Context, wg *sync.WaitGroup, in <-chan string, broken <-chan error) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	b := f.store.beat(ctx, wg)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return err
		case payload := <-in:
			if h, err := session.ParseHandle(payload); err == nil {
				f.watcher.Ended(h)
			} else {
				b.heard(payload)
			}
		case b.sent = <-b.published:
			if b.sent.err != nil {
				return fmt.Errorf("redis: publish: %w", b.sent.err)
			}
		case <-b.late:
			return errors.New("redis: what was published did not come back on the subscription in time")
		case <-tick.C:
			b = f.store.beat(ctx, wg)
		}
		if b.complete() {
			b.late = nil
			f.up()
		}
	}
}

// beat is a nonce on its way, on a Cluster one for each master: endings are published
// by all of them.
type beat struct {
	nonce     string // begins with "~", which no handle does
	back      map[string]bool
	sent      sent
	published chan sent
	late      <-chan time.Time
}

type sent struct {
	n   int
	err error
}

// beat publishes a new nonce, in a goroutine of wg.
func (s *Store) beat(ctx context.Context, wg *sync.WaitGroup) *beat {
	b := &beat{nonce: "~" + rand.Text() + "/", back: map[string]bool{}, published: make(chan sent, 1), late: time.After(beatWait)}
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, beatWait)
		defer cancel()
		n, err := s.publish(ctx, b.nonce)
		b.published <- sent{n, err}
	})
	return b
}

func (b *beat) heard(payload string) {
	if strings.HasPrefix(payload, b.nonce) { // those of other replicas do not
		b.back[payload] = true
	}
}

func (b *beat) complete() bool { return b.sent.n > 0 && len(b.back) == b.sent.n }

// publish publishes nonce from every server that publishes endings, each with a number,
// and returns how many those are.
func (s *Store) publish(ctx context.Context, nonce string) (int, error) {
	if s.cluster == nil {
		return 1, publish.Run(ctx, s.client, []string{s.prefix + "beat"}, s.channel(), nonce+"1").Err()
	}
	var n atomic.Int32
	err := s.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		return node.Publish(ctx, s.channel(), nonce+strconv.Itoa(int(n.Add(1)))).Err()
	})
	return int(n.Load()), err
}

func (s *Store) channel() string { return s.prefix + "ended" }
