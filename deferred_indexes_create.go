package ghostferry

import (
	"context"
	"crypto/sha256"
	sqlorig "database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// DeferredIndexError says that indexes which the run had dropped are not there again as
// they were.
type DeferredIndexError struct {
	final
	// Table is the quoted name on the target.
	Table string
	// Definition is what SHOW CREATE TABLE said before the run.
	Definition string
	// Err is why, nil when all of them are there and the table was changed by somebody else.
	Err error
}

// Error names the table and what to do. By hand is behind the watch's back, which takes an ALTER of
// others for a change of the rows.
func (e *DeferredIndexError) Error() string {
	const byHand = "by hand (after SET SESSION sql_log_bin = 0, because the target's log is watched) and run again"
	if e.Err == nil {
		return fmt.Sprintf("the secondary indexes of %s on the target are there, and its definition is another one than before the run: make it that %s, or start afresh (copydb: -restart); before the run it was %s", e.Table, byHand, e.Definition)
	}
	return fmt.Sprintf("the secondary indexes of %s on the target cannot be created again: %v: see to that and run again, or create them %s; before the run it was %s", e.Table, e.Err, byHand, e.Definition)
}

// Unwrap returns the server's answer.
func (e *DeferredIndexError) Unwrap() error { return e.Err }

// Resumable is true: the rows are right, and what is owed is recorded.
func (e *DeferredIndexError) Resumable() bool { return true }

// TableLockedError says that the indexes of a table of the target could not be changed for
// as long as Config.MaxOutageSeconds allows, because a transaction of others has used it
// and is still open.
type TableLockedError struct {
	final
	// Table is the quoted name on the target.
	Table string
	// Lasted is how long it was tried.
	Lasted time.Duration
	// Err is the last attempt's error.
	Err error
}

// Error names the table, the time and the remedy.
func (e *TableLockedError) Error() string {
	return fmt.Sprintf("%s on the target could not be altered for %s: %v: %s; the run can be resumed then", e.Table, e.Lasted.Round(time.Second), e.Err, tableLockedRemedy)
}

const tableLockedRemedy = "a transaction that has used it is still open there: commit it or roll it back, or end its connection (information_schema.innodb_trx names it)"

// Unwrap returns the last attempt's error.
func (e *TableLockedError) Unwrap() error { return e.Err }

// Resumable is true: what is owed is recorded.
func (e *TableLockedError) Resumable() bool { return true }

func (e *TableLockedError) setLasted(lasted time.Duration) { e.Lasted = lasted }

func (e *TableLockedError) waiting() string {
	return "the indexes of " + e.Table + " cannot be changed: " + tableLockedRemedy + "; it is tried again"
}

// createDeferredIndexes creates what is owed when the rows are copied, while changes go on
// being applied.
//
// A unique index needs more than the rows: while images of different moments stand side by
// side, two of them may hold one value, rightly. So the apply has to have passed the log's
// end after the last read of any chunk, and how far earlier processes had begun to execute.
// The log's end of now is behind both, whichever process asks. From then on the rows are
// those of one moment; a table with unique indexes on the source is always written in two
// phases, so that they stay so between any two commits.
func (f *Ferry) createDeferredIndexes(ctx context.Context) error {
	d := f.indexes
	if len(d.owed) == 0 {
		return nil
	}
	start := time.Now()
	var unique, others []*deferredTable
	for _, t := range d.owed {
		if t.hasUnique() {
			unique = append(unique, t)
		} else {
			others = append(others, t)
		}
	}
	if err := d.each(ctx, others, d.create); err != nil {
		return err
	}
	if len(unique) > 0 {
		end, err := f.sourceLogEnd(ctx)
		if err != nil {
			return err
		}
		if err := f.BinlogWriter.WaitUntilApplied(ctx, end); err != nil {
			return err
		}
		failpoint("index.waited")
	}
	if err := d.each(ctx, unique, d.create); err != nil {
		return err
	}
	f.logger.Infof("the secondary indexes of %d tables were created in %s", len(unique)+len(others), time.Since(start).Round(time.Millisecond))
	return nil
}

func (t *deferredTable) hasUnique() bool {
	for _, index := range t.record.deferred {
		if index.unique() {
			return true
		}
	}
	return false
}

// create creates a table's indexes, if need be after a break of the connection again.
func (d *deferredIndexes) create(ctx context.Context, t *deferredTable) error {
	start := time.Now()
	anew := false
	err := d.locked(ctx, t, func(s *session) error {
		copied, err := d.createOnce(ctx, s, t)
		anew = anew || copied
		return err
	})
	if anew { // also when it failed, see saveLast: what the operator does next is not in any log that we follow
		if saveErr := d.rebuilt(ctx, t.table, err == nil); saveErr != nil {
			return saveErr
		}
	}
	if err != nil {
		return &TableError{Schema: t.table.Schema, Table: t.table.Name, Err: fmt.Errorf("creating the secondary indexes of %s: %w", t.quoted(), err)}
	}
	if t.owesForced() {
		t.table.unhinted.Store(false) // from now on it is verified by that index
	}
	failpoint("index.created")
	if err := d.settle(ctx, t); err != nil {
		return err
	}
	failpoint("index.settled")
	d.logger.WithField(fieldTable, t.table.String()).Infof("%d secondary indexes were created in %s", len(t.record.deferred), time.Since(start).Round(time.Millisecond))
	return nil
}

// alterError is about the very ALTER that creates indexes.
type alterError struct{ error }

func (e *alterError) Unwrap() error { return e.error }

// createOnce makes the table's definition what it was. Of deferred indexes some may be
// there already, if dropping them was cut short; all are then created in their order, by one
// statement: where the server refuses that, those that were there still are. When
// all are there somebody has created them by hand, because the run could not: they stay.
// anew says that the table may have been written anew: in another way than in place, or not
// known how, by an attempt without an answer, a process before this one, or by hand.
func (d *deferredIndexes) createOnce(ctx context.Context, s *session, t *deferredTable) (anew bool, err error) {
	present, found, err := d.present(ctx, s, t)
	if err != nil {
		return false, err
	}
	if len(present) == len(t.record.deferred) {
		return true, d.mustBeAsBefore(t, found)
	}
	failpoint("index.creating")
	alter := "ALTER TABLE " + t.quoted() + " "
	if len(present) > 0 {
		anew = true
		alter += dropClauses(present) + ", "
	}
	alter += addClauses(t.record.deferred)
	_, err = s.execText(ctx, alter+", ALGORITHM=INPLACE, LOCK=NONE")
	if mysqlerr.NeedsQuietTable(err) {
		anew = true
		err = d.createQuietly(ctx, s, t, alter, err)
	}
	if err != nil {
		return anew, &alterError{err}
	}
	if _, found, err = d.present(ctx, s, t); err != nil {
		return anew, err
	}
	err = d.mustBeAsBefore(t, found)
	return anew || err != nil, err
}

// mustBeAsBefore refuses a table with all its indexes whose definition is another one than before.
// Their order decides about no row: it is only said.
func (d *deferredIndexes) mustBeAsBefore(t *deferredTable, found likeness) error {
	switch found {
	case asBefore:
		return nil
	case otherOrder:
		d.logger.WithField(fieldTable, t.table.String()).Warn("its secondary indexes are there, in another order than before the run: they stay so")
		return nil
	}
	return &DeferredIndexError{Table: t.quoted(), Definition: t.record.definition}
}

// createQuietly is for what the server cannot do while rows change: too many of them
// changed meanwhile, or the index is of a kind that needs it. No changes of the table are
// applied until it is done. The server is free to choose a copy of the table.
func (d *deferredIndexes) createQuietly(ctx context.Context, s *session, t *deferredTable, alter string, reason error) error {
	d.logger.WithError(reason).WithField(fieldTable, t.table.String()).Warn("changes are not applied while its indexes are created")
	resume, err := d.pauses.pause(ctx, t.table)
	if err != nil {
		return err
	}
	defer resume()
	failpoint("index.quiet")
	_, err = s.execText(ctx, alter)
	if mysqlerr.Classify(err) == mysqlerr.Duplicate {
		err = &DeferredIndexError{Table: t.quoted(), Definition: t.record.definition, Err: err}
	}
	return err
}

// restore creates what is owed to tables from which the host has removed the rows, before
// the run is forgotten. Tables that are gone need nothing. One that somebody has changed since
// stays as it is, and so does one whose server refuses the indexes for good: the new run takes
// the table as it is then, and its preflight refuses one that lacks indexes of the source.
func (d *deferredIndexes) restore(ctx context.Context, tables []*TableSchema, previous *resumePoint) error {
	d.checkpoint.tableNumbers = map[TableIdentifier]int{}
	for id, t := range previous.tables {
		d.checkpoint.tableNumbers[id] = t.number
	}
	if err := d.takeOver(ctx, tables, d.lockedByAnyone); err != nil {
		return err
	}
	return d.each(ctx, d.owed, func(ctx context.Context, t *deferredTable) error {
		found := asBefore
		err := d.lockedByAnyone(ctx, t, func(s *session) (err error) {
			if _, found, err = d.present(ctx, s, t); err != nil || found == another {
				return err
			}
			_, err = d.createOnce(ctx, s, t)
			if changed, ok := errors.AsType[*DeferredIndexError](err); ok && changed.Err == nil {
				found, err = another, nil
			}
			return err
		})
		log := d.logger.WithField(fieldTable, t.table.String())
		alter, altering := errors.AsType[*alterError](err)
		switch {
		case mysqlerr.Classify(err) == mysqlerr.UnknownObject:
			return nil
		case altering && refusedForGood(alter):
			log.WithError(err).Warnf("indexes that the earlier run dropped are not created again: create by hand what is missing of %s; before that run the table was %s", indexClauses(t.record.deferred), t.record.definition)
			return nil
		case err != nil:
			return fmt.Errorf("creating the secondary indexes of %s, which the earlier run dropped: %w", t.quoted(), err)
		case found == another:
			log.Warnf("it was changed since the earlier run dropped indexes of it: none of them is created; create by hand what is missing of %s; before that run the table was %s", indexClauses(t.record.deferred), t.record.definition)
		}
		return nil
	})
}

// session opens a session for definitions: they are read and written in one form.
func (d *deferredIndexes) session(ctx context.Context) (*session, error) {
	return openSession(ctx, d.db, d.server, server.Target, append(append(d.server.IndexSetup(), d.server.DefinitionSetup()...),
		"SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_quote_show_create=1, character_set_results=utf8mb4, lock_wait_timeout=60")...)
}

// locked runs do while this process owns the run and nobody else changes the table's
// indexes. It is repeated while its error may pass.
func (d *deferredIndexes) locked(ctx context.Context, t *deferredTable, do func(s *session) error) error {
	return d.lockedByAnyone(ctx, t, func(s *session) error {
		// After the lock is taken: who raises the epoch waits for it from then on.
		if err := d.checkpoint.ownerError(ctx); err != nil {
			return err
		}
		return do(s)
	})
}

// lockedByAnyone is locked without asking who owns the run.
func (d *deferredIndexes) lockedByAnyone(ctx context.Context, t *deferredTable, do func(s *session) error) error {
	return d.patience.do(ctx, d.attempts, func(ctx context.Context, _ int) error {
		s, err := d.session(ctx)
		if err != nil {
			return err
		}
		defer s.discard()
		if err := d.takeLock(ctx, s, t); err != nil {
			return err
		}
		if err := do(s); mysqlerr.Classify(err) == mysqlerr.LockWait {
			return &TableLockedError{Table: t.quoted(), Err: err}
		} else if err != nil {
			return err
		}
		_, err = s.execText(ctx, "DO RELEASE_LOCK('"+d.lockName(t)+"')") // else the session's end does
		return err
	})
}

// lockName is unique for run and table, and within the 64 characters that a server takes.
func (d *deferredIndexes) lockName(t *deferredTable) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", d.checkpoint.runID, t.schema, t.name))
	return "ghostferry-" + hex.EncodeToString(sum[:16])
}

// takeLock waits for the table's lock. A session that has it and does nothing is ended:
// its process is gone, or stopped, and no longer owns the run.
func (d *deferredIndexes) takeLock(ctx context.Context, s *session, t *deferredTable) error {
	name := d.lockName(t)
	for told := false; ; told = true {
		var taken sqlorig.NullInt64
		if err := s.conn.QueryRowContext(ctx, "SELECT GET_LOCK('"+name+"', 1)").Scan(&taken); err != nil {
			return err
		}
		if taken.Int64 == 1 {
			return nil
		}
		var holder sqlorig.NullInt64
		if err := s.conn.QueryRowContext(ctx, "SELECT IS_USED_LOCK('"+name+"')").Scan(&holder); err != nil {
			return err
		}
		if !holder.Valid {
			continue
		}
		idle, err := d.server.ThreadIdle(ctx, s.conn, holder.Int64)
		if err != nil {
			return err
		}
		if idle {
			if _, err := s.conn.ExecContext(ctx, fmt.Sprintf("KILL %d", holder.Int64)); err != nil && mysqlerr.Number(err) != mysqlerr.NoSuchThread {
				return fmt.Errorf("ending connection %d, which keeps the lock on the indexes of %s and does nothing: %w", holder.Int64, t.quoted(), err)
			}
			continue
		}
		if !told {
			d.logger.WithField(fieldTable, t.table.String()).Warnf("connection %d of an earlier process still changes its indexes: waiting for its end", holder.Int64)
		}
	}
}

// locksInUse returns the tables whose lock somebody has.
func (d *deferredIndexes) locksInUse(ctx context.Context, tables []*deferredTable) (busy []*deferredTable, err error) {
	const asked = 200 // at once
	for len(tables) > 0 {
		some := tables[:min(asked, len(tables))]
		tables = tables[len(some):]
		calls := make([]string, len(some))
		holders := make([]sqlorig.NullInt64, len(some))
		targets := make([]any, len(some))
		for i, t := range some {
			calls[i], targets[i] = "IS_USED_LOCK('"+d.lockName(t)+"')", &holders[i]
		}
		if err := d.db.QueryRowContext(ctx, "SELECT "+strings.Join(calls, ", ")).Scan(targets...); err != nil {
			return nil, errors.Join(errors.New("asking who changes indexes of the target"), err)
		}
		for i, holder := range holders {
			if holder.Valid {
				busy = append(busy, some[i])
			}
		}
	}
	return busy, nil
}
