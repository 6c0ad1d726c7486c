package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	sqlwrapper "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// moverEnv holds the configuration of a process that is a mover, so that it can be
// killed. It tells on standard output, one line each:
//
//	holding        the copy stands before the first table of a case
//	table          the first rows of a table are committed on the target
//	event          changes were delivered
//	copied         every row is there
//	applied        every change up to the end of the log at the word "apply" is on the target
//
// and takes the words "go", "apply" and "cutover".
const moverEnv = "GHOSTFERRY_FIDELITY_MOVER"

// heldTable is the table before which the copy stands still: the first one.
const heldTable = "0held"

type moverConfig struct {
	Source, Target *ghostferry.DatabaseConfig
	Schemas        []string
	ChunkRows      map[string]map[string]uint64 // schema → table → rows of a chunk
	Hold           bool
}

// schemaFilter takes all tables of some schemas.
type schemaFilter []string

func (s schemaFilter) ApplicableDatabases([]string) ([]string, error) { return s, nil }
func (s schemaFilter) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return tables, nil
}

// heldFirst copies the held table before the others.
type heldFirst struct{}

func (heldFirst) Sort(tables map[*ghostferry.TableSchema]ghostferry.PaginationKey) ([]ghostferry.TableMaxPaginationKey, error) {
	var out []ghostferry.TableMaxPaginationKey
	for table, key := range tables {
		out = append(out, ghostferry.TableMaxPaginationKey{Table: table, MaxPaginationKey: key})
	}
	rank := func(t ghostferry.TableMaxPaginationKey) string {
		if t.Table.Name == heldTable {
			return ""
		}
		return t.Table.String()
	}
	slices.SortFunc(out, func(a, b ghostferry.TableMaxPaginationKey) int { return strings.Compare(rank(a), rank(b)) })
	return out, nil
}

func moverProcess(text string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c moverConfig
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = moveAndTell(context.Background(), c, stdin, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func newFerry(c moverConfig, stderr io.Writer) *ghostferry.Ferry {
	logger := logrus.New()
	logger.SetOutput(stderr)
	logger.SetLevel(logrus.WarnLevel)
	return &ghostferry.Ferry{Config: &ghostferry.Config{
		Source: c.Source, Target: c.Target, TableFilter: schemaFilter(c.Schemas), Logger: logger,
		AutomaticCutover: true, VerifierType: ghostferry.VerifierTypeOnline, DataIterationConcurrency: 1,
		DataIterationBatchSizePerTableOverride: &ghostferry.DataIterationBatchSizePerTableOverride{
			TableOverride: c.ChunkRows, ControlPoints: map[int]uint64{0: 200},
		},
	}}
}

func moveAndTell(ctx context.Context, c moverConfig, stdin io.Reader, stdout, stderr io.Writer) error {
	f := newFerry(c, stderr)
	if err := f.InitializeContext(ctx); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	defer func() { _ = f.Close() }()
	words := bufio.NewScanner(stdin)
	var mu sync.Mutex
	tell := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(stdout, line)
	}
	release := make(chan struct{})
	f.DataIterator.TableSorter = heldFirst{}
	f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
		if c.Hold && b.TableSchema().Name == heldTable {
			tell("holding")
			<-release
		}
		return nil
	})
	if err := f.StartContext(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	var present *ghostferry.TableSchema // tables are copied one after the other
	f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
		if b.TableSchema() != present {
			present = b.TableSchema()
			tell("table")
		}
		return nil
	})
	f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error { tell("event"); return nil })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(ctx) }()
	go func() {
		if f.WaitUntilRowCopyIsCompleteContext(ctx) == nil {
			tell("copied")
		}
	}()
	fenced := make(chan error, 1)
	go func() { fenced <- obey(ctx, f, words, tell, release) }()
	select {
	case err := <-ran:
		return fmt.Errorf("the run ended: %w", err)
	case err := <-fenced:
		if err != nil {
			defer cancel()
			select {
			case ranErr := <-ran:
				err = fmt.Errorf("%w (run: %w)", err, ranErr)
			case <-time.After(5 * time.Second):
			}
			return err
		}
	}
	return finish(ctx, f, ran)
}

// obey does what it is told until the cutover.
func obey(ctx context.Context, f *ghostferry.Ferry, words *bufio.Scanner, tell func(string), release chan struct{}) error {
	for words.Scan() {
		switch words.Text() {
		case "go":
			close(release)
		case "apply":
			if err := apply(ctx, f); err != nil {
				close(release) // the run may have failed: let it say why
				return fmt.Errorf("apply: %w", err)
			}
			tell("applied")
		case "cutover":
			return nil
		}
	}
	return fmt.Errorf("no cutover was asked for: %w", words.Err())
}

// applyLimit bounds the wait for changes of which a failed stream will never hear.
const applyLimit = 2 * time.Minute

// apply returns when everything that is in the source's log now is on the target.
func apply(ctx context.Context, f *ghostferry.Ferry) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	end, err := logEnd(ctx, f.SourceDB)
	if err != nil {
		return err
	}
	return f.BinlogWriter.WaitUntilApplied(ctx, end)
}

func logEnd(ctx context.Context, db *sqlwrapper.DB) (end ghostferry.BinlogCoordinate, err error) {
	for _, query := range []string{"SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"} {
		if end, err = readLogEnd(ctx, db, query); err == nil {
			return end, nil
		}
	}
	return end, err
}

func readLogEnd(ctx context.Context, db *sqlwrapper.DB, query string) (end ghostferry.BinlogCoordinate, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return end, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return end, errors.Join(err, rows.Err())
	}
	rest := make([]sql.RawBytes, len(columns)-2)
	into := []any{&end.File, &end.Pos}
	for i := range rest {
		into = append(into, &rest[i])
	}
	return end, errors.Join(rows.Scan(into...), rows.Err())
}

func finish(ctx context.Context, f *ghostferry.Ferry, ran <-chan error) error {
	for _, step := range []func(context.Context) error{f.WaitUntilRowCopyIsCompleteContext, f.WaitUntilBinlogStreamerCatchesUpContext, f.FlushBinlogAndStopStreamingContext} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := <-ran; err != nil {
		return err
	}
	result, err := f.Verifier.VerifyDuringCutover()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !result.DataCorrect {
		return result
	}
	return f.StopTargetVerifierContext(ctx)
}

// mover is a mover's process, seen from outside.
type mover struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed at its end
	said  strings.Builder
}

func startMover(ctx context.Context, c moverConfig) (*mover, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	m := &mover{cmd: exec.CommandContext(ctx, os.Args[0]), lines: make(chan string, 1<<20)} // never blocks the mover
	m.cmd.Env = append(os.Environ(), moverEnv+"="+string(config), "TZ=America/New_York")
	m.cmd.Stderr = &m.said // read after its end
	stdout, err := m.cmd.StdoutPipe()
	if err == nil {
		m.stdin, err = m.cmd.StdinPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(m.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			m.lines <- scanner.Text()
		}
	}()
	return m, nil
}

// await returns when the mover has told a line n times.
func (m *mover) await(line string, n int) error {
	for told := range m.lines {
		if told == line {
			if n--; n == 0 {
				return nil
			}
		}
	}
	_ = m.cmd.Wait()
	return fmt.Errorf("the mover ended before it was %s: %s", line, m.said.String())
}

func (m *mover) say(word string) error {
	_, err := io.WriteString(m.stdin, word+"\n")
	return err
}

// kill ends the mover at once.
func (m *mover) kill() {
	_ = m.cmd.Process.Kill()
	for range m.lines {
	}
	_ = m.cmd.Wait()
}

// end waits for the mover's end.
func (m *mover) end() error {
	for range m.lines {
	}
	if err := m.cmd.Wait(); err != nil {
		return fmt.Errorf("the mover failed: %w: %s", err, m.said.String())
	}
	return nil
}
