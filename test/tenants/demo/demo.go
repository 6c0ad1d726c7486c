package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// result is the last line on standard output.
type result struct {
	Result               string `json:"result"` // "equal" or "different"
	Tenants              int    `json:"tenants"`
	Rows                 int64  `json:"rows"` // of the tenants, compared
	BinlogRowsApplied    int64  `json:"binlog_rows_applied"`
	ForeignRowsIdentical bool   `json:"foreign_rows_identical"`
	DumpThreads          int    `json:"dump_threads"` // at most, of the source
	Seconds              int64  `json:"seconds"`
}

// demo is one run. Its fields are set one after the other by the phases.
type demo struct {
	*console
	flavour servers.Flavour
	rows    int // of each tenant

	source, target     *servers.Server
	sourceDB, targetDB *sql.DB
	others             string // digest of their rows on the target
	applications       *applications
	ferries            [tenants]*sharding.ShardingFerry
	arrived            atomic.Int64
	dumps              int // the most seen
}

func (d *demo) run(ctx context.Context) (_ *result, err error) {
	d.printf("starting two %s servers", d.flavour)
	options := servers.Options{Flavour: d.flavour, GTID: true, BufferPoolMB: 256, RedoLogMB: 256, Flushes: true, Log: d.console}
	if d.source, d.target, err = servers.StartPair(ctx, options, options); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.source.Stop(), d.target.Stop()) }()
	if err := d.fill(ctx); err != nil {
		return nil, err
	}
	d.applications = startApplications(ctx, d.sourceDB, d.rows)
	defer func() { err = errors.Join(err, d.applications.stop()) }()
	if err := d.move(ctx); err != nil {
		return nil, err
	}
	if err := d.applications.stop(); err != nil {
		return nil, err
	}
	return d.compare(ctx)
}

// fill makes the tables and the rows of all tenants.
func (d *demo) fill(ctx context.Context) (err error) {
	if d.sourceDB, err = d.source.DB(ctx); err == nil {
		d.targetDB, err = d.target.DB(ctx)
	}
	if err != nil {
		return err
	}
	for _, db := range []*sql.DB{d.sourceDB, d.targetDB} {
		if err := createTables(ctx, db); err != nil {
			return err
		}
	}
	d.printf("filling %d tenants with %d rows each, one that stays, and %d others on the target", tenants, d.rows, len(others))
	filling, fillCtx := errgroup.WithContext(ctx)
	filling.SetLimit(2)
	for tenant := 1; tenant <= stays; tenant++ {
		filling.Go(func() error { return seed(fillCtx, d.sourceDB, tenant, d.rows) })
	}
	for _, tenant := range others {
		filling.Go(func() error { return seed(fillCtx, d.targetDB, tenant, d.rows/10) })
	}
	if err := filling.Wait(); err != nil {
		return err
	}
	d.others, err = digestOfOthers(ctx, d.targetDB)
	return err
}

// move moves all tenants at once, over one connection to the source's binary log.
func (d *demo) move(ctx context.Context) (err error) {
	shared := &ghostferry.SharedStreamer{Source: database(d.source), Logger: ghostferry.LogWithField("tag", "shared")}
	if err := shared.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	lock := httptest.NewServer(http.HandlerFunc(d.lock))
	defer lock.Close()
	moving, moveCtx := errgroup.WithContext(ctx)
	started := make(chan struct{})
	var ready atomic.Int64
	for i := range d.ferries {
		tenant := i + 1
		if d.ferries[i], err = sharding.NewFerry(d.config(tenant, shared, lock.URL)); err != nil {
			return errors.Join(err, moving.Wait())
		}
		moving.Go(func() error {
			if err := d.moveTenant(moveCtx, d.ferries[i], func() {
				if ready.Add(1) == tenants {
					close(started)
				}
			}); err != nil {
				return fmt.Errorf("tenant %d: %w", tenant, err)
			}
			return nil
		})
	}
	watching, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- d.watch(watching, started) }()
	err = moving.Wait()
	stop()
	return errors.Join(err, <-watched)
}

func (d *demo) config(tenant int, shared *ghostferry.SharedStreamer, lock string) *sharding.Config {
	c := &sharding.Config{
		Config:      &ghostferry.Config{Source: database(d.source), Target: database(d.target), SharedStreamer: shared, AutomaticCutover: true, DataIterationConcurrency: 1},
		ShardingKey: "tenant_id", ShardingKeyValue: tenant, SourceDB: "tenants", TargetDB: "tenants",
	}
	// Eight moves share the servers, and wait for rows that another is just writing.
	c.UpdatableConfig.DataIterationBatchSize = 2000
	c.Logger = ghostferry.LogWithField("tenant", tenant)
	c.CutoverLock = ghostferry.HTTPCallback{URI: lock + "/lock/" + strconv.Itoa(tenant)}
	c.CutoverUnlock = ghostferry.HTTPCallback{URI: lock + "/unlock/" + strconv.Itoa(tenant)}
	c.InlineVerifierConfig.MaxExpectedDowntime = "60s"
	return c
}

// lock answers the callbacks: a tenant's application is locked out while the last changes
// arrive, and for good: it goes on at the target in real life.
func (d *demo) lock(w http.ResponseWriter, r *http.Request) {
	verb, text, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	tenant, err := strconv.Atoi(text)
	if err != nil || tenant < 1 || tenant > tenants {
		http.Error(w, "no such tenant", http.StatusNotFound)
		return
	}
	if verb == "lock" {
		d.applications.lockOut(tenant)
		d.printf("tenant %d: its application waits", tenant)
		return
	}
	d.printf("tenant %d is on the target", tenant)
	d.arrived.Add(1)
}

// moveTenant moves one; ready is called when its rows are about to be copied.
func (d *demo) moveTenant(ctx context.Context, f *sharding.ShardingFerry, ready func()) (err error) {
	if err := f.InitializeContext(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.StartContext(ctx); err != nil {
		return err
	}
	ready()
	return f.RunContext(ctx)
}

// watch tells every second how far the moves are, and counts the source's dump threads.
func (d *demo) watch(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-started:
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		n, err := dumpThreads(ctx, d.sourceDB)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		d.dumps = max(d.dumps, n)
		var copied, applied uint64
		for _, f := range d.ferries {
			p := f.Ferry.Progress()
			copied, applied = copied+p.RowsCopied, applied+p.BinlogRowsApplied
		}
		d.printf("%d rows copied of about %d, %d changes applied, %d transactions written, %d of them between tenants; %d of %d tenants arrived; %d connection to the source's log",
			copied, tenants*d.rows, applied, d.applications.transactions.Load(), d.applications.passed.Load(), d.arrived.Load(), tenants, n)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// compare reads every row of every tenant on both servers, without the library.
func (d *demo) compare(ctx context.Context) (*result, error) {
	d.printf("comparing every row on both servers")
	r := &result{Result: "different", Tenants: tenants, DumpThreads: d.dumps}
	for _, f := range d.ferries {
		r.BinlogRowsApplied += int64(f.Ferry.Progress().BinlogRowsApplied)
	}
	now, err := digestOfOthers(ctx, d.targetDB)
	if err != nil {
		return nil, err
	}
	r.ForeignRowsIdentical = now == d.others
	var differences []error
	if !r.ForeignRowsIdentical {
		differences = append(differences, errors.New("rows of others on the target have changed"))
	}
	for tenant := 1; tenant <= tenants; tenant++ {
		rows, difference, err := sameRows(ctx, d.sourceDB, d.targetDB, tenant)
		if err != nil {
			return nil, err
		}
		if r.Rows += rows; difference != "" {
			differences = append(differences, errors.New(difference))
		}
	}
	if r.DumpThreads != 1 {
		differences = append(differences, fmt.Errorf("%d connections read the source's log, not one", r.DumpThreads))
	}
	if r.BinlogRowsApplied == 0 {
		differences = append(differences, errors.New("no change was applied: nothing was shown"))
	}
	if len(differences) == 0 {
		r.Result = "equal"
	}
	r.Seconds = int64(math.Round(time.Since(d.begun).Seconds()))
	return r, errors.Join(differences...)
}

func database(s *servers.Server) *ghostferry.DatabaseConfig {
	return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
}
