package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
)

// GuardTail reads the source's log behind the stop position for a while, on a stream of its
// own, after Run has returned: a change of a moved table there came from a writer that was
// not stopped, and is not on the target. It returns nil when the period is over without one,
// and a [*LateWriteError] with the keys as soon as one is found.
func (f *Ferry) GuardTail(ctx context.Context, period time.Duration) error {
	stop := f.StopCoordinate()
	if stop.IsZero() {
		return errors.New("there is no stop position to guard yet: call FlushBinlogAndStopStreaming first")
	}
	if period <= 0 {
		return nil
	}
	connecting, cancel := context.WithTimeoutCause(ctx, max(period, ownerLimit), errors.New("the source does not answer"))
	defer cancel()
	s, late, err := f.tailStream(connecting, stop, "tail_guard")
	if err != nil {
		return causeOf(connecting, err)
	}
	group, groupCtx := lifecycle.New(ctx)
	late.arm(stop, func(e *LateWriteError) { group.Cancel(e) })
	group.Go("tail_guard", s.RunContext)
	timer := time.NewTimer(period)
	defer timer.Stop()
	select {
	case <-timer.C:
		group.Cancel(nil)
	case <-groupCtx.Done():
	}
	if err := group.Wait(); err != nil {
		if found, ok := errors.AsType[*LateWriteError](err); ok {
			return found
		}
		return fmt.Errorf("guarding the source's log behind the stop position: %w", err)
	}
	return causeIfEnded(ctx, ctx.Err())
}

// tailStream is a stream that begins at the stop position and has its changes observed.
func (f *Ferry) tailStream(ctx context.Context, stop BinlogCoordinate, tag string) (*BinlogStreamer, *lateWatch, error) {
	s := f.NewSourceBinlogStreamer()
	s.shared = nil                               // it begins at a place of its own, and ends soon
	s.TableSchema = f.BinlogStreamer.TableSchema // a host may have added tables
	s.LogTag = tag
	s.logger = taggedLogger(f.logger, tag)
	if s.MyServerId != 0 { // the run's own may not be gone on the server yet
		s.MyServerId = 0
	}
	if _, err := s.connect(ctx, stop); err != nil {
		return nil, nil, err
	}
	s.xa.prepared = maps.Clone(f.BinlogStreamer.xa.prepared) // none of them changed a moved table
	late := &lateWatch{}
	s.AddEventListener(late.observe)
	return s, late, nil
}

// guardAfterSwitch guards the tail once the target owns the traffic, and raises the alarm.
func (f *Ferry) guardAfterSwitch(ctx context.Context, hooks CutoverHooks) error {
	err := f.GuardTail(ctx, f.tailGuardPeriod())
	late, ok := errors.AsType[*LateWriteError](err)
	if !ok {
		if err != nil {
			f.logger.WithError(err).Warn("the source could not be guarded against late writes to the end; it is switched over")
		}
		return nil
	}
	late.Switched = true
	f.logger.WithError(late).Error("ALARM: a late write on the source")
	if hooks.LateWrite != nil {
		_ = safely(func() error { hooks.LateWrite(late); return nil })
	}
	return late
}

// tailGuardPeriod is how long Cutover guards the tail.
func (f *Ferry) tailGuardPeriod() time.Duration {
	return max(0, time.Duration(f.TailGuardSeconds)*time.Second)
}
