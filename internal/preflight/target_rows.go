package preflight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// checkTargetRows refuses to move into tables that hold rows: they would end up among ours.
func (r *run) checkTargetRows(ctx context.Context) error {
	if r.Resuming {
		return nil
	}
	for _, t := range r.Tables {
		if s := r.target.table(t.TargetSchema, t.TargetName); s == nil || s.kind != "BASE TABLE" || r.deniedTarget[t.Target()] || r.PartOfRows && t.Scope == "" {
			continue
		}
		var one int
		where, which, remedy := "", "rows", "empty it"
		if t.Scope != "" {
			where, which, remedy = " WHERE "+t.Scope, "rows that the row filter chooses", "remove them"
		}
		err := r.Target.QueryRowContext(ctx, "SELECT 1 FROM "+sqlesc.Table(t.TargetSchema, t.TargetName)+where+" LIMIT 1").Scan(&one)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return fmt.Errorf("look for rows in %s: %w", t.Target(), err)
		default:
			what := "the target table already holds " + which
			movers, err := r.handedOver(ctx, t)
			if err != nil {
				return err
			}
			if len(movers) > 0 {
				r.fault("rows", t.Target(), what+", and the checkpoint in "+r.CheckpointSchema+" says of other moves of this table that their traffic may be on the target: "+someOf(movers),
					"find out first whether one of them has moved these rows: then the application may use them, and nothing is left to move; it is another run because its tables, its row filter or its source server were others")
				continue
			}
			r.fault("rows", t.Target(), what, remedy+", or resume the move that has written them")
		}
	}
	return nil
}

// handedOver names the other runs that have moved a table and of which the checkpoint says that the
// traffic is, or may be, the target's. Their rows must not be taken for what a run has left behind.
func (r *run) handedOver(ctx context.Context, t Table) (ids []string, err error) {
	if !r.CheckpointOn || r.deniedTarget[r.CheckpointSchema+"."] {
		return nil, nil
	}
	var there int
	if err := r.Target.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME IN ('traffic', 'tables')", r.CheckpointSchema).Scan(&there); err != nil {
		return nil, fmt.Errorf("look for the checkpoint's tables: %w", err)
	}
	if there < 2 {
		return nil, nil
	}
	return r.runs(ctx, "SELECT o.run_id FROM "+sqlesc.Table(r.CheckpointSchema, "traffic")+" AS o JOIN "+sqlesc.Table(r.CheckpointSchema, "tables")+
		" AS t ON t.run_id = o.run_id WHERE t.source_schema = ? AND t.source_table = ? AND o.run_id <> ? ORDER BY o.run_id", t.Schema, t.Name, r.RunID)
}
