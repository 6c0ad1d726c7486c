package ghostferry

import (
	"context"
	"errors"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// RemoveMovedRows gives the run up: it takes it over from whoever still makes it, removes
// from the target every row that it has brought, and forgets its checkpoint. Call it after
// Initialize and instead of Start; the move can begin anew then. It needs a [*RowFilter],
// which says exactly which rows of the target are the run's, and a checkpoint, which says
// that there is a run; it may be called again when it was interrupted. When another process
// goes on with the run meanwhile, nothing more is removed, and the error is a [*FencedError].
//
// A run that has finished is refused unless evenIfFinished is set: applications may
// already use the rows. also, unless nil, is called when no other process of the run can
// write any more, and before the checkpoint is forgotten: it removes what the host has
// brought by itself. It returns how many rows were removed, without also's.
func (f *Ferry) RemoveMovedRows(ctx context.Context, evenIfFinished bool, also func(ctx context.Context) error) (removed int64, err error) {
	if f.checkpoint == nil || f.resume == nil {
		return 0, errors.New("the target has no checkpoint of this run: nothing was brought that could be removed (is the configuration the same?)")
	}
	if err := f.checkSelection(); err != nil { // other rows than it has brought would go
		return 0, err
	}
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range f.sortedTables() {
		if l, err := t.layout(); err != nil || l.scope == nil {
			return 0, fmt.Errorf("which rows of %s this run has brought is not known, only a RowFilter tells: %w", t, errors.Join(err, errors.ErrUnsupported))
		}
	}
	err = f.pastLostSessions(ctx, func(ctx context.Context) error { return f.checkpoint.fenceOut(ctx, evenIfFinished, nil) })
	if err != nil {
		return 0, err
	}
	if also != nil {
		if err := also(ctx); err != nil {
			return 0, err
		}
	}
	for _, t := range f.sortedTables() {
		if f.resume.tables[NewTableIdentifierFromSchemaTable(t)] == nil {
			continue // the run has not begun with it
		}
		schema, table := names.table(t.Schema, t.Name)
		l, err := t.layout()
		if err != nil {
			return removed, err
		}
		statement := removal(schema, table, l) + fmt.Sprintf(" LIMIT %d", removedAtOnce)
		for {
			var n int64
			err := f.checkpoint.owned(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
				n, err = remove(ctx, tx, statement)
				return err
			})
			if err != nil {
				return removed, fmt.Errorf("removing rows from %s: %w", sqlesc.Table(schema, table), err)
			}
			removed += n
			if n < removedAtOnce {
				break
			}
		}
	}
	return removed, f.ForgetCheckpoint(ctx)
}

// removal is the statement that removes a table's rows in scope from the target.
func removal(schema, table string, l *tableLayout) string {
	return "DELETE FROM " + sqlesc.Table(schema, table) + " WHERE " + l.scope.predicate
}

// fenceOut takes the run over: no other process of it can write any more, unless it takes the
// run over in turn, and then this one cannot. known, unless nil, has who owned the traffic when
// this process looked: that must not have changed.
func (c *checkpoint) fenceOut(ctx context.Context, evenIfFinished bool, known *resumePoint) error {
	var epoch uint64
	err := c.sessions.transaction(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		epoch, err = c.raiseEpoch(ctx, tx, evenIfFinished, known)
		return err
	})
	if err == nil {
		c.epoch = epoch
	}
	return err
}

// raiseEpoch is fenceOut's transaction; it returns the new epoch.
func (c *checkpoint) raiseEpoch(ctx context.Context, tx *sql.Tx, evenIfFinished bool, known *resumePoint) (epoch uint64, err error) {
	var finished bool
	if err := tx.QueryRowContext(ctx, "SELECT epoch, finished FROM "+c.table("runs")+" WHERE run_id=? FOR UPDATE", c.runID).Scan(&epoch, &finished); err != nil {
		return 0, fmt.Errorf("taking over run %s: %w", c.runID, err)
	}
	if finished && !evenIfFinished {
		return 0, fmt.Errorf("run %s has finished: its rows may be in use by now, they are not removed unless that is asked for by name", c.runID)
	}
	if known != nil {
		now := &resumePoint{}
		err := c.loadTraffic(ctx, tx, now)
		if _, damaged := errors.AsType[*DamagedCheckpointError](err); err != nil && !damaged { // which is TrafficUnknown
			return 0, err
		}
		if err := now.sameOwner(known.traffic); err != nil {
			return 0, err
		}
	}
	for _, statement := range []string{"UPDATE " + c.table("runs") + " SET epoch=? WHERE run_id=?", "UPDATE " + c.table("lanes") + " SET epoch=? WHERE run_id=?"} {
		if _, err := tx.ExecContext(ctx, statement, epoch+1, c.runID); err != nil {
			return 0, fmt.Errorf("taking over run %s: %w", c.runID, err)
		}
	}
	return epoch + 1, nil
}
