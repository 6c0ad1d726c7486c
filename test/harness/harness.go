// Package harness gives integration tests two real servers, a shop that is written
// while it moves, and the judge that compares every row at the end.
package harness

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// Setting is a kind of pair of servers.
type Setting struct {
	Name    string
	Flavour servers.Flavour
	GTID    bool
}

// Settings are the pairs that every promise is tested on.
var Settings = []Setting{
	{"mysql-gtid", servers.MySQL, true},
	{"mysql-file-position", servers.MySQL, false},
	{"mariadb", servers.MariaDB, true},
}

// Pair is two running servers with their root pools.
type Pair struct {
	Setting
	Source, Target     *servers.Server
	SourceDB, TargetDB *sql.DB
}

var pairs struct {
	sync.Mutex
	running map[string]*Pair
}

// Shared returns the pair of a setting that all tests of the process share; Stop ends
// it. Tests use schemas of their own.
func Shared(t *testing.T, s Setting) *Pair {
	t.Helper()
	pairs.Lock()
	defer pairs.Unlock()
	if p := pairs.running[s.Name]; p != nil {
		return p
	}
	p := start(t, s)
	if pairs.running == nil {
		pairs.running = map[string]*Pair{}
	}
	pairs.running[s.Name] = p
	return p
}

// New returns a pair of the test's own, stopped at its end.
func New(t *testing.T, s Setting) *Pair {
	t.Helper()
	p := start(t, s)
	t.Cleanup(func() { p.stop() })
	return p
}

func start(t *testing.T, s Setting) *Pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	options := func(name string) servers.Options {
		return servers.Options{Flavour: s.Flavour, Name: name, GTID: s.GTID, Flags: []string{"--max-binlog-size=1048576"}}
	}
	sourceOptions := options("source")
	sourceOptions.SemiSync = true // switched on by Stall only
	targetOptions := options("target")
	targetOptions.LocalInfile = s.GTID // rows are copied by LOAD DATA in some settings, by INSERT in the others
	source, target, err := servers.StartPair(ctx, sourceOptions, targetOptions)
	if err != nil {
		t.Fatalf("starting %s: %v", s.Name, err)
	}
	p := &Pair{Setting: s, Source: source, Target: target}
	if p.SourceDB, err = source.DB(ctx); err == nil {
		p.TargetDB, err = target.DB(ctx)
	}
	if err != nil {
		p.stop()
		t.Fatal(err)
	}
	return p
}

func (p *Pair) stop() {
	_ = p.Source.Stop()
	_ = p.Target.Stop()
}

// Stop ends all shared pairs; call it from TestMain.
func Stop() {
	pairs.Lock()
	defer pairs.Unlock()
	for name, p := range pairs.running {
		p.stop()
		delete(pairs.running, name)
	}
}

// Config returns the configuration of a move between the pair of the given schemas.
func (p *Pair) Config(schemas ...string) *ghostferry.Config {
	database := func(s *servers.Server) *ghostferry.DatabaseConfig {
		return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
	}
	return &ghostferry.Config{
		Source: database(p.Source), Target: database(p.Target), TableFilter: Schemas(schemas),
		AutomaticCutover: true, VerifierType: ghostferry.VerifierTypeOnline, Logger: TestLogger(),
	}
}

// TestLogger logs warnings and worse to standard error.
func TestLogger() ghostferry.Logger {
	l := logrus.New()
	l.SetLevel(logrus.WarnLevel)
	return l
}

// Schemas is a TableFilter that takes all tables of some schemas.
type Schemas []string

// ApplicableDatabases returns the schemas.
func (s Schemas) ApplicableDatabases([]string) ([]string, error) { return s, nil }

// ApplicableTables returns all tables.
func (s Schemas) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return tables, nil
}

// Exec runs statements, separated by semicolons at line ends.
func Exec(t *testing.T, db *sql.DB, script string) {
	t.Helper()
	for _, stmt := range strings.Split(script, ";\n") {
		if strings.TrimSpace(stmt) == "" {
			continue
		}
		if _, err := db.ExecContext(context.Background(), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}

// Shop makes a seeded shop on the source and its empty tables on the target.
func (p *Pair) Shop(t *testing.T, database string, rows int) shop.Options {
	t.Helper()
	ctx := context.Background()
	o := shop.Options{Database: database, Seed: 1, Rows: rows}
	p.forgetRuns(t)
	for _, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
		if _, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS `"+database+"`"); err != nil {
			t.Fatal(err)
		}
		if err := shop.CreateSchema(ctx, db, database); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shop.Seed(ctx, p.SourceDB, o); err != nil {
		t.Fatal(err)
	}
	return o
}

// Write starts the shop's application on the source.
func (p *Pair) Write(t *testing.T, o shop.Options, rate int) *shop.Writer {
	t.Helper()
	w := shop.NewWriter(shop.WriterConfig{DB: p.SourceDB, Shop: o, Connections: 4, Rate: rate})
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = w.Stop() })
	return w
}

// StopWriter stops the application: the fence of a move.
func StopWriter(w *shop.Writer) func() error {
	return func() error {
		_, err := w.Stop()
		return err
	}
}

// MustEqual compares every row of the schemas on both sides.
func (p *Pair) MustEqual(t *testing.T, schemas ...string) {
	t.Helper()
	databases := map[string]string{}
	for _, s := range schemas {
		databases[s] = s
	}
	report, err := compare.Compare(context.Background(), p.SourceDB, p.TargetDB, compare.Options{Databases: databases})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Equal() {
		for _, d := range report.Differences[:min(20, len(report.Differences))] {
			t.Error(d)
		}
		t.Fatalf("source and target differ in %d rows", report.DifferenceCount)
	}
}

// Move runs a whole move with the given ferry: initialise, start, run, cut over when
// the rows are copied. fence stops the writers.
func Move(ctx context.Context, f *ghostferry.Ferry, fence func() error) error {
	if err := f.InitializeContext(ctx); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	if err := f.StartContext(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return RunStarted(ctx, f, fence)
}

func verify(f *ghostferry.Ferry) error {
	if f.Verifier == nil {
		return nil
	}
	result, err := f.Verifier.VerifyDuringCutover()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !result.DataCorrect {
		return result
	}
	return nil
}

// RunStarted is Move for a ferry that has been started. When it returns, so has the run.
func RunStarted(ctx context.Context, f *ghostferry.Ferry, fence func() error) error {
	run, end := context.WithCancel(ctx)
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(run) }()
	if err := f.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return <-ran
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"catch up", func() error { return f.WaitUntilBinlogStreamerCatchesUpContext(ctx) }},
		{"fence", fence},
		{"stop", func() error { return f.FlushBinlogAndStopStreamingContext(ctx) }},
	} {
		if err := step.do(); err != nil {
			end()
			return fmt.Errorf("%s: %w (run: %w)", step.name, err, <-ran)
		}
	}
	if err := <-ran; err != nil {
		return fmt.Errorf("run: %w", err)
	}
	verifyErr := verify(f)
	if err := f.StopTargetVerifierContext(ctx); err != nil {
		verifyErr = errors.Join(verifyErr, fmt.Errorf("target: %w", err))
	}
	return errors.Join(verifyErr, f.CheckLateWrites(ctx))
}
