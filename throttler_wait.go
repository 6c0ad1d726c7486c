package ghostferry

import (
	"sync/atomic"
	"time"
)

// applyPatience is how long the copy pauses alone before the apply pauses as well: the
// copy is what loads the servers and can wait, while changes that wait make the lag grow
// that the source's binary log has to cover.
const applyPatience = 10 * time.Second

// runThrottler is the run's throttler as its components see it. While the writers of the
// source wait for a cutover, nothing pauses.
type runThrottler struct {
	Throttler
	blocked *atomic.Bool
	metrics *Metrics // nil: the process's
}

// sink is where the time of waiting goes.
func (t runThrottler) sink() *Metrics { return t.metrics }

// Throttled is false during the write block.
func (t runThrottler) Throttled() bool { return !t.blocked.Load() && t.Throttler.Throttled() }

// applyThrottler is runThrottler for the apply: it pauses at once by hand, and for what a
// throttler has observed only when the copy's pause has not been enough.
type applyThrottler struct{ runThrottler }

// Throttled says whether the apply has to pause, too.
func (t applyThrottler) Throttled() bool {
	if !t.runThrottler.Throttled() {
		return false
	}
	r, ok := t.Throttler.(ReportingThrottler)
	if !ok {
		return true
	}
	report := r.ThrottleReport()
	return report == nil || report.Who == pausedByHand || time.Since(report.Since) > applyPatience
}

func (f *Ferry) copyThrottler() Throttler {
	if f.Throttler == nil {
		return nil
	}
	return runThrottler{f.Throttler, &f.cut.blocked, f.Metrics}
}

func (f *Ferry) applyThrottler() Throttler {
	if f.Throttler == nil {
		return nil
	}
	return applyThrottler{runThrottler{f.Throttler, &f.cut.blocked, f.Metrics}}
}
