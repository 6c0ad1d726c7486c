// Command adaptive measures what a copy costs the application that uses the source, without
// and with the adaptive throttler: source and application share one core, target and mover
// another, and sysbench's OLTP mix runs at a part of what the source's core can do. The 95th
// percentile of the application's latency is taken without a copy, during a copy at full
// speed, and during one that adapts; so is the copy's rate.
//
// Progress goes to standard error, the last line on standard output is one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// What counts as met.
const (
	maxSlowdown = 1.3
	leastKept   = 0.5
)

// What is measured.
const (
	alone     = "alone"
	fullSpeed = "at full speed"
	adaptive  = "adaptive"
)

// measured is one measurement: the application's 95th percentile in milliseconds, rows copied
// a second, the copy's mean pace, and the share of the source's core that its server used.
type measured struct{ p95, rows, pace, source float64 }

// result is the last line. Latencies are milliseconds, rates are a second.
type result struct {
	Bench     string  `json:"bench"`
	Rows      int     `json:"rows"`
	Capacity  float64 `json:"app_capacity_tps"`
	Rate      float64 `json:"app_tps"`
	Alone     float64 `json:"app_p95_ms_alone"`
	FullP95   float64 `json:"app_p95_ms_full_speed"`
	AdaptP95  float64 `json:"app_p95_ms_adaptive"`
	FullSlow  float64 `json:"app_slowdown_full_speed"`
	AdaptSlow float64 `json:"app_slowdown_adaptive"`
	FullRate  float64 `json:"copy_rows_per_second_full_speed"`
	AdaptRate float64 `json:"copy_rows_per_second_adaptive"`
	Kept      float64 `json:"copy_kept_adaptive"`
	Met       bool    `json:"met"`
}

type options struct {
	rows, threads int
	load          float64
	warmup, time  time.Duration
	rounds        int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench adaptive:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("adaptive", flag.ContinueOnError)
	flags.IntVar(&o.rows, "rows", 4_000_000, "rows of the table; a copy has to take longer than it is measured")
	flags.IntVar(&o.threads, "threads", 4, "connections of the application")
	flags.Float64Var(&o.load, "load", 0.4, "the application's rate, as a part of what the source's core can do")
	flags.DurationVar(&o.warmup, "warmup", 4*time.Second, "before each measurement")
	flags.DurationVar(&o.time, "time", 10*time.Second, "of each measurement")
	flags.IntVar(&o.rounds, "rounds", 7, "measurements of each kind, of which the median counts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case o.rows < 1 || o.threads < 1 || o.rounds < 1 || o.time < time.Second || o.load <= 0 || o.load >= 1:
		return errors.New("rows, threads, rounds and time have to be positive, load between 0 and 1")
	case runtime.NumCPU() < 2:
		return errors.New("two cores are needed: one for source and application, one for target and mover")
	}
	b := &bench{o: o, result: result{Bench: "adaptive", Rows: o.rows}}
	if err := errors.Join(b.run(ctx), b.close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(b.result)
}

// bench is two pinned servers and the application's table.
type bench struct {
	o              options
	source, target *servers.Server
	sysbench       []string // command line
	environment    []string
	result         result
}

func (b *bench) run(ctx context.Context) error {
	if err := b.start(ctx); err != nil {
		return err
	}
	capacity, _, err := b.application(ctx, b.o.time, 0)
	if err != nil {
		return err
	}
	b.result.Capacity, b.result.Rate = capacity, capacity*b.o.load
	progress("the source's core can do %.0f transactions a second; the application makes %.0f", capacity, b.result.Rate)
	series := map[string][]measured{}
	for n := range b.o.rounds {
		// In turn, and every other round the other way round: what one leaves behind (pages to
		// write, logs to purge) is not always met by the same one.
		kinds := []string{alone, fullSpeed, adaptive}
		if n%2 == 1 {
			slices.Reverse(kinds)
		}
		for _, kind := range kinds {
			m, err := b.measure(ctx, kind)
			if err != nil {
				return err
			}
			progress("round %d: p95 %.1f ms %s (%.0f rows/s, pace %.2f; %.0f%% of the source's core used by its server)", n+1, m.p95, kind, m.rows, m.pace, 100*m.source)
			series[kind] = append(series[kind], m)
		}
	}
	r := &b.result
	p95 := func(m measured) float64 { return m.p95 }
	rows := func(m measured) float64 { return m.rows }
	r.Alone, r.FullP95, r.AdaptP95 = median(series[alone], p95), median(series[fullSpeed], p95), median(series[adaptive], p95)
	r.FullRate, r.AdaptRate = median(series[fullSpeed], rows), median(series[adaptive], rows)
	r.FullSlow, r.AdaptSlow, r.Kept = r.FullP95/r.Alone, r.AdaptP95/r.Alone, r.AdaptRate/r.FullRate
	r.Met = r.AdaptSlow <= maxSlowdown && r.Kept >= leastKept
	return nil
}

func (b *bench) close() error {
	var errs []error
	for _, s := range []*servers.Server{b.source, b.target} {
		if s != nil {
			errs = append(errs, s.Stop())
		}
	}
	return errors.Join(errs...)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench adaptive: "+strings.TrimSuffix(format, "\n")+"\n", args...)
}
