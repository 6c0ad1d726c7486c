package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"database/sql"
)

const linkRoundTrip = 20 * time.Millisecond

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

const narrow = "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL)"

// benchScale looks for what grows: each case is the smaller and the larger of two sizes,
// and one line of results with the mover's peak memory and, for many tables, its start.
func benchScale(ctx context.Context, l *lab, o options, r *report) error {
	for _, tables := range []int{o.scaleTables / 10, o.scaleTables} {
		if err := scaleTables(ctx, l, o, r, tables); err != nil {
			return err
		}
	}
	for _, rows := range []int{o.scaleRows / 10, o.scaleRows} {
		if err := scaleRows(ctx, l, o, r, rows); err != nil {
			return err
		}
	}
	for _, mb := range []int{o.scaleTransactionMB / 10, o.scaleTransactionMB} {
		if err := scaleTransaction(ctx, l, o, r, mb); err != nil {
			return err
		}
	}
	return nil
}

// scaleTables: many small tables. LoadSeconds is the start up to Run.
func scaleTables(ctx context.Context, l *lab, o options, r *report, tables int) (err error) {
	const rows = 5
	progress("scale: making %d tables", tables)
	w, err := l.newWorld(ctx, "scale_tables", narrow, tables, "INSERT INTO %s (v) VALUES (1),(2),(3),(4),(5)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	m := measurement{Bench: "scale", System: fmt.Sprintf("%d tables", tables), Run: 1, Rows: rows * tables}
	return w.measure(ctx, o, r, m, w.ours(o.ours...))
}

// scaleRows: one table of narrow rows.
func scaleRows(ctx context.Context, l *lab, o options, r *report, rows int) (err error) {
	progress("scale: making a table of %d narrow rows", rows)
	w, err := l.newWorld(ctx, "scale_rows", narrow, 1, doubled("INSERT INTO %s (v) VALUES (1)", "INSERT INTO %s (v) SELECT v+1 FROM %s", rows)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	m := measurement{Bench: "scale", System: fmt.Sprintf("%d rows", rows), Run: 1, Rows: rows}
	return w.measure(ctx, o, r, m, w.ours(slices.Concat(o.ours, []string{"-verifier", "Online"})...))
}

// scaleTransaction: a copy that is complete, and then one transaction of so many
// megabytes of row images, which the next process of the run applies.
func scaleTransaction(ctx context.Context, l *lab, o options, r *report, mb int) (err error) {
	const kilobyte = "REPEAT('x', 1000)"
	rows := max(1, mb*1000/2) // an update logs two images
	progress("scale: making a transaction of %d MB", mb)
	w, err := l.newWorld(ctx, "scale_transaction", "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL, t VARCHAR(1000) CHARACTER SET ascii NOT NULL)", 1,
		doubled("INSERT INTO %s (v, t) VALUES (1, "+kilobyte+")", "INSERT INTO %s (v, t) SELECT v+1, t FROM %s", rows)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	if err := w.emptyTarget(ctx); err != nil {
		return err
	}
	flags := slices.Concat([]string{"-schema", w.schema, "-table", ""}, o.ours)
	if _, err := l.runOurs(ctx, flags); err != nil {
		return err
	}
	if _, err := l.sourceDB.ExecContext(ctx, "UPDATE "+w.tables[0]+" SET v=v+1"); err != nil {
		return err
	}
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	c, err := l.runOurs(ctx, flags)
	if err != nil {
		return err
	}
	m := measurement{Bench: "scale", System: fmt.Sprintf("transaction of %d MB", mb), Run: 1, Rows: rows, Seconds: c.caughtUpAt.Sub(c.runningAt).Seconds()}
	c.fill(&m)
	if err := errors.Join(clocks.stop(&m), w.mustEqual(ctx)); err != nil {
		return err
	}
	return r.add(m)
}
