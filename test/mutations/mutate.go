package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// moment says when rows are changed.
type moment string

const (
	beforeCopy moment = "before a batch is written" // the copy finds wrong rows on the target
	atCopy     moment = "at copy time"              // behind the batch that has the rows
	between    moment = "between copy and cutover"
	during     moment = "during the cutover"
)

// scenario is one move with all mutations at one moment on one side.
type scenario struct {
	verifier string
	when     moment
	onTarget bool
	// touched: an application changes the rows as well. What was neither copied nor
	// changed is not for the inline verifier.
	touched bool
}

// scenarios are the moments that each verifier answers for.
func scenarios() []scenario {
	var all []scenario
	for _, onTarget := range []bool{true, false} {
		for _, when := range []moment{atCopy, between, during} {
			all = append(all, scenario{ghostferry.VerifierTypeOnline, when, onTarget, false}, scenario{ghostferry.VerifierTypeChecksumTable, when, onTarget, false})
			if when != during {
				all = append(all, scenario{ghostferry.VerifierTypeIterative, when, onTarget, false})
			}
			if when != atCopy {
				all = append(all, scenario{ghostferry.VerifierTypeInline, when, onTarget, true})
			}
		}
	}
	return append(all, scenario{ghostferry.VerifierTypeInline, beforeCopy, true, false}, scenario{ghostferry.VerifierTypeIterative, during, true, true}, scenario{ghostferry.VerifierTypeIterative, during, false, true})
}

func (s scenario) String() string {
	side := "source"
	if s.onTarget {
		side = "target"
	}
	return fmt.Sprintf("%s: on the %s, %s", s.verifier, side, s.when)
}

// mutateAll runs every scenario on a flavour.
func mutateAll(ctx context.Context, flavour servers.Flavour, total *counts) (err error) {
	progress("starting two %s servers", flavour)
	l, err := newLab(ctx, flavour)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	tables := mutatedTables(flavour)
	for _, s := range scenarios() {
		if err := l.run(ctx, s, tables, total); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return l.foreignWrites(ctx, tables[:1], total)
}

// mutator changes every table once.
type mutator struct {
	ctx        context.Context
	db         *sql.DB
	statements func(mutatedTable) []string

	mu   sync.Mutex
	done map[string]bool
}

func (m *mutator) mutate(tables ...mutatedTable) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range tables {
		if m.done[t.name] {
			continue
		}
		m.done[t.name] = true
		if err := execute(m.ctx, m.db, true, m.statements(t)...); err != nil {
			return err
		}
	}
	return nil
}

// run moves the tables with a live shop beside them, mutates, and judges what is told.
func (l *lab) run(ctx context.Context, s scenario, tables []mutatedTable, total *counts) error {
	if err := l.makeTables(ctx, tables); err != nil {
		return err
	}
	o, err := l.makeShop(ctx, 1500)
	if err != nil {
		return err
	}
	w, err := l.write(ctx, o, 100)
	if err != nil {
		return err
	}
	defer func() { _, _ = w.Stop() }()

	m := &mutator{ctx: ctx, db: l.sourceDB, statements: mutatedTable.statements, done: map[string]bool{}}
	if s.onTarget {
		m.db = l.targetDB
	}
	config := l.config(s.verifier, schema, shopSchema)
	config.SkipTargetVerification = true // the statements are not in the log
	config.OnlineVerifierConfig.CompareAllDuringCutover = s.when == during && s.verifier == ghostferry.VerifierTypeOnline
	config.InlineVerifierConfig.VerifyBinlogEventsInterval = "1h" // what is touched late stays queued
	f := &ghostferry.Ferry{Config: config}
	if err := f.InitializeContext(ctx); err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if s.when == beforeCopy {
		m.statements = mutatedTable.before
		f.DataIterator.AddBatchListener(m.listener(tables))
	}
	if err := f.StartContext(ctx); err != nil {
		return err
	}
	if s.when == atCopy {
		f.DataIterator.AddBatchListener(m.listener(tables))
	}
	if s.when == between {
		f.DataIterator.AddDoneListener(func() error {
			if err := l.touch(ctx, s, tables); err != nil {
				return err
			}
			return m.mutate(tables...)
		})
	}
	fence := func() error {
		_, err := w.Stop()
		if err == nil && s.when == during {
			err = l.touch(ctx, s, tables)
		}
		return err
	}
	stopped := func() error {
		if s.when == during {
			return m.mutate(tables...)
		}
		return nil
	}
	err = move(ctx, f, fence, stopped)
	if _, different := errors.AsType[ghostferry.VerificationResult](err); err != nil && !different {
		return err
	}
	l.judge(s, f, tables, total)
	return nil
}

// listener mutates a table when its batch passes.
func (m *mutator) listener(tables []mutatedTable) func(*ghostferry.RowBatch) error {
	return func(b *ghostferry.RowBatch) error {
		for _, t := range tables {
			if b.TableSchema().Schema == schema && b.TableSchema().Name == t.name {
				return m.mutate(t)
			}
		}
		return nil
	}
}

// touch changes the rows in a column that nobody mutates, as an application does: in
// the log, and applied. A row that is to be added is inserted and deleted.
func (l *lab) touch(ctx context.Context, s scenario, tables []mutatedTable) error {
	if !s.touched {
		return nil
	}
	for _, t := range tables {
		name := schema + "." + t.name
		err := execute(ctx, l.sourceDB, false, "UPDATE "+name+" SET touched = touched + 1",
			fmt.Sprintf("INSERT INTO %s (id) VALUES (%d)", name, addedRow), fmt.Sprintf("DELETE FROM %s WHERE id = %d", name, addedRow))
		if err != nil {
			return err
		}
	}
	return nil
}

// makeTables makes the tables anew, filled on the source.
func (l *lab) makeTables(ctx context.Context, tables []mutatedTable) error {
	statements := []string{"DROP DATABASE IF EXISTS " + schema, "CREATE DATABASE " + schema + " CHARACTER SET utf8mb4"}
	var rows []string
	for _, t := range tables {
		statements = append(statements, t.create())
		rows = append(rows, t.rows()...)
	}
	if err := execute(ctx, l.targetDB, false, statements...); err != nil {
		return err
	}
	statements = append(append(append(statements, "BEGIN"), rows...), "COMMIT")
	return execute(ctx, l.sourceDB, false, statements...)
}

// judge compares what the verifier names with what was done.
func (l *lab) judge(s scenario, f *ghostferry.Ferry, tables []mutatedTable, total *counts) {
	expected := map[string]mutation{}
	for _, t := range tables {
		for _, m := range t.mutations() {
			if s.when == beforeCopy && (m.missing || m.added) {
				continue // only rows that stand in the way
			}
			expected[m.table+" "+m.key] = m
		}
	}
	var here counts
	here.Mutations = len(expected)
	verifier, _ := f.Verifier.(interface {
		Mismatches() []ghostferry.OnlineVerifierMismatch
	})
	for _, found := range verifier.Mismatches() {
		name := found.Table + " " + found.Key
		m, ok := expected[name]
		switch {
		case !ok:
			here.FalseAlarms++
			progress("  FALSE ALARM %s: %s", name, found.Kind)
		case string(found.Kind) != m.kind(s.onTarget) || found.ColumnNames() != m.columns:
			here.WrongKeyOrKind++
			progress("  WRONG %s: %s in [%s] (type %s)", name, found.Kind, found.ColumnNames(), typeOf(tables, found.Table))
		default:
			here.Caught++
		}
		delete(expected, name)
	}
	for name := range expected {
		progress("  MISSED %s", name)
	}
	progress("%s: %d of %d", s, here.Caught, here.Mutations)
	total.add(here)
}

func typeOf(tables []mutatedTable, name string) string {
	for _, t := range tables {
		if strings.HasSuffix(name, "."+t.name) {
			return t.value.Decl
		}
	}
	return "?"
}

func (c *counts) add(other counts) {
	c.Mutations += other.Mutations
	c.Caught += other.Caught
	c.WrongKeyOrKind += other.WrongKeyOrKind
	c.FalseAlarms += other.FalseAlarms
}
