// Command mover copies or follows one table with the library and tells the benchmark
// how far it is. It is a process of its own so that its CPU time and memory are the
// library's alone.
//
// With -tenants it makes a move for each of several values of a column, all at once, with
// -shared over one connection to the source's log; what it tells is of all together.
//
// With -follow it says {"event":"copied"} when all rows are copied, and goes on until
// standard input ends.
//
// It prints one JSON object a line: {"event":"running"} when the rows begin to move,
// {"event":"caught_up",…} when all are copied and the stream has reached the log's end,
// {"event":"done",…} when it is about to exit. The password is in MYSQL_PWD.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
)

// event is one line of output.
type event struct {
	Event         string  `json:"event"`
	Resuming      bool    `json:"resuming"`
	RowsCopied    uint64  `json:"rows_copied"`
	BinlogApplied uint64  `json:"binlog_rows_applied"`
	PeakRSSMB     float64 `json:"peak_rss_mb"`
	RowsVerified  uint64  `json:"rows_verified,omitempty"`
	VerifySeconds float64 `json:"verify_seconds,omitempty"`
	// CPUSeconds is what the process has used so far.
	CPUSeconds float64 `json:"cpu_s"`
	// RowEventsDecoded is of the shared stream, where there is one.
	RowEventsDecoded uint64 `json:"row_events_decoded,omitempty"`
}

// options are the command line.
type options struct {
	source, target, user   string
	schema, table          string
	tenants                string
	shared                 bool
	concurrency, lanes     int
	chunkBytes             uint64
	batch                  int
	bulk                   string
	deferred               string
	compress               bool
	verifier               string
	verifyWorkers          int
	decode                 string
	follow                 bool
	checkpoint             string
	cpuProfile, memProfile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mover:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	stopProfile, err := profileCPU(o.cpuProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	if o.decode != "" {
		return decode(ctx, o)
	}
	m, err := newMoves(ctx, o)
	if err != nil {
		return err
	}
	if err := errors.Join(m.move(ctx, o.follow), m.close()); err != nil {
		return err
	}
	if err := profileMemory(o.memProfile); err != nil {
		return err
	}
	return m.say("done")
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("mover", flag.ContinueOnError)
	flags.StringVar(&o.source, "source", "", "host:port of the source")
	flags.StringVar(&o.target, "target", "", "host:port of the target")
	flags.StringVar(&o.user, "user", "root", "account on both, its password in MYSQL_PWD")
	flags.StringVar(&o.schema, "schema", "", "schema on both")
	flags.StringVar(&o.table, "table", "", "table that moves; all of the schema without it")
	flags.StringVar(&o.tenants, "tenants", "", "column=value,…: a move for each value, of the rows that have it")
	flags.BoolVar(&o.shared, "shared", false, "with -tenants: one connection to the source's log (SharedStreamer)")
	flags.IntVar(&o.concurrency, "concurrency", 0, "Config.DataIterationConcurrency")
	flags.Uint64Var(&o.chunkBytes, "chunk-bytes", 0, "Config.DataIterationChunkBytes")
	flags.IntVar(&o.lanes, "lanes", 0, "Config.BinlogApplyLanes")
	flags.IntVar(&o.batch, "batch", 0, "Config.BinlogEventBatchSize")
	flags.StringVar(&o.bulk, "bulk", "", "Config.BulkLoad")
	flags.StringVar(&o.deferred, "defer", "", "Config.DeferSecondaryIndexes")
	flags.BoolVar(&o.compress, "compress", false, "DatabaseConfig.Compress of both servers")
	flags.StringVar(&o.verifier, "verifier", ghostferry.VerifierTypeNoVerification, "Config.VerifierType")
	flags.IntVar(&o.verifyWorkers, "verify-workers", 0, "Config.OnlineVerifierConfig.Concurrency")
	flags.StringVar(&o.checkpoint, "checkpoint", "", "Config.Checkpoint")
	flags.BoolVar(&o.follow, "follow", false, "follow the log after the copy until standard input ends")
	flags.StringVar(&o.decode, "decode", "", "file:offset: only decode the source's log from there")
	flags.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile to this file")
	flags.StringVar(&o.memProfile, "memprofile", "", "write an allocation profile to this file")
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, err
}

func (o options) config() (*ghostferry.Config, error) {
	source, err := o.database(o.source)
	if err != nil {
		return nil, fmt.Errorf("-source: %w", err)
	}
	target, err := o.database(o.target)
	if err != nil {
		return nil, fmt.Errorf("-target: %w", err)
	}
	logger := logrus.New()
	logger.SetLevel(logrus.WarnLevel)
	return &ghostferry.Config{
		Source: source, Target: target, TableFilter: oneTable{o.schema, o.table},
		AutomaticCutover: true, VerifierType: o.verifier, OnlineVerifierConfig: ghostferry.OnlineVerifierConfig{Concurrency: o.verifyWorkers}, Logger: logger,
		SkipTargetVerification:   true, // the others do not watch the target either
		DataIterationConcurrency: o.concurrency, DataIterationChunkBytes: o.chunkBytes,
		BinlogApplyLanes: o.lanes, BinlogEventBatchSize: o.batch, BulkLoad: o.bulk,
		Checkpoint:            o.checkpoint,
		DeferSecondaryIndexes: o.deferred, DeferSecondaryIndexesMinBytes: 32 << 20, // as copydb decides
	}, nil
}

func (o options) database(address string) (*ghostferry.DatabaseConfig, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	return &ghostferry.DatabaseConfig{Host: host, Port: uint16(number), User: o.user, Pass: os.Getenv("MYSQL_PWD"), Compress: o.compress}, nil
}

// oneTable is the TableFilter that takes a single table, or without a name all of a schema.
type oneTable struct{ schema, table string }

// ApplicableDatabases returns the table's schema.
func (o oneTable) ApplicableDatabases([]string) ([]string, error) { return []string{o.schema}, nil }

// ApplicableTables returns the table.
func (o oneTable) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	if o.table == "" {
		return tables, nil
	}
	for _, t := range tables {
		if t.Name == o.table {
			return []*ghostferry.TableSchema{t}, nil
		}
	}
	return nil, fmt.Errorf("the source has no table %s.%s", o.schema, o.table)
}

// peakRSSMB is the greatest resident size so far. getrusage(2) would count what the
// parent had when it forked.
func peakRSSMB() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kb); err == nil {
			return kb / 1024, nil
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}

// cpuSeconds is the CPU time of the process so far.
func cpuSeconds() (float64, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds(), nil
}

func profileCPU(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

func profileMemory(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	runtime.GC() // the profile is as of the last collection
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}
