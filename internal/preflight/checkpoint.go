package preflight

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// checkCheckpoint looks at the checkpoint's schema on the target, if it is there.
func (r *run) checkCheckpoint(ctx context.Context) error {
	if !r.CheckpointOn {
		return nil
	}
	var tables, ours int
	err := r.Target.QueryRowContext(ctx, "SELECT COUNT(*), COUNT(CASE WHEN TABLE_NAME IN ('runs', 'lanes', 'tables', 'chunks', 'held', 'definitions', 'deferred_indexes', 'fences', 'rechecks', 'verifications', 'collisions', 'debts', 'origins', 'traffic') THEN 1 END) "+
		"FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME NOT IN ('copydb_tables', 'joined_rows', 'joined_movers')", r.CheckpointSchema).Scan(&tables, &ours)
	if err != nil {
		return fmt.Errorf("look for the checkpoint's schema: %w", err)
	}
	if tables > ours {
		r.fault("foreign", r.CheckpointSchema, fmt.Sprintf("the schema of the checkpoint holds %d tables on the target that are not its own", tables-ours),
			"name a schema of its own in CheckpointSchema")
	}
	if ours < 4 || r.deniedTarget[r.CheckpointSchema+"."] {
		return nil // it is about to be created, or cannot be read
	}
	others, err := r.runs(ctx, "SELECT run_id FROM "+sqlesc.Table(r.CheckpointSchema, "runs")+" WHERE finished = 0 AND run_id <> ? ORDER BY run_id", r.RunID)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		tell := r.warn
		if r.PartOfRows {
			tell = r.note // tenants move side by side
		}
		tell("other-run", r.CheckpointSchema, "other runs into this target have not finished: "+someOf(others),
			"see to it that they move other tables or rows, or delete their rows from the tables in "+r.CheckpointSchema+" when they were given up")
	}
	return nil
}

// runs returns the ids of runs that a query of the checkpoint's tables selects.
func (r *run) runs(ctx context.Context, query string, args ...any) (ids []string, err error) {
	rows, err := r.Target.QueryContext(ctx, query, args...)
	err = each(rows, err, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the runs in %s: %w", r.CheckpointSchema, err)
	}
	return ids, nil
}
