package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// What the mover's memory may be, in MiB: this, and so many times the largest row.
const (
	memoryBase       = 96
	memoryRowsAtOnce = 4
)

const tablesSuffix = " tables"

// benchMemory looks for what the mover's memory grows with. The mover is a process that does
// nothing else. Each case has a tenth and the whole of a size, so that two peaks can be
// compared; rows of many megabytes are one case.
func benchMemory(ctx context.Context, l *lab, o options, r *report) error {
	for _, c := range []struct {
		size    int
		measure func(ctx context.Context, l *lab, o options, r *report, size int) error
	}{{o.memoryTables, memoryTables}, {o.memoryRows, memoryRows}, {o.memoryMB, memoryTransaction}} {
		for _, size := range []int{max(1, c.size/10), c.size} {
			if err := c.measure(ctx, l, o, r, size); err != nil {
				return err
			}
		}
	}
	return memoryHugeRows(ctx, l, o, r)
}

// memoryCase is a measurement with the largest of its rows, in bytes.
func memoryCase(system string, rows, largestRow int) measurement {
	mb := float64(largestRow) / (1 << 20)
	return measurement{Bench: "memory", System: system, Run: 1, Rows: rows, LargestRowMB: mb, AllowedRSSMB: round(memoryBase + memoryRowsAtOnce*mb)}
}

// memoryTables: many small tables. LoadSeconds is the start up to Run.
func memoryTables(ctx context.Context, l *lab, o options, r *report, tables int) (err error) {
	const rows = 5
	progress("memory: making %d tables", tables)
	w, err := l.newWorld(ctx, "memory_tables", narrow, tables, "INSERT INTO %s (v) VALUES (1),(2),(3),(4),(5)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	return w.measure(ctx, o, r, memoryCase(strconv.Itoa(tables)+tablesSuffix, rows*tables, 0), w.ours(o.ours...))
}

// memoryRows: one table of many narrow rows, compared as well.
func memoryRows(ctx context.Context, l *lab, o options, r *report, rows int) (err error) {
	progress("memory: making a table of %d narrow rows", rows)
	w, err := l.newWorld(ctx, "memory_rows", narrow, 1, fillNarrow(rows)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	return w.measure(ctx, o, r, memoryCase(fmt.Sprintf("%d narrow rows", rows), rows, 0), w.ours(slices.Concat(o.ours, []string{"-verifier", "Online"})...))
}

// memoryTransaction: one transaction of so many megabytes of row images, two an update.
func memoryTransaction(ctx context.Context, l *lab, o options, r *report, mb int) (err error) {
	const (
		text    = 92 // with two numbers, 100 bytes an image
		rowSize = 100
	)
	rows := max(1, mb*1_000_000/(2*rowSize))
	progress("memory: making a table for a transaction of %d MB", mb)
	w, err := l.newWorld(ctx, "memory_transaction", fmt.Sprintf("CREATE TABLE %%s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL, t VARCHAR(%d) CHARACTER SET ascii NOT NULL)", text), 1,
		doubled(fmt.Sprintf("INSERT INTO %%s (v, t) VALUES (1, REPEAT('x', %d))", text), "INSERT INTO %s (v, t) SELECT v+1, t FROM %s", rows)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	if err := w.emptyTarget(ctx); err != nil {
		return err
	}
	if _, err := l.runOurs(ctx, w.flags(o.ours), nil); err != nil {
		return err
	}
	return w.drain(ctx, o, r, memoryCase(fmt.Sprintf("transaction of %d MB", mb), rows, rowSize), "UPDATE "+w.tables[0]+" SET v=v+1")
}

// memoryHugeRows copies rows of many megabytes of bytes as they come, and then applies a
// change of each, in one statement.
func memoryHugeRows(ctx context.Context, l *lab, o options, r *report) (err error) {
	const rows, kilobyte = 16, 1024
	progress("memory: making %d rows of %d MB", rows, o.memoryRowMB)
	row := fmt.Sprintf("INSERT INTO %%s (v, b) VALUES (1, REPEAT(RANDOM_BYTES(%d), %d))", kilobyte, o.memoryRowMB<<20/kilobyte)
	w, err := l.newWorld(ctx, "memory_huge", "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL, b LONGBLOB NOT NULL)", 1,
		slices.Repeat([]string{row}, rows)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	name := fmt.Sprintf("rows of %d MB", o.memoryRowMB)
	if err := w.measure(ctx, o, r, memoryCase(name+", copied", rows, o.memoryRowMB<<20), w.ours(slices.Concat(o.ours, []string{"-verifier", "Online"})...)); err != nil {
		return err
	}
	return w.drain(ctx, o, r, memoryCase(name+", applied", rows, o.memoryRowMB<<20), "UPDATE "+w.tables[0]+" SET v=v+1")
}

// drain makes a change of all rows after a finished copy and lets another process of ours
// go on from its checkpoint.
func (w *world) drain(ctx context.Context, o options, r *report, m measurement, change string) error {
	if _, err := w.l.sourceDB.ExecContext(ctx, change); err != nil {
		return fmt.Errorf("%s: %w", change, err)
	}
	clocks, err := startMeter(ctx, w.l.source, w.l.target, o.patience)
	if err != nil {
		return err
	}
	c, err := w.l.runOurs(ctx, w.flags(o.ours), &m)
	if err != nil {
		return fmt.Errorf("%s: %w", m.System, err)
	}
	if int(c.caughtUp.BinlogApplied) != m.Rows {
		return fmt.Errorf("%s: our mover says that it applied %d changes, not %d", m.System, c.caughtUp.BinlogApplied, m.Rows)
	}
	m.Seconds = c.caughtUpAt.Sub(c.runningAt).Seconds()
	c.fill(&m)
	if err := errors.Join(clocks.stop(&m), w.mustEqual(ctx)); err != nil {
		return fmt.Errorf("%s: %w", m.System, err)
	}
	return r.add(m)
}
