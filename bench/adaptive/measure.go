package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const (
	database = "sbtest"
	// The cores of source and application, and of target and mover.
	sourceCore, targetCore = 0, 1
)

// start makes the servers, pins everything, and fills the table.
func (b *bench) start(ctx context.Context) (err error) {
	if err := pin(os.Getpid(), targetCore); err != nil { // the mover is in this process
		return err
	}
	options := func(name string) servers.Options {
		return servers.Options{Flavour: servers.MySQL, Name: name, GTID: true, BufferPoolMB: 1024, RedoLogMB: 1024, LocalInfile: true, Flushes: true}
	}
	if b.source, b.target, err = servers.StartPair(ctx, options("source"), options("target")); err != nil {
		return err
	}
	if err := errors.Join(pin(b.source.PID(), sourceCore), pin(b.target.PID(), targetCore)); err != nil {
		return err
	}
	db, err := b.source.DB(ctx)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+database); err != nil {
		return err
	}
	argv, env, err := servers.ToolCommand(ctx, servers.Sysbench)
	if err != nil {
		return err
	}
	b.environment = append(os.Environ(), env...)
	b.sysbench = append(slices.Clone(argv), "oltp_read_write", "--db-driver=mysql", "--mysql-host="+b.source.Host, "--mysql-port="+strconv.Itoa(b.source.Port),
		"--mysql-user="+b.source.User(), "--mysql-password="+b.source.Password(), "--mysql-db="+database, "--tables=1", "--table-size="+strconv.Itoa(b.o.rows))
	progress("sysbench makes a table of %d rows", b.o.rows)
	_, err = b.runSysbench(ctx, "prepare")
	return err
}

// runSysbench runs sysbench on the source's core and returns what it says.
func (b *bench) runSysbench(ctx context.Context, args ...string) (string, error) {
	argv := append(slices.Clone(b.sysbench), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = b.environment
	output, err := pinnedOutput(cmd, sourceCore)
	if err != nil {
		return "", fmt.Errorf("sysbench %s: %w\n%s", args[len(args)-1], err, output)
	}
	return string(output), nil
}

var (
	transactions = regexp.MustCompile(`transactions:\s+\d+\s+\(([\d.]+) per sec`)
	percentile   = regexp.MustCompile(`95th percentile:\s+([\d.]+)`)
)

// application runs the application for a while, at a rate of transactions a second, 0 for as
// fast as it can, and returns its rate and the 95th percentile of its latency in milliseconds.
func (b *bench) application(ctx context.Context, during time.Duration, rate float64) (tps, p95 float64, err error) {
	said, err := b.runSysbench(ctx, "--threads="+strconv.Itoa(b.o.threads), "--time="+strconv.Itoa(int(during.Seconds())), "--events=0",
		fmt.Sprintf("--rate=%.0f", rate), "--percentile=95", "run")
	if err != nil {
		return 0, 0, err
	}
	number := func(re *regexp.Regexp) float64 {
		found := re.FindStringSubmatch(said)
		if found == nil {
			err = fmt.Errorf("sysbench does not say %s:\n%s", re, said)
			return 0
		}
		n, parseErr := strconv.ParseFloat(found[1], 64)
		err = errors.Join(err, parseErr)
		return n
	}
	tps, p95 = number(transactions), number(percentile)
	return tps, p95, err
}

// measure measures the application, alone or while a copy goes on.
func (b *bench) measure(ctx context.Context, kind string) (m measured, err error) {
	f := (*ghostferry.Ferry)(nil)
	if kind != alone {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if f, err = b.newRun(ctx, kind == adaptive); err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		ran, copying := make(chan error, 1), make(chan struct{})
		begins := sync.OnceFunc(func() { close(copying) })
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { begins(); return nil })
		go func() { ran <- f.RunContext(ctx) }()
		defer func() { cancel(); <-ran }() //nolint:errcheck // it was cancelled
		select {
		case <-copying:
		case err := <-ran:
			ran <- nil
			return m, fmt.Errorf("the run has ended: %w", err)
		}
	}
	if _, _, err = b.application(ctx, b.o.warmup, b.result.Rate); err != nil {
		return m, err
	}
	used, err := b.source.CPUSeconds()
	if err != nil {
		return m, err
	}
	begun := time.Now()
	copied := watch(f)
	if _, m.p95, err = b.application(ctx, b.o.time, b.result.Rate); err != nil {
		return m, err
	}
	took := time.Since(begun).Seconds()
	rows, pace, err := copied()
	if err != nil {
		return m, err
	}
	m.rows, m.pace = float64(rows)/took, pace
	after, err := b.source.CPUSeconds()
	m.source = (after - used) / took
	return m, err
}

// watch follows a copy, nil for none, until it is asked how many rows were copied meanwhile
// and at which mean pace. It is an error when the copy has ended before.
func watch(f *ghostferry.Ferry) func() (rows uint64, pace float64, err error) {
	if f == nil {
		return func() (uint64, float64, error) { return 0, 0, nil }
	}
	before, over, ended := f.Progress().RowsCopied, make(chan struct{}), make(chan struct{})
	sum, n := 0.0, 0
	go func() {
		defer close(ended)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				sum, n = sum+f.Progress().CopyPace, n+1
			case <-over:
				return
			}
		}
	}()
	return func() (uint64, float64, error) {
		close(over)
		<-ended
		after := f.Progress()
		switch {
		case after.CurrentState != ghostferry.StateCopying:
			return 0, 0, fmt.Errorf("%d rows were copied before the measurement ended: say -rows with more, or a shorter -warmup and -time", after.RowsCopied)
		case after.RowsCopied == before:
			return 0, 0, errors.New("no row was copied meanwhile: is the machine busy with something else?")
		}
		return after.RowsCopied - before, sum / float64(max(1, n)), nil
	}
}

// newRun empties the target and prepares a move.
func (b *bench) newRun(ctx context.Context, adapts bool) (*ghostferry.Ferry, error) {
	source, err := b.source.DB(ctx)
	if err != nil {
		return nil, err
	}
	target, err := b.target.DB(ctx)
	if err != nil {
		return nil, err
	}
	var name, ddl string
	if err := source.QueryRowContext(ctx, "SHOW CREATE TABLE "+database+".sbtest1").Scan(&name, &ddl); err != nil {
		return nil, err
	}
	conn, err := target.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range []string{
		"DROP DATABASE IF EXISTS _ghostferry", "DROP DATABASE IF EXISTS " + database, "CREATE DATABASE " + database, "USE " + database, ddl,
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("emptying the target: %s: %w", statement, err)
		}
	}
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	f := &ghostferry.Ferry{Config: &ghostferry.Config{
		Source: endpoint(b.source), Target: endpoint(b.target), TableFilter: one(database), Logger: logger, VerifierType: ghostferry.VerifierTypeNoVerification,
	}}
	if adapts {
		f.Throttlers.Adaptive = &ghostferry.AdaptiveConfig{}
	}
	if err := f.InitializeContext(ctx); err != nil {
		return nil, err
	}
	return f, f.StartContext(ctx)
}

func endpoint(s *servers.Server) *ghostferry.DatabaseConfig {
	return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
}

// one is a table filter that takes all tables of one schema.
type one string

// ApplicableDatabases returns the schema.
func (o one) ApplicableDatabases([]string) ([]string, error) { return []string{string(o)}, nil }

// ApplicableTables returns all tables.
func (o one) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return tables, nil
}

// median is that of one value of the measurements.
func median(all []measured, value func(measured) float64) float64 {
	var values []float64
	for _, m := range all {
		values = append(values, value(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
