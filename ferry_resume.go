package ghostferry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// findCheckpoint looks for an earlier process of this run; it only reads.
func (f *Ferry) findCheckpoint(ctx context.Context) (err error) {
	if f.Checkpoint == checkpointOff {
		f.logger.Warn("no checkpoint is kept on the target: after a crash this run cannot go on, it has to start again with empty tables")
		err := f.loadStoredState(ctx)
		f.resuming = f.StateToResumeFrom != nil
		return err
	}
	f.checkpoint = &checkpoint{db: f.TargetDB, sessions: f.targetSessions, server: f.targetServer, schema: f.CheckpointSchema, runID: f.runID(), verifier: f.VerifierType, attempts: f.DBWriteRetries, patience: f.targetPatience, definition: f.recordedDefinition}
	if f.resume, err = f.checkpoint.load(ctx); err == nil && f.resume == nil && f.RunID == "" {
		err = f.findFailedOver(ctx)
	}
	if damaged, ok := errors.AsType[*DamagedCheckpointError](err); ok {
		// Start refuses to go on. Until then the host may forget the run.
		f.damage, f.damaged, f.resume, f.resuming = damaged, f.resume, nil, true
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the checkpoint: %w", err)
	}
	if f.resume != nil && f.StateToResumeFrom != nil {
		f.logger.Warn("the target holds a checkpoint of this run: it is used instead of the state given")
	}
	if err := f.loadStoredState(ctx); err != nil {
		return err
	}
	f.resuming = f.resume != nil || f.StateToResumeFrom != nil
	failpoint("resume.loaded")
	return nil
}

// findFailedOver looks for a run of the same tables that was begun with another source
// server: its id, which names that server, tells that the configuration is the same. One that
// has finished is of interest only at the server that it followed last.
func (f *Ferry) findFailedOver(ctx context.Context) error {
	runs, err := f.checkpoint.recordedRuns(ctx)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.id != f.derivedRunID(r.begun) || r.finished && r.follows != f.sourceServer.Identity {
			continue
		}
		f.checkpoint.runID = r.id
		f.resume, err = f.checkpoint.load(ctx)
		return err
	}
	return nil
}

// derivedRunID names the run by what it moves from where to what names, so that the
// same configuration finds its own checkpoint.
func (f *Ferry) derivedRunID(source string) string {
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", source)
	for _, name := range sortedNames(f.Tables) {
		t := f.Tables[name]
		schema, table := names.table(t.Schema, t.Name)
		fmt.Fprintf(h, "%q.%q>%q.%q\n", t.Schema, t.Name, schema, table)
		if l, err := t.layout(); err == nil && l.scope != nil {
			fmt.Fprintf(h, " WHERE %s\n", l.scope.predicate)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// rowsInCode reports whether only code of the host's tells which rows move: then the id that is made
// of the configuration does not tell it. A table's condition does, as a rule the others' rows, too.
func (f *Ferry) rowsInCode() bool {
	if _, whole := f.CopyFilter.(*RowFilter); f.CopyFilter == nil || whole {
		return false
	}
	for _, t := range f.Tables {
		if l, err := t.layout(); err == nil && l.scope != nil && len(l.scope.columns) > 0 {
			return false
		}
	}
	return true
}

// checkRunIsNamed refuses to go on from a run that may have moved other rows of the same tables:
// those would count as moved that it never looked at.
func (f *Ferry) checkRunIsNamed() error {
	if f.RunID != "" || f.resume == nil && !f.stateStored || !f.rowsInCode() {
		return nil
	}
	id := f.CheckpointRunID()
	return &ConfigError{
		Field:   "RunID",
		Problem: "a run of these tables is recorded as " + id + ", and it may have moved other rows: RunID is empty, and the id that is made of the configuration does not tell which rows the CopyFilter chooses",
		Remedy:  "set RunID to one that names these rows, such as the tenant's; to go on with the recorded run, if its rows are these, set it to " + id,
	}
}

// warnOfUnnamedRun says at the beginning what checkRunIsNamed will say.
func (f *Ferry) warnOfUnnamedRun() {
	kept := f.checkpoint != nil || f.CheckpointStore != nil
	if kept && !f.resuming && f.RunID == "" && f.rowsInCode() {
		f.logger.Warn("RunID is empty and code of the CopyFilter chooses the rows: when this run is interrupted it goes on only with the RunID " + f.CheckpointRunID() + ", and a run of other rows of these tables is refused without a RunID of its own")
	}
}

// earlier is what is known of the process before, from its checkpoint or its state.
func (f *Ferry) earlier() (source sourceProcess, mark logMark, readEnd BinlogCoordinate, err error) {
	if f.resume != nil {
		return f.resume.process(), f.resume.mark, f.resume.furthestRead(), nil
	}
	s := f.StateToResumeFrom
	if s.LastReadBinlogCoordinate != nil {
		readEnd = *s.LastReadBinlogCoordinate
	}
	mark, err = parseLogMark(s.LastWrittenLogMark)
	if err == nil {
		_, err = parseLogMark(s.LastBegunLogMark)
	}
	return sourceProcess{s.SourceIdentity, s.SourceStartedAt}, mark, readEnd, err
}

// begunBefore is how far earlier processes may have executed changes, as far as that is recorded.
func (f *Ferry) begunBefore() []executedUpTo {
	if f.resume != nil {
		return f.resume.furthest
	}
	s := f.StateToResumeFrom
	if s == nil || s.LastBegunBinlogCoordinate == nil {
		return nil
	}
	mark, _ := parseLogMark(s.LastBegunLogMark) // one that is damaged was refused by checkResume
	return []executedUpTo{{*s.LastBegunBinlogCoordinate, mark}}
}

// checkResume refuses to go on from a place that the servers no longer have, and finds
// out which rows may have been lost by the source since they were read.
func (f *Ferry) checkResume(ctx context.Context) error {
	if !f.resuming {
		return nil
	}
	if f.damage != nil {
		return f.damage
	}
	if err := f.checkRunIsNamed(); err != nil {
		return err
	}
	if s := f.StateToResumeFrom; f.resume == nil && s.TargetIdentity != "" && s.TargetIdentity != f.targetServer.Identity {
		return &TargetChangedError{Was: s.TargetIdentity, Is: f.targetServer.Identity}
	}
	if err := f.checkSelection(); err != nil {
		return err
	}
	at := f.resumePosition()
	if at.IsZero() {
		return errors.New("the state to resume from has no position in the source's binary log: start afresh with empty target tables")
	}
	source, mark, readEnd, err := f.earlier()
	if err != nil {
		return fmt.Errorf("the state to resume from is damaged: %w", err)
	}
	f.replaced = source.replacedBy(f.sourceServer.Identity)
	if f.replaced && (f.sourceServer.IsMariaDB() || !f.sourceServer.GTIDMode || at.GTIDSet == "") {
		return &ServerChangedError{Was: source.identity, Is: f.sourceServer.Identity}
	}
	if err := f.checkOvertaken(ctx, source); err != nil {
		return err
	}
	if err := f.checkLogHolds(ctx, at); err != nil {
		return err
	}
	if err := f.checkNothingExecutedIsGone(ctx); err != nil {
		return err
	}
	if err := f.checkContent(ctx, mark); err != nil {
		return err
	}
	if !source.sameAs(f.process) {
		if f.proven, err = f.provenReads(ctx, mark); err != nil {
			return err
		}
		if err := f.checkCanRepair(readEnd); err != nil {
			return err
		}
	}
	return f.checkRowsAreThere(ctx)
}

func (f *Ferry) resumePosition() BinlogCoordinate {
	if f.resume != nil {
		return f.resume.startsAt(f.VerifierType)
	}
	written := BinlogCoordinate{GTIDSet: f.StateToResumeFrom.LastWrittenGTIDSet}
	if f.StateToResumeFrom.LastWrittenBinlogPosition.Name == "" && !written.IsZero() {
		return written // of a process that had just begun to follow a promoted replica
	}
	at := coordinateFromPosition(f.StateToResumeFrom.MinSourceBinlogPosition())
	if at.Position() == f.StateToResumeFrom.LastWrittenBinlogPosition {
		at.GTIDSet = f.StateToResumeFrom.LastWrittenGTIDSet
	}
	return at
}

// startsAt is where the stream goes on from, with a verifier of this type.
func (p *resumePoint) startsAt(verifier string) BinlogCoordinate {
	at := p.position
	if p.held != nil {
		at = *p.held
	}
	// Changes that the verifier has not seen are delivered again.
	if v := p.verification; v != nil && v.VerifierType == verifier && !v.Position.IsZero() {
		at = earlierOf(at, v.Position)
	}
	return at
}

// startsEarlier reports whether changes are executed again that the position claims.
func (p *resumePoint) startsEarlier(verifier string) bool {
	return p.startsAt(verifier).before(p.position)
}

// executedBefore is how far an earlier process has executed everything; held says that
// this one begins before that, because XA transactions were prepared or for the verifier.
func (f *Ferry) executedBefore() (at BinlogCoordinate, held bool) {
	switch {
	case !f.resuming:
		return at, false
	case f.resume != nil:
		return f.resume.position, f.resume.held != nil || f.resume.startsEarlier(f.VerifierType)
	case f.StateToResumeFrom.LastExecutedBinlogCoordinate != nil:
		return *f.StateToResumeFrom.LastExecutedBinlogCoordinate, true
	}
	return coordinateFromPosition(f.StateToResumeFrom.LastWrittenBinlogPosition), false
}

// checkOvertaken refuses a state after which its run went on, where the source may have lost what
// that has executed since: nobody would take it off the target. The very process of the source
// that the run followed has all of it, up to where its log ends now.
func (f *Ferry) checkOvertaken(ctx context.Context, source sourceProcess) (err error) {
	f.overtaken = BinlogCoordinate{}
	if f.resume != nil || f.StateToResumeFrom.Final {
		return nil
	}
	if f.replaced || source.started != 0 && !source.sameAs(f.process) {
		return &OvertakenStateError{Was: source.identity, Is: f.sourceServer.Identity}
	}
	f.overtaken, err = logEndOf(ctx, f.sourceServer, f.SourceDB)
	return err
}

// OvertakenStateError says that a state was made while its run went on, so that it does not tell
// what was executed afterwards, and that the source was restarted or replaced since: it may lack
// some of that, which then is on the target and nowhere else.
type OvertakenStateError struct {
	final
	// Was and Is are the servers: server_uuid, or what MariaDB has in its place; the same when the
	// server was restarted.
	Was, Is string
}

// Error names the servers and the remedy.
func (e *OvertakenStateError) Error() string {
	const state = "the state to resume from was made while its run went on, and does not tell what was executed after that"
	const afresh = "start afresh with empty target tables, and keep the checkpoint on the target, which tells it"
	if e.Was == e.Is {
		return state + "; the source (" + e.Is + ") was restarted since and may have lost some of it: " + afresh +
			"; if it certainly has lost nothing, or only its clock was set, clear SourceStartedAt in the state"
	}
	return state + "; the source is another server now (" + e.Is + ", before " + e.Was + ") and may lack some of it: go on with the server before, or " + afresh
}

// Resumable is true where the server before may come back.
func (e *OvertakenStateError) Resumable() bool { return e.Was != e.Is }

// checkNothingExecutedIsGone looks beyond the position: lanes may have executed parts of
// a batch that the position does not claim yet.
func (f *Ferry) checkNothingExecutedIsGone(ctx context.Context) error {
	if f.sourceServer.IsMariaDB() {
		return nil
	}
	for _, at := range f.begunBefore() {
		if at.GTIDSet == "" {
			continue
		}
		if err := f.checkContains(ctx, at.BinlogCoordinate); err != nil {
			return err
		}
	}
	return nil
}

// checkContent makes sure that what was executed is still what the source's log has in its
// place. Another server's log has other places: there GTIDs alone have to do.
func (f *Ferry) checkContent(ctx context.Context, mark logMark) error {
	if f.replaced {
		return nil
	}
	s, err := f.newLogReader(ctx, f.SourceDB, f.Source, f.sourceServer, "source_log_check")
	if err != nil {
		return err
	}
	asked := map[logMark]bool{}
	marks := []logMark{mark}
	for _, at := range f.begunBefore() {
		marks = append(marks, at.mark)
	}
	for _, m := range marks {
		if asked[m] {
			continue
		}
		asked[m] = true
		if err := s.holdsMark(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// checkContains refuses a source that lacks transactions. One that is still being
// committed there may have been applied already, so it is waited for.
func (f *Ferry) checkContains(ctx context.Context, at BinlogCoordinate) error {
	missing, err := f.sourceServer.LackedGTIDs(ctx, f.SourceDB, at.GTIDSet)
	if err != nil || missing == "" {
		return err
	}
	if gone, err := f.logEndsBefore(ctx, at); err != nil {
		return err
	} else if gone {
		return &SourceLacksError{Missing: missing}
	}
	err = f.sourceServer.WaitForGTIDSet(ctx, f.SourceDB, missing, commitPatience)
	if !errors.Is(err, server.ErrBarrierTimeout) {
		return err
	}
	if missing, err = f.sourceServer.LackedGTIDs(ctx, f.SourceDB, at.GTIDSet); err != nil || missing == "" {
		return err
	}
	return &SourceLacksError{Missing: missing}
}

// logEndsBefore reports whether the same server's log does not reach to a place any more:
// then there is nothing to wait for.
func (f *Ferry) logEndsBefore(ctx context.Context, at BinlogCoordinate) (bool, error) {
	if f.replaced || at.File == "" {
		return false, nil
	}
	files, err := f.sourceServer.LogFiles(ctx, f.SourceDB)
	if err != nil {
		return false, err
	}
	size, known := fileSize(files, at.File)
	return !known || size < at.Pos, nil
}

// SourceLacksError says that the source lacks transactions that a run has applied: it was
// restored or replaced, or their commit is stalled there.
type SourceLacksError struct {
	final
	// Missing is a GTID set.
	Missing string
}

// Error names the transactions and what to do in either case.
func (e *SourceLacksError) Error() string {
	return fmt.Sprintf("the source lacks transactions that this run has applied (%s): it was restored or replaced, then go on with a server that has them, or start afresh with empty target tables; or their commit is stalled there (semi-synchronous replication without a replica?), then start again when it is over", e.Missing)
}

// Resumable is true: a server that has the transactions may come back.
func (e *SourceLacksError) Resumable() bool { return true }

// TargetChangedError says that a state is to be gone on from with another target server than the
// one that the rows were copied to, which the state does not tell of.
type TargetChangedError struct {
	final
	// Was and Is are the servers: server_uuid, or what MariaDB has in its place.
	Was, Is string
}

// Error names both servers and the remedy.
func (e *TargetChangedError) Error() string {
	return fmt.Sprintf("the state to resume from is of a move to target server %s, and this one is %s: go on with that server; give a move to another one a RunID of its own, or start it afresh (ForgetCheckpoint, copydb: -restart); if this is the same server under another identity, or a copy of it that has lost nothing, clear TargetIdentity in the state", e.Was, e.Is)
}

// Resumable is true: nothing was written, and the other server may come back.
func (e *TargetChangedError) Resumable() bool { return true }

// PurgedLogError says that the source no longer has a part of its binary log that a run
// still needs.
type PurgedLogError struct {
	ruined
	// Missing are the first things needed and gone: a file of the log, or a GTID set.
	Missing string
}

// Error names what is missing and the remedy.
func (e *PurgedLogError) Error() string {
	return fmt.Sprintf("the source has purged %s of its binary log, which this run still needs: start afresh with empty target tables, and raise the binary log's retention (binlog_expire_logs_seconds)", e.Missing)
}

// checkLogHolds makes sure that the source still has every transaction after a place,
// and has not lost any before it.
func (f *Ferry) checkLogHolds(ctx context.Context, at BinlogCoordinate) error {
	if at.GTIDSet != "" && !f.sourceServer.IsMariaDB() {
		if err := f.checkContains(ctx, at); err != nil {
			return err
		}
		var purged string
		err := f.SourceDB.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_purged, ?)", at.GTIDSet).Scan(&purged)
		if err == nil && purged != "" {
			err = &PurgedLogError{Missing: "transactions " + purged}
		}
		return err
	}
	files, err := f.sourceServer.LogFiles(ctx, f.SourceDB)
	if err != nil {
		return err
	}
	size, known := fileSize(files, at.File)
	switch {
	case !known && len(files) > 0 && compareFileNames(files[0].Name, at.File) > 0:
		return &PurgedLogError{Missing: "file " + at.File}
	case !known:
		return &LostTransactionsError{Missing: fmt.Sprintf("there is no file %s in its log any more", at.File)}
	case size < at.Pos:
		return &LostTransactionsError{Missing: fmt.Sprintf("%s ends at %d, and was read up to %s", at.File, size, at)}
	}
	return nil
}

// checkRowsAreThere looks for tables whose copied rows are gone: a batch may have deleted
// all of them when the earlier process died, the source may have, and filled the table
// since, or somebody has emptied it on the target. Such a table is copied again, which is
// right in every case.
func (f *Ferry) checkRowsAreThere(ctx context.Context) error {
	f.emptied = map[string]bool{}
	for _, t := range f.sortedTables() {
		if !f.rowsWereCopied(t) {
			continue
		}
		gone, err := f.rowsAreGone(ctx, t)
		if err != nil {
			return err
		}
		if !gone {
			continue
		}
		f.logger.WithField(fieldTable, t.String()).Info("the target's table is empty although rows were copied to it: it is copied again")
		if f.resume == nil {
			f.emptied[t.String()] = true
		} else {
			before := f.resume.tables[NewTableIdentifierFromSchemaTable(t)]
			*before = resumeTable{number: before.number, again: true, next: 1}
		}
		f.StateTracker.forgetTable(t.String())
	}
	return nil
}

// rowsWereCopied reports whether the earlier process has copied rows of a table. A state does not
// tell a complete table without rows from others.
func (f *Ferry) rowsWereCopied(t *TableSchema) bool {
	if f.resume != nil {
		before := f.resume.tables[NewTableIdentifierFromSchemaTable(t)]
		return before != nil && (before.rows > 0 || len(before.chunks) > 0)
	}
	s, name := f.StateToResumeFrom, t.String()
	return s.CompletedTables[name] || s.LastSuccessfulPaginationKeys[name] != nil || len(s.CopiedRanges[name]) > 0
}

func (f *Ferry) rowsAreGone(ctx context.Context, t *TableSchema) (bool, error) {
	schema, table := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(t.Schema, t.Name)
	waits := f.tellOfWaiting(t.String(), sqlesc.Table(schema, table))
	defer waits.Stop()
	onTarget, err := hasRows(ctx, f.TargetDB, t, schema, table)
	if err != nil {
		return false, fmt.Errorf("run %s has copied rows to %s, which cannot be read: %w: put it back, or start afresh (copydb: -restart)", f.CheckpointRunID(), sqlesc.Table(schema, table), err)
	}
	return !onTarget, nil
}

// quietWait is how long a resumed run waits for a table of the target without a word.
const quietWait = 2 * time.Second

// tellOfWaiting says what a resumed run waits for unless it is stopped before.
func (f *Ferry) tellOfWaiting(table, target string) *time.Timer {
	return time.AfterFunc(quietWait, func() {
		f.logger.WithField(fieldTable, table).Warnf("the target does not let %s be read: an ALTER of the process before, or somebody's lock, is waited for. "+
			"If it should not go on, end it on the target: SHOW PROCESSLIST has it and what keeps it waiting", target)
	})
}

// hasRows reports whether a table of the target has rows in scope.
func hasRows(ctx context.Context, db *sql.DB, t *TableSchema, schema, table string) (found bool, err error) {
	l, err := t.layout()
	if err != nil {
		return false, err
	}
	query := l.appendInScope([]byte("SELECT EXISTS (SELECT 1 FROM " + sqlesc.Table(schema, table) + " WHERE TRUE"))
	err = db.QueryRowContext(ctx, string(query)+")").Scan(&found)
	return found, err
}

// waitForExecuted is the first barrier of a resumed run: everything that the earlier
// process may have executed on the target must be visible on the source before a row
// is read there. A state tells only what the stream does not deliver again, which is enough:
// what is delivered again waits at the gates of the chunks (docs/algorithm.md).
func (f *Ferry) waitForExecuted(ctx context.Context) error {
	furthest := []executedUpTo{{BinlogCoordinate: f.startsAt}}
	if f.resume != nil {
		furthest = f.resume.furthest
	}
	for _, at := range furthest {
		switch {
		case f.sourceServer.IsMariaDB():
			if f.gate.mark().position.CompareFilePos(at.BinlogCoordinate) < 0 {
				f.gate.startAfter(at.BinlogCoordinate)
			}
		case f.sourceServer.GTIDMode && at.GTIDSet != "":
			if err := f.sourceServer.WaitForGTIDSet(ctx, f.SourceDB, at.GTIDSet, barrierLimit); err != nil {
				return fmt.Errorf("waiting for transactions that were applied before to be committed on the source: %w", err)
			}
		}
	}
	return nil
}
