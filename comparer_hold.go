package ghostferry

import (
	"context"
	"sync"
	"time"
)

// followControl lets a cutover have the comparer for itself: while the writers of the
// source wait, they wait for no pass that could be made later.
type followControl struct {
	mu struct {
		sync.Mutex
		holders  int
		interval context.CancelFunc // ends the pass of follow that runs, nil when none does
		released chan struct{}      // closed when the last holder lets go; nil without holders
	}
}

// hold ends the pass of follow that runs and lets none begin until the returned function
// is called, which may be called more than once. What the pass had not compared stays queued.
func (c *comparer) hold() (release func()) {
	h := &c.following
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.holders == 0 {
		h.mu.released = make(chan struct{})
	}
	h.mu.holders++
	if h.mu.interval != nil {
		h.mu.interval()
	}
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.mu.holders--; h.mu.holders == 0 {
			close(h.mu.released)
			h.mu.released = nil
		}
	})
}

// begin waits until nobody holds the comparer and returns a context for one pass.
func (h *followControl) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for {
		h.mu.Lock()
		if h.mu.holders == 0 {
			pass, cancel := context.WithCancel(ctx)
			h.mu.interval = cancel
			h.mu.Unlock()
			return pass, func() {
				h.mu.Lock()
				h.mu.interval = nil
				h.mu.Unlock()
				cancel()
			}, nil
		}
		released := h.mu.released
		h.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// rehearse compares what is queued, of which there are so many keys, and tells how long the cutover
// would take for it.
func (c *comparer) rehearse(ctx context.Context) (keys int, took time.Duration, err error) {
	defer c.hold()()
	keys, _ = c.queue.counts()
	err = c.run(ctx, &c.counters.before, func(ctx context.Context) error {
		for {
			p, err := c.pass(ctx, false)
			took += p.took
			if err != nil || !p.cutShort {
				return err
			}
		}
	})
	return keys, took, err
}

// estimate is how long the keys that are queued now would take to compare, by how long keys
// have taken so far; 0 when there were none.
func (c *comparer) estimate() time.Duration {
	keys, _ := c.queue.counts()
	keys += c.countSuspects()
	done := c.counters.rechecks.Load()
	if keys == 0 || done == 0 {
		return 0
	}
	workers := c.concurrency
	if workers <= 0 {
		workers = defaultVerifierConcurrency
	}
	each := float64(c.counters.recheckTime.Load()) / float64(done)
	return time.Duration(each * float64(keys) / float64(workers))
}
