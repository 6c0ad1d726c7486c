package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// carryAutoIncrement raises the next AUTO_INCREMENT values of the target to those of the
// source, when everything is on the target and the source's writers have stopped. Rows
// alone do not do it: values may have been used up by rows that are gone or were rolled
// back, and an application may have told others about them.
//
// A target that other tenants share keeps its own values: there the rows see to it.
func (f *Ferry) carryAutoIncrement(ctx context.Context) error {
	var tables []*TableSchema
	for _, t := range f.sortedTables() {
		for i := range t.Columns {
			if t.Columns[i].IsAuto && f.CopyFilter == nil {
				tables = append(tables, t)
				break
			}
		}
	}
	if len(tables) == 0 {
		return nil
	}
	source, err := openSession(ctx, f.SourceDB, f.sourceServer, server.Source, f.sourceServer.StatisticsSetup()...)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer source.discard()
	// Somebody's open transaction on the target must not hold up a cutover for ever.
	target, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target, append(f.targetServer.StatisticsSetup(), "SET lock_wait_timeout=30")...)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer target.discard()
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range tables {
		schema, table := names.table(t.Schema, t.Name)
		if err := f.raiseAutoIncrement(ctx, source.conn, target.conn, t, schema, table); err != nil {
			return &TableError{Schema: t.Schema, Table: t.Name, Err: fmt.Errorf("carrying the next AUTO_INCREMENT value over to %s: %w", sqlesc.Table(schema, table), err)}
		}
	}
	return nil
}

func (f *Ferry) raiseAutoIncrement(ctx context.Context, source, target *sql.Conn, t *TableSchema, schema, table string) error {
	there, err := nextAutoIncrement(ctx, source, t.Schema, t.Name)
	if err != nil {
		return err
	}
	here, err := nextAutoIncrement(ctx, target, schema, table)
	if err != nil {
		return err
	}
	if !here.Valid || here.V >= there.V { // a target's column without the attribute: preflight has warned
		return nil
	}
	if _, err := target.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", sqlesc.Table(schema, table), there.V)); err != nil {
		return fmt.Errorf("raising it from %d to %d: %w: grant the account ALTER, or let transactions on the table end, and run again", here.V, there.V, err)
	}
	f.logger.WithField(fieldTable, t.String()).Infof("the next AUTO_INCREMENT value is %d as on the source", there.V)
	return nil
}

// nextAutoIncrement returns the value that the next row of a table gets; not valid when
// the table has no such column.
func nextAutoIncrement(ctx context.Context, conn *sql.Conn, schema, table string) (next sqlorig.Null[uint64], err error) {
	err = conn.QueryRowContext(ctx, "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA=? AND TABLE_NAME=?", schema, table).Scan(&next)
	return next, err
}
