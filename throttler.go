package ghostferry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// throttlePollInterval is how often a throttled component looks again.
const throttlePollInterval = 500 * time.Millisecond

// Throttler decides when the run pauses. All methods but Run are called from many
// goroutines and must not block.
type Throttler interface {
	// Throttled says whether to pause now.
	Throttled() bool
	// Disabled says whether pausing is switched off.
	Disabled() bool
	// SetDisabled switches pausing off and on; it wins over everything else.
	SetDisabled(bool)
	// SetPaused pauses and continues by hand.
	SetPaused(bool)
	// Run observes whatever the decision depends on until ctx ends. An error other
	// than context.Canceled ends the run.
	Run(context.Context) error
}

// WaitForThrottle blocks while the throttler says so.
func WaitForThrottle(t Throttler) {
	_ = WaitForThrottleContext(context.Background(), t)
}

// WaitForThrottleContext blocks while the throttler says so, and ends with the
// context's error when ctx ends first. A nil throttler never blocks.
func WaitForThrottleContext(ctx context.Context, t Throttler) error {
	var metrics *Metrics
	if own, ok := t.(interface{ sink() *Metrics }); ok {
		metrics = own.sink()
	}
	return waitForThrottle(ctx, t, metrics)
}

// waitForThrottle also emits how long it waited, if it did.
func waitForThrottle(ctx context.Context, t Throttler, metrics *Metrics) error {
	if t == nil || t.Disabled() || !t.Throttled() {
		return ctx.Err()
	}
	start := time.Now()
	defer waitingFor(ctx, waitThrottled)()
	defer func() {
		metricsOrGlobal(metrics).Timer("WaitForThrottle", time.Since(start), nil, 1.0)
	}()
	for !t.Disabled() && t.Throttled() {
		if err := retry.Sleep(ctx, throttlePollInterval); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ThrottlerBase is the off switch, for embedding into throttlers.
type ThrottlerBase struct {
	disabled atomic.Bool
}

// Disabled says whether pausing is switched off.
func (t *ThrottlerBase) Disabled() bool { return t.disabled.Load() }

// SetDisabled switches pausing off and on.
func (t *ThrottlerBase) SetDisabled(disabled bool) { t.disabled.Store(disabled) }

// PauserThrottler pauses by hand only. Its zero value is ready.
type PauserThrottler struct {
	ThrottlerBase
	paused atomic.Bool
	since  throttleSince
}

// Throttled says whether SetPaused(true) was the last word.
func (t *PauserThrottler) Throttled() bool { return t.paused.Load() }

// SetPaused pauses and continues.
func (t *PauserThrottler) SetPaused(paused bool) {
	t.paused.Store(paused)
	t.since.see(paused, pausedByHand, "paused by hand")
}

// pausedByHand is the name of the pauser in reports.
const pausedByHand = "pauser"

// ThrottleReport says that somebody paused the run, and since when.
func (t *PauserThrottler) ThrottleReport() *ThrottleReport {
	return t.since.see(t.Throttled(), pausedByHand, "paused by hand")
}

// Run has nothing to observe and returns at once.
func (t *PauserThrottler) Run(ctx context.Context) error { return nil }

// ThrottleReason says that somebody paused the run.
func (t *PauserThrottler) ThrottleReason() string {
	if t.Throttled() {
		return "paused by hand"
	}
	return ""
}
