package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// CutoverRehearsal is what RehearseCutover has measured.
type CutoverRehearsal struct {
	// Drain is how long it took until the target had everything that the source had. While a
	// throttler holds changes up, it is longer than a cutover's, in which none does.
	Drain time.Duration
	// Verify is how long it took to compare what had changed since it was last compared, of
	// which there were Keys, without waits for a throttler and for changes under way. It stays 0
	// when the verifier is a host's or compares nothing before the cutover: then it cannot be told
	// without stopping the writers.
	Verify time.Duration
	Keys   int
	// Commit is how long the words at the end take, by the round trips that they need.
	Commit time.Duration
	// Predicted is the write block by that: their sum, and the time that the hooks take on
	// top is the host's to know. DrillCutover measures all of it.
	Predicted time.Duration
}

// rehearsals is how often a rehearsal measures; the slowest counts.
const rehearsals = 3

// commitRoundTrips is about how many round trips to the target commit needs.
const commitRoundTrips = 20

// RehearseCutover measures drain and verification while the writers go on, and predicts
// from that how long a cutover would block them. It waits until the cutover may begin.
// Nothing is stopped. Before, while the cutover waits for its permission, the run predicts by
// itself: see Progress.
func (f *Ferry) RehearseCutover(ctx context.Context) (CutoverRehearsal, error) {
	var slowest CutoverRehearsal
	if !f.cut.running.TryLock() {
		return slowest, errors.New("a cutover is under way already")
	}
	defer f.cut.running.Unlock()
	f.prepareChannels()
	ctx, cancel := f.untilRunEnds(ctx)
	defer cancel()
	for range rehearsals {
		if err := f.readyForCutover(ctx); err != nil {
			return slowest, err
		}
		r, err := f.rehearse(ctx)
		if err != nil {
			return slowest, fmt.Errorf("rehearsing the cutover: %w", causeOf(ctx, err))
		}
		if r.Predicted > slowest.Predicted {
			slowest = r
		}
	}
	f.predict(slowest)
	return slowest, nil
}

// forecastInterval is how often the write block is predicted while the run waits for its
// permission to cut over.
const forecastInterval = 10 * time.Second

// awaitPermission returns when the cutover is allowed. Until then it predicts the write block
// now and then, for whoever is to allow it.
func (f *Ferry) awaitPermission(ctx context.Context) error {
	if f.CutoverAllowed() {
		return nil
	}
	forecasting, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.forecast(forecasting)
		_ = every(forecasting, forecastInterval, func() { f.forecast(forecasting) })
	}()
	defer func() { cancel(); <-ended }()
	return f.waitForCutoverAllowed(ctx)
}

// forecast rehearses once, unless most is still to be compared: that would take long, and
// says little.
func (f *Ferry) forecast(ctx context.Context) {
	if v, ok := f.Verifier.(fencedVerifier); ok {
		c, err := v.core()
		if err != nil {
			return
		}
		if _, ranges := c.unfinished().counts(); ranges > 0 {
			return
		}
	}
	r, err := f.rehearse(ctx)
	if err != nil {
		f.logger.WithError(err).Debug("the write block could not be predicted")
		return
	}
	f.predict(r)
}

func (f *Ferry) predict(r CutoverRehearsal) {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	f.cut.mu.status.PredictedWriteBlock = r.Predicted.Seconds()
}

func (f *Ferry) rehearse(ctx context.Context) (r CutoverRehearsal, err error) {
	if r.Drain, err = f.drainTime(ctx); err != nil {
		return r, err
	}
	if v, ok := f.Verifier.(fencedVerifier); ok {
		c, err := v.core()
		if err != nil {
			return r, err
		}
		if r.Keys, r.Verify, err = c.rehearse(ctx); err != nil {
			return r, err
		}
	}
	asked := time.Now()
	err = f.TargetDB.PingContext(ctx)
	r.Commit = commitRoundTrips * time.Since(asked)
	r.Predicted = r.Drain + r.Verify + r.Commit
	return r, err
}

// errDrill ends an attempt that was to stop before the commit.
var errDrill = errors.New("the drill is over")

// DrillCutover is Cutover up to the commit: the writers are stopped, the rest is drained and
// both sides are compared, and then the writers go on, whatever the verdict. It measures the
// write block, and it proves the hooks. The run follows the source as before.
func (f *Ferry) DrillCutover(host context.Context, hooks CutoverHooks) (CutoverReport, error) {
	var report CutoverReport
	if !f.cut.running.TryLock() {
		return report, errors.New("a cutover is under way already")
	}
	defer f.cut.running.Unlock()
	f.prepareChannels()
	f.cut.driven.Store(true)
	defer f.cut.driven.Store(false)
	ctx, cancel := f.untilRunEnds(host)
	defer cancel()
	hooks, done, err := f.allHooks(hooks)
	if err != nil {
		return report, err
	}
	defer done()
	if hooks.Fence != nil && hooks.Unfence == nil {
		return report, errors.New("a drill needs a hook that lets the writers go on: Unfence, or CutoverAbort")
	}
	if err := f.readyForCutover(ctx); err != nil {
		return report, err
	}
	a := &cutoverAttempt{f: f, host: host, hooks: hooks, drill: true, report: CutoverReport{Attempts: 1, Fenced: hooks.Fence != nil}}
	err = a.run(ctx)
	if failure, ok := errors.AsType[*CutoverError](err); ok && errors.Is(failure.Err, errDrill) && !failure.Blocked {
		f.cutoverFailed(nil)
		err = nil
	}
	return a.report, err
}
