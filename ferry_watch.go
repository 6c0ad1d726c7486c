package ghostferry

import (
	"context"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
)

// connectWatch fixes from where on writes of others to the target are noticed: where an
// earlier process of the run has stopped watching, or from now on.
func (f *Ferry) connectWatch(ctx context.Context) error {
	if f.TargetVerifier == nil {
		return nil
	}
	place, err := f.watchFrom(ctx)
	if err != nil {
		return err
	}
	stream, anew := f.TargetVerifier.BinlogStreamer, place.at.IsZero()
	if !anew {
		now, err := f.targetServer.LogEnd(ctx, f.TargetDB)
		if err != nil {
			return err
		}
		// Whoever emptied a table that is copied again did no harm.
		stream.exempt = func(table *TableSchema, at BinlogCoordinate) bool {
			return f.copiedAnew(table) && at.CompareFilePos(BinlogCoordinate{File: now.File, Pos: now.Pos}) <= 0
		}
		stream.xa.settled = place.mark.place() // up to there all was seen, whatever holds the place back
	}
	if _, err := stream.connect(ctx, place.at); err != nil {
		return err
	}
	if anew {
		if place.at, err = f.awaitTargetXA(ctx); err != nil {
			return err
		}
	}
	place.server = f.targetServer.Identity
	f.StateTracker.watchBegins(place)
	return nil
}

// awaitTargetXA waits for XA transactions that were prepared on the target when the watch
// began: their rows lie before it. What is committed by now does no harm: nothing was copied
// since the watch began, and everything is compared later. One that is committed later ends
// the watch, because nobody knows what it has changed. It returns where the log ends now.
func (f *Ferry) awaitTargetXA(ctx context.Context) (BinlogCoordinate, error) {
	_, undecided, err := f.awaitDecisions(ctx, f.targetServer, f.TargetDB, preparedPatience)
	if err != nil {
		return BinlogCoordinate{}, err
	}
	if len(undecided) > 0 {
		f.logger.Warnf("the target has prepared XA transactions (%s): the run fails when one is committed, because it may have changed moved rows; XA ROLLBACK them on the target", strings.Join(undecided, "; "))
	}
	now, err := f.targetServer.LogEnd(ctx, f.TargetDB)
	end := BinlogCoordinate{File: now.File, Pos: now.Pos}
	f.TargetVerifier.BinlogStreamer.xa.unread = func(_ binlog.GTID, at BinlogCoordinate) bool { return at.CompareFilePos(end) <= 0 }
	return end, err
}

// startWatch follows the target's log in a group of its own: it goes on after Run, until
// StopTargetVerifier or Close. A write of somebody else ends the run.
func (f *Ferry) startWatch(ctx context.Context, run *lifecycle.Group) {
	if f.TargetVerifier == nil {
		return
	}
	if !f.resuming { // a host's creation of the tables may have failed and dropped some again
		if end, err := f.targetServer.LogEnd(ctx, f.TargetDB); err == nil {
			f.TargetVerifier.BinlogStreamer.ownWords = BinlogCoordinate{File: end.File, Pos: end.Pos}
		}
	}
	f.watch, _ = lifecycle.New(context.WithoutCancel(ctx))
	f.watchTask = f.watch.Go("target_binlog_streamer", func(ctx context.Context) error {
		err := f.TargetVerifier.BinlogStreamer.RunContext(ctx)
		if err != nil && ctx.Err() == nil {
			run.Cancel(origin("binlog_streamer", err))
		}
		return err
	})
}
