package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// WaitUntilRowCopyIsCompleteContext returns when the rows are copied, verified before
// the cutover, and the cutover may begin; any number of callers may wait. It fails when
// the run ends before.
func (f *Ferry) WaitUntilRowCopyIsCompleteContext(ctx context.Context) error {
	f.prepareChannels()
	select {
	case <-f.copied:
		return nil
	case <-f.runEnded:
		select {
		case <-f.copied:
			return nil
		default:
		}
		return f.endedBefore("the rows were copied")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failed is the error with which the run has ended; nil while it goes on.
func (f *Ferry) failed() error {
	f.prepareChannels()
	select {
	case <-f.runEnded:
		return f.runErr
	default:
		return nil
	}
}

// endedBefore is what a waiter gets when the run ended first: its error, if it had one.
func (f *Ferry) endedBefore(what string) error {
	if f.runErr != nil {
		return fmt.Errorf("the run ended before %s: %w", what, f.runErr)
	}
	return errors.New("the run ended before " + what)
}

const (
	// caughtUpWithin is how quickly the log's end must be reached on the target for the
	// stream to count as caught up: about what the write block would wait for.
	caughtUpWithin = 300 * time.Millisecond
	// steadyWithin is the same for a time that no longer shrinks, over steadySamples.
	steadyWithin  = 3 * time.Second
	steadySamples = 5
	// quietCatchUp is how long it is waited for without a word.
	quietCatchUp = 5 * time.Second
)

// catchUpTrend tells a backlog, which becomes less, from the time that any change takes to the
// target. A batch can take six round trips, and a change waits for the batch before its own: over
// a path of 60 ms the log's end takes 750 ms (measured), however long one waits.
type catchUpTrend struct {
	best time.Duration
	same int // how many times since were not shorter by a tenth
}

// caughtUp reports whether there is nothing to wait for, after another time that the log's end
// took. A budget for the write block may allow more than steadyWithin.
func (t *catchUpTrend) caughtUp(took, budget time.Duration) bool {
	if t.best == 0 || took < t.best-t.best/10 {
		t.best, t.same = took, 0
	} else {
		t.same++
	}
	usual := took <= t.best+t.best/4 // and no burst of changes just now
	return took < caughtUpWithin || t.same >= steadySamples && usual && took <= max(steadyWithin, budget)
}

// WaitUntilBinlogStreamerCatchesUpContext returns when the source's log end reaches the
// target within moments, or within a few seconds (MaxWriteBlock, if that is more) that do not
// become less by waiting. It fails at once when the run has failed.
func (f *Ferry) WaitUntilBinlogStreamerCatchesUpContext(ctx context.Context) error {
	defer time.AfterFunc(quietCatchUp, func() {
		at := f.BinlogWriter.appliedUpTo()
		f.logger.WithField(fieldCoordinate, at.String()).Infof("changes up to %s are on the target: it is waited until the newest reach it within %s, or in a time up to %s that does not become less",
			at, caughtUpWithin, max(steadyWithin, f.UpdatableConfig.maxWriteBlock()))
	}).Stop()
	var trend catchUpTrend
	for {
		took, err := f.catchUp(ctx)
		if err != nil || trend.caughtUp(took, f.UpdatableConfig.maxWriteBlock()) {
			return err
		}
	}
}

// catchUp tells how long the source's log end takes to reach the target.
func (f *Ferry) catchUp(ctx context.Context) (took time.Duration, err error) {
	err = f.duringRun(ctx, "the changes were applied", func(ctx context.Context) error {
		end, err := f.sourceLogEnd(ctx)
		if err != nil {
			return err
		}
		start := time.Now()
		defer func() { took = time.Since(start) }()
		return f.BinlogWriter.WaitUntilApplied(ctx, end)
	})
	return took, err
}

// WaitUntilReadsCatchUp returns when everything that the source's log had when it was called has
// reached the listeners and the target, and is visible to any later read of the source. It
// returns false at once where nothing but locks could tell: MySQL without GTIDs.
func (f *Ferry) WaitUntilReadsCatchUp(ctx context.Context) (bool, error) {
	if f.reader.lockingReads() {
		return false, nil
	}
	err := f.duringRun(ctx, "the changes were applied", func(ctx context.Context) error {
		end, err := f.sourceLogEnd(ctx)
		if err != nil {
			return err
		}
		if err := f.BinlogWriter.WaitUntilApplied(ctx, end); err != nil {
			return err
		}
		mark := f.gate.mark()
		mark.position = BinlogCoordinate{File: end.File, Pos: end.Pos} // of tables, too, that only a host's listener knows
		return f.reader.read(ctx, mark, func(*session, string) error { return nil })
	})
	return err == nil, err
}

// duringRun does what needs the run's connections. When the run fails before that is done,
// it is given up and the error is the run's: what is asked of a server over connections that
// the run has closed would be asked again and again.
func (f *Ferry) duringRun(ctx context.Context, what string, do func(ctx context.Context) error) error {
	f.prepareChannels()
	ctx, cancel := context.WithCancel(withWaits(ctx, f.waits))
	defer cancel()
	go func() {
		select {
		case <-f.runEnded:
			if f.runErr != nil {
				cancel()
			}
		case <-ctx.Done():
		}
	}()
	err := do(ctx)
	if err != nil && f.runFailed() {
		return f.endedBefore(what)
	}
	return err
}

// follows reports whether the run goes on following the source: changes may still come.
func (f *Ferry) follows() bool {
	f.prepareChannels()
	select {
	case <-f.runEnded:
		return false
	default:
	}
	state := f.OverallState.Load()
	return state != nil && state != StateStarting && state != StateDone && f.StopCoordinate().IsZero()
}

// runFailed reports whether the run has ended with an error.
func (f *Ferry) runFailed() bool {
	select {
	case <-f.runEnded:
		return f.runErr != nil
	default:
		return false
	}
}

// WaitUntilCutoverIsAllowedContext returns when the rows are copied and nothing holds the cutover
// back (DenyCutover), for hosts that have work to do just before StartCutover: what they do before
// a long wait is stale after it. StartCutover waits by itself, for what is said after this.
func (f *Ferry) WaitUntilCutoverIsAllowedContext(ctx context.Context) error {
	if err := f.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return err
	}
	return f.duringRun(ctx, "the cutover was allowed", func(ctx context.Context) error {
		if f.CutoverAllowed() {
			return nil
		}
		return f.whileHeldBack(ctx)
	})
}

// StartCutoverContext waits while the cutover is held back, posts CutoverLock,
// MaxCutoverRetries times at most, and returns the start of the last attempt. When it
// returns without an error, the writers of the source have stopped, or the host, which has no
// CutoverLock, stops them now: from here on DenyCutover comes too late.
func (f *Ferry) StartCutoverContext(ctx context.Context) (time.Time, error) {
	var start time.Time
	if err := f.noFenceOfCutover(); err != nil {
		return start, err
	}
	if err := f.duringRun(ctx, "the cutover was allowed", func(ctx context.Context) error {
		return f.takePermission(ctx, func(context.Context) error { return nil })
	}); err != nil {
		return start, err
	}
	if err := f.mustBePrimary(ctx); err != nil {
		f.permission.giveBack()
		return start, err
	}
	f.enterPhase(PhaseFence)
	policy := retry.Policy{
		Attempts: f.MaxCutoverRetries,
		First:    time.Duration(f.CutoverRetryWaitSeconds) * time.Second, Max: time.Duration(f.CutoverRetryWaitSeconds) * time.Second,
	}
	err := retry.Do(ctx, policy, func(error) bool { return ctx.Err() == nil }, func(n int, _ time.Duration, err error) {
		f.logger.WithError(err).Warnf("locking for the cutover failed, attempt %d", n)
	}, func(ctx context.Context) error {
		start = time.Now()
		failpoint("cutover.lock")
		err := f.post(ctx, f.CutoverLock)
		failpoint("cutover.locked")
		metricsOrGlobal(f.Metrics).Timer("CutoverLock", time.Since(start), nil, 1)
		return err
	})
	if err != nil {
		f.permission.giveBack()
		return start, fmt.Errorf("the cutover lock callback %s failed, the source stays authoritative: %w", shownURL(f.CutoverLock.URI), err)
	}
	return start, nil
}

// noFenceOfCutover fails where the configuration has a fence that nobody would close: only Cutover does.
func (f *Ferry) noFenceOfCutover() error {
	if f.CutoverFence == nil {
		return nil
	}
	return &ConfigError{
		Field: "CutoverFence", Problem: "CutoverFence is closed by Ferry.Cutover only, and this cutover goes without it: the source's writers would not be stopped",
		Remedy: "call Cutover, or clear CutoverFence and close a fence of NewFence after StartCutover",
	}
}

// EndCutoverContext posts CutoverUnlock once, unless the run has failed: the target is not to be
// written then. Nor is it posted when another process has taken the run
// over, which then is the one to say so, a [*FencedError], or when the target has
// forgotten the run, and perhaps the rows with it: a [*TargetLostCommitsError].
func (f *Ferry) EndCutoverContext(ctx context.Context, cutoverStart time.Time) error {
	asking, cancel := context.WithTimeout(ctx, ownerLimit)
	defer cancel()
	if err := f.ownedStill(asking); err != nil {
		return fmt.Errorf("the cutover is not ended: %w", err)
	}
	if err := f.failed(); err != nil {
		return fmt.Errorf("the cutover is not ended, the run has failed: %w", err)
	}
	f.enterPhase(PhaseCommit)
	start := time.Now()
	failpoint("cutover.unlock")
	err := f.post(ctx, f.CutoverUnlock)
	failpoint("cutover.unlocked")
	metrics := metricsOrGlobal(f.Metrics)
	metrics.Timer("CutoverUnlock", time.Since(start), nil, 1)
	metrics.Timer("CutoverTime", time.Since(cutoverStart), nil, 1)
	if err != nil {
		return fmt.Errorf("the cutover unlock callback %s failed: %w", shownURL(f.CutoverUnlock.URI), err)
	}
	f.enterPhase(PhaseDone)
	return nil
}

// FlushBinlogAndStopStreamingContext ends the stream at the log's present end and
// returns at once; Run returns when everything up to there is on the target. The
// writers of the source must have stopped before. A source that is a replica is first
// waited for until it has what its primary had.
func (f *Ferry) FlushBinlogAndStopStreamingContext(ctx context.Context) error {
	if err := f.noFenceOfCutover(); err != nil {
		return err
	}
	return f.duringRun(ctx, "the stream was told to stop", f.flushAndStop)
}

func (f *Ferry) flushAndStop(ctx context.Context) error {
	if gate := f.WaitUntilReplicaIsCaughtUpToMaster; gate != nil {
		primary, err := f.masterIsPrimary(ctx)
		if err != nil {
			return origin("wait_replica", err)
		}
		if !primary {
			return origin("wait_replica", errors.New("source master is no longer a master writer"))
		}
		if err := gate.WaitContext(ctx); err != nil {
			return origin("wait_replica", err)
		}
	}
	if err := f.mustBePrimary(ctx); err != nil {
		return err
	}
	f.permission.begun() // also by hosts that have not called StartCutover
	f.enterPhase(PhaseDrain)
	return origin("binlog_streamer", f.BinlogStreamer.flushAndStop(ctx))
}

// ownerLimit bounds the question who owns the run: a target that is away must not keep the
// writers from going on.
const ownerLimit = 3 * time.Second

// AbortCutoverContext gives a cutover up that was begun by StartCutover: a stop position
// that the stream has not reached is forgotten, and CutoverAbort is posted. It fails, after
// posting, when the run has ended or is about to: the source then has to be moved from
// again by a run that resumes. When another process has taken the run over, which may have
// stopped the writers anew, nothing is posted, and the error is a [*FencedError]. It is of
// no use to Cutover, which does so itself.
func (f *Ferry) AbortCutoverContext(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, ownerLimit)
	defer cancel()
	if err := f.notTakenOver(asking); err != nil {
		return fmt.Errorf("the cutover abort callback is not posted: %w", err)
	}
	f.enterPhase(PhaseAbort)
	f.countAbort()
	goesOn := f.BinlogStreamer.goOn()
	defer f.permission.giveBack()
	if err := f.post(ctx, f.CutoverAbort); err != nil {
		return fmt.Errorf("the cutover abort callback %s failed, writes to the source may still be blocked: %w", shownURL(f.CutoverAbort.URI), err)
	}
	f.enterPhase(PhaseUnfenced)
	if !goesOn {
		return errors.New("the stream has ended at its stop position, so the run does not follow the source any more: start it again, it resumes")
	}
	return nil
}

// StopTargetVerifierContext follows the target's binary log to its present end and ends
// the watch on it. It fails when somebody else wrote to moved rows, with a
// [*ForeignWriteError]. Without a watch, or before Run, it does nothing. When it could not be
// done, because the target is away or ctx has ended, the watch goes on, and it may be called again.
func (f *Ferry) StopTargetVerifierContext(ctx context.Context) error {
	if f.watch == nil {
		return nil
	}
	if err := f.failed(); err != nil {
		f.stopWatch()
		return origin("binlog_streamer", fmt.Errorf("the watch on the target has ended with the run, which has failed: %w", err))
	}
	stream := f.TargetVerifier.BinlogStreamer
	select {
	case <-f.watchTask.Done(): // to its end, by a call before, or cut
	default:
		if err := stream.flushAndStop(ctx); err != nil {
			return origin("binlog_streamer", err)
		}
	}
	select {
	case <-f.watchTask.Done():
		err := f.watch.Wait()
		if err == nil && f.watchCut.Load() {
			err = errors.New("the watch on the target was ended, by Close or by the end of the run, before the end of its log: what others wrote since is not known")
		}
		return origin("binlog_streamer", err)
	case <-ctx.Done():
		stream.goOn()
		return ctx.Err()
	}
}

// stopWatch ends the watch on the target where it is.
func (f *Ferry) stopWatch() {
	if f.watch != nil {
		select {
		case <-f.watchTask.Done():
		default:
			f.watchCut.Store(true)
		}
		f.watch.Cancel(nil)
		_ = f.watch.Wait() // its error ended the run, or StopTargetVerifier has told it
	}
}

// StopCoordinate returns where the stream stops; zero until that was asked for.
func (f *Ferry) StopCoordinate() BinlogCoordinate {
	if f.BinlogStreamer == nil {
		return BinlogCoordinate{}
	}
	return f.BinlogStreamer.stopCoordinate()
}

// CheckLateWrites looks, after Run has returned, for changes of the moved tables that
// were made after the stop position: then not all writers were stopped, and the error
// is a *LateWriteError naming the tables and keys. Instead of Start it looks behind the stop
// position of an earlier process of the run that has recorded the traffic, if one has.
func (f *Ferry) CheckLateWrites(ctx context.Context) error {
	stop := f.StopCoordinate()
	if stop.IsZero() && f.resume != nil && !f.resume.stopped.IsZero() {
		stop = f.resume.stopped
		if f.resume.source != f.sourceServer.Identity {
			return &ServerChangedError{Was: f.resume.source, Is: f.sourceServer.Identity}
		}
		if err := f.checkLogHolds(ctx, stop); err != nil {
			return err
		}
	}
	end, err := f.sourceLogEnd(ctx)
	if err != nil {
		return fmt.Errorf("reading the source's log end again: %w", err)
	}
	if stop.IsZero() || end.CompareFilePos(stop) <= 0 {
		return nil
	}
	s, late, err := f.tailStream(ctx, stop, "late_write_check")
	if err != nil {
		return err
	}
	late.arm(stop, nil)
	s.stopAt = end
	group, _ := lifecycle.New(ctx)
	group.Go("late_write_check", s.RunContext)
	if err := group.Wait(); err != nil {
		return fmt.Errorf("looking for changes after the stop position: %w", err)
	}
	return late.error()
}

// ForgetCheckpoint removes the run's checkpoint from the target, after Initialize and
// before Start: the run then begins afresh. The rows of the earlier run have to be
// removed from the target's tables first, or they would be kept for ever, and before that
// RecordTraffic(ctx, TrafficOnSource) takes the run over from a process that may still make it, or
// switch the traffic meanwhile. Otherwise that is done here, with the same errors. Indexes that
// the run had dropped and not created yet are created.
func (f *Ferry) ForgetCheckpoint(ctx context.Context) error {
	if f.CheckpointStore != nil {
		if err := f.CheckpointStore.ForgetState(ctx, f.runID()); err != nil {
			return err
		}
		if f.stateStored {
			f.StateToResumeFrom, f.stateStored, f.resuming = nil, false, f.resume != nil
			if f.resume == nil {
				return f.buildAgain()
			}
		}
	}
	previous := cmp.Or(f.resume, f.damaged)
	if previous == nil {
		return nil
	}
	if !f.checkpoint.begun() {
		if err := f.fenceOutOthers(ctx); err != nil {
			return err
		}
	}
	if err := f.indexes.restore(ctx, f.sortedTables(), previous); err != nil && f.damage == nil {
		return err
	} else if err != nil {
		f.logger.WithError(err).Warn("indexes that the earlier run has dropped are not created: the checkpoint's record of them is damaged, too")
	}
	if err := f.checkpoint.forget(ctx); err != nil {
		return fmt.Errorf("removing the checkpoint of run %s: %w", f.checkpoint.runID, err)
	}
	f.resume, f.resuming, f.damage, f.damaged = nil, false, nil, nil
	return f.buildAgain()
}

// buildAgain makes the components of a run that begins afresh after all.
func (f *Ferry) buildAgain() error {
	if err := f.build(); err != nil {
		return err
	}
	if f.VerifierType == "" {
		return nil
	}
	f.Verifier = nil
	if err := f.chooseVerifier(); err != nil {
		return err
	}
	if f.ControlServer != nil { // which shows and starts this one
		f.ControlServer.Verifier = f.Verifier
	}
	return nil
}

// CheckpointTables returns the tables of the source that the run's checkpoint tells of:
// those whose rows an earlier process of the run has written to the target.
func (f *Ferry) CheckpointTables() []*TableSchema {
	var tables []*TableSchema
	previous := cmp.Or(f.resume, f.damaged)
	if previous == nil {
		return nil
	}
	for _, t := range f.sortedTables() {
		if previous.tables[NewTableIdentifierFromSchemaTable(t)] != nil {
			tables = append(tables, t)
		}
	}
	return tables
}
