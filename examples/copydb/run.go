package copydb

import (
	"context"
	"errors"
	"fmt"

	"github.com/ghostferry-go/ghostferry"
)

// What Phase says of the cutover.
var cutoverPhases = map[ghostferry.CutoverPhase]string{
	ghostferry.PhaseReady:    "catching up",
	ghostferry.PhaseFence:    "cutover: locking",
	ghostferry.PhaseDrain:    "cutover: draining",
	ghostferry.PhaseVerify:   "cutover: comparing",
	ghostferry.PhaseCommit:   "cutover: switching",
	ghostferry.PhaseAbort:    "cutover: giving up",
	ghostferry.PhaseUnfenced: "cutover given up",
	ghostferry.PhaseDone:     "cutover: watching for late writes",
}

const phaseDone = "done"

// Run is [CopydbFerry.RunContext] without a context; an error is handed to the error
// handler's Fatal.
func (f *CopydbFerry) Run() {
	err := f.run(context.Background())
	f.writeReports()
	if err != nil {
		f.Ferry.ErrorHandler.Fatal("copydb", err)
	}
}

// RunContext copies, follows, cuts over and compares. When it returns nil the target
// has everything and, unless verification is off, was found equal; [CopydbFerry.Result]
// has the details.
//
// The error is a [*DifferentError] if the comparison found differences, wraps
// [ghostferry.ErrInterrupted] or the context's error if ctx ended, and is a
// [*RefusedError] if nothing was written. After an error the source is still the side
// that counts, unless it is a [*ghostferry.CutoverError] that says otherwise, or a
// [*ghostferry.LateWriteError] after the switch.
func (f *CopydbFerry) RunContext(ctx context.Context) error {
	err := f.run(ctx)
	f.writeReports()
	return f.report(ctx, "copydb", err)
}

// writeReports writes the verifier's report to the files that the configuration names.
// A failure changes nothing about the move and is only logged.
func (f *CopydbFerry) writeReports() {
	if len(f.config.VerificationReport) == 0 {
		return
	}
	v, ok := f.Ferry.Verifier.(ghostferry.ReportingVerifier)
	if !ok { // the host's own
		f.logger().Errorf("the report is not written: a verifier of type %T has none", f.Ferry.Verifier)
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
	err := f.move(ctx)
	if err == nil {
		f.removeNotes(context.WithoutCancel(ctx))
		f.phase.Store(phaseDone)
		return nil
	}
	if f.Ferry.OverallState.Load() == ghostferry.StateStarting {
		return f.refused(ctx, err) // by the library's checks before its first write
	}
	failure, given := errors.AsType[*ghostferry.CutoverError](err)
	if verdict, ok := errors.AsType[ghostferry.VerificationResult](err); ok {
		different := &DifferentError{verdict}
		if !given {
			return different // found before the cutover already
		}
		return fmt.Errorf("%w; %s", different, failure.Consequence())
	}
	if reason := ended(ctx, err); !given || reason == err { //nolint:errorlint // the very same
		return reason
	} else { //nolint:revive // the names belong to this branch only
		return &givenUpError{reason, failure.Consequence()}
	}
}

// move runs the library and, beside it, the way from the copy to the switch.
func (f *CopydbFerry) move(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ran := make(chan error, 1)
	go func() { ran <- f.Ferry.RunContext(ctx) }()

	report, cutoverErr := f.Ferry.Cutover(ctx, ghostferry.CutoverHooks{RecordTraffic: true})
	if report.Fenced {
		f.block = report.WriteBlock
	}
	if cutoverErr != nil {
		cancel(cutoverErr)
	}
	runErr := <-ran
	_, given := errors.AsType[*ghostferry.CutoverError](cutoverErr)
	if given || runErr == nil || cutoverErr != nil && errors.Is(runErr, cutoverErr) {
		return cutoverErr
	}
	return runErr // the other one is its consequence
}
