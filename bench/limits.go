package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// What a target can take at most: the same rows without a way to it. Both leave the
// index of a large table away and add it at the end.
const (
	limitSystem        = "limit: LOAD DATA"
	insertSelectSystem = "limit: INSERT SELECT"
	updateLimitSystem  = "limit: UPDATE" // for the drain
	// loadThreads load a ready file each.
	loadThreads = 3
	readyEnding = ".ready.txt"
)

// limit loads files that lie ready on this machine; they are written once. The time ends
// when the index that is not there meanwhile is.
func (l *lab) limit(ctx context.Context, m *measurement) error {
	files, err := l.readyFiles(ctx, quoted, loadThreads)
	if err != nil {
		return err
	}
	index, err := l.dropIndex(ctx)
	if err != nil {
		return err
	}
	m.Seconds, err = elapsed(func() error {
		if err := l.loadFiles(ctx, files, quoted); err != nil {
			return err
		}
		_, err := l.targetDB.ExecContext(ctx, index)
		return err
	})
	return err
}

// insertSelect copies inside the target, from a table that was filled before the clock.
func (l *lab) insertSelect(ctx context.Context, m *measurement) error {
	const from = "`" + schema + "`.`ready`"
	files, err := l.readyFiles(ctx, quoted, loadThreads)
	if err != nil {
		return err
	}
	if _, err := l.targetDB.ExecContext(ctx, "CREATE TABLE "+from+" LIKE "+quoted); err != nil {
		return err
	}
	if err := l.loadFiles(ctx, files, from); err != nil {
		return err
	}
	index, err := l.dropIndex(ctx)
	if err != nil {
		return err
	}
	m.Seconds, err = elapsed(func() error {
		for _, statement := range []string{"INSERT INTO " + quoted + " SELECT * FROM " + from, index} {
			if _, err := l.targetDB.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = l.targetDB.ExecContext(ctx, "DROP TABLE "+from)
	return err
}

// dropIndex drops sysbench's index and returns the statement that creates it again.
func (l *lab) dropIndex(ctx context.Context) (create string, err error) {
	_, err = l.targetDB.ExecContext(ctx, "ALTER TABLE "+quoted+" DROP KEY k_1")
	return "ALTER TABLE " + quoted + " ADD KEY k_1 (k)", err
}

// limit loads ready files into the schema's only table, or the same file into each of its
// tables, which all have the first one's rows, with as many threads in all. Indexes are kept:
// such tables have none, or are so small that this is faster.
func (w *world) limit(ctx context.Context, m *measurement) error {
	atOnce := min(loadThreads, len(w.tables))
	files, err := w.l.readyFiles(ctx, w.tables[0], loadThreads/atOnce)
	if err != nil {
		return err
	}
	m.Seconds, err = elapsed(func() error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(atOnce)
		for _, table := range w.tables {
			group.Go(func() error { return w.l.loadFiles(ctx, files, table) })
		}
		return group.Wait()
	})
	return err
}

// readyFiles writes a source's table's rows as LOAD DATA reads them, unless it has done so:
// as many files as are asked for, by ranges of the key id. All that the benchmark's tables have are digits,
// which need no escaping.
func (l *lab) readyFiles(ctx context.Context, table string, parts int) ([]string, error) {
	files := make([]string, parts)
	for i := range files {
		files[i] = filepath.Join(l.directory, fmt.Sprintf("%s-%d%s", strings.ReplaceAll(table, "`", ""), i, readyEnding))
	}
	if _, err := os.Stat(files[0]); err == nil {
		return files, nil
	}
	progress("writing ready files for LOAD DATA")
	var last int
	if err := l.sourceDB.QueryRowContext(ctx, "SELECT MAX(id) FROM "+table).Scan(&last); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, path := range files {
		group.Go(func() error {
			return writeRows(ctx, l.sourceDB, path, "SELECT * FROM "+table+" WHERE id>? AND id<=? ORDER BY id", last*i/parts, last*(i+1)/parts)
		})
	}
	return files, group.Wait()
}

func writeRows(ctx context.Context, db *sql.DB, path, query string, args ...any) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriterSize(file, 1<<20)
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, value := range values {
			end := byte('\t')
			if i == len(values)-1 {
				end = '\n'
			}
			_, _ = out.Write(value) // Flush says what went wrong
			_ = out.WriteByte(end)
		}
	}
	return errors.Join(rows.Err(), out.Flush())
}

// loadFiles loads all files into a table, at once.
func (l *lab) loadFiles(ctx context.Context, files []string, table string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, path := range files {
		group.Go(func() error { return loadFile(ctx, l.targetDB, path, table, "utf8mb4") })
	}
	return group.Wait()
}

const (
	updateThreads  = 4
	updatesInBatch = 2_500 // of a thread, in one transaction, as ours has
)

// updateLimit executes updates like those that are drained, of rows chosen like those, in
// the target, from statements that lie ready: ours, which were the fastest of all that were
// tried (docs/decisions/011), with all rows in the order of their keys. It has a copy of the
// table, so that the rows that ours goes on from stay as they are.
func (l *lab) updateLimit(ctx context.Context, what load, seed uint64, m *measurement) (err error) {
	const ready = "`" + schema + "`.`ready`"
	for _, statement := range []string{"CREATE TABLE " + ready + " LIKE " + quoted, "INSERT INTO " + ready + " SELECT * FROM " + quoted} {
		if _, err := l.targetDB.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	defer func() {
		_, dropErr := l.targetDB.ExecContext(ctx, "DROP TABLE "+ready)
		err = errors.Join(err, dropErr)
	}()
	random := rand.New(rand.NewPCG(seed, 0))
	keys := random.Perm(what.keys)[:min(what.updates, what.keys)]
	slices.Sort(keys)
	lanes := make([][]string, updateThreads)
	for i := range lanes {
		lanes[i] = readyUpdates(ready, keys[len(keys)*i/updateThreads:len(keys)*(i+1)/updateThreads], random)
	}
	clocks, err := startMeter(ctx, l.source, l.target, 0)
	if err != nil {
		return err
	}
	m.Rows = len(keys)
	m.Seconds, err = elapsed(func() error {
		group, ctx := errgroup.WithContext(ctx)
		for _, statements := range lanes {
			group.Go(func() error { return execute(ctx, l.targetDB, statements) })
		}
		return group.Wait()
	})
	if err != nil {
		return err
	}
	return clocks.stop(m)
}

// readyUpdates are statements that change rows in turn as updateRows does.
func readyUpdates(table string, keys []int, random *rand.Rand) []string {
	statements := []string{"BEGIN"}
	for batch := range slices.Chunk(keys, updatesInBatch) {
		for i, column := range []struct {
			name   string
			digits int
		}{{"k", 9}, {"c", 119}} {
			var in, values strings.Builder
			for at := i; at < len(batch); at += 2 {
				fmt.Fprintf(&in, ",%d", batch[at]+1)
				fmt.Fprintf(&values, ",'%s'", digits(random)[:column.digits])
			}
			if in.Len() > 0 {
				statements = append(statements, fmt.Sprintf("UPDATE %s SET %s=ELT(INTERVAL(id%s)%s) WHERE id IN (%s)", table, column.name, &in, &values, in.String()[1:]))
			}
		}
		statements = append(statements, "COMMIT", "BEGIN")
	}
	return append(statements, "COMMIT")
}

// execute executes statements by one connection.
func execute(ctx context.Context, db *sql.DB, statements []string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.100s: %w", statement, err)
		}
	}
	return nil
}
