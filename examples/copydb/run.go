package copydb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// What Phase says of the time after the library's run.
const (
	phaseCatchingUp = "catching up"
	phaseLocking    = "cutover: locking"
	phaseDraining   = "cutover: draining"
	phaseComparing  = "cutover: comparing"
	phaseLateWrites = "cutover: looking for late writes"
	phaseUnlocking  = "cutover: unlocking"
	phaseDone       = "done"
)

// abortTimeout bounds the word to the host that a cutover was given up: an interrupted
// process has to end within seconds.
const abortTimeout = 3 * time.Second

// Run is [CopydbFerry.RunContext] without a context; an error is handed to the error
// handler's Fatal.
func (f *CopydbFerry) Run() {
	if err := f.run(context.Background()); err != nil {
		f.Ferry.ErrorHandler.Fatal("copydb", err)
	}
}

// RunContext copies, follows, cuts over and compares. When it returns nil the target
// has everything and, unless verification is off, was found equal; [CopydbFerry.Result]
// has the details.
//
// The error is a [*DifferentError] if the comparison found differences, wraps
// [ghostferry.ErrInterrupted] or the context's error if ctx ended, and is a
// [*RefusedError] if nothing was written. After any error the source is still the side
// that counts.
func (f *CopydbFerry) RunContext(ctx context.Context) error {
	err := f.run(ctx)
	f.writeReports()
	return f.report(ctx, "copydb", err)
}

// writeReports writes the verifier's report to the files that the configuration names.
// A failure changes nothing about the move and is only logged.
func (f *CopydbFerry) writeReports() {
	v, ok := f.Ferry.Verifier.(ghostferry.ReportingVerifier)
	if !ok || len(f.config.VerificationReport) == 0 {
		return
	}
	report := v.Report()
	for _, name := range f.config.VerificationReport {
		if err := report.WriteFile(name); err != nil {
			f.logger().WithError(err).Error("the report is not written")
		}
	}
}

func (f *CopydbFerry) run(ctx context.Context) error {
	err := f.copyAndDrain(ctx)
	if verdict, ok := errors.AsType[ghostferry.VerificationResult](err); ok {
		err = &DifferentError{verdict} // found before the cutover already
	}
	if err != nil && f.Ferry.OverallState.Load() == ghostferry.StateStarting {
		return f.refused(ctx, err) // by the library's checks before its first write
	}
	if err == nil {
		err = f.compare(ctx)
	}
	if err == nil {
		// Before the host hears that it may write to the target.
		err = f.Ferry.StopTargetVerifierContext(ctx)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return f.giveUp(ctx, err)
	}
	return f.unlock(ctx)
}

// copyAndDrain runs the library and, beside it, the way to the end of the stream: when
// it returns nil, everything up to the stop position is on the target.
func (f *CopydbFerry) copyAndDrain(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ran := make(chan error, 1)
	go func() { ran <- f.Ferry.RunContext(ctx) }()

	cutoverErr := f.driveCutover(ctx)
	if cutoverErr != nil {
		cancel(cutoverErr)
	}
	runErr := <-ran
	if runErr == nil || cutoverErr != nil && errors.Is(runErr, cutoverErr) {
		return cutoverErr
	}
	return runErr // the other one is its consequence
}

// driveCutover waits until the stream is near its end, has the host stop the writers,
// and asks the stream to stop there.
func (f *CopydbFerry) driveCutover(ctx context.Context) error {
	if err := f.Ferry.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return err
	}
	f.phase.Store(phaseCatchingUp)
	if err := f.Ferry.WaitUntilBinlogStreamerCatchesUpContext(ctx); err != nil {
		return err
	}
	f.phase.Store(phaseLocking)
	f.cutover = time.Now()
	start, err := f.Ferry.StartCutoverContext(ctx)
	if err != nil {
		return fmt.Errorf("cutover: %w", err)
	}
	f.cutover = start
	f.phase.Store(phaseDraining)
	return f.Ferry.FlushBinlogAndStopStreamingContext(ctx)
}

// compare gives the verdict, and makes sure that nobody wrote to the source meanwhile.
func (f *CopydbFerry) compare(ctx context.Context) error {
	var different error
	if f.Ferry.Verifier != nil {
		f.phase.Store(phaseComparing)
		verdict, err := verify(ctx, f.Ferry.Verifier)
		if err != nil {
			return fmt.Errorf("comparing source and target: %w", err)
		}
		if !verdict.DataCorrect {
			different = &DifferentError{verdict}
		}
	}
	f.phase.Store(phaseLateWrites)
	if err := f.Ferry.CheckLateWrites(ctx); err != nil {
		// Differences are no news then: the source has moved on.
		return err
	}
	return different
}

// verify is VerifyDuringCutover that ends with ctx.
func verify(ctx context.Context, verifier ghostferry.Verifier) (ghostferry.VerificationResult, error) {
	if v, ok := verifier.(interface {
		VerifyDuringCutoverContext(context.Context) (ghostferry.VerificationResult, error)
	}); ok {
		return v.VerifyDuringCutoverContext(ctx)
	}
	type answer struct {
		verdict ghostferry.VerificationResult
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		verdict, err := verifier.VerifyDuringCutover()
		answers <- answer{verdict, err}
	}()
	select {
	case a := <-answers:
		return a.verdict, a.err
	case <-ctx.Done():
		return ghostferry.VerificationResult{}, context.Cause(ctx)
	}
}

// unlock tells the host that the target may be written. It is not cut short by ctx:
// half a switch-over is worse than a late one.
func (f *CopydbFerry) unlock(ctx context.Context) error {
	f.phase.Store(phaseUnlocking)
	err := f.Ferry.EndCutoverContext(context.WithoutCancel(ctx), f.cutover)
	if err != nil {
		return fmt.Errorf("the target has everything, but the host could not be told so: whether it has switched over is not known, look at it before anything is written: %w", err)
	}
	if f.fenced() {
		f.block = time.Since(f.cutover)
	}
	f.removeNotes(context.WithoutCancel(ctx))
	f.phase.Store(phaseDone)
	return nil
}

// giveUp tells the host, if it was asked to stop the writers, to let them go on.
func (f *CopydbFerry) giveUp(ctx context.Context, reason error) error {
	reason = ended(ctx, reason)
	if f.cutover.IsZero() || !f.fenced() {
		return reason
	}
	f.block = time.Since(f.cutover)
	if isType[*ghostferry.FencedError](reason) {
		return fmt.Errorf("%w; it decides about the source's writes, too", reason) // a CutoverAbort could let writers into its cutover
	}
	if f.config.CutoverAbort.URI == "" {
		return fmt.Errorf("%w; the source stays the side that counts, and its writes are still blocked by CutoverLock, because no CutoverAbort is configured: unblock them", reason)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	client, err := f.config.CallbackClient()
	if err == nil {
		err = f.config.CutoverAbort.PostContext(ctx, client)
	}
	f.block = time.Since(f.cutover)
	if err != nil {
		return fmt.Errorf("%w; the source stays the side that counts, and its writes may still be blocked, because CutoverAbort failed: unblock them: %w", reason, err)
	}
	return fmt.Errorf("%w; the source stays the side that counts, and its writes were unblocked by CutoverAbort", reason)
}
