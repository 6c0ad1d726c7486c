package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// The systems of the part "tenants".
const (
	wholeSystem        = "whole table"
	oneTenantSystem    = "a tenant of 1 %"
	ownStreamsSystem   = "8 tenants followed, own streams"
	sharedStreamSystem = "8 tenants followed, shared stream"
)

// tenantsTable is sysbench's table with a tenant in each row and an index for it.
const tenantsTable = "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, tenant INT NOT NULL, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k), KEY tenant (tenant, id))"

// benchTenants copies a table of a hundred tenants whole, and one tenant of it. Then it
// follows eight tenants at once while rows of all are updated, over one connection to the
// source's log and over one each; what counts is the mover's CPU time for following.
func benchTenants(ctx context.Context, l *lab, o options, r *report) (err error) {
	progress("tenants: making a table of %d rows of 100 tenants", o.rows)
	w, err := l.newWorld(ctx, "tenants", tenantsTable, 1, "INSERT INTO %s SELECT id, MOD(id, 100), k, c, pad FROM "+quoted, "ANALYZE TABLE %s")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	t := tenants{w, o, r}
	for run := 1; run <= o.runs; run++ {
		for _, measure := range []func(context.Context, int) error{
			func(ctx context.Context, run int) error { return t.copy(ctx, wholeSystem, run, "") },
			func(ctx context.Context, run int) error { return t.copy(ctx, oneTenantSystem, run, "7") },
			func(ctx context.Context, run int) error { return t.follow(ctx, ownStreamsSystem, run) },
			func(ctx context.Context, run int) error { return t.follow(ctx, sharedStreamSystem, run, "-shared") },
		} {
			if err := measure(ctx, run); err != nil {
				return err
			}
		}
	}
	return nil
}

type tenants struct {
	*world
	o options
	r *report
}

// copy moves all rows, or those of one tenant. Indexes of the shared table are kept for the
// tenant: they are other tenants' as well.
func (t tenants) copy(ctx context.Context, system string, run int, tenant string) error {
	flags := t.flags(t.o.ours)
	if tenant != "" {
		flags = append(flags, "-defer", "off", "-tenants", "tenant="+tenant)
	}
	m := measurement{Bench: "tenants", System: system, Run: run}
	c, err := t.run(ctx, flags, &m, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", system, err)
	}
	m.Rows, m.Seconds, m.LoadSeconds = int(c.caughtUp.RowsCopied), c.caughtUpAt.Sub(c.startedAt).Seconds(), c.runningAt.Sub(c.startedAt).Seconds()
	if err := t.mustEqual(ctx, tenant); err != nil {
		return fmt.Errorf("%s: %w", system, err)
	}
	return t.r.add(m)
}

// follow moves eight tenants and measures what it takes to follow so many updates.
func (t tenants) follow(ctx context.Context, system string, run int, further ...string) error {
	const eight = "1,2,3,4,5,6,7,8"
	flags := t.flags(slices.Concat(t.o.ours, []string{"-defer", "off", "-tenants", "tenant=" + eight}, further))
	m := measurement{Bench: "tenants", System: system, Run: run, Rows: t.o.updates}
	c, err := t.run(ctx, flags, &m, func(*os.Process) error {
		// Repeated updates would change nothing: each run and system has its own.
		seed := uint64(2*run + len(further))
		if err := t.l.update(ctx, load{table: t.tables[0], updates: t.o.updates, keys: t.l.rows, perTransaction: 1}, seed); err != nil {
			return err
		}
		return t.l.sourceDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'").Scan(&m.DumpThreads)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", system, err)
	}
	m.MoverCPU = c.caughtUp.CPUSeconds - c.rowsCopied.CPUSeconds
	m.RowEventsDecoded = c.caughtUp.RowEventsDecoded - c.rowsCopied.RowEventsDecoded
	m.Seconds = c.caughtUpAt.Sub(c.copiedAt).Seconds()
	if err := t.mustEqual(ctx, eight); err != nil {
		return fmt.Errorf("%s: %w", system, err)
	}
	return t.r.add(m)
}

func (t tenants) run(ctx context.Context, flags []string, m *measurement, copied func(*os.Process) error) (*course, error) {
	if err := t.emptyTarget(ctx); err != nil {
		return nil, err
	}
	clocks, err := startMeter(ctx, t.l.source, t.l.target, t.o.patience)
	if err != nil {
		return nil, err
	}
	c, err := t.l.runOursUntil(ctx, flags, m, copied)
	if err != nil {
		return nil, err
	}
	c.fill(m)
	return c, clocks.stop(m)
}

// mustEqual compares what tenants have on the source, or all, with all that is on the target.
func (t tenants) mustEqual(ctx context.Context, of string) error {
	query := "SELECT CONCAT(COUNT(*), ' rows, ', BIT_XOR(CRC32(SHA2(CONCAT_WS('#', id, tenant, k, c, pad), 256)))) FROM " + t.tables[0]
	where := ""
	if of != "" {
		where = " WHERE tenant IN (" + of + ")"
	}
	var digests [2]string
	if err := t.l.sourceDB.QueryRowContext(ctx, query+where).Scan(&digests[0]); err != nil {
		return err
	}
	if err := t.l.targetDB.QueryRowContext(ctx, query).Scan(&digests[1]); err != nil {
		return err
	}
	if digests[0] != digests[1] {
		return fmt.Errorf("the source's rows (%s) are not the target's (%s)", digests[0], digests[1])
	}
	return nil
}
