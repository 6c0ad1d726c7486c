package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Components without a running Ferry, made in either of the ways that hosts have: by the
// NewX of an initialised Ferry, or as a literal of the exported fields.

const aloneSchema = "alone"

// parts makes components over one schema of a pair of servers.
type parts struct {
	*harness.Pair
	source, target *sqlwrapper.DB
	config         *ghostferry.Config
	ferry          *ghostferry.Ferry // nil: literals
	tables         ghostferry.TableSchemaCache
	failed         *failures
}

// failures is an ErrorHandler that keeps what it is told.
type failures struct {
	sync.Mutex
	from []string
	errs []error
}

func (f *failures) ReportError(from string, err error) { f.Fatal(from, err) }

func (f *failures) Fatal(from string, err error) {
	f.Lock()
	defer f.Unlock()
	f.from, f.errs = append(f.from, from), append(f.errs, err)
}

// one returns the only failure, from the component named.
func (f *failures) one(t *testing.T, from string) error {
	t.Helper()
	f.Lock()
	defer f.Unlock()
	if !slices.Equal(f.from, []string{from}) {
		t.Fatalf("failures of %v, one of %s was expected: %v", f.from, from, f.errs)
	}
	return f.errs[0]
}

// allOf takes the failures of the component named and of those that end with its error.
func (f *failures) allOf(t *testing.T, from, text string) {
	t.Helper()
	f.Lock()
	defer f.Unlock()
	if !slices.Contains(f.from, from) {
		t.Errorf("%v failed, not %s: %v", f.from, from, f.errs)
	}
	for _, err := range f.errs {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v instead of %q", err, text)
		}
	}
	f.from, f.errs = nil, nil
}

func (f *failures) none(t *testing.T) {
	t.Helper()
	f.Lock()
	defer f.Unlock()
	if len(f.errs) > 0 {
		t.Fatalf("%v failed: %v", f.from, f.errs)
	}
}

// onEachMaking runs a test on every kind of server with components of either making.
// The tables are made anew on both servers before.
func onEachMaking(t *testing.T, ddl []string, f func(t *testing.T, c *parts)) {
	t.Helper()
	onSomeSettingsInTurn(t, func(t *testing.T, p *harness.Pair) {
		for _, making := range []string{"new", "literal"} {
			t.Run(making, func(t *testing.T) {
				p.Create(t, aloneSchema, ddl...)
				p.NoLeak(t, func() {
					c := newParts(t, p, making == "new")
					defer c.close(t)
					f(t, c)
				})
			})
		}
	})
}

func newParts(t *testing.T, p *harness.Pair, byFerry bool) *parts {
	t.Helper()
	c := &parts{Pair: p, config: p.Config(aloneSchema), failed: &failures{}}
	if byFerry {
		c.ferry = &ghostferry.Ferry{Config: c.config, ErrorHandler: c.failed}
		if err := c.ferry.Initialize(); err != nil {
			t.Fatal(err)
		}
		c.source, c.target, c.tables = c.ferry.SourceDB, c.ferry.TargetDB, c.ferry.Tables
		return c
	}
	c.source, c.target = openPool(t, c.config.Source), openPool(t, c.config.Target)
	var err error
	if c.tables, err = ghostferry.LoadTables(c.source, harness.Schemas{aloneSchema}, nil, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func openPool(t *testing.T, config *ghostferry.DatabaseConfig) *sqlwrapper.DB {
	t.Helper()
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	db, err := config.SqlDB(nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (c *parts) close(t *testing.T) {
	t.Helper()
	if c.ferry != nil {
		if err := c.ferry.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	_ = c.source.Close()
	_ = c.target.Close()
}

// onSource runs statements in the schema on the source.
func (c *parts) onSource(t *testing.T, statements ...string) {
	t.Helper()
	c.In(t, c.SourceDB, aloneSchema, statements...)
}

func (c *parts) table(name string) *ghostferry.TableSchema { return c.tables.Get(aloneSchema, name) }

// streamer follows the source.
func (c *parts) streamer(t *testing.T) *ghostferry.BinlogStreamer {
	t.Helper()
	if c.ferry != nil {
		return c.ferry.NewSourceBinlogStreamer()
	}
	return &ghostferry.BinlogStreamer{DB: c.source, DBConfig: c.config.Source, ErrorHandler: c.failed, TableSchema: c.literalTables(t)}
}

// literalTables are what hosts make of go-mysql's own loader, which reads MySQL's
// indexes only.
func (c *parts) literalTables(t *testing.T) ghostferry.TableSchemaCache {
	t.Helper()
	if c.IsMariaDB() {
		return c.tables
	}
	cache := ghostferry.TableSchemaCache{}
	for name, known := range c.tables {
		table, err := schema.NewTableFromSqlDB(c.SourceDB, known.Schema, known.Name)
		if err != nil {
			t.Fatal(err)
		}
		cache[name] = &ghostferry.TableSchema{
			Table: table, PaginationKeyIndex: table.PKColumns[0], PaginationKeyColumn: &table.Columns[table.PKColumns[0]],
		}
	}
	return cache
}

func (c *parts) iterator() *ghostferry.DataIterator {
	if c.ferry != nil {
		return c.ferry.NewDataIteratorWithoutStateTracker()
	}
	size := uint64(200)
	return &ghostferry.DataIterator{
		DB: c.source, Concurrency: 4, ErrorHandler: c.failed, TargetPaginationKeys: &sync.Map{},
		CursorConfig: &ghostferry.CursorConfig{DB: c.source, Throttler: &ghostferry.PauserThrottler{}, BatchSize: &size, ReadRetries: 5},
	}
}

// tracked are an iterator and a writer that record their progress.
func (c *parts) tracked(tracker *ghostferry.StateTracker) (*ghostferry.DataIterator, *ghostferry.BatchWriter) {
	if c.ferry != nil {
		d, w := c.ferry.NewDataIterator(), c.ferry.NewBatchWriter()
		d.StateTracker, w.StateTracker = tracker, tracker
		return d, w
	}
	d, w := c.iterator(), c.batchWriter()
	d.StateTracker, w.StateTracker = tracker, tracker
	return d, w
}

func (c *parts) batchWriter() *ghostferry.BatchWriter {
	if c.ferry != nil {
		return c.ferry.NewBatchWriterWithoutStateTracker()
	}
	return &ghostferry.BatchWriter{DB: c.target, WriteRetries: 5}
}

func (c *parts) binlogWriter() *ghostferry.BinlogWriter {
	if c.ferry != nil {
		return c.ferry.NewBinlogWriterWithoutStateTracker()
	}
	return &ghostferry.BinlogWriter{DB: c.target, BatchSize: 100, WriteRetries: 5, ErrorHandler: c.failed, Throttler: &ghostferry.PauserThrottler{}}
}

func (c *parts) verifier() *ghostferry.OnlineVerifier {
	if c.ferry != nil {
		return c.ferry.NewOnlineVerifier()
	}
	return &ghostferry.OnlineVerifier{SourceDB: c.source, TargetDB: c.target, Tables: c.tables.AsSlice(), Logger: harness.TestLogger()}
}

// inBackground runs a component's blocking method; the channel is closed at its end.
func inBackground(run func()) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run()
	}()
	return ended
}

// ends waits for a component that should end by itself.
func ends(t *testing.T, what string, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", what)
	}
}

// listed are the words that listeners say.
type listed struct {
	sync.Mutex
	words []string
}

func (l *listed) say(format string, args ...any) {
	l.Lock()
	defer l.Unlock()
	l.words = append(l.words, fmt.Sprintf(format, args...))
}

func (l *listed) all() []string {
	l.Lock()
	defer l.Unlock()
	return slices.Clone(l.words)
}

func mustBe(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%q\nnot\n%q", what, got, want)
	}
}

// minute is a context that ends before a hanging test would.
func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
