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
	quickRows      = 100_000
	quickUpdates   = 20_000
)

// options are the command line.
type options struct {
	rows, updates, runs int
	only                string // "copy", "verify", "drain" or empty
	movers              []mover
	ours                []string // further flags of our mover
	results             string   // directory
	patience            time.Duration
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
	flags.BoolVar(&quick, "quick", false, fmt.Sprintf("only to see that everything works: %d rows, %d updates, 1 run", quickRows, quickUpdates))
	flags.IntVar(&o.runs, "runs", 0, fmt.Sprintf("runs of each system, of which the median counts (default %d)", defaultRuns))
	flags.IntVar(&o.rows, "rows", 0, fmt.Sprintf("rows of the table (default %d)", defaultRows))
	flags.IntVar(&o.updates, "updates", 0, fmt.Sprintf("updates to drain (default %d)", defaultUpdates))
	flags.StringVar(&o.only, "only", "", "copy, verify or drain: only this part")
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
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.ours = strings.Fields(ours)
	return o, o.complete(flags.Args(), quick)
}

// complete fills the defaults in and refuses what makes no sense.
func (o *options) complete(rest []string, quick bool) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	if !slices.Contains([]string{"", "copy", "verify", "drain"}, o.only) {
		return fmt.Errorf("-only is %q: say copy, verify or drain", o.only)
	}
	rows, updates, runs := defaultRows, defaultUpdates, defaultRuns
	if quick {
		rows, updates, runs = quickRows, quickUpdates, 1
	}
	for _, setting := range []struct {
		name    string
		value   *int
		initial int
	}{{"rows", &o.rows, rows}, {"updates", &o.updates, updates}, {"runs", &o.runs, runs}} {
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
	if err := r.write(conditionsOf(l, o)); err != nil {
		return err
	}
	for _, part := range []struct {
		name  string
		bench func(context.Context, *lab, options, *report) error
	}{{"copy", benchCopy}, {"verify", benchVerify}, {"drain", benchDrain}} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.bench(ctx, l, o, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
