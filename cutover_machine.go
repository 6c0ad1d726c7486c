package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// CutoverReport tells how a cutover went.
type CutoverReport struct {
	// Attempts counts the times that the writers were stopped, the last one included.
	Attempts int
	// Coordinate is the place of the source's log at which source and target are equal.
	Coordinate BinlogCoordinate
	// WriteBlock is how long the writers waited in the last attempt: from the call of Fence
	// until Switch, or Unfence, had returned. Fence, Drain, Verify and Commit are its parts.
	WriteBlock, Fence, Drain, Verify, Commit time.Duration
	// Verdict is the verifier's; zero without one.
	Verdict VerificationResult
	// Fenced: there was a hook that stopped the writers.
	Fenced bool
}

// Cutover waits until the rows are copied and the cutover is allowed, and then switches
// over: fence, drain, verify, commit. Before each fence it waits while the cutover is held
// back (DenyCutover). Run has to be running; it has returned when Cutover
// returns without an error. The target guard is ended, and the tail of the source's log is
// watched for TailGuardSeconds more, or until ctx ends, which undoes nothing then.
//
// When the writers would wait for longer than MaxWriteBlock, they are let go on, the run
// follows the source, and the cutover is tried again later, until ctx ends. Any other
// failure after Fence was called has Unfence called, and is a [*CutoverError], which says
// what the target has and who owns the traffic. An error before that is as it came.
func (f *Ferry) Cutover(ctx context.Context, hooks CutoverHooks) (CutoverReport, error) {
	if !f.cut.running.TryLock() {
		return CutoverReport{}, errors.New("a cutover is under way already")
	}
	defer f.cut.running.Unlock()
	f.prepareChannels()
	f.cut.driven.Store(true)
	defer f.cut.driven.Store(false)
	hooks, done, err := f.allHooks(hooks)
	if err != nil {
		return CutoverReport{}, err
	}
	report, err := f.cutOver(ctx, hooks)
	if e, ok := errors.AsType[*CutoverError](err); ok && e.Traffic == TrafficUnknown {
		f.keepFence(done)
	} else {
		done()
	}
	return report, err
}

// keepFence keeps a ready-made fence until Close: the source must not be written while the
// target may be.
func (f *Ferry) keepFence(done func()) {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	f.cut.mu.fences = append(f.cut.mu.fences, done)
}

// endFences ends what keepFence has kept.
func (f *Ferry) endFences() {
	f.cut.mu.Lock()
	fences := f.cut.mu.fences
	f.cut.mu.fences = nil
	f.cut.mu.Unlock()
	for _, done := range fences {
		done()
	}
}

// cutOver tries until it is done, or fails otherwise than by taking too long.
func (f *Ferry) cutOver(host context.Context, hooks CutoverHooks) (report CutoverReport, err error) {
	ctx, cancel := f.untilRunEnds(host)
	defer cancel()
	ready := f.readyForCutover
	if hooks.Fence != nil {
		ready = f.readyWithinBudget
	}
	for n := 1; ; n++ {
		if err := f.takePermission(ctx, ready); err != nil {
			return report, err
		}
		a := &cutoverAttempt{f: f, host: host, hooks: hooks, report: CutoverReport{Attempts: n, Fenced: hooks.Fence != nil}}
		err := a.run(ctx)
		report = a.report
		if err == nil {
			return report, f.guardAfterSwitch(ctx, hooks)
		}
		f.permission.giveBack()
		budget, late := errors.AsType[*WriteBlockBudgetError](err)
		failed, ok := errors.AsType[*CutoverError](err)
		if !late || !ok || !failed.Following || a.stillBlocked() {
			return report, err
		}
		f.logger.WithError(budget).Warnf("the cutover is tried again in %s%s", cutoverPause(n), failed.silence())
		if err := pauseBeforeCutover(ctx, cutoverPause(n)); err != nil {
			return report, errors.Join(err, context.Cause(ctx))
		}
	}
}

// cutoverPause is how long to wait after the n-th attempt that took too long.
func cutoverPause(n int) time.Duration { return min(time.Second<<min(n-1, 6), time.Minute) }

// untilRunEnds returns a context that ends when the run ends with an error.
func (f *Ferry) untilRunEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(withWaits(ctx, f.waits))
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-f.runEnded:
			switch {
			case f.runErr != nil:
				cancel(f.runErr)
			case f.Phase() != PhaseCommit && f.Phase() != PhaseDone:
				cancel(errors.New("the run has ended before the cutover: something else has stopped its stream"))
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-watched }
}

// readyForCutover returns when little is left to do: everything is copied and compared,
// changes arrive within moments, and nothing pauses the run.
func (f *Ferry) readyForCutover(ctx context.Context) error {
	if err := f.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return err
	}
	select {
	case <-f.runEnded:
		return f.endedBefore("the cutover began")
	default:
	}
	f.enterPhase(PhaseReady)
	if err := f.mustBePrimary(ctx); err != nil {
		return err
	}
	if err := f.targetPatience.do(ctx, 0, func(ctx context.Context, _ int) error { return answered(ctx, f.sameTarget) }); err != nil {
		return err
	}
	if err := waitForThrottle(ctx, f.Throttler, f.Metrics); err != nil {
		return causeOf(ctx, err)
	}
	if v, ok := f.Verifier.(fencedVerifier); ok {
		if err := v.VerifyBeforeCutoverContext(ctx); err != nil {
			return origin("verifier", err)
		}
	}
	late := time.AfterFunc(quietCatchUp, func() {
		f.logger.Warn("the cutover waits: the source is a replica that has not applied yet what its primary had; see that its replication runs")
	})
	err := f.waitForReplica(ctx)
	late.Stop()
	if err != nil {
		return err
	}
	return f.WaitUntilBinlogStreamerCatchesUpContext(ctx)
}

// waitForReplica waits until a source that is a replica has what its primary has now. The
// writers go on meanwhile, so that the gate's Timeout does not count.
func (f *Ferry) waitForReplica(ctx context.Context) error {
	gate := f.WaitUntilReplicaIsCaughtUpToMaster
	if gate == nil {
		return nil
	}
	const retries = 5 // an outage is waited for below
	err := f.sourcePatience.do(ctx, 0, func(ctx context.Context, _ int) error {
		return gate.wait(ctx, Logger.Debugf, retries, f.mustBePrimary)
	})
	if err != nil {
		err = origin("wait_replica", causeOf(ctx, err))
	}
	return err
}

// drainTime measures what drain would wait for, while the writers go on.
func (f *Ferry) drainTime(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	if err := f.waitForReplica(ctx); err != nil {
		return 0, err
	}
	_, err := f.catchUp(ctx)
	return time.Since(begun), err
}

// readyWithinBudget is readyForCutover when the drain, as far as it can be told, fits the
// budget: writers that would be let go on before it is over are not stopped.
func (f *Ferry) readyWithinBudget(ctx context.Context) error {
	for told := false; ; told = true {
		if err := f.readyForCutover(ctx); err != nil {
			return err
		}
		took, err := f.drainTime(ctx)
		budget := f.UpdatableConfig.maxWriteBlock()
		if err != nil || budget == 0 || took <= budget {
			return err
		}
		if !told {
			f.logger.Warnf("the cutover waits: changes take %s to reach the target, and MaxWriteBlock is %s: raise it, or wait until the source is written less",
				took.Round(time.Microsecond), budget)
		}
		if err := pauseBeforeCutover(ctx, drainPause); err != nil {
			return causeOf(ctx, err)
		}
	}
}

// drainPause is between two looks at how long a drain would take.
const drainPause = 500 * time.Millisecond

func pauseBeforeCutover(ctx context.Context, pause time.Duration) error {
	defer waitingFor(ctx, waitNextCutover)()
	return retry.Sleep(ctx, pause)
}

// causeOf prefers the reason why a context ended to the error that says that it has.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// fencedVerifier is a verifier of ours: it can give its verdict while the stream goes on,
// and go on itself when the cutover is given up.
type fencedVerifier interface {
	contextVerifier
	// verifyFenced is VerifyDuringCutoverContext that may be followed by further changes.
	verifyFenced(ctx context.Context) (VerificationResult, error)
	core() (*comparer, error)
}

// cutoverAttempt is one way from fence to commit or abort.
type cutoverAttempt struct {
	f      *Ferry
	host   context.Context // the caller's; what the attempt is given ends with the run, too
	hooks  CutoverHooks
	drill  bool // stops before the commit
	report CutoverReport

	phase    CutoverPhase
	began    time.Time
	complete bool // everything up to report.Coordinate is on the target
	ended    bool // the run has, without an error
	unfenced bool
	switched bool
	unknown  bool // a call of Switch may have sent the application away
	recorded bool // the checkpoint may say that the traffic is unknown
}

func (a *cutoverAttempt) enter(phase CutoverPhase) {
	a.phase = phase
	a.f.enterPhase(phase)
}

func (a *cutoverAttempt) stillBlocked() bool { return a.report.Fenced && !a.unfenced }

// run returns nil or a *CutoverError.
func (a *cutoverAttempt) run(ctx context.Context) error {
	f := a.f
	a.began = time.Now()
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bounded, release := a.withinBudget(attempt)
	defer release()
	defer f.cut.late.disarm()
	if v, ok := f.Verifier.(fencedVerifier); ok {
		if c, err := v.core(); err == nil {
			defer c.hold()()
		}
	}
	var err error
	for _, step := range []struct {
		phase CutoverPhase
		took  *time.Duration
		do    func(ctx context.Context) error
	}{
		{PhaseFence, &a.report.Fence, a.fence},
		{PhaseDrain, &a.report.Drain, func(ctx context.Context) error { return a.drain(ctx, cancel) }},
		{PhaseVerify, &a.report.Verify, a.verify},
	} {
		a.enter(step.phase)
		begun := time.Now()
		err = step.do(bounded)
		*step.took = time.Since(begun)
		if err = causeIfEnded(bounded, err); err != nil {
			return a.abort(ctx, err)
		}
	}
	if a.drill {
		return a.abort(ctx, errDrill)
	}
	a.enter(PhaseCommit)
	begun := time.Now()
	committing, released := a.withinCommitLimit(attempt)
	defer released()
	if err = causeIfEnded(committing, a.commit(committing)); err == nil {
		err = a.switchTraffic(committing)
	}
	a.report.Commit = time.Since(begun)
	if err != nil {
		return a.abort(ctx, err)
	}
	a.report.WriteBlock = time.Since(a.began)
	a.recordOwner(ctx, TrafficOnTarget)
	a.switched = true
	metricsOrGlobal(f.Metrics).Timer("CutoverTime", a.report.WriteBlock, nil, 1)
	f.enterPhase(PhaseDone)
	return nil
}

// causeIfEnded returns the cause of a context's end: that is why the step failed, or why
// the next must not begin.
func causeIfEnded(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause == nil {
		return err
	}
	return cause
}

// withinBudget bounds the block by MaxWriteBlock, counted from now.
func (a *cutoverAttempt) withinBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	budget := a.f.UpdatableConfig.maxWriteBlock()
	if budget == 0 || a.hooks.Fence == nil {
		return ctx, func() {}
	}
	bounded, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(budget, func() { cancel(&WriteBlockBudgetError{Phase: a.f.Phase(), Budget: budget}) })
	return bounded, func() { timer.Stop(); cancel(nil) }
}

// leastCommit is how long the commit may take however small the budget is: an attempt that is
// given up in it leaves a run behind that does not follow the source any more.
const leastCommit = 3 * time.Second

// withinCommitLimit bounds what comes before Switch by the budget once more, for servers that
// do not answer.
func (a *cutoverAttempt) withinCommitLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	budget := a.f.UpdatableConfig.maxWriteBlock()
	if budget == 0 || a.hooks.Fence == nil {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, max(budget, leastCommit), &WriteBlockBudgetError{Phase: PhaseCommit, Budget: budget})
}

func (a *cutoverAttempt) fence(ctx context.Context) error {
	if a.hooks.Fence == nil {
		a.f.logger.Warn("nothing stops the writers of the source: there is neither a Fence hook nor a CutoverLock")
		return nil
	}
	return a.f.callHook(ctx, "fence", a.hooks.Fence)
}

// drain reads the log's end, which the writers can no longer move, and waits until the
// target has everything up to it. From here on a change behind it ends the attempt.
func (a *cutoverAttempt) drain(ctx context.Context, cancel context.CancelCauseFunc) error {
	f := a.f
	if gate := f.WaitUntilReplicaIsCaughtUpToMaster; gate != nil {
		if err := gate.WaitContext(ctx); err != nil {
			return origin("wait_replica", err)
		}
	}
	end, err := f.sourceLogEnd(ctx)
	if err != nil {
		return fmt.Errorf("reading the source's log end: %w", err)
	}
	if err := f.mustBePrimary(ctx); err != nil { // asked after the ends were: they are all that was written
		return err
	}
	a.report.Coordinate = end
	f.cut.late.arm(end, func(e *LateWriteError) { cancel(e) })
	if err := f.BinlogWriter.WaitUntilApplied(ctx, end); err != nil {
		return err
	}
	if err := f.collisions.await(ctx, collisionPatienceBlocked); err != nil {
		return origin("binlog_writer", err)
	}
	a.complete = true
	if err := f.BinlogStreamer.undecidedNow(end); err != nil {
		return err
	}
	return a.stillFenced(ctx)
}

func (a *cutoverAttempt) stillFenced(ctx context.Context) error {
	if a.hooks.Fenced == nil {
		return nil
	}
	if err := safely(func() error { return a.hooks.Fenced(ctx) }); err != nil {
		return fmt.Errorf("the writers are no longer stopped: %w", err)
	}
	return nil
}

// verify has the verifier give its verdict.
func (a *cutoverAttempt) verify(ctx context.Context) error {
	f := a.f
	if f.Verifier == nil {
		return nil
	}
	var err error
	switch v := f.Verifier.(type) {
	case fencedVerifier:
		if err := a.withinBudgetByEstimate(v); err != nil {
			return err
		}
		a.report.Verdict, err = v.verifyFenced(ctx)
	case interface {
		VerifyDuringCutoverContext(ctx context.Context) (VerificationResult, error)
	}:
		err = safely(func() (err error) {
			a.report.Verdict, err = v.VerifyDuringCutoverContext(ctx)
			return err
		})
	default:
		a.report.Verdict, err = answerWithin(ctx, v.VerifyDuringCutover)
	}
	switch {
	case err != nil:
		return origin("verifier", fmt.Errorf("comparing source and target: %w", err))
	case !a.report.Verdict.DataCorrect:
		return a.report.Verdict
	}
	return f.cut.late.error()
}

// answerWithin is the answer of a host's code that knows of no context, waited for until ctx ends.
func answerWithin[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		a.err = safely(func() (err error) {
			a.value, err = ask()
			return err
		})
		answers <- a
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// withinBudgetByEstimate gives up before a comparison that would not be over in time.
func (a *cutoverAttempt) withinBudgetByEstimate(v fencedVerifier) error {
	budget := a.f.UpdatableConfig.maxWriteBlock()
	if budget == 0 || a.hooks.Fence == nil {
		return nil
	}
	c, err := v.core()
	if err != nil {
		return err
	}
	if needs := time.Since(a.began) + c.estimate(); needs > budget {
		return &WriteBlockBudgetError{Phase: PhaseVerify, Budget: budget, Needs: needs}
	}
	return nil
}

// commit ends the stream and waits for the run's last words: what has to be over before the
// traffic is switched.
func (a *cutoverAttempt) commit(ctx context.Context) error {
	f := a.f
	if err := f.BinlogStreamer.flushAndStop(ctx); err != nil {
		return origin("binlog_streamer", err)
	}
	select {
	case <-f.runEnded:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if f.runErr != nil {
		return f.runErr
	}
	a.ended = true
	if err := f.cut.late.error(); err != nil {
		return err
	}
	a.report.Coordinate = f.StopCoordinate()
	if err := f.StopTargetVerifierContext(ctx); err != nil {
		return err
	}
	if err := f.ownedStill(ctx); err != nil {
		return err
	}
	if err := a.stillFenced(ctx); err != nil {
		return err
	}
	if err := f.CheckLateWrites(ctx); err != nil {
		return err
	}
	if err := a.recordSwitching(ctx); err != nil {
		return err
	}
	if ctx.Err() == nil && a.hooks.switching != nil {
		return a.hooks.switching(ctx)
	}
	return nil
}

// switchTraffic calls Switch. From here on there is no way back that would be safe without the
// host's word, so its error counts, and not that ctx has ended meanwhile.
func (a *cutoverAttempt) switchTraffic(ctx context.Context) error {
	if a.hooks.Switch == nil {
		return nil
	}
	last, cancel := lifecycle.Detach(ctx, hookTimeout)
	defer cancel()
	return a.f.callHook(last, "switch", a.switchOver)
}

// recordSwitching keeps that the traffic is about to be switched, where the host wants that.
func (a *cutoverAttempt) recordSwitching(ctx context.Context) error {
	if !a.hooks.RecordTraffic || a.hooks.Switch == nil {
		return nil
	}
	a.recorded = true // also when the answer does not come
	ctx, cancel := lifecycle.Detach(ctx, recordTimeout)
	defer cancel()
	return a.f.RecordTraffic(ctx, TrafficUnknown)
}

// recordOwner keeps who owns the traffic after all. Without it the next process has to be told,
// and nothing is lost.
func (a *cutoverAttempt) recordOwner(ctx context.Context, owner TrafficOwner) {
	if !a.recorded {
		return
	}
	ctx, cancel := lifecycle.Detach(ctx, recordTimeout)
	defer cancel()
	if err := a.f.RecordTraffic(ctx, owner); err != nil {
		a.f.logger.WithError(err).Warnf("the application is on the %s, but the checkpoint may still say that this is not known", owner)
	}
}

// switchOver calls Switch. What it says counts only when it has come to an end in its time:
// one that has panicked, or whose requests were cut off, may have sent the application away.
func (a *cutoverAttempt) switchOver(ctx context.Context) error {
	returned := false
	err := safely(func() error {
		err := a.hooks.Switch(ctx)
		returned = true
		return err
	})
	if err == nil {
		return nil
	}
	told := errors.Is(err, ErrTrafficUnknown)
	a.unknown = a.unknown || told || !returned || ctx.Err() != nil
	if a.unknown && !told { // also of an earlier call, which the error of this one does not speak of
		err = fmt.Errorf("%w: %w", ErrTrafficUnknown, err)
	}
	return err
}
