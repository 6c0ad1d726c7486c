package ghostferry

import (
	"context"
	"errors"
	"slices"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// InOwnedTransaction runs do in a transaction on the target, for rows that a host writes
// beside those of the library. Once Run has begun, or RemoveMovedRows, do runs only while this
// process owns the run, and nobody can take it over before the transaction has ended: of a
// process that stood still meanwhile nothing is written, and it gets a [*FencedError]. do
// must not commit. Foreign keys are not checked, so nothing cascades. A row that others have
// locked is waited for for five seconds, because who records the traffic waits meanwhile, and
// nothing is tried again: the host does that. For the same reason the target ends the transaction
// when do has sent nothing for two minutes.
func (f *Ferry) InOwnedTransaction(ctx context.Context, do func(ctx context.Context, tx *sql.Tx) error) error {
	conn, err := f.TargetDB.Conn(ctx)
	if err != nil {
		return err
	}
	s := &session{conn: conn}
	defer s.discard() // nobody else gets a connection without checks
	if _, err := conn.ExecContext(ctx, "SET SESSION foreign_key_checks=0, "+writerLimits(f.targetServer)); err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if f.checkpoint.begun() {
		if err := f.checkpoint.lockOwned(ctx, tx); err != nil {
			return err
		}
	}
	if err := do(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// RunsOfSameSource returns the ids of the other runs in the checkpoint's schema that follow the
// same source, and of which nobody has recorded that the traffic may have left it. Until tx, which
// InOwnedTransaction has begun, has ended none of them can record that.
func (f *Ferry) RunsOfSameSource(ctx context.Context, tx *sql.Tx) (ids []string, err error) {
	c := f.checkpoint
	if !c.begun() {
		return nil, nil
	}
	// Both read with locks, and so what is committed by then: first who is asked for, then what they say.
	lock := c.server.LockingReadSuffix()
	runs, err := texts(ctx, tx, "SELECT run_id FROM "+c.table("runs")+" WHERE run_id<>? AND source=(SELECT source FROM "+c.table("runs")+" AS own WHERE own.run_id=?)"+lock, c.runID, c.runID)
	if err != nil {
		return nil, err
	}
	switched, err := texts(ctx, tx, "SELECT run_id FROM "+c.table("traffic")+lock)
	return slices.DeleteFunc(runs, func(id string) bool { return slices.Contains(switched, id) }), err
}

// texts returns the only column of a query.
func texts(ctx context.Context, db queryer, query string, args ...any) (out []string, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

// CheckpointRunID returns the id under which the checkpoint keeps the run, after Initialize: RunID,
// or one that is made of what moves from where to what.
func (f *Ferry) CheckpointRunID() string {
	if f.checkpoint == nil {
		return f.runID()
	}
	return f.checkpoint.runID
}

// ownedStill fails when another process has taken the run over: with a [*FencedError], or with a
// [*TargetLostCommitsError] when the target does not know of this process, or of the run, any
// more. A target that does not answer says nothing.
func (f *Ferry) ownedStill(ctx context.Context) error {
	if !f.checkpoint.begun() {
		if err := f.failed(); fencedOut(err) { // the CheckpointStore has told it
			return err
		}
		return nil
	}
	err := f.checkpoint.ownerError(ctx)
	if kept := f.ownerAtEnd.Load(); kept != nil && !disowned(err) {
		err = *kept // the run has failed, and its connections are closed, or about to be
	}
	if !disowned(err) {
		return nil
	}
	return err
}

// notTakenOver is ownedStill for what is right as long as nobody else has the run.
func (f *Ferry) notTakenOver(ctx context.Context) error {
	err := f.ownedStill(ctx)
	if !fencedOut(err) {
		return nil
	}
	return err
}

// fencedOut reports whether an error says that another process has taken the run over.
func fencedOut(err error) bool {
	_, fenced := errors.AsType[*FencedError](err)
	return fenced
}

// disowned reports whether an error says that this process does not own the run any more.
func disowned(err error) bool {
	_, lost := errors.AsType[*TargetLostCommitsError](err)
	return lost || fencedOut(err)
}
