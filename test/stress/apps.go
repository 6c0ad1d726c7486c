package main

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/ghostferry-go/ghostferry/test/shop"
)

// apps are the applications that write to the source: the shop's and the rotator.
type apps struct {
	db      *sql.DB
	options shop.Options
	seed    uint64
	rate    int
	rotator *rotator

	mu     sync.Mutex
	shop   *shop.Writer // nil while the source is down
	paused bool
	starts uint64
}

func startApps(ctx context.Context, db *sql.DB, o shop.Options, seed uint64, rate int) (*apps, error) {
	a := &apps{db: db, options: o, seed: seed, rate: rate, rotator: startRotator(ctx, db, seed)}
	return a, a.comeBack(ctx)
}

// pause returns when no transaction is in flight; none begins until resume.
func (a *apps) pause(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused {
		return nil
	}
	if a.shop != nil {
		if err := a.shop.Pause(ctx); err != nil {
			return err
		}
	}
	a.rotator.pause()
	a.paused = true
	return nil
}

func (a *apps) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.paused {
		return
	}
	a.rotator.resume()
	if a.shop != nil {
		a.shop.Resume()
	}
	a.paused = false
}

// lostServer ends the shop's application, whose connections are broken.
func (a *apps) lostServer() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shop != nil {
		_, _ = a.shop.Stop() // its error is the server's death
		a.shop = nil
	}
}

// comeBack starts the shop's application, which looks first what is there.
func (a *apps) comeBack(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shop != nil {
		return nil
	}
	a.starts++
	w := shop.NewWriter(shop.WriterConfig{DB: a.db, Shop: a.options, Connections: 3, Rate: a.rate, Seed: a.seed + a.starts<<32})
	if a.paused {
		if err := w.Pause(ctx); err != nil {
			return err
		}
	}
	if err := w.Start(ctx); err != nil {
		return err
	}
	a.shop = w
	return nil
}

// stop ends both.
func (a *apps) stop() error {
	a.resume()
	a.rotator.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shop == nil {
		return errors.New("the shop's application is not running")
	}
	_, err := a.shop.Stop()
	return err
}
