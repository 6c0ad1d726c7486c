package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ghostferry-go/ghostferry"
)

// foreignWrites changes single rows of the target by statements that are in its log: the
// target verifier has to name each, whatever moment it is.
func (l *lab) foreignWrites(ctx context.Context, tables []mutatedTable, total *counts) error {
	t := tables[0]
	name := schema + "." + t.name
	for _, when := range []moment{atCopy, between, during} {
		for _, c := range []struct{ statement, change, key string }{
			{"UPDATE " + name + " SET touched = touched + 1 WHERE id = 3", "update", "3"},
			{"DELETE FROM " + name + " WHERE id = 6", "delete", "6"},
			{t.row(addedRow, "NULL", "NULL"), "insert", fmt.Sprint(addedRow)},
		} {
			err := l.foreignWrite(ctx, tables, when, c.statement)
			var here counts
			here.Mutations = 1
			foreign, ok := errors.AsType[*ghostferry.ForeignWriteError](err)
			switch {
			case !ok:
				progress("  MISSED: a foreign %s %s: %v", c.change, when, err)
			case foreign.Change != c.change || foreign.Key != c.key || foreign.Table != t.name:
				here.WrongKeyOrKind = 1
				progress("  WRONG: a foreign %s %s: %v", c.change, when, err)
			default:
				here.Caught = 1
			}
			total.add(here)
			progress("target verifier: a foreign %s, %s: %d of 1", c.change, when, here.Caught)
		}
	}
	return nil
}

// foreignWrite runs a move and the statement at its moment, and returns the move's error.
func (l *lab) foreignWrite(ctx context.Context, tables []mutatedTable, when moment, statement string) error {
	if err := l.makeTables(ctx, tables); err != nil {
		return err
	}
	if _, err := l.targetDB.ExecContext(ctx, "DROP DATABASE IF EXISTS _ghostferry"); err != nil {
		return err
	}
	f := &ghostferry.Ferry{Config: l.config(ghostferry.VerifierTypeNoVerification, schema)}
	if err := f.InitializeContext(ctx); err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.StartContext(ctx); err != nil {
		return err
	}
	var once sync.Once
	write := func() (err error) {
		once.Do(func() { err = execute(ctx, l.targetDB, false, statement) })
		return err
	}
	at := func(wanted moment) func() error {
		return func() error {
			if when != wanted {
				return nil
			}
			return write()
		}
	}
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return at(atCopy)() })
	f.DataIterator.AddDoneListener(at(between))
	return move(ctx, f, func() error { return nil }, at(during))
}
