package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

const (
	shopSchema = "shop"
	// workers and chunkRows bound what a kill can make the mover copy again.
	workers   = 4
	chunkRows = 40
)

// world is two servers, the applications on the source, and what is known about both.
type world struct {
	*console
	flavour   servers.Flavour
	seed      uint64
	directory string
	program   string // the mover's
	config    string // its configuration file

	source, target     *servers.Server
	sourceDB, targetDB *sql.DB
	apps               *apps
	hooks              *hooks
	checker            *checker

	copied struct {
		sync.Mutex
		keys     map[string]map[string]struct{} // rows that movers were about to write, by table
		again    int                            // how many of them more than once
		distinct int
	}
}

// newWorld starts everything but a mover. rows is about how many the shop has; the
// target gets flags of its own.
func newWorld(ctx context.Context, screen *console, flavour servers.Flavour, rows int, seed uint64, rate int, targetFlags ...string) (w *world, err error) {
	w = &world{console: screen, flavour: flavour, seed: seed}
	w.copied.keys = map[string]map[string]struct{}{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.directory, err = os.MkdirTemp("", "ghostferry-stress-"); err != nil {
		return w, err
	}
	if w.program, err = os.Executable(); err != nil {
		return w, err
	}
	o := servers.Options{
		Flavour: flavour, GTID: true, Log: screen,
		// What a killed server has acknowledged must be there when it comes back.
		Flags: []string{"--max-binlog-size=1M", "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"},
	}
	target := o
	target.Flags = slices.Concat(o.Flags, targetFlags)
	if w.source, w.target, err = servers.StartPair(ctx, o, target); err != nil {
		return w, err
	}
	if w.sourceDB, err = w.source.DB(ctx); err != nil {
		return w, err
	}
	if w.targetDB, err = w.target.DB(ctx); err != nil {
		return w, err
	}
	options := shop.Options{Database: shopSchema, Seed: seed, Rows: rows}
	if err = w.fill(ctx, options); err != nil {
		return w, err
	}
	if w.apps, err = startApps(ctx, w.sourceDB, options, seed, rate); err != nil {
		return w, err
	}
	if w.hooks, err = startHooks(ctx, w.apps); err != nil {
		return w, err
	}
	return w, w.writeConfig()
}

// fill makes the rows of both applications, and a version of every row.
func (w *world) fill(ctx context.Context, options shop.Options) error {
	if err := shop.CreateSchema(ctx, w.sourceDB, shopSchema); err != nil {
		return err
	}
	conn, err := w.sourceDB.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	for _, stmt := range append([]string{"CREATE DATABASE " + swaps + " DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", "USE " + swaps}, swapTables...) {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%s: %w", stmt, err)
		}
	}
	keys, err := readKeys(ctx, w.sourceDB, shopSchema, swaps)
	if err != nil {
		return err
	}
	for _, t := range keys.tables {
		for _, stmt := range stampStatements(t) {
			if _, err := conn.ExecContext(ctx, stmt); err != nil {
				return fmt.Errorf("%s: %w", stmt, err)
			}
		}
	}
	if err := fillSwaps(ctx, conn); err != nil {
		return err
	}
	if _, err := shop.Seed(ctx, w.sourceDB, options); err != nil {
		return err
	}
	at, err := logEnd(ctx, w.sourceDB, w.flavour)
	if err != nil {
		return err
	}
	w.checker = &checker{
		flavour: w.flavour, keys: keys, source: w.sourceDB, target: w.targetDB,
		history: &history{flavour: w.flavour, server: w.source, keys: keys, from: at, changes: map[string]map[string][]change{}},
	}
	return nil
}

// stampStatements give every image of a table's rows a version of its own.
func stampStatements(t *table) []string {
	schema, name, _ := strings.Cut(t.name, ".")
	stmts := []string{"ALTER TABLE " + t.quoted + " ADD COLUMN stamp BIGINT UNSIGNED NOT NULL DEFAULT 0"}
	for _, event := range []string{"INSERT", "UPDATE"} {
		stmts = append(stmts, fmt.Sprintf("CREATE TRIGGER `%s`.`%s_%s` BEFORE %[3]s ON %[4]s FOR EACH ROW SET NEW.stamp = UUID_SHORT()", schema, name, event, t.quoted))
	}
	return stmts
}

func (w *world) writeConfig() error {
	at := func(s *servers.Server) map[string]any {
		return map[string]any{"Host": s.Host, "Port": s.Port, "User": s.User(), "Pass": s.Password()}
	}
	uri := func(path string) map[string]any { return map[string]any{"URI": w.hooks.address + path} }
	text, err := json.Marshal(map[string]any{
		"Source": at(w.source), "Target": at(w.target), "Databases": map[string]any{"Whitelist": []string{shopSchema, swaps}},
		"CutoverLock": uri("/lock"), "CutoverUnlock": uri("/unlock"), "CutoverAbort": uri("/abort"),
		"DeferSecondaryIndexes": w.deferring(), "DeferSecondaryIndexesMinBytes": 1,
		"DataIterationBatchSize": chunkRows, "DataIterationConcurrency": workers, "DBWriteRetries": 12, "TailGuardSeconds": -1,
	})
	if err != nil {
		return err
	}
	w.config = filepath.Join(w.directory, "copydb.json")
	return os.WriteFile(w.config, text, 0o600)
}

// deferring is when the target gets its indexes: by the seed with the rows or after them.
func (w *world) deferring() string {
	return []string{ghostferry.DeferIndexesOff, ghostferry.DeferIndexesAll}[w.seed%2]
}

// start starts a mover: always with the same command.
func (w *world) start(environment ...string) (*mover, error) {
	return startMover(w.program, w.config, environment, w.reads)
}

// remember takes from a mover that has ended, or still runs, where the run began.
func (w *world) remember(m *mover) error {
	m.state.Lock()
	begins := m.state.begins
	m.state.Unlock()
	if begins == nil {
		return nil
	}
	var err error
	w.checker.began, err = newPrefix(w.flavour, *begins)
	return err
}

// reads counts rows that a mover is about to write.
func (w *world) reads(table string, keys []string) {
	w.copied.Lock()
	defer w.copied.Unlock()
	seen := w.copied.keys[table]
	if seen == nil {
		seen = map[string]struct{}{}
		w.copied.keys[table] = seen
	}
	for _, key := range keys {
		if _, again := seen[key]; again {
			w.copied.again++
			continue
		}
		seen[key] = struct{}{}
		w.copied.distinct++
	}
}

func (w *world) rowsRead() (distinct, again int) {
	w.copied.Lock()
	defer w.copied.Unlock()
	return w.copied.distinct, w.copied.again
}

// check judges what lies on the target, with the applications paused meanwhile.
func (w *world) check(ctx context.Context) error {
	if err := w.apps.pause(ctx); err != nil {
		return err
	}
	defer w.apps.resume()
	before := len(w.checker.violations)
	if err := w.checker.check(ctx); err != nil {
		return fmt.Errorf("judging the target: %w", err)
	}
	for i, v := range w.checker.violations[before:] {
		if i == 5 {
			w.printf("UNSOUND    … and %d more", len(w.checker.violations)-before-i)
			break
		}
		w.printf("UNSOUND    %s", v)
	}
	return nil
}

// compare reads every row of both servers; nobody writes any more.
func (w *world) compare(ctx context.Context) (*compare.Report, error) {
	report, err := compare.Compare(ctx, w.sourceDB, w.targetDB, compare.Options{
		Databases: map[string]string{shopSchema: shopSchema, swaps: swaps},
	})
	if err != nil {
		return nil, err
	}
	for _, d := range report.Differences[:min(20, len(report.Differences))] {
		w.printf("DIFFERENT  %v", d)
	}
	return report, nil
}

// close ends everything and removes it.
func (w *world) close() error {
	var errs []error
	if w.apps != nil {
		errs = append(errs, w.apps.stop())
	}
	if w.hooks != nil {
		w.hooks.stop()
	}
	for _, s := range []*servers.Server{w.source, w.target} {
		if s != nil {
			_ = s.Kill() // nothing in it is needed any more
			errs = append(errs, s.Stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(w.directory))...)
}
