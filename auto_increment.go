package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
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
	// Somebody's open transaction on the target must not hold up a cutover for ever.
	target, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target, append(f.targetServer.StatisticsSetup(), "SET lock_wait_timeout=30")...)
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
		there, err = nextAutoIncrements(groupCtx, source.conn, f.sourceServer, from)
		return err
	})
	group.Go(func() (err error) {
		here, err = nextAutoIncrements(groupCtx, target.conn, f.targetServer, to)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	for i, t := range tables {
		if !here[i].Valid || here[i].V >= there[i].V { // a target's column without the attribute: preflight has warned
			continue
		}
		if _, err := target.conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", sqlesc.Table(to[i].SchemaName, to[i].TableName), there[i].V)); err != nil {
			return autoIncrementError(from[i], fmt.Errorf("raising that of %s from %d to %d: %w: grant the account ALTER, or let transactions on the table end, and run again",
				sqlesc.Table(to[i].SchemaName, to[i].TableName), here[i].V, there[i].V, err))
		}
		f.logger.WithField(fieldTable, t.String()).Infof("the next AUTO_INCREMENT value is %d as on the source", there[i].V)
	}
	return nil
}

func autoIncrementError(table TableIdentifier, err error) error {
	return &TableError{Schema: table.SchemaName, Table: table.TableName, Err: fmt.Errorf("carrying the next AUTO_INCREMENT value over: %w", err)}
}

// nextAutoIncrements returns the values that the next rows of tables get; not valid where a
// table has no such column. The server opens every table of which it is asked, and MariaDB
// all of a schema unless it is asked for one by name: many are asked for by their schema.
func nextAutoIncrements(ctx context.Context, conn *sql.Conn, srv *server.Server, tables []TableIdentifier) ([]sqlorig.Null[uint64], error) {
	const few = 8 // of a schema
	values := make([]sqlorig.Null[uint64], len(tables))
	bySchema := map[string]map[string]int{}
	fold := func(name string) string {
		if srv.LowerCaseTableNames != 0 {
			return strings.ToLower(name)
		}
		return name
	}
	for i, t := range tables {
		if bySchema[t.SchemaName] == nil {
			bySchema[t.SchemaName] = map[string]int{}
		}
		bySchema[t.SchemaName][fold(t.TableName)] = i
	}
	for schema, indexes := range bySchema {
		found := make(map[string]bool, len(indexes))
		read := func(where string, args ...any) error {
			rows, err := conn.QueryContext(ctx, "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA=?"+where, append([]any{schema}, args...)...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var name string
				var next sqlorig.Null[uint64]
				if err := rows.Scan(&name, &next); err != nil {
					return err
				}
				if i, ok := indexes[fold(name)]; ok {
					values[i], found[fold(name)] = next, true
				}
			}
			return rows.Err()
		}
		var err error
		if len(indexes) > few {
			err = read("")
		} else {
			for _, i := range indexes {
				err = errors.Join(err, read(" AND TABLE_NAME=?", tables[i].TableName))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("reading the next AUTO_INCREMENT values of schema %s: %w", schema, err)
		}
		for name, i := range indexes {
			if !found[name] {
				return nil, autoIncrementError(tables[i], sqlorig.ErrNoRows)
			}
		}
	}
	return values, nil
}
