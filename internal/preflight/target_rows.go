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
			r.fault("rows", t.Target(), "the target table already holds "+which, remedy+", or resume the move that has written them")
		}
	}
	return nil
}
