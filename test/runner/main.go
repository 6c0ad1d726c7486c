// Command runner runs `go vet` and `go test` and reports them readably: a line for
// each package, the output of what failed, progress meanwhile, and as the last line
// "N passed, N failed". The race detector is on wherever a C compiler is found.
//
//	go run ./test/runner [-p 1] [-split package] [-timeout 45m] [-run regexp] [-tags tag] [-race=false] [packages, default ./...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// command runs vet, build where it helps, and test in this order and stops at the first that fails.
func command(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("runner", flag.ContinueOnError)
	parallel := flags.Int("p", 1, "how many test binaries run at once (they start servers: few)")
	split := flags.String("split", "", "a package that is tested last, in as many processes as -p says, each with a share of its tests, and one for those that begin with t.Parallel")
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
	if *tags != "" {
		build = append(build, "-tags="+*tags)
	}
	vet := append([]string{"vet"}, build...) // as the tests are built, so that both compile the same packages
	before := [][]string{vet}
	if *parallel == 1 { // building before testing uses all processors, which -p 1 would not
		before = append(before, append([]string{"build", "-o", os.DevNull}, build...))
	}
	for _, step := range before {
		fmt.Fprintf(out, "go %s %s\n", strings.Join(step, " "), strings.Join(packages, " "))
		cmd := goCommand(ctx, env, append(step, packages...)...)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s: %w", step[0], err)
		}
	}
	test := append([]string{"test", "-vet=off"}, build...) // go vet has been
	test = append(test, "-count=1", fmt.Sprintf("-p=%d", *parallel), "-timeout="+timeout.String())
	if *run != "" {
		test = append(test, "-run="+*run)
	}
	fmt.Fprintf(out, "go %s %s\n", strings.Join(test, " "), strings.Join(packages, " "))
	var steps [][]*exec.Cmd
	if *split != "" && *run == "" {
		dir, err := os.MkdirTemp("", "runner-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		others, parts, err := splitPackage(ctx, env, build, dir, packages, *split, *timeout, *parallel)
		if err != nil {
			return err
		}
		packages, steps = others, [][]*exec.Cmd{parts}
	}
	if len(packages) > 0 {
		steps = slices.Insert(steps, 0, []*exec.Cmd{goCommand(ctx, env, append(append(test, "-json"), packages...)...)})
	}
	return runTests(out, steps...)
}

// splitPackage builds the tests of one package and returns the other packages, and n commands
// that run every nth of its tests each. Tests mostly wait for servers, and many run one by
// one: several processes of them use all processors. One command more runs those that begin
// with t.Parallel: they do little but wait, and each process would leave them to its end.
func splitPackage(ctx context.Context, env, build []string, dir string, packages []string, split string, timeout time.Duration, n int) (others []string, parts []*exec.Cmd, err error) {
	ask := func(cmd *exec.Cmd) ([]string, error) {
		output, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
		}
		return strings.Fields(string(output)), nil
	}
	found, err := ask(goCommand(ctx, env, "list", "-f", "{{.ImportPath}} {{.Dir}}", split))
	if err != nil {
		return nil, nil, err
	}
	if len(found) != 2 {
		return nil, nil, fmt.Errorf("-split %s is not one package", split)
	}
	if others, err = ask(goCommand(ctx, env, append([]string{"list"}, packages...)...)); err != nil {
		return nil, nil, err
	}
	others = slices.DeleteFunc(others, func(name string) bool { return name == found[0] })
	binary := filepath.Join(dir, "split.test")
	if _, err := ask(goCommand(ctx, env, append(append([]string{"test", "-c", "-o", binary}, build...), split)...)); err != nil {
		return nil, nil, err
	}
	list := exec.CommandContext(ctx, binary, "-test.list=^(Test|Fuzz|Example)")
	list.Dir = found[1]
	tests, err := ask(list)
	if err != nil {
		return nil, nil, err
	}
	waiting, err := parallelTests(found[1])
	if err != nil {
		return nil, nil, err
	}
	shares, dealt := make([][]string, n+1), 0
	for _, name := range tests {
		if waiting[name] {
			shares[n] = append(shares[n], name)
			continue
		}
		shares[dealt%n] = append(shares[dealt%n], name)
		dealt++
	}
	for part, mine := range shares {
		if len(mine) == 0 {
			continue
		}
		cmd := goCommand(ctx, env, "tool", "test2json", "-t", "-p", fmt.Sprintf("%s (part %d)", found[0], part+1),
			binary, "-test.v=test2json", "-test.paniconexit0", "-test.timeout="+timeout.String(), "-test.run=^("+strings.Join(mine, "|")+")$")
		cmd.Dir = found[1]
		// test2json passes no interrupt on: the group is told.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
		parts = append(parts, cmd)
	}
	return others, parts, nil
}

// parallelTests are the tests in a directory whose first statement is t.Parallel().
func parallelTests(dir string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, declared := range file.Decls {
			test, ok := declared.(*ast.FuncDecl)
			if !ok || test.Recv != nil || test.Body == nil || len(test.Body.List) == 0 {
				continue
			}
			first, _ := test.Body.List[0].(*ast.ExprStmt)
			if first == nil {
				continue
			}
			if call, ok := first.X.(*ast.CallExpr); ok {
				if method, ok := call.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Parallel" {
					found[test.Name.Name] = true
				}
			}
		}
	}
	return found, nil
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
			// By itself it keeps every program that has ended well for a second, to hear of what its
			// goroutines still do: tests leave none behind, and many of them run programs to their end.
			return append(os.Environ(), "CGO_ENABLED=1", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")), []string{"-race"}
		}
	}
	fmt.Fprintln(out, "race detector: OFF, it needs a C compiler and none was found")
	return os.Environ(), nil
}

// runTests follows commands that write events as `go test -json` does, those of a step at
// once and the steps in turn, and reports all as one.
func runTests(out io.Writer, steps ...[]*exec.Cmd) error {
	r := newReport(out)
	stop := r.reportProgress(isTerminal(out))
	var readErrs, waitErrs []error
	for _, step := range steps {
		reads, waits := make([]error, len(step)), make([]error, len(step))
		var wg sync.WaitGroup
		for i, cmd := range step {
			wg.Go(func() { reads[i], waits[i] = r.follow(cmd) })
		}
		wg.Wait()
		readErrs, waitErrs = append(readErrs, reads...), append(waitErrs, waits...)
	}
	stop()
	return errors.Join(errors.Join(readErrs...), r.close(errors.Join(waitErrs...)))
}

// follow runs one command into the report; waitErr is how it ended.
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
