package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// world is a schema of its own on the source for one part of the benchmark.
type world struct {
	l      *lab
	schema string
	tables []string
}

// newWorld makes a schema on the source with tables of one definition, in which %s is the
// table's name, and fills each by the statements of fill, where %s is the name, too.
func (l *lab) newWorld(ctx context.Context, schema, definition string, tables int, fill ...string) (*world, error) {
	w := &world{l: l, schema: schema}
	if _, err := l.sourceDB.ExecContext(ctx, "CREATE DATABASE "+schema); err != nil {
		return nil, err
	}
	for i := range tables {
		w.tables = append(w.tables, fmt.Sprintf("`%s`.`t%05d`", schema, i))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, table := range w.tables {
		group.Go(func() error {
			for _, statement := range append([]string{definition}, fill...) {
				statement = strings.ReplaceAll(statement, "%s", table)
				if _, err := l.sourceDB.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("%s: %w", statement, err)
				}
			}
			return nil
		})
	}
	return w, group.Wait()
}

// drop removes the schema from both servers, and their logs, which nobody reads between
// parts, and the schema's ready files.
func (w *world) drop(ctx context.Context) error {
	ready, err := filepath.Glob(filepath.Join(w.l.directory, w.schema+".*"+readyEnding))
	if err != nil {
		return err
	}
	for _, path := range ready {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for _, db := range []execer{w.l.sourceDB, w.l.targetDB} {
		for _, statement := range []string{"DROP DATABASE IF EXISTS " + w.schema, "FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW()"} {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
	}
	return nil
}

// emptyTarget makes the schema's tables anew on the target, and removes the checkpoint.
func (w *world) emptyTarget(ctx context.Context) error {
	for _, statement := range []string{"DROP DATABASE IF EXISTS _ghostferry", "DROP DATABASE IF EXISTS " + w.schema, "CREATE DATABASE " + w.schema} {
		if _, err := w.l.targetDB.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, table := range w.tables {
		group.Go(func() error {
			var name, ddl string
			if err := w.l.sourceDB.QueryRowContext(ctx, "SHOW CREATE TABLE "+table).Scan(&name, &ddl); err != nil {
				return err
			}
			_, err := w.l.targetDB.ExecContext(ctx, strings.Replace(ddl, "CREATE TABLE `"+name+"`", "CREATE TABLE "+table, 1))
			return err
		})
	}
	return group.Wait()
}

// mustEqual compares the checksums of all tables.
func (w *world) mustEqual(ctx context.Context) error {
	const atOnce = 500
	for some := range slices.Chunk(w.tables, atOnce) {
		var sums [2]map[string]string
		for i, db := range []queryer{w.l.sourceDB, w.l.targetDB} {
			sums[i] = map[string]string{}
			rows, err := db.QueryContext(ctx, "CHECKSUM TABLE "+strings.Join(some, ","))
			if err != nil {
				return err
			}
			for rows.Next() && err == nil {
				var name, sum string
				err = rows.Scan(&name, &sum)
				sums[i][name] = sum
			}
			if err := errors.Join(err, rows.Err(), rows.Close()); err != nil { //nolint:sqlclosecheck // one query a round
				return err
			}
		}
		for name, sum := range sums[0] {
			if sums[1][name] != sum {
				return fmt.Errorf("%s differs from the source's", name)
			}
		}
	}
	return nil
}

// measure runs one system on an empty target and compares.
func (w *world) measure(ctx context.Context, o options, r *report, m measurement, system func(ctx context.Context, m *measurement) error) error {
	if err := w.emptyTarget(ctx); err != nil {
		return err
	}
	clocks, err := startMeter(ctx, w.l.source, w.l.target, o.patience)
	if err != nil {
		return err
	}
	if err := system(ctx, &m); err != nil {
		return fmt.Errorf("%s: %w", m.System, err)
	}
	if err := clocks.stop(&m); err != nil {
		return err
	}
	if err := w.mustEqual(ctx); err != nil {
		return fmt.Errorf("%s: %w", m.System, err)
	}
	return r.add(m)
}

// inTurn measures every system; m says what all of them have in common.
func (w *world) inTurn(ctx context.Context, o options, r *report, m measurement, systems []system) error {
	return inTurn(o, systems, func(s system, run int) error {
		m.System, m.Run = s.name, run
		return w.measure(ctx, o, r, m, s.do)
	})
}

// ours is our mover with further flags on the schema.
func (w *world) ours(flags ...string) func(ctx context.Context, m *measurement) error {
	return func(ctx context.Context, m *measurement) error {
		c, err := w.l.runOurs(ctx, w.flags(flags), m)
		if err != nil {
			return err
		}
		if int(c.caughtUp.RowsCopied) != m.Rows {
			return fmt.Errorf("our mover says that it copied %d rows, not %d", c.caughtUp.RowsCopied, m.Rows)
		}
		m.Seconds, m.LoadSeconds = c.caughtUpAt.Sub(c.startedAt).Seconds(), c.runningAt.Sub(c.startedAt).Seconds()
		c.fill(m)
		return nil
	}
}

// flags are our mover's for all tables of the schema.
func (w *world) flags(further []string) []string {
	return slices.Concat([]string{"-schema", w.schema, "-table", ""}, further)
}

// doubled are the statements that fill a table with at least so many rows: the first row
// by the statement given, then rows upon rows by inserting the table into itself, in
// transactions that no binary log cache minds.
func doubled(first, again string, rows int) []string {
	const most = 1_000_000 // in one transaction
	statements := []string{first}
	for n := 1; n < rows; {
		more := min(n, rows-n, most)
		statements = append(statements, fmt.Sprintf("%s LIMIT %d", again, more))
		n += more
	}
	return statements
}

// elapsed is how long f took, in seconds.
func elapsed(f func() error) (float64, error) {
	begun := time.Now()
	err := f()
	return time.Since(begun).Seconds(), err
}
