package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/ghostferry-go/ghostferry"
)

// moverEnv tells the test binary that it is a mover: a process that can be killed.
const moverEnv = "GHOSTFERRY_TEST_MOVER"

// moverPrefix marks a mover's lines among those of the testing package.
const moverPrefix = "mover: "

type moverConfig struct {
	Source, Target *ghostferry.DatabaseConfig
	Schema         string
	BatchSize      uint64

	Fence *ghostferry.FenceConfig
	Stand string // of StartFencedMover
}

// Mover is a move in a process of its own.
type Mover struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	// Lines are what the mover tells, closed at its end: "batch <table> <rows> <first
	// key> <last key>", "event", "copied", "done".
	Lines <-chan string

	output struct {
		sync.Mutex
		strings.Builder
	}
}

// StartMover starts the test binary again as a mover of one schema. The test named
// must call MoverProcess and nothing else.
func (p *Pair) StartMover(t *testing.T, test, schema string, batchSize uint64) *Mover {
	t.Helper()
	return p.startMover(t, test, moverConfig{Schema: schema, BatchSize: batchSize})
}

// StartFencedMover is StartMover of a move that cuts over by itself, behind a ready-made
// fence, and stands still there until it is killed: when the writers have stopped ("fenced"),
// or where it sends the application to the target ("switching"). It tells that word.
func (p *Pair) StartFencedMover(t *testing.T, test, schema string, fence *ghostferry.FenceConfig, at string) *Mover {
	t.Helper()
	return p.startMover(t, test, moverConfig{Schema: schema, Fence: fence, Stand: at})
}

func (p *Pair) startMover(t *testing.T, test string, c moverConfig) *Mover {
	t.Helper()
	whole := p.Config(c.Schema)
	c.Source, c.Target = whole.Source, whole.Target
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mover{cmd: exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.count=1")}
	m.cmd.Env = append(os.Environ(), moverEnv+"="+string(config))
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	m.cmd.Stderr = m
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100000) // never blocks the mover
	m.Lines = lines
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(stdout)
		for scanner.Scan() {
			if line, ok := strings.CutPrefix(scanner.Text(), moverPrefix); ok {
				lines <- line
			} else {
				fmt.Fprintln(m, scanner.Text())
			}
		}
	}()
	return m
}

// Write keeps what the mover says beside its lines.
func (m *Mover) Write(p []byte) (int, error) {
	m.output.Lock()
	defer m.output.Unlock()
	return m.output.Write(p)
}

// Kill ends the mover at once, as kill -9 does.
func (m *Mover) Kill() {
	_ = m.cmd.Process.Kill()
	for range m.Lines {
	}
	_ = m.cmd.Wait()
}

// Cutover tells the mover that the writers have stopped, and waits for its end.
func (m *Mover) Cutover() error {
	if _, err := io.WriteString(m.stdin, "cutover\n"); err != nil {
		return err
	}
	return m.Wait()
}

// Wait waits for the mover's end; the error has all that it said.
func (m *Mover) Wait() error {
	for range m.Lines {
	}
	if err := m.cmd.Wait(); err != nil {
		m.output.Lock()
		defer m.output.Unlock()
		return fmt.Errorf("the mover failed: %w\n%s", err, m.output.String())
	}
	return nil
}

// MoverProcess does nothing in an ordinary run of a test binary; in a mover's process
// it makes the move and waits for the word "cutover" on standard input.
func MoverProcess(ctx context.Context) error {
	text := os.Getenv(moverEnv)
	if text == "" {
		return nil
	}
	var c moverConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	f := &ghostferry.Ferry{Config: &ghostferry.Config{
		Source: c.Source, Target: c.Target, TableFilter: Schemas{c.Schema},
		AutomaticCutover: true, VerifierType: ghostferry.VerifierTypeOnline, Logger: TestLogger(),
	}}
	f.UpdatableConfig.DataIterationBatchSize = c.BatchSize
	tell := moverTeller()
	if err := f.InitializeContext(ctx); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	tell("initialized")
	if err := f.StartContext(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	tell("started")
	// Behind the Ferry's own listener: the rows are committed on the target.
	f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
		keys := Keys(b)
		tell(fmt.Sprintf("batch %s %d %s %s", b.TableSchema().Name, b.Size(), keys[0], keys[len(keys)-1]))
		return nil
	})
	f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error {
		tell("event")
		return nil
	})
	if c.Fence != nil {
		return standBehind(ctx, f, c, tell)
	}
	err := RunStarted(ctx, f, func() error {
		tell("copied")
		word, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err == nil && word != "cutover\n" {
			err = fmt.Errorf("%q is not the word", word)
		}
		return err
	})
	if err != nil {
		return err
	}
	tell("done")
	return f.Close()
}

// standBehind cuts over and stands still where the configuration says.
func standBehind(ctx context.Context, f *ghostferry.Ferry, c moverConfig, tell func(string)) error {
	fence, err := f.NewFence(c.Fence)
	if err != nil {
		return err
	}
	hooks := ghostferry.FenceHooks(fence)
	stand := func(at string) func(context.Context) error {
		return func(ctx context.Context) error {
			if at != c.Stand {
				return nil
			}
			tell(at)
			<-ctx.Done()
			return ctx.Err()
		}
	}
	hooks.Fenced, hooks.Switch = stand("fenced"), stand("switching")
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(ctx) }()
	_, err = f.Cutover(ctx, hooks)
	return errors.Join(err, <-ran)
}

func moverTeller() func(string) {
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(moverPrefix + line) //nolint:forbidigo // its parent reads it
	}
}
