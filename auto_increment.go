package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

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
	target, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target, f.targetServer.StatisticsSetup()...)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer target.discard()
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	from, to := make([]TableIdentifier, len(tables)), make([]TableIdentifier, len(tables))
	for i, t := range tables {
		from[i] = NewTableIdentifierFromSchemaTable(t)
		to[i].SchemaName, to[i].TableName = names.table(t.Schema, t.Name)
	}
	var there, here []sqlorig.Null[uint64]
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		if there, err = nextAutoIncrements(groupCtx, source.conn, from); err != nil {
			return fmt.Errorf("reading the next AUTO_INCREMENT values of the source: %w", err)
		}
		return nil
	})
	group.Go(func() (err error) {
		if here, err = nextAutoIncrements(groupCtx, target.conn, to); err != nil {
			return fmt.Errorf("reading the next AUTO_INCREMENT values of the target: %w", err)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	// Somebody's open transaction on the target must not hold up a cutover for ever. Not before: of
	// a table that it cannot open in time the server would tell that it has no such column.
	if _, err := target.execText(ctx, "SET lock_wait_timeout=30"); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	for i, t := range tables {
		if !here[i].Valid || here[i].V >= there[i].V { // a target's column without the attribute: preflight has warned
			continue
		}
		if _, err := target.conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", sqlesc.Table(to[i].SchemaName, to[i].TableName), there[i].V)); err != nil {
			return &TableError{Schema: t.Schema, Table: t.Name, Err: fmt.Errorf("raising the next AUTO_INCREMENT value of %s from %d to %d, the source's: %w: grant the account ALTER, or let transactions on the table end, and run again",
				sqlesc.Table(to[i].SchemaName, to[i].TableName), here[i].V, there[i].V, err)}
		}
		f.logger.WithField(fieldTable, t.String()).Infof("the next AUTO_INCREMENT value is %d as on the source", there[i].V)
	}
	return nil
}

// nextAutoIncrements returns the values that the next rows of tables get, not valid where a
// table has no such column. The server opens every table that it is asked for: it is asked for each
// by its name, which MariaDB needs in a SELECT of its own to open no other, and in few statements.
func nextAutoIncrements(ctx context.Context, conn *sql.Conn, tables []TableIdentifier) ([]sqlorig.Null[uint64], error) {
	const perStatement = 50
	values, found := make([]sqlorig.Null[uint64], len(tables)), make([]bool, len(tables))
	read := func(statement string) error {
		rows, err := conn.QueryContext(ctx, statement)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i int
			var next sqlorig.Null[uint64]
			if err := rows.Scan(&i, &next); err != nil {
				return err
			}
			values[i], found[i] = next, true
		}
		return rows.Err()
	}
	for first := 0; first < len(tables); first += perStatement {
		var selects []string
		for i := first; i < min(first+perStatement, len(tables)); i++ {
			selects = append(selects, fmt.Sprintf("SELECT %d, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA=%s AND TABLE_NAME=%s",
				i, sqlesc.String(tables[i].SchemaName), sqlesc.String(tables[i].TableName)))
		}
		if err := read(strings.Join(selects, " UNION ALL ")); err != nil {
			return nil, err
		}
	}
	if i := slices.Index(found, false); i >= 0 {
		return nil, fmt.Errorf("%s is not there any more", sqlesc.Table(tables[i].SchemaName, tables[i].TableName))
	}
	return values, nil
}
