package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
)

const (
	defaultThrottleInterval = time.Second
	// observeTimeout bounds one look: what does not answer counts as unobservable.
	observeTimeout = 10 * time.Second
)

// observed is a throttler that looks at something at intervals. It pauses the run while
// what it saw last says so, while it cannot see, and by hand. Not knowing is no reason to
// go on, nor to give up: Run fails only when its context ends.
type observed struct {
	ThrottlerBase
	PauserThrottler

	// immutable after the constructor
	name     string
	subject  string // what is observed, in reasons
	interval time.Duration
	logger   Logger
	// look observes once. The function that it returns judges what was seen, at any time
	// later and by the limits of then: why the run has to pause, empty when it need not.
	look func(ctx context.Context) (judge func() string, err error)

	limits atomic.Pointer[UpdatableConfig] // nil: the throttler's own limits
	seen   atomic.Pointer[observedSample]
	since  throttleSince
}

// observedSample is what one look came to.
type observedSample struct {
	judge func() string
	err   error
}

// Throttled says whether the run has to pause now.
func (t *observed) Throttled() bool { return t.ThrottleReason() != "" }

// ThrottleReason says why the run pauses; empty when it does not.
func (t *observed) ThrottleReason() string {
	if reason := t.PauserThrottler.ThrottleReason(); reason != "" {
		return reason
	}
	return t.observedReason()
}

func (t *observed) observedReason() string {
	sample := t.seen.Load()
	switch {
	case sample == nil:
		return t.subject + " has not been observed yet"
	case sample.err != nil:
		return fmt.Sprintf("%s cannot be observed: %v", t.subject, sample.err)
	}
	return sample.judge()
}

// ThrottleReport says who pauses the run, why and since when.
func (t *observed) ThrottleReport() *ThrottleReport {
	if report := t.PauserThrottler.ThrottleReport(); report != nil {
		return report
	}
	why := t.observedReason()
	return t.since.see(why != "", t.name, why)
}

// Run looks at intervals until ctx ends, and returns the context's error.
func (t *observed) Run(ctx context.Context) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, observeTimeout)
		judge, err := t.look(bounded)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		before := t.seen.Swap(&observedSample{judge: judge, err: err})
		if err != nil && (before == nil || before.err == nil) {
			t.logger.WithError(err).Warnf("%s cannot be observed, pausing until it can", t.subject)
		}
		if err == nil && before != nil && before.err != nil {
			t.logger.Infof("%s can be observed again", t.subject)
		}
		t.ThrottleReport() // notes since when
		if err := retry.Sleep(ctx, t.interval); err != nil {
			return err
		}
	}
}

// obey has the limits of a run's configuration win over the throttler's own.
func (t *observed) obey(limits *UpdatableConfig) { t.limits.Store(limits) }

// limit is the one in force: that of the run's configuration if it has one.
func (t *observed) limit(field func(*UpdatableConfig) *int64, own int64) int64 {
	if limits := t.limits.Load(); limits != nil {
		if n := atomic.LoadInt64(field(limits)); n != 0 {
			return n
		}
	}
	return own
}

func limitOfLag(u *UpdatableConfig) *int64     { return &u.MaxLag }
func limitOfThreads(u *UpdatableConfig) *int64 { return &u.MaxThreadsRunning }
func limitOfHistory(u *UpdatableConfig) *int64 { return &u.MaxHistoryListLength }

// CombinedThrottler pauses the run while one of several throttlers does, or by hand.
type CombinedThrottler struct {
	ThrottlerBase
	PauserThrottler

	throttlers []Throttler // immutable
	since      throttleSince
}

// NewCombinedThrottler combines throttlers. Switching one of them off takes it out.
func NewCombinedThrottler(throttlers ...Throttler) *CombinedThrottler {
	return &CombinedThrottler{throttlers: throttlers}
}

// Throttled says whether one of them pauses the run.
func (t *CombinedThrottler) Throttled() bool {
	if t.PauserThrottler.Throttled() {
		return true
	}
	for _, one := range t.throttlers {
		if !one.Disabled() && one.Throttled() {
			return true
		}
	}
	return false
}

// ThrottleReport names those that pause the run, their reasons, and since when one of them
// has done so.
func (t *CombinedThrottler) ThrottleReport() *ThrottleReport {
	if report := t.PauserThrottler.ThrottleReport(); report != nil {
		return report
	}
	var who, why []string
	for _, one := range t.throttlers {
		if one.Disabled() {
			continue
		}
		report := &ThrottleReport{Who: "throttler", Why: "it does not say why"}
		if r, ok := one.(ReportingThrottler); ok {
			report = r.ThrottleReport()
		} else if !one.Throttled() {
			report = nil
		}
		if report != nil {
			who, why = append(who, report.Who), append(why, report.Who+": "+report.Why)
		}
	}
	return t.since.see(len(who) > 0, strings.Join(who, ", "), strings.Join(why, "; "))
}

// Run runs all of them until ctx ends. One that fails, as only a host's can, ends the run.
func (t *CombinedThrottler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error)
	for _, one := range t.throttlers {
		go func() {
			err := safely(func() error { return one.Run(ctx) })
			if err != nil && ctx.Err() == nil {
				cancel(err)
			}
			ended <- err
		}()
	}
	var errs []error
	for range t.throttlers {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return ctx.Err()
}

func (t *CombinedThrottler) obey(limits *UpdatableConfig) {
	for _, one := range t.throttlers {
		obeyLimits(one, limits)
	}
}

// Close ends the connections of those that have some.
func (t *CombinedThrottler) Close() error {
	var errs []error
	for _, one := range t.throttlers {
		if closer, ok := one.(interface{ Close() error }); ok {
			errs = append(errs, closer.Close())
		}
	}
	return errors.Join(errs...)
}

// obeyLimits hands a run's limits to a throttler of ours.
func obeyLimits(t Throttler, limits *UpdatableConfig) {
	if limited, ok := t.(interface{ obey(*UpdatableConfig) }); ok {
		limited.obey(limits)
	}
}
