// Package shop makes a realistic database to move, and an application that keeps
// writing to it. The demo moves it at a million rows; tests use the same schema,
// generator and writer at a small scale.
//
// Everything is drawn from a seed: two servers seeded with the same [Options]
// hold the same rows.
package shop

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// DefaultDatabase is the schema used when Options.Database is empty.
const DefaultDatabase = "shop"

// Shape says how many rows each table of a freshly seeded shop has.
type Shape struct {
	Customers, Products, Orders, OrderLines, Payments int
	Sessions, Stock, Seats, Documents, Tags           int
}

// minimumRows keeps every table large enough for each transaction of the writer
// to find something to do.
const minimumRows = 2000

// ShapeOf divides at least the given number of rows among the tables. Fewer than
// 2,000 are raised to 2,000.
func ShapeOf(rows int) Shape {
	rows = max(rows, minimumRows)
	share := func(perMille int) int { return (rows*perMille + 999) / 1000 }
	s := Shape{
		Customers: share(130), Products: share(30), Orders: share(180), Payments: share(90),
		Sessions: share(80), Stock: share(70), Seats: share(20), Documents: share(10), Tags: share(10),
	}
	s.OrderLines = linesBefore(s.Orders)
	return s
}

// Rows is the number of rows of all tables together.
func (s Shape) Rows() int {
	return s.Customers + s.Products + s.Orders + s.OrderLines + s.Payments +
		s.Sessions + s.Stock + s.Seats + s.Documents + s.Tags
}

// Options says which shop to make. Two calls with equal Database, Seed and Rows
// make equal data, whatever the rest says.
type Options struct {
	// Database is the schema to create and fill. Default: DefaultDatabase.
	Database string
	// Seed is the origin of every value.
	Seed uint64
	// Rows is how many rows all tables have together, at least; see ShapeOf.
	Rows int
	// Parallel is the number of connections that fill tables. Default: the
	// number of processors plus one, because a server flushes while it inserts.
	Parallel int
	// OnProgress, if set, is called now and then with the rows inserted so far.
	// It is called from several goroutines at once and must not block.
	OnProgress func(rows, total int)
}

func (o Options) withDefaults() Options {
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.Parallel == 0 {
		o.Parallel = runtime.NumCPU() + 1
	}
	return o
}

// CreateSchema creates the database and its empty tables. It fails if a table
// exists already.
func CreateSchema(ctx context.Context, db *sql.DB, database string) error {
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(database)); err != nil {
		return fmt.Errorf("creating database %s: %w", database, err)
	}
	for _, t := range tables {
		statement := "CREATE TABLE " + qualified(database, t.name) + " (" + t.definition + "\n) " + tableOptions
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("creating table %s.%s: %w", database, t.name, err)
		}
	}
	return nil
}

// Seed fills the empty tables of a schema made by CreateSchema and returns how
// many rows it inserted. The account needs nothing but INSERT.
func Seed(ctx context.Context, db *sql.DB, o Options) (int, error) {
	o = o.withDefaults()
	shape := ShapeOf(o.Rows)
	var done atomic.Int64

	workers, ctx := errgroup.WithContext(ctx)
	batches := make(chan batch)
	workers.Go(func() error {
		defer close(batches)
		return planBatches(ctx, shape, batches)
	})
	for range o.Parallel {
		workers.Go(func() error {
			return insertBatches(ctx, db, o, shape, batches, &done)
		})
	}
	if err := workers.Wait(); err != nil {
		return int(done.Load()), fmt.Errorf("seeding %s: %w", o.Database, err)
	}
	return int(done.Load()), nil
}

// batch is one INSERT: units first..last-1 of a table.
type batch struct {
	table       *table
	number      int
	first, last int
}

// planBatches sends the batches of all tables, table by table, so that each
// table is filled nearly in key order.
func planBatches(ctx context.Context, shape Shape, batches chan<- batch) error {
	for i := range tables {
		t := &tables[i]
		units := t.units(shape)
		for first, number := 0, 0; first < units; first, number = first+t.batch, number+1 {
			b := batch{table: t, number: number, first: first, last: min(first+t.batch, units)}
			select {
			case batches <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func insertBatches(ctx context.Context, db *sql.DB, o Options, shape Shape, batches <-chan batch, done *atomic.Int64) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Customer 0 exists, and generated times are UTC.
	const session = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'"
	if _, err := conn.ExecContext(ctx, session); err != nil {
		return err
	}
	g := newGenerator(o.Seed, shape)
	for b := range batches {
		statement := g.insert(o.Database, b)
		result, err := conn.ExecContext(ctx, statement)
		if err != nil {
			return fmt.Errorf("table %s, units %d to %d: %w", b.table.name, b.first, b.last-1, err)
		}
		inserted, err := result.RowsAffected()
		if err != nil {
			return err
		}
		rows := done.Add(inserted)
		if o.OnProgress != nil {
			o.OnProgress(int(rows), shape.Rows())
		}
	}
	return nil
}

// qualified quotes schema and table for a statement.
func qualified(database, table string) string { return quote(database) + "." + quote(table) }

func quote(name string) string { return "`" + name + "`" }
