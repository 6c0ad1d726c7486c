package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// The systems of the verification.
const (
	plainCopySystem   = "copy"         // without verification
	inlineCopySystem  = "copy, inline" // each batch compared as it is written
	onlineSystem      = "online"       // every row compared after the copy
	digestQuerySystem = "digest query" // one statement a side, both at once
	verifyWorkers     = 2
)

// digestQuery is the plainest digest of the whole table.
const digestQuery = "SELECT COUNT(*), BIT_XOR(CRC32(SHA2(CONCAT_WS('#', id, k, c, pad), 256))) FROM " + quoted

// benchVerify measures what comparing every row costs beside copying it.
func benchVerify(ctx context.Context, l *lab, o options, r *report) error {
	for run := 1; run <= o.runs; run++ {
		for _, s := range []system{
			{plainCopySystem, func(ctx context.Context, m *measurement) error { return l.copyWithOurs(ctx, o.ours, m) }},
			{inlineCopySystem, func(ctx context.Context, m *measurement) error {
				return l.copyWithOurs(ctx, slices.Concat(o.ours, []string{"-verifier", "Inline"}), m)
			}},
			{onlineSystem, func(ctx context.Context, m *measurement) error { return l.verifyOnline(ctx, o, m) }},
		} {
			m := measurement{Bench: "verify", System: s.name, Run: run, Rows: o.rows}
			if err := l.measureCopy(ctx, s, o, &m); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if err := r.add(m); err != nil {
				return err
			}
		}
		m := measurement{Bench: "verify", System: digestQuerySystem, Run: run, Rows: o.rows}
		if err := l.queryDigests(ctx, o, &m); err != nil {
			return fmt.Errorf("%s: %w", digestQuerySystem, err)
		}
		if err := r.add(m); err != nil {
			return err
		}
	}
	return nil
}

// verifyOnline copies and then compares; the comparison's time counts.
func (l *lab) verifyOnline(ctx context.Context, o options, m *measurement) error {
	c, err := l.runOurs(ctx, slices.Concat(o.ours, []string{"-verifier", "Online", "-verify-workers", strconv.Itoa(verifyWorkers)}), m)
	if err != nil {
		return err
	}
	if int(c.done.RowsVerified) != m.Rows {
		return fmt.Errorf("our mover says that it compared %d rows, not %d", c.done.RowsVerified, m.Rows)
	}
	c.fill(m)
	m.Seconds = c.done.VerifySeconds
	return nil
}

// queryDigests asks both servers at once; the slower answer counts. The table is on the
// target since the comparison before.
func (l *lab) queryDigests(ctx context.Context, o options, m *measurement) error {
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	var digests [2]string
	begun := time.Now()
	group, queryCtx := errgroup.WithContext(ctx)
	for i, db := range []*sql.DB{l.sourceDB, l.targetDB} {
		group.Go(func() error {
			var rows int
			return db.QueryRowContext(queryCtx, digestQuery).Scan(&rows, &digests[i])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	m.Seconds = time.Since(begun).Seconds()
	if digests[0] != digests[1] {
		return fmt.Errorf("the digests differ: %s and %s", digests[0], digests[1])
	}
	return clocks.stop(m)
}
