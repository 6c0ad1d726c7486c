package ghostferry

import (
	"sync"
	"time"
)

// ThrottleReport says who makes a run pause, why, and since when.
type ThrottleReport struct {
	// Who names the throttler: "pauser", "lag", "load", …
	Who string
	// Why is its reason, for people.
	Why string
	// Since is when it began to say so.
	Since time.Time
}

// ReportingThrottler is a Throttler that says why it pauses the run. All of ours do.
type ReportingThrottler interface {
	Throttler
	// ThrottleReport returns nil when the run does not pause. It must not block.
	ThrottleReport() *ThrottleReport
}

// throttleReport asks the run's throttler; nil when the run does not pause.
func (f *Ferry) throttleReport() *ThrottleReport {
	if f.Throttler == nil || f.Throttler.Disabled() {
		return nil
	}
	if t, ok := f.Throttler.(ReportingThrottler); ok {
		if report := t.ThrottleReport(); report != nil {
			return report
		}
	}
	// A host's throttler that embeds one of ours may pause for a reason of its own.
	return f.unreported.see(f.Throttler.Throttled(), "throttler", "it does not say why")
}

// throttleSince remembers since when there has been a reason to pause.
type throttleSince struct {
	mu struct {
		sync.Mutex
		report *ThrottleReport // nil: no reason
	}
}

// see notes what is the case now and returns the report, which keeps its time as long as
// there is some reason.
func (s *throttleSince) see(throttled bool, who, why string) *ThrottleReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !throttled {
		s.mu.report = nil
		return nil
	}
	since := time.Now()
	if s.mu.report != nil {
		since = s.mu.report.Since
	}
	s.mu.report = &ThrottleReport{Who: who, Why: why, Since: since}
	report := *s.mu.report
	return &report
}
