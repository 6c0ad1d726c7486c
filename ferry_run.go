package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// StartContext is Start with a context. Nothing is written.
func (f *Ferry) StartContext(ctx context.Context) error {
	if f.BinlogStreamer == nil {
		return errors.New("Start comes after Initialize") //nolint:staticcheck // the names of methods
	}
	if f.started {
		return errors.New("Start was called before") //nolint:staticcheck // the name of a method
	}
	if s := f.SharedStreamer; s != nil && s.core == nil {
		return &ConfigError{Field: "SharedStreamer", Problem: "the SharedStreamer has not been started", Remedy: "call its Start before the Ferry's"}
	}
	if err := f.checkVerifierSettings(); err != nil {
		return err
	}
	if err := f.identifyProcess(ctx); err != nil {
		return err
	}
	f.noteReplication(ctx)
	// Not before: a host that begins afresh forgets the checkpoint after Initialize.
	if err := f.checkResume(ctx); err != nil {
		return err
	}
	failpoint("resume.checked")
	var from BinlogCoordinate
	if f.resuming {
		from = f.resumePosition()
	}
	if err := f.startAt(ctx, from); err != nil {
		return err
	}
	if err := f.prepareForXA(ctx); err != nil {
		return err
	}
	if err := f.checkDefinitions(ctx); err != nil {
		return err
	}
	if err := f.connectWatch(ctx); err != nil {
		return origin("binlog_streamer", err)
	}
	// What changes the components comes last: a Start that has failed may be repeated.
	if err := f.resumeVerification(); err != nil {
		return err
	}
	f.listen()
	f.warnOfBounds()
	f.warnOfUnnamedRun()
	f.started = true
	return nil
}

// listen registers the Ferry's own listeners.
func (f *Ferry) listen() {
	f.BinlogStreamer.AddEventListener(f.BinlogWriter.BufferBinlogEvents)
	f.BinlogStreamer.onEnd = append(f.BinlogStreamer.onEnd, f.BinlogWriter.transactionEnded)
	switch v := f.Verifier.(type) {
	case *OnlineVerifier:
		f.BinlogStreamer.AddEventListener(v.BinlogEventListener)
	case *InlineVerifier:
		f.BinlogStreamer.AddEventListener(v.binlogEventListener)
		f.BatchWriter.InlineVerifier, f.DataIterator.SelectFingerprint = v, true
	}
	f.BinlogStreamer.AddEventListener(f.cut.late.observe)
	f.DataIterator.addBatchListener(f.BatchWriter.WriteRowBatchContext)
}

// resumeVerification is done here and not before: by now it is known which tables are
// copied again.
func (f *Ferry) resumeVerification() error {
	var v savingVerifier
	switch own := f.Verifier.(type) {
	case *OnlineVerifier:
		v = own
	case *InlineVerifier:
		v = own
	default:
		return nil
	}
	c, err := v.core()
	if err != nil {
		return err
	}
	return f.resumeVerificationOf(c)
}

// preparedPatience is how long the start waits for XA transactions that are prepared.
const preparedPatience = 5 * time.Second

// prepareForXA deals with XA transactions that were prepared before the start: their rows
// lie before it and no read sees them yet. It waits until they are decided; their COMMIT
// then does no harm if the stream comes to it before the first read (see awaitEarlierXA).
// One that is prepared later has its rows in the stream. A run that resumes begins before
// everything that was undecided when the earlier process had read.
func (f *Ferry) prepareForXA(ctx context.Context) (err error) {
	if f.readBefore() {
		return nil
	}
	f.BinlogStreamer.xa.unread = f.gate.deliverUnread
	if f.xaAtStart, err = f.sourceServer.XAUsed(ctx, f.SourceDB); err != nil {
		return err
	}
	patience := preparedPatience
	if f.resuming {
		patience = 0 // those of a run that resumes may be in its stream
	}
	found, undecided, err := f.awaitDecisions(ctx, f.sourceServer, f.SourceDB, patience)
	if err != nil {
		return err
	}
	if len(undecided) > 0 && !f.resuming {
		return &PreparedTransactionsError{XIDs: undecided}
	}
	f.xaAtStart = f.xaAtStart || found
	f.BinlogWriter.recordAll.Store(f.xaAtStart)
	return nil
}

// awaitDecisions waits until the XA transactions that are prepared on a server now are decided,
// and returns those that are not after patience; found tells whether there were any.
func (f *Ferry) awaitDecisions(ctx context.Context, srv *server.Server, db *sql.DB, patience time.Duration) (found bool, undecided []string, err error) {
	for deadline := time.Now().Add(patience); ; {
		xids, err := srv.PreparedXA(ctx, db)
		if err != nil {
			f.logger.WithError(err).Debug("prepared XA transactions could not be listed")
			return found, nil, nil
		}
		if !found {
			found, undecided = len(xids) > 0, xids
		}
		undecided = slices.DeleteFunc(undecided, func(xid string) bool { return !slices.Contains(xids, xid) })
		if len(undecided) == 0 || !time.Now().Before(deadline) {
			return found, undecided, nil
		}
		if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
			return found, undecided, err
		}
	}
}

// readBefore reports whether what an earlier process has read of the source is on the
// target.
func (f *Ferry) readBefore() bool {
	switch {
	case !f.resuming:
		return false
	case f.resume == nil:
		return len(f.StateToResumeFrom.LastSuccessfulPaginationKeys)+len(f.StateToResumeFrom.CompletedTables) > 0
	}
	for _, t := range f.resume.tables {
		if t.completed || len(t.chunks) > 0 {
			return true
		}
	}
	return false
}

// awaitEarlierXA returns when the stream has come to the decisions of the transactions
// that prepareForXA has waited for, and the checkpoint with it, before rows are read.
func (f *Ferry) awaitEarlierXA(ctx context.Context) error {
	defer f.gate.beginReading()
	if !f.xaAtStart {
		return nil
	}
	defer f.BinlogWriter.recordAll.Store(false)
	end, err := f.sourceLogEnd(ctx)
	if err != nil {
		return err
	}
	return f.BinlogWriter.WaitUntilApplied(ctx, end)
}

var errRanBefore = errors.New("Run was called before: a Ferry makes one run, make another one to go on") //nolint:staticcheck // the name of a method

// RunContext copies the tables and follows the source until the host ends the stream
// after the cutover began. It returns the first error; then every goroutine has ended
// and what was written is consistent: see Resumable.
func (f *Ferry) RunContext(ctx context.Context) (err error) {
	if !f.ran.CompareAndSwap(false, true) {
		return errRanBefore
	}
	f.prepareChannels()
	defer func() { f.runErr, f.runEndedAt = err, time.Now(); close(f.runEnded) }()
	if !f.started {
		return errors.New("Run comes after Start") //nolint:staticcheck // the names of methods
	}
	defer f.closeConnectionsAfterFailure(ctx, &err)
	ctx = withWaits(ctx, f.waits)
	f.startControlServer(ctx)
	f.startReports(ctx)
	defer f.endReports()
	if err := f.prepareTarget(ctx); err != nil {
		return f.runError(ctx, err)
	}
	if err := f.storeFirstState(ctx); err != nil {
		return f.runError(ctx, err)
	}
	f.OverallState.Store(StateCopying)
	f.copyBegan.Store(int64(f.elapsed()))
	services, serviceCtx := lifecycle.New(context.WithoutCancel(ctx))
	group, _ := lifecycle.New(ctx)
	f.startServices(services, group)
	defer context.AfterFunc(serviceCtx, func() {
		if cause := context.Cause(serviceCtx); !errors.Is(cause, lifecycle.ErrStopped) { // a panic of a host's
			group.Cancel(cause)
		}
	})()
	f.startWatch(ctx, group)
	f.startStreams(group, f.startVerification(group))
	group.Go("phases", f.phases)
	err = group.Wait()
	services.Cancel(nil)
	_ = services.Wait()       // a failure has ended the run
	_ = f.BatchWriter.Close() // of connections that are idle
	f.over.Store(true)        // nothing moves any more
	if err != nil {
		f.reportLastState(ctx)
	}
	storeErr := f.storeLastState(ctx, err)
	if err != nil {
		f.saveLast(ctx)
		if storeErr != nil {
			f.logger.WithError(storeErr).Error("the last state was not stored; the one before still is")
		}
		return f.runError(ctx, err)
	}
	if storeErr != nil {
		return storeErr
	}
	return f.finish(ctx)
}

// saveLast saves the verifier's progress of a run that failed; it is compared again
// what cannot be saved.
func (f *Ferry) saveLast(ctx context.Context) {
	ctx, cancel := lifecycle.Detach(ctx, saveTimeout)
	defer cancel()
	if err := f.saveVerification(ctx); err != nil {
		f.logger.WithError(err).Debug("the end of the run")
	}
}

// runError names the reason that ended the run.
func (f *Ferry) runError(ctx context.Context, err error) error {
	if errors.Is(err, ErrInterrupted) {
		return &originError{"user_interrupt", err}
	}
	err = endOf(ctx, err)
	cause := context.Cause(ctx)
	switch {
	case cause == nil && errors.Is(err, context.Canceled):
		// A listener obeys a context of the host's, which tells it before it tells ours.
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	case cause != nil && errors.Is(err, cause):
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	return err
}

// endOf adds why ctx has ended to the error of a lost connection, which may be only the
// echo: the driver gives up the connection of a statement whose context ends, and who used
// it next may have seen that before the end of the context.
func endOf(ctx context.Context, err error) error {
	ended, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || ended == nil || errors.Is(err, cause) || mysqlerr.Classify(err) != mysqlerr.ConnectionLost {
		return err
	}
	if !errors.Is(cause, ended) {
		ended = fmt.Errorf("%w: %w", ended, cause)
	}
	return fmt.Errorf("%w: %w", ended, err)
}

func (f *Ferry) closeConnectionsAfterFailure(ctx context.Context, err *error) {
	if *err != nil {
		f.keepOwner(ctx)
		f.closeConnections()
	}
}

// keepOwner asks who owns the run while there still are connections. A process that has
// stood still may end for a reason that has nothing to do with the one that took the run over
// meanwhile; what is to be told to the source's writers then is no longer for it to say.
func (f *Ferry) keepOwner(ctx context.Context) {
	if !f.checkpoint.begun() {
		return
	}
	ctx, cancel := lifecycle.Detach(ctx, ownerLimit)
	defer cancel()
	err := f.checkpoint.ownerError(ctx)
	f.ownerAtEnd.Store(&err)
}

// startVerification starts what compares while the run goes on, nil when the verifier
// does not: an online one begins when the rows are there, beside the creation of deferred
// indexes, which is mostly the work of one thread. Not so when it repairs: without a unique
// index nothing keeps out a row that has to wait for the repair of another one. Nor where an index
// is owed that it has to read by, because an earlier process did not know of that.
func (f *Ferry) startVerification(group *lifecycle.Group) *lifecycle.Task {
	var follow func(ctx context.Context) error
	from, begin := "verifier", f.rowsCopied
	switch v := f.Verifier.(type) {
	case *OnlineVerifier:
		follow = v.follow
		if v.Repair || f.indexes.oweForced() {
			begin = f.indexed
		}
	case *InlineVerifier:
		at := make(chan struct{})
		close(at)
		follow, from, begin = v.follow, "inline_verifier", at
	default:
		return nil
	}
	return group.Go("verification", func(ctx context.Context) error {
		select {
		case <-begin:
			return origin(from, follow(ctx))
		case <-ctx.Done():
			return nil
		}
	})
}

// startStreams starts what follows the log: the stream and the writer, which ends when
// the stream has, and the comparison with it.
func (f *Ferry) startStreams(group *lifecycle.Group, verification *lifecycle.Task) {
	collisions := group.Go("collisions", func(ctx context.Context) error { return origin("binlog_writer", f.collisions.run(ctx)) })
	group.Go("binlog_writer", func(ctx context.Context) error {
		err := f.BinlogWriter.RunContext(ctx)
		if err == nil {
			err = collisions.Stop(ctx)
		}
		if err == nil && verification != nil {
			err = verification.Stop(ctx)
		}
		return origin("binlog_writer", err)
	})
	group.Go("source_binlog_streamer", func(ctx context.Context) error {
		if err := f.BinlogStreamer.RunContext(ctx); err != nil {
			return origin("binlog_streamer", err)
		}
		if f.OverallState.Load() != StateCutover {
			return origin("binlog_streamer", errors.New("the stream was stopped before the rows were copied and the cutover began: changes from here on would be lost"))
		}
		f.BinlogWriter.Stop()
		return nil
	})
}

// phases is the run's course beside the streams.
func (f *Ferry) phases(ctx context.Context) error {
	if err := f.awaitEarlierXA(ctx); err != nil {
		return origin("binlog_streamer", err)
	}
	if err := f.DataIterator.RunContext(ctx, f.sortedTables()); err != nil {
		return origin("data_iterator", err)
	}
	f.copyTook.Store(int64(f.elapsed()) - f.copyBegan.Load())
	close(f.rowsCopied)
	if err := f.createDeferredIndexes(ctx); err != nil {
		return origin("ferry", err)
	}
	close(f.indexed)
	f.OverallState.Store(StateWaitingForCutover)
	f.logger.Info("data copy is complete, waiting for cutover")
	failpoint("cutover.copied")
	for again := false; ; again = true {
		if err := f.awaitPermission(ctx); err != nil {
			return err
		}
		if err := f.checkBeforeCutover(ctx, again); err != nil {
			return err
		}
		if f.CutoverAllowed() {
			break
		}
		f.logger.Info("the cutover is held back")
		f.OverallState.Store(StateWaitingForCutover)
	}
	f.OverallState.Store(StateCutover)
	f.enterPhase(PhaseReady)
	failpoint("cutover.entered")
	f.reportSoon()
	f.logger.Info("entering cutover phase")
	close(f.copied)
	return nil
}

// checkBeforeCutover does what may take long and must not be done while the writers wait.
func (f *Ferry) checkBeforeCutover(ctx context.Context, again bool) error {
	if err := f.verifyBeforeCutover(ctx, again); err != nil {
		return origin("verifier", err)
	}
	if err := f.auditForeignKeys(ctx); err != nil {
		return origin("ferry", err)
	}
	f.warnOfNewTables(ctx)
	return origin("binlog_writer", f.collisions.await(ctx, collisionPatience))
}

// contextVerifier is a Verifier whose long checks obey a context.
type contextVerifier interface {
	VerifyBeforeCutoverContext(ctx context.Context) error
}

// verifyBeforeCutover has a host's verifier called once only.
func (f *Ferry) verifyBeforeCutover(ctx context.Context, again bool) error {
	v, ok := f.Verifier.(contextVerifier)
	if f.Verifier == nil || again && !ok {
		return nil
	}
	f.OverallState.Store(StateVerifyBeforeCutover)
	f.logger.Info("verifying before the cutover")
	start := time.Now()
	defer func() { metricsOrGlobal(f.Metrics).Timer("VerifyBeforeCutover", time.Since(start), nil, 1) }()
	if ok {
		return v.VerifyBeforeCutoverContext(ctx)
	}
	return f.Verifier.VerifyBeforeCutover()
}

// finish runs when both streams have ended without an error.
func (f *Ferry) finish(ctx context.Context) error {
	f.collisions.over.Store(true)
	if err := f.collisions.await(ctx, collisionPatienceBlocked); err != nil {
		return err
	}
	if err := f.ledger.check(ctx, f.StopCoordinate(), true); err != nil {
		return err
	}
	if err := f.judgeOrphans(ctx); err != nil {
		return err
	}
	if err := f.carryAutoIncrement(ctx); err != nil {
		return err
	}
	if f.checkpoint != nil {
		failpoint("cutover.drained")
		if err := f.checkpoint.finish(ctx, f.BinlogWriter.batch, f.ledger.settledKeys()); err != nil {
			return fmt.Errorf("recording the end of the run: %w", err)
		}
	}
	traceDone()
	f.OverallState.Store(StateDone)
	f.DoneTime = time.Now()
	f.logger.Info("ghostferry run is complete, shutting down auxiliary services")
	return nil
}

// startServices starts what accompanies the run; the throttler's failure ends the run.
func (f *Ferry) startServices(services, run *lifecycle.Group) {
	services.Go("throttler", func(ctx context.Context) error {
		if err := f.Throttler.Run(ctx); err != nil && ctx.Err() == nil {
			run.Cancel(origin("throttler", err))
		}
		return nil
	})
	services.Go("source_clock", func(ctx context.Context) error {
		return every(ctx, clockInterval, func() { f.BinlogStreamer.askClock(ctx) })
	})
	services.Go("source_demotion", func(ctx context.Context) error { return f.watchDemotion(ctx, run) })
	if f.DataIterator.pace != nil {
		services.Go("copy_pace", func(ctx context.Context) error { return f.DataIterator.pace.run(ctx, f.rowsCopied) })
	}
	if f.looksForWorkers() {
		services.Go("copy_workers", f.findWorkers)
	}
	if f.checkpoint != nil {
		services.Go("verification_state", func(ctx context.Context) error {
			return every(ctx, verificationInterval, func() {
				if err := f.saveVerification(ctx); err != nil && ctx.Err() == nil {
					f.logger.WithError(err).Warn("it is tried again")
				}
			})
		})
	}
	if f.CheckpointStore != nil {
		services.Go("checkpoint_store", func(ctx context.Context) error { return f.storeStates(ctx, run) })
	}
	if f.StateCallback.URI != "" {
		services.Go("state", func(ctx context.Context) error {
			return every(ctx, time.Duration(f.StateReportFrequency)*time.Millisecond, func() { f.reportState(ctx) })
		})
	}
	if f.DumpStateOnSignal {
		services.Go("signals", func(ctx context.Context) error { return f.handleSignals(ctx, run) })
	}
}

// handleSignals ends the run as interrupted on SIGINT and SIGTERM. During the cutover,
// when the host is between two servers, it refuses.
func (f *Ferry) handleSignals(ctx context.Context, run *lifecycle.Group) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-signals:
			if f.OverallState.Load() == StateCutover && !f.interruptible() {
				f.logger.Warnf("Received signal: %s during cutover. Refusing to interrupt and will attempt to complete the run.", s)
				continue
			}
			run.Cancel(fmt.Errorf("signal received: %s: %w", s, ErrInterrupted))
		}
	}
}

// interruptible reports whether the cutover is held back, or is driven by Cutover and not at
// a point where the writers wait.
func (f *Ferry) interruptible() bool {
	return f.cut.heldBack.Load() || f.cut.driven.Load() && !f.cut.blocked.Load()
}

// leastInterval keeps a small number in the configuration from being a busy loop.
const leastInterval = 50 * time.Millisecond

// every calls f at an interval until the context ends.
func every(ctx context.Context, interval time.Duration, f func()) error {
	ticker := time.NewTicker(max(interval, leastInterval))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f()
		}
	}
}
