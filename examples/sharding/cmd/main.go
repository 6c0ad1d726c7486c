// Sharding moves one tenant's rows from one MySQL or MariaDB server to another while the
// source is written.
//
//	sharding [-config-path FILE] [-application-on-source] [-cancel [-even-if-finished]] [-version] < CONFIG.json
//
// Exit status: 0 done and compared, or cancelled; 1 refused before anything was written, also
// because the tenant has moved already; 2 failed; 3 interrupted (the same command goes on); 4 the comparison found differences.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
)

const defaultStatsD = "127.0.0.1:8125"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("sharding", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config-path", "", "read the configuration from this `file` instead of standard input")
	cancel := flags.Bool("cancel", false, "remove from the target what the move of this configuration has brought, and forget the move")
	finished := flags.Bool("even-if-finished", false, "with -cancel: also a move that went to its end")
	onSource := flags.Bool("application-on-source", false, "go on although CutoverUnlock may have been posted: the application writes to the source")
	version := flags.Bool("version", false, "print the version")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 1
	case *version:
		_, _ = fmt.Fprintln(stdout, ghostferry.BuildVersion())
		return 0
	}
	do := orders{cancel: *cancel, finished: *finished, onSource: *onSource}
	if err := do.validate(flags.Args()); err != nil {
		_, _ = fmt.Fprintln(stderr, "sharding:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := readConfig(*path, stdin)
	if err == nil {
		err = sharding.InitializeMetrics("sharding", config)
	}
	var ferry *sharding.ShardingFerry
	if err == nil {
		ferry, err = sharding.NewFerry(config)
	}
	wrote := false
	if err == nil {
		wrote, err = move(ctx, ferry, do, stderr)
	}
	if err == nil {
		sharding.StopAndFlushMetrics()
		if !do.cancel {
			_, _ = fmt.Fprintln(stdout, lastLine(ferry, config))
		}
		return 0
	}
	_, _ = fmt.Fprintln(stderr, "sharding:", err)
	return status(ctx, err, wrote)
}

// lastLine says how a move ended that has compared everything.
func lastLine(ferry *sharding.ShardingFerry, config *sharding.Config) string {
	line := "equal"
	if at := ferry.Ferry.StopCoordinate(); !at.IsZero() { // else an earlier process compared
		line += " at " + at.String()
	}
	if config.CutoverLock.URI == "" {
		line += ", source not fenced"
	}
	if verifier, ok := ferry.Ferry.Verifier.(ghostferry.ReportingVerifier); ok {
		if left := verifier.Report().NotCompared(); left != "" {
			line += ", " + left + " not compared"
		}
	}
	return line
}

func readConfig(path string, stdin io.Reader) (*sharding.Config, error) {
	if path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		stdin = file
	}
	config, err := sharding.ReadConfig(stdin)
	if err != nil {
		return nil, err
	}
	if config.MyServerId != 0 {
		return nil, &ghostferry.ConfigError{Field: "MyServerId", Problem: "MyServerId is set", Remedy: "remove it: an id that is not in use is chosen"}
	}
	if config.StatsDAddress == "" {
		config.StatsDAddress = defaultStatsD
	}
	if !config.AutomaticCutover {
		return nil, &ghostferry.ConfigError{Field: "AutomaticCutover", Problem: "AutomaticCutover is false", Remedy: "remove it: the cutover begins by itself"}
	}
	return config, nil
}

// orders are what the command line says beside the configuration.
type orders struct{ cancel, finished, onSource bool }

func (do orders) validate(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("argument %q is not known: the configuration comes from standard input or -config-path", args[0])
	case do.finished && !do.cancel:
		return errors.New("-even-if-finished goes with -cancel only")
	case do.onSource && do.cancel:
		return errors.New("-application-on-source does not go with -cancel")
	}
	return nil
}

// move moves or cancels; wrote says whether the target may have been written, or the cutover begun.
func move(ctx context.Context, ferry *sharding.ShardingFerry, do orders, stderr io.Writer) (wrote bool, err error) {
	if err := ferry.InitializeContext(ctx); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, ferry.Close()) }()
	if do.cancel {
		removed, err := ferry.CancelContext(ctx, do.finished)
		_, _ = fmt.Fprintf(stderr, "%d rows removed from the target\n", removed)
		return removed > 0, err
	}
	if do.onSource {
		if err := ferry.ApplicationOnSourceContext(ctx); err != nil {
			return false, err
		}
	}
	if err := ferry.StartContext(ctx); err != nil {
		return false, err
	}
	err = ferry.RunContext(ctx)
	return ferry.Ferry.OverallState.Load() != ghostferry.StateStarting || ferry.Ferry.Phase() != ghostferry.PhaseNone, err
}

func status(ctx context.Context, err error, wrote bool) int {
	var different ghostferry.VerificationResult
	switch {
	case errors.As(err, &different):
		return 4
	case ctx.Err() != nil && ghostferry.Resumable(err):
		return 3
	case !wrote:
		return 1
	}
	return 2
}
