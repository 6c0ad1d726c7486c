// Copydb moves schemas and tables from one MySQL or MariaDB server to another while
// applications keep writing to the source.
//
// Exit status: 0 done, 1 refused before this process wrote anything, 2 failed, 3 interrupted
// (the same command goes on), 4 the comparison found differences.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

const usage = `usage: copydb [-version] [-verbose] [-json] [-dryrun] [-restart] [-application-on-source] [-repair] [-report FILE] [-resumestate FILE] CONFIG.json

Moves the schemas and tables that CONFIG.json names, while the source is written. When
the rows are copied and AutomaticCutover is not set, the word "cutover" on standard
input starts the switch-over ("hold" takes that back; "pause", "resume", "verify" and "quit"
are words, too); on a terminal single keys do: c, h, p, r, v, q, and ? for help.
Interrupted, the same command goes on where it was.

       copydb status|pause|resume|cutover|hold|verify CONFIG.json

Tells a copydb that runs with this configuration, and with ControlServerConfig.Enabled.

Exit status: 0 done, 1 refused before this process wrote anything, 2 failed, 3 interrupted,
4 source and target differ.

`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// options is the command line.
type options struct {
	verbose, json, dryRun, restart, onSource, repair, version bool
	resumeState, config                                       string
	reports                                                   []string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("copydb", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.verbose, "verbose", false, "log at debug level")
	flags.BoolVar(&o.json, "json", false, "print how it ended as one JSON line on standard output")
	flags.BoolVar(&o.dryRun, "dryrun", false, "print what would be done, and why it would be refused; write nothing")
	flags.BoolVar(&o.restart, "restart", false, "begin anew: empty the target tables that an earlier run of the same configuration wrote")
	flags.BoolVar(&o.onSource, "application-on-source", false, "go on, or begin anew with -restart, although CutoverUnlock was or may have been posted: the application writes to the source")
	flags.BoolVar(&o.repair, "repair", false, "make rows that the verification finds different equal to the source's, and compare them again")
	flags.Func("report", "write what was verified to this `file`.json, .md or .html (repeatable)", func(name string) error {
		o.reports = append(o.reports, name)
		return nil
	})
	flags.StringVar(&o.resumeState, "resumestate", "", "go on from the state dump in this `file`, where the target has no checkpoint of the run: one that is there is used instead")
	flags.BoolVar(&o.version, "version", false, "print the version")
	if err := flags.Parse(args); err != nil || o.version {
		return o, err
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return o, fmt.Errorf("one configuration file is needed, not %d", flags.NArg())
	}
	if o.restart && (o.dryRun || o.resumeState != "") {
		return o, errors.New("-restart goes with neither -dryrun nor -resumestate")
	}
	o.config = flags.Arg(0)
	return o, nil
}

// run is the program; it returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	if len(args) > 0 && orders[args[0]] != nil {
		return tell(context.Background(), args[0], args[1:], stdout, stderr)
	}
	options, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "copydb:", err)
		return copydb.Refused.ExitStatus()
	}
	if options.version {
		fmt.Fprintln(stdout, ghostferry.BuildVersion())
		return 0
	}

	p := &program{options: options, stdout: stdout, stderr: stderr, logger: newLogger(stderr, options.verbose)}
	ctx, stop := p.catchSignals()
	defer stop()
	if options.dryRun {
		return p.dryRun(ctx)
	}
	return p.move(ctx, stdin)
}

func newLogger(stderr *os.File, verbose bool) *logrus.Logger {
	logger := logrus.New()
	logger.SetOutput(stderr)
	if term.IsTerminal(int(stderr.Fd())) {
		logger.SetFormatter(shortFormatter{})
	}
	if verbose {
		logger.SetLevel(logrus.DebugLevel)
	}
	return logger
}

// shortFormatter is for people who watch: time, level unless it is info, message,
// fields but for the component's name and the run's id.
type shortFormatter struct{}

// Format makes one line.
func (shortFormatter) Format(entry *logrus.Entry) ([]byte, error) {
	line := entry.Time.AppendFormat(nil, "15:04:05 ")
	if entry.Level != logrus.InfoLevel {
		line = append(append(line, entry.Level.String()...), ": "...)
	}
	for i, part := range strings.Split(entry.Message, "\n") {
		if i > 0 {
			line = append(line, "\n         "...)
		}
		line = append(line, printable(part)...)
	}
	for _, name := range slices.Sorted(maps.Keys(entry.Data)) {
		if name != "tag" && name != "run" { // it is the only one on this screen
			line = fmt.Appendf(line, " %s=%s", name, printable(fmt.Sprint(entry.Data[name])))
		}
	}
	return append(line, '\n'), nil
}

// readConfig reads and validates the configuration file.
func (p *program) readConfig() (*copydb.Config, error) {
	file, err := os.Open(p.options.config)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	config, err := copydb.ReadConfig(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.options.config, err)
	}
	config.Logger = p.logger
	if p.options.verbose {
		config.LogLevel = "" // -verbose wins
	}
	config.VerificationReport = append(config.VerificationReport, p.options.reports...)
	if p.options.repair {
		config.OnlineVerifierConfig.Repair = true
	}
	if p.options.resumeState != "" {
		if config.StateToResumeFrom, err = readState(p.options.resumeState); err != nil {
			return nil, err
		}
	}
	if err := config.InitializeAndValidateConfig(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.options.config, err)
	}
	return config, nil
}

func readState(name string) (*ghostferry.SerializableState, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	state := &ghostferry.SerializableState{}
	if err := state.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return state, nil
}

// move does everything and tells how it ended.
func (p *program) move(ctx context.Context, stdin io.Reader) int {
	config, err := p.readConfig()
	if err != nil {
		return p.finish(copydb.Result{Outcome: copydb.Refused, Err: err})
	}
	if name := config.TokenFile(); name != "" {
		p.logger.Infof("the token of the control server is in %s", name)
	}
	ferry := p.newFerry(config)
	if err = p.prepare(ctx, ferry); err == nil {
		stop := p.watch(ferry, stdin)
		err = ferry.RunContext(ctx)
		stop()
	}
	if closeErr := ferry.Close(); closeErr != nil {
		p.logger.WithError(closeErr).Debug("closing the connections")
	}
	return p.finish(ferry.Result(err))
}

func (p *program) newFerry(config *copydb.Config) *copydb.CopydbFerry {
	ferry := copydb.NewFerry(config)
	if p.options.onSource {
		ferry.ApplicationOnSource()
	}
	p.ferry.Store(ferry)
	return ferry
}

// prepare does what comes before the first row.
func (p *program) prepare(ctx context.Context, ferry *copydb.CopydbFerry) error {
	if err := ferry.InitializeContext(ctx); err != nil {
		return err
	}
	if p.options.restart {
		if err := ferry.RestartContext(ctx); err != nil {
			return err
		}
	}
	if ferry.Ferry.Resuming() {
		p.logger.Info("going on with the run that the checkpoint on the target tells of")
	}
	if err := ferry.StartContext(ctx); err != nil {
		return err
	}
	return ferry.CreateDatabasesAndTablesContext(ctx)
}
