//go:build trace

package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/model"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// traceEnv names the file that a mover's process writes its steps to.
const traceEnv = "GHOSTFERRY_TEST_TRACE"

// keepEnv names a directory in which traces are kept, to look into one.
const keepEnv = "GHOSTFERRY_TEST_KEEP_TRACE"

func TestMain(m *testing.M) {
	if path := os.Getenv(traceEnv); path != "" {
		f, err := appendTo(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		ghostferry.TraceTo(f)
	}
	code := m.Run()
	harness.Stop()
	os.Exit(code)
}

func appendTo(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// TestMoverProcess is the body of the process that is killed.
func TestMoverProcess(t *testing.T) {
	if err := harness.MoverProcess(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// schema has a table that takes one phase, one that takes two, and one whose keys only
// the server can compare.
const (
	schema  = "traced"
	rows    = 1500
	hotRows = 30
)

// A move under writes, whose mover is stopped, killed, and goes on to the cutover, takes
// no step that the model does not.
func TestRunsAreAccepted(t *testing.T) {
	for _, s := range harness.Settings {
		t.Run(s.Name, func(t *testing.T) {
			p := harness.Shared(t, s)
			dir := t.TempDir()
			if kept := os.Getenv(keepEnv); kept != "" {
				dir = kept
			}
			path := filepath.Join(dir, s.Name+".trace")
			_ = os.Remove(path)
			record(t, p, path)
			p.MustEqual(t, schema)
			steps := translate(readTrace(t, path))
			mustHave(t, steps)
			if err := model.Accept(steps); err != nil {
				t.Fatal(explain(steps, err))
			}
			rejectsCorrupted(t, steps)
			replay(t, steps, s.Flavour == servers.MySQL && !s.GTID)
		})
	}
}

// record makes a move in three processes and leaves their trace at path.
func record(t *testing.T, p *harness.Pair, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	createTables(t, p)
	churn := p.Churn(t, harness.ChurnOptions{Every: 8 * time.Millisecond}, rotate, rotate, moveKeys, plainRows, words, large)

	stopInTheCopy(t, ctx, p, path)

	t.Setenv(traceEnv, path)
	m := p.StartMover(t, "TestMoverProcess", schema, 40)
	for batches := 0; batches < 15; {
		line, ok := <-m.Lines
		if !ok {
			t.Fatal(m.Wait())
		}
		if strings.HasPrefix(line, "batch ") {
			batches++
		}
	}
	m.Kill()

	m = p.StartMover(t, "TestMoverProcess", schema, 40)
	for line := ""; line != "copied"; {
		var ok bool
		if line, ok = <-m.Lines; !ok {
			t.Fatal(m.Wait())
		}
	}
	if err := churn.Stop(); err != nil {
		t.Fatal(err)
	}
	f, err := appendTo(path)
	if err == nil {
		_, err = f.WriteString(`{"kind":"block"}` + "\n")
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = m.Cutover()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stopInTheCopy moves in this process, in small batches, until some chunks are copied.
func stopInTheCopy(t *testing.T, ctx context.Context, p *harness.Pair, path string) {
	t.Helper()
	out, err := appendTo(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	ghostferry.TraceTo(out)
	defer ghostferry.TraceTo(nil)

	f := &ghostferry.Ferry{Config: p.Config(schema)}
	f.UpdatableConfig.DataIterationBatchSize = 40
	f.BinlogEventBatchSize = 15 // less than a large transaction
	if err := f.InitializeContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.StartContext(ctx); err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var batches, applied atomic.Int64
	f.DataIterator.Concurrency = 2
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
		if batches.Add(1) >= 10 && applied.Load() > 200 {
			stop()
		}
		return nil
	})
	f.BinlogStreamer.AddEventListener(func(events []ghostferry.DMLEvent) error {
		applied.Add(int64(len(events)))
		return nil
	})
	if err := f.RunContext(run); !ghostferry.Resumable(err) {
		t.Fatalf("the run was stopped and ended with %v", err)
	}
	if err := ghostferry.TraceError(); err != nil {
		t.Fatal(err)
	}
}

// mustHave fails when the run was too calm to show anything.
func mustHave(t *testing.T, steps []model.Step) {
	t.Helper()
	count := map[string]int{}
	for _, s := range steps {
		count[s.Kind]++
		if s.Kind == "deliver" && s.Old != "" && s.New != "" && s.Old != s.New {
			count["moved"]++
		}
		if s.Kind == "write" || s.Kind == "copy" {
			count["skipped"] += len(s.Skipped)
		}
	}
	t.Logf("%d steps: %v", len(steps), count)
	for kind, least := range map[string]int{"deliver": 300, "moved": 20, "copy": 50, "batch": 20, "position": 20, "crash": 2, "resume": 2, "done": 1, "verified": 1} {
		if count[kind] < least {
			t.Errorf("the trace has %d times %q, which is less than %d", count[kind], kind, least)
		}
	}
}

// explain adds to a rejection the steps before it that concern the same keys.
func explain(steps []model.Step, err error) error {
	var rejected *model.RejectedError
	if !errors.As(err, &rejected) {
		return err
	}
	var b strings.Builder
	first := max(0, rejected.Index-12)
	for i, s := range steps[first : rejected.Index+1] {
		text := s.String()
		fmt.Fprintf(&b, "\n%6d %s", first+i, text[:min(len(text), 400)])
	}
	return fmt.Errorf("the model does not accept the run: %w%s", err, b.String())
}
