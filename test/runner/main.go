// Command runner runs `go vet` and `go test` and reports them readably: a line for
// each package, the output of what failed, progress meanwhile, and as the last line
// "N passed, N failed". The race detector is on wherever a C compiler is found.
//
//	go run ./test/runner [-p 1] [-alone package] [-timeout 45m] [-run regexp] [-tags tag] [-race=false] [packages, default ./...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
}

// command runs vet, build and test in this order and stops at the first that fails.
func command(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("runner", flag.ContinueOnError)
	parallel := flags.Int("p", 1, "how many test binaries run at once (they start servers: few)")
	alone := flags.String("alone", "", "a package that is tested last, by itself: -p counts for the others")
	timeout := flags.Duration("timeout", 45*time.Minute, "limit of each test binary")
	run := flags.String("run", "", "only tests that match, as of go test")
	tags := flags.String("tags", "", "build tags, as of go test")
	wanted := flags.Bool("race", true, "with the race detector where it works")
	if err := flags.Parse(args); err != nil {
		return err
	}
	packages := flags.Args()
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	env, build := os.Environ(), []string(nil)
	if *wanted {
		env, build = raceDetector(ctx, out)
	}
	vet := []string{"vet"}
	if *tags != "" {
		vet, build = append(vet, "-tags="+*tags), append(build, "-tags="+*tags)
	}
	// Building before testing uses all processors, which -p 1 would not.
	for _, step := range [][]string{vet, append([]string{"build", "-o", os.DevNull}, build...)} {
		fmt.Fprintf(out, "go %s %s\n", strings.Join(step, " "), strings.Join(packages, " "))
		cmd := goCommand(ctx, env, append(step, packages...)...)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s: %w", step[0], err)
		}
	}
	test := append([]string{"test"}, build...)
	test = append(test, "-count=1", fmt.Sprintf("-p=%d", *parallel), "-timeout="+timeout.String())
	if *run != "" {
		test = append(test, "-run="+*run)
	}
	groups := [][]string{packages}
	if *alone != "" {
		var err error
		if groups, err = setApart(ctx, env, packages, *alone); err != nil {
			return err
		}
	}
	var runs []*exec.Cmd
	for _, group := range groups {
		runs = append(runs, goCommand(ctx, env, append(append(slices.Clone(test), "-json"), group...)...))
	}
	fmt.Fprintf(out, "go %s %s\n", strings.Join(test, " "), strings.Join(packages, " "))
	return runTests(out, runs...)
}

// setApart lists the packages in two groups, the second being one alone.
func setApart(ctx context.Context, env, packages []string, alone string) ([][]string, error) {
	list := func(patterns ...string) ([]string, error) {
		output, err := goCommand(ctx, env, append([]string{"list"}, patterns...)...).Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		return strings.Fields(string(output)), nil
	}
	last, err := list(alone)
	if err != nil {
		return nil, err
	}
	all, err := list(packages...)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(all, func(name string) bool { return slices.Contains(last, name) })
	return [][]string{others, last}, nil
}

// goCommand is an interruptible go command.
func goCommand(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute // for servers of the tests to be stopped
	return cmd
}

// raceDetector returns the environment and the flags for the race detector, which
// needs cgo and so a C compiler; without one it says so and returns no flags.
func raceDetector(ctx context.Context, out io.Writer) (env, flags []string) {
	cc, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if fields := strings.Fields(string(cc)); err == nil && len(fields) > 0 {
		if path, err := exec.LookPath(fields[0]); err == nil {
			fmt.Fprintf(out, "race detector: on (C compiler %s)\n", path)
			return append(os.Environ(), "CGO_ENABLED=1"), []string{"-race"}
		}
	}
	fmt.Fprintln(out, "race detector: OFF, it needs a C compiler and none was found")
	return os.Environ(), nil
}

// runTests runs `go test -json`, once or several times, and reports all as one.
func runTests(out io.Writer, runs ...*exec.Cmd) error {
	r := newReport(out)
	stop := r.reportProgress(isTerminal(out))
	var readErrs, waitErrs []error
	for _, cmd := range runs {
		readErr, waitErr := r.follow(cmd)
		readErrs, waitErrs = append(readErrs, readErr), append(waitErrs, waitErr)
	}
	stop()
	return errors.Join(errors.Join(readErrs...), r.close(errors.Join(waitErrs...)))
}

// follow runs one go test into the report; waitErr is how it ended.
func (t *report) follow(cmd *exec.Cmd) (readErr, waitErr error) {
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = t
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("go test: %w", err)
	}
	return t.read(stdout), cmd.Wait()
}

// isTerminal tells whether a person watches.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
