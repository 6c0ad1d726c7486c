package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// What a target can take at most: the same rows without a way to it. Both leave the
// index of a large table away and add it at the end.
const (
	limitSystem        = "limit: LOAD DATA"
	insertSelectSystem = "limit: INSERT SELECT"
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
