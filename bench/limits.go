package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// What a target can take at most: the same rows without a way to it. Both leave the
// index away and add it at the end.
const (
	limitSystem        = "limit: LOAD DATA"
	insertSelectSystem = "limit: INSERT SELECT"
	// loadThreads load a ready file each.
	loadThreads = 3
)

// loadReadyFiles loads files that lie ready on this machine. They are written once.
func (l *lab) loadReadyFiles(ctx context.Context, m *measurement) error {
	index, err := l.dropIndex(ctx, quoted)
	if err != nil {
		return err
	}
	if err := l.readyFiles(ctx); err != nil {
		return err
	}
	begun := time.Now()
	if err := l.loadFiles(ctx, quoted); err != nil {
		return err
	}
	if _, err := l.targetDB.ExecContext(ctx, index); err != nil {
		return err
	}
	m.Seconds = time.Since(begun).Seconds()
	return nil
}

// insertSelect copies inside the target, from a table that was filled before the clock.
func (l *lab) insertSelect(ctx context.Context, m *measurement) error {
	const from = "`" + schema + "`.`ready`"
	if err := l.readyFiles(ctx); err != nil {
		return err
	}
	if _, err := l.targetDB.ExecContext(ctx, "CREATE TABLE "+from+" LIKE "+quoted); err != nil {
		return err
	}
	if err := l.loadFiles(ctx, from); err != nil {
		return err
	}
	index, err := l.dropIndex(ctx, quoted)
	if err != nil {
		return err
	}
	begun := time.Now()
	for _, statement := range []string{"INSERT INTO " + quoted + " SELECT * FROM " + from, index} {
		if _, err := l.targetDB.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	m.Seconds = time.Since(begun).Seconds()
	_, err = l.targetDB.ExecContext(ctx, "DROP TABLE "+from)
	return err
}

// dropIndex drops sysbench's index and returns the statement that creates it again.
func (l *lab) dropIndex(ctx context.Context, table string) (create string, err error) {
	_, err = l.targetDB.ExecContext(ctx, "ALTER TABLE "+table+" DROP KEY k_1")
	return "ALTER TABLE " + table + " ADD KEY k_1 (k)", err
}

func (l *lab) readyFile(i int) string {
	return filepath.Join(l.directory, fmt.Sprintf("ready-%d.txt", i))
}

// readyFiles writes the source's rows as LOAD DATA reads them. sysbench's are digits,
// which need no escaping.
func (l *lab) readyFiles(ctx context.Context) error {
	if _, err := os.Stat(l.readyFile(0)); err == nil {
		return nil
	}
	progress("writing ready files for LOAD DATA")
	group, ctx := errgroup.WithContext(ctx)
	for i := range loadThreads {
		group.Go(func() (err error) {
			file, err := os.Create(l.readyFile(i))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out := bufio.NewWriterSize(file, 1<<20)
			rows, err := l.sourceDB.QueryContext(ctx, "SELECT id, k, c, pad FROM "+quoted+" WHERE id>? AND id<=? ORDER BY id", l.rows*i/loadThreads, l.rows*(i+1)/loadThreads)
			if err != nil {
				return err
			}
			defer func() { _ = rows.Close() }()
			var id, k, c, pad sql.RawBytes
			for rows.Next() {
				if err := rows.Scan(&id, &k, &c, &pad); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", id, k, c, pad); err != nil {
					return err
				}
			}
			return errors.Join(rows.Err(), out.Flush())
		})
	}
	return group.Wait()
}

func (l *lab) loadFiles(ctx context.Context, table string) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range loadThreads {
		group.Go(func() error {
			name := fmt.Sprintf("ready-%d", i)
			file, err := os.Open(l.readyFile(i))
			if err != nil {
				return err
			}
			defer file.Close()
			mysql.RegisterReaderHandler(name, func() io.Reader { return file })
			defer mysql.DeregisterReaderHandler(name)
			_, err = l.targetDB.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE "+table)
			return err
		})
	}
	return group.Wait()
}
