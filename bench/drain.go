package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// benchDrain makes updates while nobody follows the source and then lets ours and a
// native replica catch up, one after the other, the source idle. Ours goes on from the
// checkpoint of a finished copy.
func benchDrain(ctx context.Context, l *lab, o options, r *report) (err error) {
	progress("drain: copying the table to the target and cloning the source for the replica")
	if err := l.emptyTarget(ctx); err != nil {
		return err
	}
	if _, err := l.runOurs(ctx, nil); err != nil {
		return err
	}
	rep, err := l.newReplica(ctx)
	if err != nil {
		return fmt.Errorf("making a replica: %w", err)
	}
	defer func() { err = errors.Join(err, discard(rep.server)) }()
	for run := 1; run <= o.runs; run++ {
		if err := l.update(ctx, o.updates, uint64(run)); err != nil {
			return err
		}
		drains := []func() error{
			func() error { return l.drainWithOurs(ctx, o, r, run) },
			func() error { return l.drainWithReplica(ctx, rep, o, r, run) },
		}
		for i := range drains {
			if err := drains[(i+run-1)%len(drains)](); err != nil {
				return err
			}
		}
	}
	return nil
}

// The updates are made on several connections, many in one packet.
const (
	updateConnections = 2
	updatesInPacket   = 200
)

// update changes rows chosen uniformly, each by a transaction of its own: in turn the
// indexed number and the unindexed text, the two kinds of update that sysbench's
// oltp_read_write makes.
func (l *lab) update(ctx context.Context, updates int, seed uint64) error {
	config, err := mysql.ParseDSN(l.source.DSN(""))
	if err != nil {
		return err
	}
	config.MultiStatements = true
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range updateConnections {
		share := updates*(i+1)/updateConnections - updates*i/updateConnections
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() error { return updateRows(ctx, db, random, l.rows, share) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("updating the source: %w", err)
	}
	progress("%d updates were made on the source in %.1f s", updates, time.Since(begun).Seconds())
	return nil
}

func updateRows(ctx context.Context, db *sql.DB, random *rand.Rand, rows, updates int) error {
	var packet strings.Builder
	for done := 0; done < updates; {
		packet.Reset()
		for n := 0; n < updatesInPacket && done < updates; n++ {
			key := 1 + random.IntN(rows)
			if done%2 == 0 {
				fmt.Fprintf(&packet, "UPDATE %s SET k=k+1 WHERE id=%d;", quoted, key)
			} else {
				fmt.Fprintf(&packet, "UPDATE %s SET c='%s' WHERE id=%d;", quoted, digits(random), key)
			}
			done++
		}
		if _, err := db.ExecContext(ctx, packet.String()); err != nil {
			return err
		}
	}
	return nil
}

// digits is a text like those of sysbench's column c: ten groups of eleven digits.
func digits(random *rand.Rand) string {
	groups := make([]string, 10)
	for i := range groups {
		groups[i] = fmt.Sprintf("%011d", random.Int64N(100_000_000_000))
	}
	return strings.Join(groups, "-")
}

func (l *lab) drainWithOurs(ctx context.Context, o options, r *report, run int) error {
	m := measurement{Bench: "drain", System: ghostferrySystem, Run: run, Rows: o.updates}
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	c, err := l.runOurs(ctx, o.ours)
	if err != nil {
		return err
	}
	if !c.caughtUp.Resuming || c.caughtUp.RowsCopied > 0 || int(c.caughtUp.BinlogApplied) != o.updates {
		return fmt.Errorf("our mover did not drain %d updates: %+v", o.updates, c.caughtUp)
	}
	m.Seconds = c.caughtUpAt.Sub(c.runningAt).Seconds()
	c.fill(&m)
	if err := clocks.stop(&m); err != nil {
		return err
	}
	if err := l.mustEqual(ctx, l.targetDB); err != nil {
		return fmt.Errorf("our target: %w", err)
	}
	return r.add(m)
}

func (l *lab) drainWithReplica(ctx context.Context, rep *replica, o options, r *report, run int) error {
	m := measurement{Bench: "drain", System: replicaSystem, Run: run, Rows: o.updates}
	clocks, err := startMeter(ctx, l.source, rep.server, o.patience)
	if err != nil {
		return err
	}
	took, err := rep.drain(ctx, l.sourceDB)
	if err != nil {
		return err
	}
	m.Seconds = took.Seconds()
	if err := clocks.stop(&m); err != nil {
		return err
	}
	if err := l.mustEqual(ctx, rep.db); err != nil {
		return fmt.Errorf("the replica: %w", err)
	}
	return r.add(m)
}
