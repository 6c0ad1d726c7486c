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
	flags.DurationVar(&o.warmup, "warmup", 6*time.Second, "before each measurement")
	flags.DurationVar(&o.time, "time", 15*time.Second, "of each measurement")
	flags.IntVar(&o.rounds, "rounds", 3, "measurements of each kind, of which the median counts")
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
	var alone, full, adapt, fullRates, adaptRates []float64
	for n := range b.o.rounds { // in turn, so that what changes with time changes all
		_, p95, err := b.application(ctx, b.o.time, b.result.Rate)
		if err != nil {
			return err
		}
		fullP95, fullRate, err := b.duringCopy(ctx, false)
		if err != nil {
			return err
		}
		adaptP95, adaptRate, err := b.duringCopy(ctx, true)
		if err != nil {
			return err
		}
		progress("round %d: p95 %.1f ms alone, %.1f ms at full speed (%.0f rows/s), %.1f ms adaptive (%.0f rows/s)", n+1, p95, fullP95, fullRate, adaptP95, adaptRate)
		alone, full, adapt = append(alone, p95), append(full, fullP95), append(adapt, adaptP95)
		fullRates, adaptRates = append(fullRates, fullRate), append(adaptRates, adaptRate)
	}
	r := &b.result
	r.Alone, r.FullP95, r.AdaptP95 = median(alone), median(full), median(adapt)
	r.FullRate, r.AdaptRate = median(fullRates), median(adaptRates)
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
