package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// The schemas of the demo. The second exists on the target only: there the
// application writes after the switch-over, until the shop has been compared.
const (
	database  = "shop"
	afterward = "after_cutover"
)

// appAccount is the application's account on both servers.
const appAccount = "shop_app"

const (
	seed = 20250601
	// minimumRate is how many transactions a second the writer has to keep up on average:
	// a move under fewer shows nothing. It aims at more, see newDemo.
	minimumRate     = 300
	afterwardWrites = 100
)

// result is the last line on standard output.
type result struct {
	Result            string `json:"result"` // "equal" or "different"
	Server            string `json:"server"`
	Tables            int    `json:"tables"`
	Rows              int64  `json:"rows"` // compared and equal
	CopyRowsPerS      int64  `json:"copy_rows_per_s"`
	BinlogRowsApplied int64  `json:"binlog_rows_applied"`
	WriterTxPerS      int64  `json:"writer_tx_per_s"`
	WriteBlockMS      int64  `json:"write_block_ms"`
	Seconds           int64  `json:"seconds"`
}

// demo is one run. Its fields are set one after the other by the phases.
type demo struct {
	*console
	flavour servers.Flavour
	rows    int
	rate    int             // transactions a second that the writer aims at
	servers servers.Options // of either server, but for what tells one from the other
	copydb  *mover          // nil: built in directory

	directory      string // temporary: copydb and its configuration
	source, target *servers.Server
	sourceRoot     *sql.DB
	targetRoot     *sql.DB
	sourceApp      *sql.DB
	targetApp      *sql.DB
	writer         *shop.Writer
	fence          *fence
}

// newDemo is the demo as people run it: servers that flush, with room for a million rows.
func newDemo(screen *console) *demo {
	return &demo{
		console: screen, flavour: servers.MySQL, rows: defaultRows, rate: shop.DefaultRate,
		servers: servers.Options{BufferPoolMB: 512, RedoLogMB: 512, Flushes: true},
	}
}

func (d *demo) run(ctx context.Context) (_ *result, err error) {
	if d.directory, err = os.MkdirTemp("", "ghostferry-demo-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.directory)) }()
	if d.copydb == nil {
		d.copydb = &mover{path: filepath.Join(d.directory, "copydb")}
	}
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stopServers(ctx)) }()
	if err := d.fill(ctx); err != nil {
		return nil, err
	}
	moved, moveErr := d.moveWhileWriting(ctx)
	if moveErr != nil && !d.fence.closed() {
		return nil, moveErr // nothing to compare: writes were never blocked
	}
	defer func() {
		_, _ = d.writer.Stop() // its errors have been told; this is for the other returns
	}()
	report, err := d.compare(ctx)
	if err != nil {
		return nil, errors.Join(moveErr, err)
	}
	seconds := time.Since(d.begun).Seconds()
	block, stats := d.fence.block(), d.fence.before
	r := &result{
		Result: "different", Server: string(d.flavour) + " " + d.source.Version,
		Tables: len(report.Tables), Rows: report.Rows(),
		CopyRowsPerS: moved.rowsPerSecond(), BinlogRowsApplied: moved.BinlogRowsApplied,
		WriterTxPerS: int64(math.Round(stats.Rate())), WriteBlockMS: block.Milliseconds(), Seconds: int64(math.Round(seconds)),
	}
	if !report.Equal() {
		return r, errors.Join(moveErr, fmt.Errorf("source and target differ in %d places", report.DifferenceCount))
	}
	r.Result = "equal"
	if moveErr != nil {
		return r, moveErr
	}
	return r, errors.Join(d.reopen(ctx), tooSlow(d.rows, r.WriterTxPerS))
}

// tooSlow is the verdict on the writer's rate. A smaller shop is moved so soon that the
// average says little, which afterward only warns of.
func tooSlow(rows int, rate int64) error {
	if rows < defaultRows || rate >= minimumRate {
		return nil
	}
	return fmt.Errorf("the writer made only %d transactions a second on average, %d are wanted: stop what else runs on this machine, and run the demo again", rate, minimumRate)
}

// prepare starts both servers and builds copydb meanwhile.
func (d *demo) prepare(ctx context.Context) error {
	d.printf("starting two %s servers and building copydb", d.flavour)
	building, buildCtx := errgroup.WithContext(ctx)
	building.Go(func() error { return d.copydb.build(buildCtx) })

	options := d.servers
	options.Flavour, options.GTID, options.Log, options.Flags = d.flavour, true, d.console, []string{"--max-binlog-size=64M"}
	source, target := options, options
	source.Name, target.Name = "source", "target"
	var err error
	if d.source, d.target, err = servers.StartPair(ctx, source, target); err != nil {
		return errors.Join(err, building.Wait())
	}
	if err := errors.Join(building.Wait(), d.connect(ctx)); err != nil {
		return errors.Join(err, d.stopServers(ctx))
	}
	return nil
}

// stopServers removes both servers. Nothing in them is needed any more, so those
// that are ours need not write it out first; the others shall take writes again.
func (d *demo) stopServers(ctx context.Context) error {
	var errs []error
	for _, app := range []*sql.DB{d.sourceApp, d.targetApp} {
		if app != nil {
			errs = append(errs, app.Close())
		}
	}
	for _, s := range []*servers.Server{d.source, d.target} {
		switch {
		case s.PID() != 0:
			errs = append(errs, s.Kill())
		case s == d.source:
			errs = append(errs, d.lift(ctx))
		}
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}

// lift undoes the fence on a source that is not ours, even if the demo was
// interrupted.
func (d *demo) lift(ctx context.Context) error {
	if d.sourceRoot == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := d.sourceRoot.ExecContext(ctx, "SET GLOBAL read_only = OFF") // and super_read_only
	return err
}

// connect opens the operator's and the application's pools on both servers.
func (d *demo) connect(ctx context.Context) (err error) {
	if d.sourceRoot, err = d.source.DB(ctx); err != nil {
		return err
	}
	if d.targetRoot, err = d.target.DB(ctx); err != nil {
		return err
	}
	app := shop.Account{Name: appAccount, Password: "only for the demo", Database: database}
	if err := app.Create(ctx, d.sourceRoot); err != nil {
		return err
	}
	d.sourceApp = app.Open(d.source.Host, d.source.Port)

	for _, statement := range []string{
		"CREATE DATABASE " + afterward,
		"CREATE TABLE " + afterward + ".writes (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, connection INT NOT NULL, made_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))",
	} {
		if _, err := d.targetRoot.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("preparing the target: %w", err)
		}
	}
	app.Database = afterward
	if err := app.Create(ctx, d.targetRoot); err != nil {
		return err
	}
	d.targetApp = app.Open(d.target.Host, d.target.Port)
	return nil
}

func (d *demo) shop() shop.Options {
	return shop.Options{Database: database, Seed: seed, Rows: d.rows, OnProgress: func(rows, total int) {
		d.progress("seeding", int64(rows), int64(total))
	}}
}

// fill makes the shop on the source.
func (d *demo) fill(ctx context.Context) error {
	d.printf("seeding %s rows in %d tables on the source", grouped(shop.ShapeOf(d.rows).Rows()), len(shop.Tables()))
	begun := time.Now()
	if err := shop.CreateSchema(ctx, d.sourceRoot, database); err != nil {
		return err
	}
	rows, err := shop.Seed(ctx, d.sourceRoot, d.shop())
	if err != nil {
		return err
	}
	d.printf("seeded %s rows in %.1f s", grouped(rows), time.Since(begun).Seconds())
	return nil
}

// moveWhileWriting runs copydb under a writing application. When it returns, no
// application writes to the shop any more.
func (d *demo) moveWhileWriting(ctx context.Context) (*moved, error) {
	d.writer = shop.NewWriter(shop.WriterConfig{DB: d.sourceApp, Shop: d.shop(), Rate: d.rate, Seed: seed})
	d.fence = newFence(d)
	if err := d.writer.Start(ctx); err != nil {
		return nil, err
	}
	d.printf("the application writes to the source: %d connections, %d transactions a second wanted", shop.DefaultConnections, d.rate)
	warm := func(s shop.Stats) bool { return s.Committed >= d.rate }
	if err := d.writer.UntilCommitted(ctx, warm); err != nil {
		_, stopErr := d.writer.Stop()
		return nil, errors.Join(err, stopErr)
	}
	m, err := d.move(ctx)
	if err == nil && !d.fence.opened() {
		err = errors.New("copydb ended well but never asked to lock and unlock the application's writes")
	}
	if err == nil {
		err = d.afterward(ctx)
	}
	if err != nil {
		_, stopErr := d.writer.Stop()
		return m, errors.Join(err, stopErr)
	}
	return m, d.writer.Pause(ctx)
}

// move runs copydb to its end, or until the application fails.
func (d *demo) move(ctx context.Context) (*moved, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watching, watch := errgroup.WithContext(ctx)
	watching.Go(func() error {
		err := d.writer.UntilCommitted(watch, func(shop.Stats) bool { return false })
		if watch.Err() == nil {
			cancel(err)
		}
		return nil
	})
	defer func() {
		cancel(nil)
		_ = watching.Wait() // always nil
	}()

	hooks, err := d.fence.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer hooks.stop()
	m, err := d.runMover(ctx, hooks.address)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // copydb ended because it was told to
	}
	return m, err
}

// afterward waits for some writes on the target and tells what the cutover cost.
func (d *demo) afterward(ctx context.Context) error {
	before := d.fence.before.Committed
	enough := func(s shop.Stats) bool { return s.Committed >= before+afterwardWrites }
	if err := d.writer.UntilCommitted(ctx, enough); err != nil {
		return err
	}
	stats := d.writer.Stats()
	d.printf("cutover: writes were blocked for %d ms; the application saw %d ms between its last commit on the source and its first on the target",
		d.fence.block().Milliseconds(), stats.SwitchGap.Milliseconds())
	d.printf("the application's day on the source: %v", d.fence.before)
	if rate := d.fence.before.Rate(); rate < minimumRate {
		d.printf("warning: the writer made only %.0f transactions a second, fewer than %d: this machine is busy", rate, minimumRate)
	}
	return nil
}

// compare reads both servers. The source is still fenced, and on the target the
// application has kept out of the shop.
func (d *demo) compare(ctx context.Context) (*compare.Report, error) {
	d.printf("comparing every row of both servers")
	begun := time.Now()
	report, err := compare.Compare(ctx, d.sourceRoot, d.targetRoot, compare.Options{
		Databases:  map[string]string{database: database},
		OnProgress: func(done, total int64) { d.progress("comparing", done, total) },
	})
	if err != nil {
		return nil, err
	}
	for _, difference := range report.Differences {
		d.printf("DIFFERENT  %v", difference)
	}
	if more := report.DifferenceCount - len(report.Differences); more > 0 {
		d.printf("DIFFERENT  … and %s more", grouped(more))
	}
	verdict := "all equal"
	if !report.Equal() {
		verdict = "NOT EQUAL"
	}
	d.printf("compared %s rows in %d tables in %.1f s: %s", grouped(report.Rows()), len(report.Tables), time.Since(begun).Seconds(), verdict)
	return report, nil
}

// reopen lets the application do its usual work on the moved shop for a moment:
// a target that equals the source must also work like it.
func (d *demo) reopen(ctx context.Context) error {
	grant := fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s.* TO '%s'@'%%'", database, appAccount)
	if _, err := d.targetRoot.ExecContext(ctx, grant); err != nil {
		return err
	}
	before := d.writer.Stats().Committed
	d.writer.SwitchTo(d.targetApp, nil)
	d.writer.Resume()
	some := func(s shop.Stats) bool { return s.Committed >= before+afterwardWrites }
	err := d.writer.UntilCommitted(ctx, some)
	stats, stopErr := d.writer.Stop()
	if err := errors.Join(err, stopErr); err != nil {
		return fmt.Errorf("the shop does not work on the target: %w", err)
	}
	d.printf("the shop is open on the target: %d more transactions", stats.Committed-before)
	return nil
}
