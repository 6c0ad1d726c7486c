// Command bench compares the library with other ways to move the same rows between the
// same two servers in the same run: see README.md beside it. Progress goes to standard
// error, the line on standard output is one JSON object of ratios.
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

	"github.com/ghostferry-go/ghostferry/test/servers"
)

const (
	defaultRows    = 2_000_000
	defaultUpdates = 200_000
	defaultRuns    = 3
	quickRows      = 1_000_000

	// quickPart is what -quick takes of the sizes of the parts that have their own.
	quickPart       = 10
	defaultDuration = 30 * time.Minute
)

// options are the command line.
type options struct {
	rows, updates, runs int
	flavour             servers.Flavour
	parts               []string // names of what is measured
	wideRows            int
	scaleRows           int // the largest of the part scale
	// Sizes of the part memory.
	memoryRows, memoryTables, memoryMB, memoryRowMB int
	duration                                        time.Duration // of the part soak
	movers                                          []mover
	without                                         []string // systems that are left out
	ours                                            []string // further flags of our mover
	results                                         string   // directory
	patience                                        time.Duration
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
	f := r.figures()
	if err == nil {
		err = r.write(f)
	}
	if err == nil {
		err = r.writeMarkdown(f)
	}
	if err = errors.Join(err, r.close()); err != nil {
		return err
	}
	progress("measurements are in %s", r.path)
	return json.NewEncoder(os.Stdout).Encode(f.headline)
}

func parse(args []string) (options, error) {
	var o options
	var quick bool
	var only, flavour, ours string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&quick, "quick", false, fmt.Sprintf("in some minutes: 1 run with %d rows, of %s only; with -only, a tenth of the part's own sizes", quickRows, strings.Join(quickParts, " and ")))
	flags.StringVar(&only, "only", "", "only these parts, separated by commas: "+strings.Join(partNames(), ", "))
	flags.StringVar(&flavour, "flavour", string(servers.MySQL), "the servers: mysql or mariadb (without the replica)")
	for _, s := range o.sizes() {
		flags.IntVar(s.value, s.name, 0, fmt.Sprintf("%s (default %d)", s.what, s.whole))
	}
	flags.DurationVar(&o.duration, "duration", 0, fmt.Sprintf("how long the part soak goes on (default %s); the part is only measured with this, or by -only", defaultDuration))
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
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.ours = append([]string{"-defer", "all"}, strings.Fields(ours)...) // a later flag wins
	o.flavour = servers.Flavour(flavour)
	if o.flavour == servers.MariaDB {
		o.without = append(o.without, replicaSystem) // it is made and asked in MySQL's way
	}
	err := errors.Join(o.choose(only, quick), o.complete(quick))
	return o, err
}

// size is a flag for a number, with its value for the whole benchmark and with -quick.
type size struct {
	name         string
	value        *int
	whole, quick int
	what         string
}

func (o *options) sizes() []size {
	tenth := func(name string, value *int, whole int, what string) size {
		return size{name, value, whole, whole / quickPart, what}
	}
	return []size{
		{"rows", &o.rows, defaultRows, quickRows, "rows of the table"},
		{"updates", &o.updates, defaultUpdates, defaultUpdates, "updates to drain"},
		{"runs", &o.runs, defaultRuns, 1, "runs of each system, of which the median counts"},
		tenth("wide-rows", &o.wideRows, 40_000, "rows of 20 KB of the part wide"),
		tenth("scale-rows", &o.scaleRows, 20_000_000, "rows of the largest table of the part scale"),
		tenth("memory-rows", &o.memoryRows, 50_000_000, "rows of the part memory"),
		tenth("memory-tables", &o.memoryTables, 10_000, "tables of the part memory"),
		tenth("memory-mb", &o.memoryMB, 200, "megabytes of the transaction of the part memory, 5,000 rows each"),
		{"memory-row-mb", &o.memoryRowMB, 16, 4, "megabytes of a row of the part memory"},
	}
}

// complete fills the defaults in and refuses what makes no sense.
func (o *options) complete(quick bool) error {
	for _, s := range o.sizes() {
		if *s.value < 0 {
			return fmt.Errorf("-%s is %d: say a positive number", s.name, *s.value)
		}
		if *s.value == 0 && quick {
			*s.value = s.quick
		} else if *s.value == 0 {
			*s.value = s.whole
		}
	}
	if o.flavour != servers.MySQL && o.flavour != servers.MariaDB {
		return fmt.Errorf("-flavour is %q: say %s or %s", o.flavour, servers.MySQL, servers.MariaDB)
	}
	if o.duration == 0 {
		o.duration = defaultDuration
	}
	if o.duration < soakShortest {
		return fmt.Errorf("-duration is %s: say %s at least", o.duration, soakShortest)
	}
	return nil
}

// choose says which parts are measured.
func (o *options) choose(only string, quick bool) error {
	switch {
	case only != "":
		o.parts = strings.Split(only, ",")
	case quick:
		o.parts = quickParts
	default:
		o.parts = slices.DeleteFunc(partNames(), func(name string) bool { return name == soakPart && o.duration == 0 })
	}
	for _, name := range o.parts {
		if !slices.Contains(partNames(), name) {
			return fmt.Errorf("-only is %q: say some of %s", only, strings.Join(partNames(), ", "))
		}
	}
	return nil
}

func run(ctx context.Context, o options, r *report) (err error) {
	l, err := newLab(ctx, o, r.profiles)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r.conditions = conditionsOf(l, o)
	if err := r.write(r.conditions); err != nil {
		return err
	}
	for _, part := range parts {
		if !slices.Contains(o.parts, part.name) {
			continue
		}
		if err := part.bench(ctx, l, o, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// quickParts are what the keys of the last line are of.
var quickParts = []string{"copy", "drain"}

// parts are the parts of the benchmark, in their order.
var parts = []struct {
	name  string
	bench func(context.Context, *lab, options, *report) error
}{
	{"copy", benchCopy}, {"indexes", benchIndexes}, {"verify", benchVerify}, {"drain", benchDrain}, {"checkpoint", benchCheckpoint}, {"lag", benchLag}, {"tables", benchTables},
	{"tenants", benchTenants}, {"link", benchLink}, {"wide", benchWide}, {"scale", benchScale}, {"memory", benchMemory}, {soakPart, benchSoak},
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
