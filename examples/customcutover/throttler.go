package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// loadThrottler pauses while the source runs more statements at once than the limit, and
// while it cannot be asked.
type loadThrottler struct {
	ferry *ghostferry.Ferry
	limit int64

	running                atomic.Int64 // at the last look
	unseen                 atomic.Bool  // the last look failed
	looks                  atomic.Int64
	disabled, pausedByHand atomic.Bool
}

func (l *loadThrottler) Throttled() bool {
	return l.pausedByHand.Load() || l.unseen.Load() || l.running.Load() > l.limit
}

func (l *loadThrottler) Disabled() bool            { return l.disabled.Load() }
func (l *loadThrottler) SetDisabled(disabled bool) { l.disabled.Store(disabled) }
func (l *loadThrottler) SetPaused(paused bool)     { l.pausedByHand.Store(paused) }

// Run looks ten times a second until the run ends.
func (l *loadThrottler) Run(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		var name string
		var running int64
		err := l.ferry.SourceDB.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Threads_running'").Scan(&name, &running)
		l.unseen.Store(err != nil)
		l.running.Store(running)
		l.looks.Add(1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
