// Command bench compares the library with other ways to move the same rows between the
// same two servers in the same run: see README.md beside it. Progress goes to standard
// error, the last line on standard output is one JSON object of ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	defaultRows    = 2_000_000
	defaultUpdates = 200_000
	defaultRuns    = 3
	quickRows      = 500_000
	quickUpdates   = 100_000

	defaultScaleTables = 10_000
	defaultScaleRows   = 5_000_000
	defaultScaleMB     = 200
)

// options are the command line.
type options struct {
	rows, updates, runs int
	only                string // a part's name, or empty for all
	// The larger sizes of the part "scale".
	scaleTables, scaleRows, scaleTransactionMB int
	movers                                     []mover
	without                                    []string // systems that are left out
	ours                                       []string // further flags of our mover
	results                                    string   // directory
	patience                                   time.Duration
}

// mover is a further system: the command line ends when the copy is complete.
type mover struct{ name, command string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	r, err := newReport(o.results)
	if err != nil {
		return err
	}
	err = run(ctx, o, r)
	if err == nil {
		err = r.write(r.ratios())
	}
	if err == nil {
		err = r.writeMarkdown(r.conditions)
	}
	if err = errors.Join(err, r.close()); err != nil {
		return err
	}
	progress("measurements are in %s", r.path)
	return json.NewEncoder(os.Stdout).Encode(r.ratios())
}

func parse(args []string) (options, error) {
	var o options
	var quick bool
	var ours string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&quick, "quick", false, fmt.Sprintf("in some minutes: %d rows, %d updates, 1 run, a tenth of the scale", quickRows, quickUpdates))
	flags.IntVar(&o.runs, "runs", 0, fmt.Sprintf("runs of each system, of which the median counts (default %d)", defaultRuns))
	flags.IntVar(&o.rows, "rows", 0, fmt.Sprintf("rows of the table (default %d)", defaultRows))
	flags.IntVar(&o.updates, "updates", 0, fmt.Sprintf("updates to drain (default %d)", defaultUpdates))
	flags.StringVar(&o.only, "only", "", strings.Join(partNames(), ", ")+": only this part")
	flags.IntVar(&o.scaleTables, "scale-tables", 0, fmt.Sprintf("tables of the part scale (default %d)", defaultScaleTables))
	flags.IntVar(&o.scaleRows, "scale-rows", 0, fmt.Sprintf("rows of the part scale (default %d)", defaultScaleRows))
	flags.IntVar(&o.scaleTransactionMB, "scale-mb", 0, fmt.Sprintf("megabytes of the transaction of the part scale (default %d)", defaultScaleMB))
	flags.StringVar(&ours, "ours", "", "further flags of our mover, such as '-concurrency 3 -cpuprofile /tmp/cpu'")
	flags.StringVar(&o.results, "results", "bench/results", "directory of the measurements")
	flags.DurationVar(&o.patience, "patience", 30*time.Second, "wait that long before each run for a machine that has nothing else to do")
	flags.Func("mover", "a further system of the copy, 'name=command line' (repeatable); placeholders as in the README", func(text string) error {
		name, command, ok := strings.Cut(text, "=")
		if !ok || name == "" || command == "" {
			return errors.New("say name=command line")
		}
		o.movers = append(o.movers, mover{name, command})
		return nil
	})
	flags.Func("without", "a system that is left out, by its name in the results (repeatable)", func(name string) error {
		o.without = append(o.without, name)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.ours = append([]string{"-defer", "all"}, strings.Fields(ours)...) // a later flag wins
	return o, o.complete(flags.Args(), quick)
}

// complete fills the defaults in and refuses what makes no sense.
func (o *options) complete(rest []string, quick bool) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	if o.only != "" && !slices.Contains(partNames(), o.only) {
		return fmt.Errorf("-only is %q: say one of %s", o.only, strings.Join(partNames(), ", "))
	}
	rows, updates, runs := defaultRows, defaultUpdates, defaultRuns
	tables, narrowRows, mb := defaultScaleTables, defaultScaleRows, defaultScaleMB
	if quick {
		rows, updates, runs = quickRows, quickUpdates, 1
		tables, narrowRows, mb = defaultScaleTables/10, defaultScaleRows/10, defaultScaleMB/10
	}
	for _, setting := range []struct {
		name    string
		value   *int
		initial int
	}{{"rows", &o.rows, rows}, {"updates", &o.updates, updates}, {"runs", &o.runs, runs}, {"scale-tables", &o.scaleTables, tables}, {"scale-rows", &o.scaleRows, narrowRows}, {"scale-mb", &o.scaleTransactionMB, mb}} {
		if *setting.value == 0 {
			*setting.value = setting.initial
		}
		if *setting.value < 0 {
			return fmt.Errorf("-%s is %d: say a positive number", setting.name, *setting.value)
		}
	}
	return nil
}

func run(ctx context.Context, o options, r *report) (err error) {
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r.conditions = conditionsOf(l, o)
	if err := r.write(r.conditions); err != nil {
		return err
	}
	for _, part := range parts {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.bench(ctx, l, o, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// parts are the parts of the benchmark, in their order.
var parts = []struct {
	name  string
	bench func(context.Context, *lab, options, *report) error
}{
	{"copy", benchCopy}, {"indexes", benchIndexes}, {"verify", benchVerify}, {"drain", benchDrain}, {"checkpoint", benchCheckpoint}, {"lag", benchLag}, {"tables", benchTables},
	{"tenants", benchTenants}, {"link", benchLink}, {"scale", benchScale},
}

func partNames() []string {
	names := make([]string, len(parts))
	for i, part := range parts {
		names[i] = part.name
	}
	return names
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
