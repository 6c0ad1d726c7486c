package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// removedAtOnce is how many rows one transaction removes: clusters limit what one may change.
const removedAtOnce = 5000

// removeRows removes the run's rows of one of the checkpoint's tables, while this process owns the run.
func (c *checkpoint) removeRows(ctx context.Context, name string) error {
	statement := fmt.Sprintf("DELETE FROM %s WHERE run_id=0x%x LIMIT %d", c.table(name), c.runID, removedAtOnce)
	for {
		var removed int64
		err := c.owned(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			removed, err = remove(ctx, tx, statement)
			return err
		})
		if err != nil || removed < removedAtOnce {
			return err
		}
	}
}

// forget removes every trace of the run, which this process owns, except of a fence, which stands on
// the source, in one transaction: of a part nobody could go on, or give up what was moved.
func (c *checkpoint) forget(ctx context.Context) error {
	if err := c.create(ctx); err != nil { // tables that an older version did not have
		return err
	}
	removed := false
	err := c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, name := range []string{"runs", "lanes", "tables", "chunks", "held", "definitions", "deferred_indexes", "rechecks", "verifications", collisionsTable, debtsTable, "origins", "traffic"} {
			if _, err := remove(ctx, tx, fmt.Sprintf("DELETE FROM %s WHERE run_id=0x%x", c.table(name), c.runID)); err != nil {
				return err
			}
		}
		removed = true
		return nil
	})
	if _, gone := errors.AsType[*TargetLostCommitsError](err); gone && removed {
		err = nil // it was committed, and the answer was lost
	}
	if err != nil {
		return err
	}
	c.epoch = 0
	return nil
}

// tidyTime bounds what is removed of a run that has finished.
const tidyTime = 5 * time.Second

// tidy removes what nobody needs of a run that has finished: the rows to be compared again, of which
// there may be many. It is for when the writers go on.
func (f *Ferry) tidy() {
	if f.OverallState.Load() != StateDone || f.Phase().blocks() || !f.checkpoint.begun() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tidyTime)
	defer cancel()
	err := f.checkpoint.removeRows(ctx, "rechecks")
	if _, fenced := errors.AsType[*FencedError](err); err != nil && !fenced { // then they are the next process's
		f.logger.WithError(err).Infof("rows of run %s stay in the checkpoint's table rechecks, which does no harm", f.checkpoint.runID)
	}
}
