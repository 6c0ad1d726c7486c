package sharding

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

const (
	// abortLimit bounds CutoverAbort, which is posted by processes that have to end, too;
	// unlockLimit bounds CutoverUnlock.
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
// switched, even if no answer came, so the writers of the source must not go on.
func (f *ShardingFerry) unlock(ctx context.Context, began time.Time) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockLimit)
	defer cancel()
	err := f.Ferry.EndCutoverContext(last, began)
	if err == nil || isFenced(err) {
		return step("cutover", err)
	}
	return &ghostferry.CutoverError{
		Phase: ghostferry.PhaseCommit, Traffic: ghostferry.TrafficUnknown, Fenced: f.config.CutoverLock.URI != "", Blocked: f.config.CutoverLock.URI != "",
		Coordinate: f.Ferry.StopCoordinate(), Complete: true, WriteBlock: time.Since(began), Err: step("cutover", fmt.Errorf("%w: %w", ghostferry.ErrTrafficUnknown, err)),
	}
}

func isFenced(err error) bool {
	var fenced *ghostferry.FencedError
	return errors.As(err, &fenced)
}
