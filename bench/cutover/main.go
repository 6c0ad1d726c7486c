// Command cutover measures how long a cutover blocks the writers: on one move of a shop that
// is written all the time, the source is fenced, the rest drained, both sides compared and
// the source unfenced again, many times over; then the real cutover follows. It also gives
// cutovers up because of their budget and measures how soon the writers go on, and at the end
// every row of both sides is compared.
//
// Progress goes to standard error, the last line on standard output is one JSON object. The
// writer commits steadily; its transactions, the mover, both servers and this program share
// the machine.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

const (
	database = "shop"
	// What counts as met, in milliseconds.
	medianBlock, resumeLimit = 300, 100
)

// result is the last line. Times are milliseconds.
type result struct {
	Bench    string  `json:"bench"`
	Flavour  string  `json:"flavour"`
	Fence    string  `json:"fence"`
	Cycles   int     `json:"cycles"`
	Rate     float64 `json:"writer_commits_per_second"`
	Median   float64 `json:"write_block_ms_median"`
	P95      float64 `json:"write_block_ms_p95"`
	Max      float64 `json:"write_block_ms_max"`
	Parts    parts   `json:"parts_ms_median"`
	Forecast float64 `json:"predicted_block_ms"`
	Final    float64 `json:"final_cutover_block_ms"`
	Aborts   int     `json:"aborts_over_budget"`
	Resumed  float64 `json:"first_commit_after_abort_ms_max"`
	Equal    bool    `json:"equal"`
	// Met: the median is at most medianBlock, and the writer went on within resumeLimit.
	Met bool `json:"met"`
}

type parts struct {
	Fence  float64 `json:"fence"`
	Drain  float64 `json:"drain"`
	Verify float64 `json:"verify"`
}

type options struct {
	cycles, aborts, rows, rate int
	flavour, fence             string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench cutover:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("cutover", flag.ContinueOnError)
	flags.IntVar(&o.cycles, "cycles", 100, "fence, drain, verify, unfence so often")
	flags.IntVar(&o.aborts, "aborts", 10, "cutovers given up because of their budget")
	flags.IntVar(&o.rows, "rows", 100_000, "rows of the shop")
	flags.IntVar(&o.rate, "rate", 200, "transactions a second of the writer")
	flags.StringVar(&o.flavour, "flavour", string(servers.MySQL), "mysql or mariadb")
	flags.StringVar(&o.fence, "fence", ghostferry.FenceReadOnly, "read_only, or lock_tables")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.cycles < 1 {
		return fmt.Errorf("-cycles is %d: say a positive number", o.cycles)
	}
	b := &bench{o: o, result: result{Bench: "cutover", Flavour: o.flavour, Fence: o.fence, Cycles: o.cycles}}
	if err := errors.Join(b.run(ctx), b.close()); err != nil {
		return err
	}
	b.result.Met = b.result.Equal && b.result.Median <= medianBlock && b.result.Resumed <= resumeLimit
	return json.NewEncoder(os.Stdout).Encode(b.result)
}

// bench is one move with its servers.
type bench struct {
	o              options
	source, target *servers.Server
	shop           shop.Options
	app            *sql.DB // the application's, as of an account without privileges that pass a fence
	writer         *shop.Writer
	ferry          *ghostferry.Ferry
	ran            chan error
	result         result
}

func (b *bench) run(ctx context.Context) (err error) {
	if err := b.start(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.ran = make(chan error, 1)
	go func() { b.ran <- b.ferry.RunContext(ctx) }()
	err = b.measure(ctx)
	if err != nil {
		cancel()
		err = errors.Join(err, <-b.ran)
	}
	return err
}

// start makes the servers, the shop and the writer, and prepares the move.
func (b *bench) start(ctx context.Context) (err error) {
	progress("starting two servers and filling a shop with %d rows", b.o.rows)
	server := func(name string) servers.Options {
		return servers.Options{Flavour: servers.Flavour(b.o.flavour), Name: name, GTID: true, BufferPoolMB: 256, Flushes: true}
	}
	if b.source, b.target, err = servers.StartPair(ctx, server("source"), server("target")); err != nil {
		return err
	}
	b.shop = shop.Options{Database: database, Seed: 1, Rows: b.o.rows}
	sourceDB, err := b.source.DB(ctx)
	if err != nil {
		return err
	}
	targetDB, err := b.target.DB(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(shop.CreateSchema(ctx, sourceDB, database), shop.CreateSchema(ctx, targetDB, database)); err != nil {
		return err
	}
	if _, err := shop.Seed(ctx, sourceDB, b.shop); err != nil {
		return err
	}
	if b.app, err = application(ctx, b.source, sourceDB); err != nil {
		return err
	}
	b.writer = shop.NewWriter(shop.WriterConfig{DB: b.app, Shop: b.shop, Connections: 4, Rate: b.o.rate})
	if err := b.writer.Start(ctx); err != nil {
		return err
	}
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	b.ferry = &ghostferry.Ferry{Config: &ghostferry.Config{
		Source: endpoint(b.source), Target: endpoint(b.target), TableFilter: one(database), Logger: logger,
		AutomaticCutover: true, VerifierType: ghostferry.VerifierTypeOnline, TailGuardSeconds: 1,
	}}
	if err := b.ferry.InitializeContext(ctx); err != nil {
		return err
	}
	return b.ferry.StartContext(ctx)
}

// application makes the account of the application: it may write the shop and nothing else.
func application(ctx context.Context, source *servers.Server, admin *sql.DB) (*sql.DB, error) {
	const user, password = "shop_app", "of the bench"
	for _, statement := range []string{
		"CREATE USER '" + user + "'@'%' IDENTIFIED BY '" + password + "'", "GRANT ALL ON `" + database + "`.* TO '" + user + "'@'%'",
	} {
		if _, err := admin.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	dsn, err := mysql.ParseDSN(source.DSN(""))
	if err != nil {
		return nil, err
	}
	dsn.User, dsn.Passwd = user, password
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
