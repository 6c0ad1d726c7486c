package sharding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

const (
	// abortLimit bounds CutoverAbort, which is posted by processes that have to end, too;
	// unlockLimit bounds CutoverUnlock, and each of the records before and after it.
	abortLimit  = 10 * time.Second
	unlockLimit = 30 * time.Second
)

// giveUp posts CutoverAbort after CutoverLock was, and tells what became of the tenant's
// writers. Whoever has taken the run over may have stopped them anew, and decides.
func (f *ShardingFerry) giveUp(ctx context.Context, began time.Time, err error) error {
	e := &ghostferry.CutoverError{
		Phase: f.Ferry.Phase(), Traffic: ghostferry.TrafficOnSource, Fenced: f.config.CutoverLock.URI != "", UnfencedBy: "CutoverAbort", Err: err,
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	takenOver := isFenced(err)
	var abortErr error
	if !takenOver {
		abortErr = f.Ferry.AbortCutoverContext(last)
		takenOver = isFenced(abortErr)
	}
	switch {
	case takenOver:
		e.UnfenceErr = errors.New("are for the process to decide about that has taken the run over")
	case f.config.CutoverAbort.URI == "":
		e.UnfenceErr = errors.New("are still blocked by CutoverLock, because no CutoverAbort is configured: unblock them, or run the same command again")
	case f.Ferry.Phase() != ghostferry.PhaseUnfenced: // else it says that the stream has ended
		e.UnfenceErr = fmt.Errorf("may still be blocked, unblock them: %w", abortErr)
	}
	e.Blocked, e.WriteBlock = e.Fenced && e.UnfenceErr != nil, time.Since(began)
	return e
}

// unlock posts CutoverUnlock. From then on there is no way back: the traffic may be
// switched, even if no answer came, so the writers of the source must not go on. The checkpoint
// says so before, and after the answer that the tenant has moved.
func (f *ShardingFerry) unlock(ctx context.Context, began time.Time) error {
	limited := func(do func(ctx context.Context) error) error {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockLimit)
		defer cancel()
		return do(last)
	}
	record := func(owner ghostferry.TrafficOwner) error {
		return limited(func(ctx context.Context) error { return f.Ferry.RecordTraffic(ctx, owner) })
	}
	if err := record(ghostferry.TrafficUnknown); err != nil {
		if f.unlocking {
			return f.unknown(began, step("cutover", err))
		}
		return f.giveUp(ctx, began, step("cutover", err))
	}
	err := limited(func(ctx context.Context) error { return f.Ferry.EndCutoverContext(ctx, began) })
	if err == nil {
		if err := record(ghostferry.TrafficOnTarget); err != nil {
			// Nothing is wrong: the same command would post CutoverUnlock once more, at the worst.
			f.Ferry.RunLogger().WithError(err).Warn("the tenant has moved, but the checkpoint does not say so")
		}
		return nil
	}
	var lost *ghostferry.TargetLostCommitsError
	switch {
	case isFenced(err):
		return step("cutover", err)
	case errors.As(err, &lost) && !f.unlocking: // nothing was posted, and nobody else will
		return f.giveUp(ctx, began, step("cutover", err))
	}
	return f.unknown(began, step("cutover", fmt.Errorf("%w: the same command posts it once more, as long as the source is not written", err)))
}

// unknown is the error when CutoverUnlock may have been obeyed. Nothing is posted: the writers
// stay as they are, because both sides must not be written.
func (f *ShardingFerry) unknown(began time.Time, err error) error {
	if !errors.Is(err, ghostferry.ErrTrafficUnknown) {
		err = fmt.Errorf("%w: %w", ghostferry.ErrTrafficUnknown, err)
	}
	fenced := f.config.CutoverLock.URI != ""
	return &ghostferry.CutoverError{
		Phase: ghostferry.PhaseCommit, Traffic: ghostferry.TrafficUnknown, Fenced: fenced, Blocked: fenced,
		Coordinate: f.Ferry.StopCoordinate(), Complete: true, WriteBlock: time.Since(began), Err: err,
	}
}

// AlreadyMovedError says that an earlier process has moved the tenant to the end: CutoverUnlock,
// if there is one, was posted and answered.
type AlreadyMovedError struct {
	// Tenant is the sharding value, Schema the target's.
	Tenant any
	Schema string
}

// Error says what to do for another move.
func (e *AlreadyMovedError) Error() string {
	return fmt.Sprintf("already moved: tenant %v is in schema %s of the target, and CutoverUnlock, if one is configured, was answered; nothing was touched. "+
		"To move it anew, when the application does not use these rows: -cancel -even-if-finished removes them, then run this again", e.Tenant, e.Schema)
}

// Resumable is false: there is nothing to go on with.
func (e *AlreadyMovedError) Resumable() bool { return false }

// askForTraffic finds out whether an earlier process of the move has, or may have, handed the
// traffic over to the target.
func (f *ShardingFerry) askForTraffic(ctx context.Context) error {
	switch f.Ferry.RecordedTraffic() {
	case ghostferry.TrafficOnTarget:
		return &AlreadyMovedError{Tenant: f.config.value(), Schema: f.config.TargetDB}
	case ghostferry.TrafficUnknown:
		f.unlocking = true
		return f.sourceStoodStill(ctx)
	}
	return nil
}

// sourceStoodStill makes sure that what the earlier process has compared is still what the source
// has: then, and only then, CutoverUnlock is right whether or not it was obeyed before.
func (f *ShardingFerry) sourceStoodStill(ctx context.Context) error {
	err := f.checkLateWrites(ctx)
	var changed []string
	if err == nil && f.joined != nil {
		changed, err = f.joined.changedTables(ctx)
	}
	what := "that the source was not written since cannot be told: " + fmt.Sprint(err)
	var late *ghostferry.LateWriteError
	if errors.As(err, &late) {
		what = "since then the source was written, in " + strings.Join(late.Tables, ", ")
	} else if len(changed) > 0 {
		err, what = ghostferry.ErrTrafficUnknown, "since then joined rows of the tenant have changed on the source, in "+strings.Join(changed, ", ")
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: an earlier process of this move may have posted CutoverUnlock, and no answer is known; %s. Look where the application writes. "+
		"If that is the target, the tenant has moved, and nothing is left to do. If it is the source, run this with -application-on-source, and the move goes on. Nothing was touched", ghostferry.ErrTrafficUnknown, what)
}

// checkLateWrites looks for changes of the tenant's rows behind the stop position, those of its
// own row included. It notes the keys of joined rows that have changed.
func (f *ShardingFerry) checkLateWrites(ctx context.Context) error {
	streamed := maps.Clone(f.Ferry.BinlogStreamer.TableSchema)
	for _, t := range f.keyed {
		streamed[t.String()] = t
	}
	f.Ferry.BinlogStreamer.TableSchema = streamed
	return f.Ferry.CheckLateWrites(ctx)
}

// awaitReplica waits until a source that is a replica has what its primary has now.
func (f *ShardingFerry) awaitReplica(ctx context.Context) error {
	replica := f.Ferry.WaitUntilReplicaIsCaughtUpToMaster
	if replica == nil {
		return nil
	}
	return step("wait_replica", replica.WaitContext(ctx))
}

// unlockAgain posts CutoverUnlock again, behind CutoverLock: writers that somebody has let go on
// are stopped, and what they may have written is noticed. No row is touched. Nothing here tells
// that the application still is on the source, so what fails leaves the writers stopped.
func (f *ShardingFerry) unlockAgain(ctx context.Context) error {
	if err := f.Ferry.RecordTraffic(ctx, ghostferry.TrafficUnknown); err != nil { // takes the run over
		return step("cutover", err)
	}
	began, err := f.Ferry.StartCutoverContext(ctx)
	if err != nil {
		if began.IsZero() { // nothing was posted
			return step("cutover", err)
		}
		return f.unknown(began, step("cutover", err))
	}
	if err = f.awaitReplica(ctx); err == nil {
		err = step("cutover", f.sourceStoodStill(ctx))
	}
	if err != nil {
		return f.unknown(began, err)
	}
	return f.unlock(ctx, began)
}

// ApplicationOnSourceContext says, after Initialize and before Start, that the application writes to the
// source although CutoverUnlock may have been posted: the move goes on as after any interruption.
// A tenant that has moved is refused with an [*AlreadyMovedError].
func (f *ShardingFerry) ApplicationOnSourceContext(ctx context.Context) error {
	switch f.Ferry.RecordedTraffic() {
	case ghostferry.TrafficOnTarget:
		return &AlreadyMovedError{Tenant: f.config.value(), Schema: f.config.TargetDB}
	case ghostferry.TrafficUnknown:
		return f.Ferry.RecordTraffic(ctx, ghostferry.TrafficOnSource)
	}
	return nil
}

func isFenced(err error) bool {
	var fenced *ghostferry.FencedError
	return errors.As(err, &fenced)
}
