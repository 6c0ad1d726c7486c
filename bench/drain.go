package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// load is a kind of updates that are drained.
type load struct {
	bench          string
	table          string // quoted
	updates        int
	keys           int // among how many rows, from the first; chosen uniformly
	perTransaction int
}

// loads: single updates all over the table, so that few rows are changed twice, and many
// updates of few rows in larger transactions.
func (l *lab) loads(o options) []load {
	return []load{
		{"drain", quoted, o.updates, l.rows, 1},
		{"hot", quoted, o.updates * 5 / 2, min(1000, l.rows), 50},
	}
}

// benchDrain makes updates while nobody follows the source and then lets ours and a
// native replica catch up, one after the other, the source idle. Ours goes on from the
// checkpoint of a finished copy. The same part of the log is also decoded and delivered
// to nobody, which is what no mover in one process can be faster than.
func benchDrain(ctx context.Context, l *lab, o options, r *report) (err error) {
	progress("drain: copying the table to the target and cloning the source for the replica")
	if err := l.emptyTarget(ctx); err != nil {
		return err
	}
	if _, err := l.runOurs(ctx, nil, nil); err != nil {
		return err
	}
	var rep *replica
	if !slices.Contains(o.without, replicaSystem) {
		if rep, err = l.newReplica(ctx); err != nil {
			return fmt.Errorf("making a replica: %w", err)
		}
		defer func() { err = errors.Join(err, discard(rep.server)) }()
	}
	for run := 1; run <= o.runs; run++ {
		for _, what := range l.loads(o) {
			if err := l.drain(ctx, rep, what, o, r, run); err != nil {
				return err
			}
		}
	}
	return nil
}

// drain makes one kind of updates and has every system drain them.
func (l *lab) drain(ctx context.Context, rep *replica, what load, o options, r *report, run int) error {
	// In a file of its own: whoever goes on by GTIDs has the server read a file from its beginning.
	if _, err := l.sourceDB.ExecContext(ctx, "FLUSH BINARY LOGS"); err != nil {
		return err
	}
	from, err := l.logEnd(ctx)
	if err != nil {
		return err
	}
	if err := l.update(ctx, what, uint64(run)); err != nil {
		return err
	}
	systems := []system{
		{ghostferrySystem, func(ctx context.Context, m *measurement) error { return l.drainWithOurs(ctx, o, m) }},
		{decodeSystem, func(ctx context.Context, m *measurement) error { return l.decode(ctx, from, m) }},
		{replicaSystem, func(ctx context.Context, m *measurement) error { return l.drainWithReplica(ctx, rep, o, m) }},
	}
	if what.perTransaction == 1 {
		systems = append(systems, system{updateLimitSystem, func(ctx context.Context, m *measurement) error {
			return l.updateLimit(ctx, what, uint64(run), m)
		}})
	}
	systems = slices.DeleteFunc(systems, func(s system) bool { return slices.Contains(o.without, s.name) })
	for i := range systems {
		s := systems[(i+run-1)%len(systems)]
		m := measurement{Bench: what.bench, System: s.name, Run: run, Rows: what.updates}
		if err := s.do(ctx, &m); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := r.add(m); err != nil {
			return err
		}
	}
	return nil
}

// logEnd returns where the source's log ends, as file:offset.
func (l *lab) logEnd(ctx context.Context) (string, error) {
	query := "SHOW BINARY LOG STATUS"
	if l.flavour == servers.MariaDB {
		query = "SHOW MASTER STATUS"
	}
	rows, err := l.sourceDB.QueryContext(ctx, query)
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	values := make([]sql.RawBytes, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	if !rows.Next() {
		return "", errors.Join(errors.New("the source has no binary log"), rows.Err())
	}
	if err := rows.Scan(into...); err != nil {
		return "", err
	}
	return string(values[0]) + ":" + string(values[1]), nil
}

// The updates are made on several connections, many in one packet.
const (
	updateConnections = 2
	updatesInPacket   = 200
)

// update changes rows: in turn the indexed number and the unindexed text, the two kinds
// of update that sysbench's oltp_read_write makes.
func (l *lab) update(ctx context.Context, what load, seed uint64) error {
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
		share := what
		share.updates = what.updates*(i+1)/updateConnections - what.updates*i/updateConnections
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() error { return updateRows(ctx, db, random, share, i) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("updating the source: %w", err)
	}
	progress("%d updates were made on the source in %.1f s", what.updates, time.Since(begun).Seconds())
	return nil
}

// updateRows makes one connection's share. Each connection has keys of its own, so that
// larger transactions do not wait for each other.
func updateRows(ctx context.Context, db *sql.DB, random *rand.Rand, what load, connection int) error {
	var packet strings.Builder
	for done := 0; done < what.updates; {
		packet.Reset()
		for n := 0; n < updatesInPacket && done < what.updates; n++ {
			if what.perTransaction > 1 && done%what.perTransaction == 0 {
				packet.WriteString("BEGIN;")
			}
			key := 1 + connection + updateConnections*random.IntN(what.keys/updateConnections)
			if done%2 == 0 {
				fmt.Fprintf(&packet, "UPDATE %s SET k=k+1 WHERE id=%d;", what.table, key)
			} else {
				fmt.Fprintf(&packet, "UPDATE %s SET c='%s' WHERE id=%d;", what.table, digits(random), key)
			}
			done++
			if what.perTransaction > 1 && (done%what.perTransaction == 0 || done == what.updates) {
				packet.WriteString("COMMIT;")
			}
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

func (l *lab) drainWithOurs(ctx context.Context, o options, m *measurement) error {
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	c, err := l.runOurs(ctx, o.ours, m)
	if err != nil {
		return err
	}
	if !c.caughtUp.Resuming || c.caughtUp.RowsCopied > 0 || int(c.caughtUp.BinlogApplied) != m.Rows {
		return fmt.Errorf("our mover did not drain %d updates: %+v", m.Rows, c.caughtUp)
	}
	m.Seconds = c.caughtUpAt.Sub(c.runningAt).Seconds()
	c.fill(m)
	if err := clocks.stop(m); err != nil {
		return err
	}
	return l.mustEqual(ctx, l.targetDB)
}

// decode streams the log from a place to its end into a listener that does nothing.
func (l *lab) decode(ctx context.Context, from string, m *measurement) error {
	clocks, err := startMeter(ctx, l.source, l.target, 0)
	if err != nil {
		return err
	}
	c, err := l.runOurs(ctx, []string{"-decode", from}, m)
	if err != nil {
		return err
	}
	if int(c.caughtUp.BinlogApplied) != m.Rows {
		return fmt.Errorf("%d changes were delivered, not %d", c.caughtUp.BinlogApplied, m.Rows)
	}
	m.Seconds = c.caughtUpAt.Sub(c.runningAt).Seconds()
	c.fill(m)
	return clocks.stop(m)
}

func (l *lab) drainWithReplica(ctx context.Context, rep *replica, o options, m *measurement) error {
	clocks, err := startMeter(ctx, l.source, rep.server, o.patience)
	if err != nil {
		return err
	}
	took, err := rep.drain(ctx, l.sourceDB)
	if err != nil {
		return err
	}
	m.Seconds = took.Seconds()
	if err := clocks.stop(m); err != nil {
		return err
	}
	return l.mustEqual(ctx, rep.db)
}
