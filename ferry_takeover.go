package ghostferry

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// prepareTarget makes the last checks and the first write: the checkpoint, which takes
// the run over from any older process.
func (f *Ferry) prepareTarget(ctx context.Context) error {
	if f.startsAt.IsZero() {
		return errors.New("Run was called before Start")
	}
	report, err := f.runChecks(ctx, nil, false)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return err
	}
	if err := f.findScopeIndexes(ctx); err != nil {
		return err
	}
	if f.resuming {
		if err := f.waitForExecuted(ctx); err != nil {
			return err
		}
	}
	if f.resuming && f.resume == nil && f.StateToResumeFrom.Debts == nil {
		f.warnOfForgottenDebts()
	}
	if f.checkpoint == nil {
		return nil
	}
	if err := f.checkpoint.create(ctx); err != nil {
		return err
	}
	failpoint("resume.created")
	found, err := f.takeRunOver(ctx)
	if err != nil {
		return err
	}
	failpoint("resume.taken_over")
	if err := f.openLeftFence(ctx); err != nil {
		return err
	}
	if found != nil {
		if err := f.repairUnconfirmed(ctx, found); err != nil {
			return err
		}
	}
	failpoint("resume.repaired") // of every run, so that each process can be killed there
	if found != nil {
		if err := f.goOnFrom(ctx, found); err != nil {
			return err
		}
	}
	if found != nil && !found.debtsKept && !found.finished {
		f.warnOfForgottenDebts()
	}
	if err := f.indexes.begin(ctx, f.sortedTables(), f.resume); err != nil {
		return err
	}
	f.logger.WithFields(Fields{"run": f.checkpoint.runID, "epoch": f.checkpoint.epoch, "resuming": f.resuming}).Info("the run's checkpoint is on the target")
	return nil
}

// warnOfForgottenDebts says what nobody can know of a run that an earlier version has begun: which
// rows it had left out and kept in memory only. A verifier finds one that is missing.
func (f *Ferry) warnOfForgottenDebts() {
	if f.Verifier != nil {
		return
	}
	var names []string
	for _, t := range f.sortedTables() {
		if l, err := t.layout(); err == nil && l.secondaryUnique {
			names = append(names, t.String())
		}
	}
	if len(names) > 0 {
		f.logger.Warnf("the process before was of a version that did not keep which rows it had left out because others on the target held their unique values: should one be missing of %s, nobody notices: set VerifierType, so that every row is compared", strings.Join(names, ", "))
	}
}

// takeRunOver begins this process's turn in the checkpoint.
func (f *Ferry) takeRunOver(ctx context.Context) (found *resumePoint, err error) {
	err = f.pastLostSessions(ctx, func(ctx context.Context) error {
		found, err = f.checkpoint.begin(ctx, f.resume, f.process, f.startsAt, f.BinlogWriter.mark, f.UpdatableConfig.lanes(), f.sortedTables(), f.ledger.all())
		return err
	})
	return found, err
}

// pastLostSessions has the run taken over. Rows of the checkpoint that an earlier process has
// locked are waited for until the server must have ended the sessions of one that is gone.
func (f *Ferry) pastLostSessions(ctx context.Context, takeOver func(ctx context.Context) error) error {
	began, told := time.Now(), false
	locked := func(err error) bool {
		return mysqlerr.Classify(err) == mysqlerr.LockWait && time.Since(began) < lostSessionLimit
	}
	// Each attempt has waited for the locks itself, and was rolled back whole.
	return retry.Do(ctx, retry.Policy{Max: time.Second}, locked, func(_ int, _ time.Duration, err error) {
		if !told {
			f.logger.WithError(err).Warnf("a session of an earlier process of this run still has the checkpoint locked: waiting for its end; the target ends sessions that have been idle for %s", writerIdle)
		}
		told = true
	}, takeOver)
}

// goOnFrom takes what the process before has left behind, which may be more than was
// there when this one looked first.
func (f *Ferry) goOnFrom(ctx context.Context, found *resumePoint) error {
	from, batch := f.resumePosition(), f.resume.batch
	if f.replaced {
		from = from.bare() // as found has it by now
	}
	*f.resume = *found // the components hold it, too
	moved := found.batch != batch || f.resumePosition() != from
	if err := f.resumeVerificationAgain(); err != nil {
		return err
	}
	f.rememberCopied()
	f.BinlogWriter.batch = found.batch
	if f.readBefore() {
		f.BinlogStreamer.xa.unread = nil
	}
	if !moved {
		return nil
	}
	f.logger.WithField(fieldCoordinate, found.position.String()).Warn("another process of this run went on meanwhile; it has been fenced out, and this one goes on where that had come to")
	if err := f.startAt(ctx, f.resumePosition()); err != nil {
		return err
	}
	return f.waitForExecuted(ctx)
}

// startAt fixes where the stream starts.
func (f *Ferry) startAt(ctx context.Context, from BinlogCoordinate) error {
	if f.replaced {
		from = from.bare() // the place is in another server's log
	}
	from, err := f.withGTIDs(ctx, from)
	if err != nil {
		return origin("binlog_streamer", err)
	}
	at, err := f.BinlogStreamer.connect(ctx, from)
	if err != nil {
		return origin("binlog_streamer", err)
	}
	executed, err := binlog.ParseGTIDSet(at.GTIDSet, f.sourceServer.IsMariaDB())
	if err != nil {
		return err
	}
	f.startsAt, f.BinlogWriter.executed = at, *executed
	f.BinlogWriter.startAt(at, f.sourceServer.IsMariaDB())
	if err := f.takeMarks(ctx, at); err != nil {
		return err
	}
	before, held := f.executedBefore()
	if f.replaced {
		before = before.bare()
		f.StateTracker.UpdateLastResumableSourceBinlogPositionForInlineVerifier(mysql.Position{})
	}
	f.BinlogStreamer.xa.settled = before
	if !held {
		f.StateTracker.writtenUpTo(at, nil)
		return nil
	}
	r := &f.BinlogWriter.resumed
	f.BinlogWriter.start, r.position, r.mark, r.hold = before, before, f.BinlogWriter.mark, &at
	f.StateTracker.writtenUpTo(before, &at)
	return nil
}

// takeMarks tells stream and writer by which events they know the source's log again.
func (f *Ferry) takeMarks(ctx context.Context, at BinlogCoordinate) (err error) {
	s, w := f.BinlogStreamer, f.BinlogWriter
	var mark logMark
	w.resumed = writerResume{mariaDB: f.sourceServer.IsMariaDB()}
	switch {
	case f.resuming && f.replaced:
		// Of another server's log; GTIDs have to do until the first transaction.
	case f.resuming:
		var readEnd BinlogCoordinate
		if _, mark, readEnd, err = f.earlier(); err != nil {
			return err
		}
		if f.proven == nil && readEnd.File != "" { // else what is not proven is repaired
			if err := f.reader.unconfirmed.note(f.reader.unconfirmed.generation(), readEnd); err != nil {
				return err
			}
		}
	case f.sourceServer.IsMariaDB() || !f.sourceServer.GTIDMode:
		// No transaction is known yet: the beginning of the file tells it from another.
		if mark, err = s.readMark(ctx, at.File, fileHeader); err != nil {
			return origin("binlog_streamer", err)
		}
	}
	w.resumed.furthest = furthestOf(f.begunBefore())
	if f.replaced {
		w.resumed.furthest = executedUpTo{BinlogCoordinate: w.resumed.furthest.bare()}
	}
	f.StateTracker.begin(w.resumed.furthest)
	w.mark = mark
	s.follow(f.process, mark)
	f.StateTracker.follow(f.process, mark)
	return nil
}

// identifyProcess notes which process of the source is read.
func (f *Ferry) identifyProcess(ctx context.Context) (err error) {
	f.process.identity = f.sourceServer.Identity
	f.process.started, err = f.sourceServer.StartedAt(ctx, f.SourceDB)
	return err
}

// followsProcess records that the source was restarted with everything that was read.
func (f *Ferry) followsProcess(ctx context.Context, source sourceProcess) error {
	f.logger.WithField("source", source.identity).Info("the source was restarted, with everything that was read of it")
	f.StateTracker.follow(source, logMark{})
	if !f.checkpoint.begun() {
		return nil
	}
	return f.checkpoint.followsProcess(ctx, source)
}
