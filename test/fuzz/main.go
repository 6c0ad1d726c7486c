// Command fuzz runs every fuzz test of the module, one after the other.
//
//	FUZZTIME=60s go run ./test/fuzz [-run regexp] [-parallel 2]
//
// Progress goes to standard error with the output of tests that fail; the last line on
// standard output is "N passed, N failed". An input that makes a test fail is kept by
// `go test` below the package's testdata/fuzz, to be committed with the repair.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// target is one fuzz test.
type target struct{ dir, name string }

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	only := flags.String("run", "", "only tests whose names match")
	parallel := flags.Int("parallel", 2, "processes for each test")
	if err := flags.Parse(args); err != nil {
		return err
	}
	length := time.Minute
	if text := os.Getenv("FUZZTIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length <= 0 {
			return fmt.Errorf("FUZZTIME=%s is no duration such as 60s", text)
		}
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	targets, err := fuzzTests(".", wanted)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("there is no such fuzz test")
	}
	progress("%d tests of %s each", len(targets), length)
	failed := 0
	for i, t := range targets {
		began := time.Now()
		output, err := t.run(ctx, length, *parallel)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		result := lastExecutions(output)
		if err != nil {
			failed++
			result = "FAILED\n" + output
		}
		progress("%d of %d: %s %s: %.0f s, %s", i+1, len(targets), t.dir, t.name, time.Since(began).Seconds(), result)
	}
	fmt.Printf("%d passed, %d failed\n", len(targets)-failed, failed)
	if failed > 0 {
		return errors.New("a fuzz test failed: the input is below testdata/fuzz of its package")
	}
	return nil
}

var fuzzFunction = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// fuzzTests finds the fuzz tests below a directory.
func fuzzTests(root string, wanted *regexp.Regexp) ([]target, error) {
	var found []target
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range fuzzFunction.FindAllSubmatch(text, -1) {
			if name := string(match[1]); wanted.MatchString(name) {
				found = append(found, target{"./" + filepath.Dir(path), name})
			}
		}
		return nil
	})
	return found, err
}

func (t target) run(ctx context.Context, length time.Duration, parallel int) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+length.String(), fmt.Sprintf("-parallel=%d", parallel), t.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute // for its servers to end
	output, err := cmd.CombinedOutput()
	return string(output), err
}

var executions = regexp.MustCompile(`execs: \d+`)

// lastExecutions tells how much was tried.
func lastExecutions(output string) string {
	all := executions.FindAllString(output, -1)
	if len(all) == 0 {
		return "no execs reported"
	}
	return all[len(all)-1]
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "fuzz: %s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}
