package copydb

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry"
)

// RestartContext makes a fresh run of one that was begun: it empties the target tables
// that the run's checkpoint knows and forgets the checkpoint. It is called between
// InitializeContext and StartContext, before listeners are added, and does nothing
// where there is no checkpoint. Interrupted, it has to be called again by the next run. As
// StartContext it refuses a move that was switched over.
func (f *CopydbFerry) RestartContext(ctx context.Context) error {
	return f.report(ctx, "ferry.initialize", f.restart(ctx))
}

func (f *CopydbFerry) restart(ctx context.Context) error {
	if !f.Ferry.Resuming() {
		f.logger().Info("there is no earlier run of this configuration, so that there is nothing to empty")
		return nil
	}
	if err := f.switched(); err != nil {
		return f.refused(ctx, err)
	}
	var emptied []ghostferry.TableIdentifier
	for _, table := range f.Ferry.CheckpointTables() {
		// Another process may make the move, have switched it over since Initialize, or begin at any time.
		if err := f.Ferry.RecordTraffic(ctx, ghostferry.TrafficOnSource); err != nil {
			return f.refused(ctx, err)
		}
		f.wrote = true
		target := f.target(ghostferry.NewTableIdentifierFromSchemaTable(table))
		if err := f.empty(ctx, target); err != nil {
			return fmt.Errorf("emptying %s on the target: %w", quoteTable(target), err)
		}
		emptied = append(emptied, target)
	}
	steps, err := f.note(ctx, emptied)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if _, err := f.Ferry.TargetDB.ExecContext(ctx, step.statement); err != nil {
			return fmt.Errorf("noting the emptied tables: %w", err)
		}
	}
	if err := f.Ferry.ForgetCheckpoint(ctx); err != nil {
		return f.refused(ctx, err)
	}
	f.wrote = true
	f.logger().Warn("forgot the checkpoint of the earlier run")
	return nil
}

// empty removes all rows of a table of the target, or none, if there is such a table.
func (f *CopydbFerry) empty(ctx context.Context, table ghostferry.TableIdentifier) error {
	exists, err := hasTable(ctx, f.Ferry.TargetDB, table)
	if err != nil || !exists {
		return err
	}
	conn, err := definitionConn(ctx, f.Ferry.TargetDB)
	if err != nil {
		return err
	}
	defer discard(conn)
	quoted := quoteTable(table)
	if _, err = conn.ExecContext(ctx, "TRUNCATE TABLE "+quoted); err == nil {
		f.logger().Warnf("emptied %s, which the earlier run wrote", quoted)
		return nil
	}
	// In one statement although it is a large one: with half of the rows gone the
	// checkpoint would be wrong.
	f.logger().Infof("TRUNCATE of %s is refused (%v), deleting its rows", quoted, err)
	deleted, err := conn.ExecContext(ctx, "DELETE FROM "+quoted)
	if err != nil {
		return err
	}
	rows, err := deleted.RowsAffected()
	if err != nil {
		return err
	}
	f.logger().Warnf("emptied %s, which the earlier run wrote, by deleting %d rows", quoted, rows)
	return nil
}
