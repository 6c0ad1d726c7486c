package preflight

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// checkTargetRows refuses to move into tables that hold rows: they would end up among ours.
func (r *run) checkTargetRows(ctx context.Context) error {
	var tables []Table
	for _, t := range r.Tables {
		if r.Resuming && !t.NewToRun {
			continue
		}
		if s := r.target.table(t.TargetSchema, t.TargetName); s == nil || s.kind != "BASE TABLE" || r.deniedTarget[t.Target()] || r.PartOfRows && t.Scope == "" {
			continue
		}
		tables = append(tables, t)
	}
	filled, err := r.holdRows(ctx, tables)
	if err != nil {
		return err
	}
	for i, t := range tables {
		if !filled[i] {
			continue
		}
		which, remedy := "rows", "empty it"
		if t.Scope != "" {
			which, remedy = "rows that the row filter chooses", "remove them"
		}
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
	return nil
}

// holdRows tells of each table whether it holds rows that would be among ours. The server opens
// every one of them, which of ten thousand takes seconds: several are asked for in one statement,
// over all connections to the target.
func (r *run) holdRows(ctx context.Context, tables []Table) ([]bool, error) {
	perStatement := 50
	if len(tables) > 0 && tables[0].Scope != "" {
		perStatement = 1 // one may have to be searched as a whole for rows of the scope
	}
	filled := make([]bool, len(tables))
	var next atomic.Int64
	var group errgroup.Group // without a context: its end would close the connections, which other checks need
	for _, target := range append([]server.Querier{r.Target}, r.MoreTarget...) {
		group.Go(func() error {
			for {
				end := int(next.Add(int64(perStatement)))
				first := end - perStatement
				if first >= len(tables) {
					return nil
				}
				end = min(end, len(tables))
				if err := lookForRows(ctx, target, tables[first:end], filled[first:end]); err != nil {
					return err
				}
			}
		})
	}
	return filled, group.Wait()
}

// lookForRows asks in one statement, and, when that fails, for each table alone, to name the one.
func lookForRows(ctx context.Context, target server.Querier, tables []Table, filled []bool) error {
	statements := make([]string, len(tables))
	for i, t := range tables {
		statements[i] = fmt.Sprintf("(SELECT %d FROM %s", i, sqlesc.Table(t.TargetSchema, t.TargetName))
		if t.Scope != "" {
			statements[i] += " WHERE " + t.Scope
		}
		statements[i] += " LIMIT 1)"
	}
	ask := func(statement string) error {
		rows, err := target.QueryContext(ctx, statement)
		return each(rows, err, func(scan func(...any) error) error {
			var i int
			if err := scan(&i); err != nil {
				return err
			}
			filled[i] = true
			return nil
		})
	}
	err := ask(strings.Join(statements, " UNION ALL "))
	if err == nil {
		return nil
	}
	if mysqlerr.Classify(err) == mysqlerr.ConnectionLost || ctx.Err() != nil {
		return fmt.Errorf("look for rows in %s and %d other tables: %w", tables[0].Target(), len(tables)-1, err)
	}
	for i, t := range tables {
		if err := ask(statements[i]); err != nil {
			return fmt.Errorf("look for rows in %s: %w", t.Target(), err)
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
