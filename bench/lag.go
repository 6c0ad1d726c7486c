package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	lagWriters = 8 // connections that change rows one after the other, as fast as they can
	// lagFollow is how long they go on after the copy.
	lagFollow = 15 * time.Second
	// lagTick is how often the clock's row is changed on the source and read on the target.
	lagTick = 50 * time.Millisecond
	// clockRow is the row that has the time in it; the writers leave it alone.
	clockRow = 1
)

// benchLag copies and follows while the source is written at full speed, and measures how
// old the target's changes are, from outside: one row of the table has the time of its
// last change in it, which is read on the target.
func benchLag(ctx context.Context, l *lab, o options, r *report) error {
	for run := 1; run <= o.runs; run++ {
		m := measurement{Bench: "lag", System: ghostferrySystem, Run: run, Rows: o.rows}
		if err := l.measureLag(ctx, o, &m, followAWhile); err != nil {
			return err
		}
		if err := r.add(m); err != nil {
			return err
		}
	}
	return nil
}

// followAWhile lets the mover follow the writers after its copy.
func followAWhile(ctx context.Context, _ *os.Process, _ *lagWatch) error {
	select {
	case <-time.After(lagFollow):
	case <-ctx.Done():
	}
	return nil
}

// measureLag copies and then follows as long as follow takes.
func (l *lab) measureLag(ctx context.Context, o options, m *measurement, follow func(context.Context, *os.Process, *lagWatch) error) error {
	if err := l.emptyTarget(ctx); err != nil {
		return err
	}
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	w := &lagWatch{}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	group, writing := errgroup.WithContext(writing)
	begun := time.Now()
	for i := range lagWriters {
		random := rand.New(rand.NewPCG(uint64(m.Run), uint64(i)))
		group.Go(func() error { return w.write(writing, l.sourceDB, random, l.rows) })
	}
	group.Go(func() error { return w.tick(writing, l.sourceDB) })
	group.Go(func() error { return w.sample(writing, l.targetDB) })
	c, err := l.runOursUntil(ctx, o.ours, m, func(mover *os.Process) error {
		w.copied()
		m.Seconds = time.Since(begun).Seconds()
		followErr := follow(writing, mover, w)
		m.WritesPerS = float64(w.writes.Load()) / time.Since(begun).Seconds()
		stop()
		return errors.Join(followErr, group.Wait())
	})
	if err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	c.fill(m)
	m.LagCopyMax, m.LagMax, m.LagFinal = w.results()
	if err := clocks.stop(m); err != nil {
		return err
	}
	return l.mustEqual(ctx, l.targetDB)
}

// lagWatch are the writers and what is seen of them on the target.
type lagWatch struct {
	writes atomic.Uint64

	seen struct {
		sync.Mutex
		afterCopy          bool
		copyMax, max, last float64
		recent             float64 // the greatest since sinceLast
	}
}

func (w *lagWatch) write(ctx context.Context, db *sql.DB, random *rand.Rand, rows int) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return untilStopped(ctx, err)
	}
	defer func() { _ = conn.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		key := 2 + random.IntN(rows-1)
		statement := fmt.Sprintf("UPDATE %s SET k=k+1 WHERE id=%d", quoted, key)
		if n%2 == 1 {
			statement = fmt.Sprintf("UPDATE %s SET c='%s' WHERE id=%d", quoted, digits(random), key)
		}
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return untilStopped(ctx, err)
		}
		w.writes.Add(1)
	}
	return nil
}

// tick writes the time into the clock's row.
func (w *lagWatch) tick(ctx context.Context, db *sql.DB) error {
	return every(ctx, lagTick, func() error {
		_, err := db.ExecContext(ctx, "UPDATE "+quoted+" SET pad=? WHERE id=?", strconv.FormatInt(time.Now().UnixNano(), 10), clockRow)
		return err
	})
}

// sample reads it on the target.
func (w *lagWatch) sample(ctx context.Context, db *sql.DB) error {
	return every(ctx, lagTick, func() error {
		var text string
		err := db.QueryRowContext(ctx, "SELECT pad FROM "+quoted+" WHERE id=?", clockRow).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // not copied yet
		}
		if err != nil {
			return err
		}
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil //nolint:nilerr // as sysbench has made it: the clock has not begun
		}
		w.note(time.Since(time.Unix(0, at)).Seconds())
		return nil
	})
}

func (w *lagWatch) note(lag float64) {
	w.seen.Lock()
	defer w.seen.Unlock()
	w.seen.last, w.seen.recent = lag, max(w.seen.recent, lag)
	if w.seen.afterCopy {
		w.seen.max = max(w.seen.max, lag)
	} else {
		w.seen.copyMax = max(w.seen.copyMax, lag)
	}
}

// sinceLast is the greatest lag since it was asked before.
func (w *lagWatch) sinceLast() float64 {
	w.seen.Lock()
	defer w.seen.Unlock()
	lag := w.seen.recent
	w.seen.recent = 0
	return lag
}

func (w *lagWatch) copied() {
	w.seen.Lock()
	defer w.seen.Unlock()
	w.seen.afterCopy = true
}

func (w *lagWatch) results() (copyMax, afterMax, last float64) {
	w.seen.Lock()
	defer w.seen.Unlock()
	return w.seen.copyMax, w.seen.max, w.seen.last
}

// every calls f until the context ends.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if err := f(); err != nil {
			return untilStopped(ctx, err)
		}
	}
}

// untilStopped is nil for the error of a statement that was given up on purpose.
func untilStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // that is what it is for
	}
	return err
}
