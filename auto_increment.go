package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
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
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	from, to := make([]TableIdentifier, len(tables)), make([]TableIdentifier, len(tables))
	for i, t := range tables {
		from[i] = NewTableIdentifierFromSchemaTable(t)
		to[i].SchemaName, to[i].TableName = names.table(t.Schema, t.Name)
	}
	var there, here []sqlorig.Null[uint64]
	var raises []autoIncrementRaise
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		there, err = nextAutoIncrements(groupCtx, f.sourcePatience, f.SourceDB, f.sourceServer, server.Source, from)
		return err
	})
	group.Go(func() (err error) {
		here, err = nextAutoIncrements(groupCtx, f.targetPatience, f.TargetDB, f.targetServer, server.Target, to)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	// One that the target has raised before its connection broke is raised once more, to the same.
	for i, t := range tables {
		if here[i].Valid && here[i].V < there[i].V { // not a target's column without the attribute: preflight has warned
			raises = append(raises, autoIncrementRaise{t, to[i], here[i].V, there[i].V})
		}
	}
	return throughOutages(ctx, f.targetPatience, func(ctx context.Context) error {
		if len(raises) == 0 {
			return nil
		}
		target, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		defer target.discard()
		// Somebody's open transaction on the target must not hold up a cutover for ever.
		if _, err := target.execText(ctx, "SET lock_wait_timeout=30"); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for ; len(raises) > 0; raises = raises[1:] {
			if err := raises[0].execute(ctx, target); err != nil {
				return err
			}
			f.logger.WithField(fieldTable, raises[0].table.String()).Infof("the next AUTO_INCREMENT value is %d as on the source", raises[0].to)
		}
		return nil
	})
}

// throughOutages repeats do while the server cannot be used. What collides with others is not
// repeated: the writers wait.
func throughOutages(ctx context.Context, p *patience, do func(ctx context.Context) error) error {
	return p.doWhile(ctx, 1, func(error) bool { return false }, func(ctx context.Context, _ int) error { return do(ctx) })
}

// autoIncrementRaise is a table of the target whose next AUTO_INCREMENT value is less than the source's.
type autoIncrementRaise struct {
	table    *TableSchema
	name     TableIdentifier // on the target
	from, to uint64
}

func (r *autoIncrementRaise) execute(ctx context.Context, target *session) error {
	name := sqlesc.Table(r.name.SchemaName, r.name.TableName)
	_, err := target.conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", name, r.to))
	if err == nil {
		return nil
	}
	remedy := ""
	switch mysqlerr.Classify(err) {
	case mysqlerr.AccessDenied:
		remedy = ": grant the account ALTER, and run again"
	case mysqlerr.LockWait:
		remedy = ": let transactions on the table end, and run again"
	}
	return &TableError{Schema: r.table.Schema, Table: r.table.Name, Err: fmt.Errorf("raising the next AUTO_INCREMENT value of %s from %d to %d, the source's: %w%s", name, r.from, r.to, err, remedy)}
}

// nextAutoIncrements asks a server in a session of its own.
func nextAutoIncrements(ctx context.Context, p *patience, db *sql.DB, srv *server.Server, role server.Role, tables []TableIdentifier) (values []sqlorig.Null[uint64], err error) {
	err = throughOutages(ctx, p, func(ctx context.Context) error {
		s, err := openSession(ctx, db, srv, role, srv.StatisticsSetup()...)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		defer s.discard()
		if values, err = readAutoIncrements(ctx, s.conn, srv, tables); err != nil {
			return fmt.Errorf("reading the next AUTO_INCREMENT values of the %s: %w", p.name(), err)
		}
		return nil
	})
	return values, err
}

// readAutoIncrements returns the values that the next rows of tables get, not valid where a
// table has no such column. The server opens every table that it is asked for: it is asked for each
// by its name, which MariaDB needs in a SELECT of its own to open no other, and in few statements.
func readAutoIncrements(ctx context.Context, conn *sql.Conn, srv *server.Server, tables []TableIdentifier) ([]sqlorig.Null[uint64], error) {
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
			table := fmt.Sprintf("TABLE_SCHEMA=%s AND TABLE_NAME=%s", sqlesc.String(tables[i].SchemaName), sqlesc.String(tables[i].TableName))
			next := "AUTO_INCREMENT"
			if !srv.IsMariaDB() { // MySQL 8 has no value of a table that never had a row
				next = "COALESCE(AUTO_INCREMENT, (SELECT 1 FROM information_schema.COLUMNS WHERE " + table + " AND EXTRA LIKE '%auto_increment%'))"
			}
			selects = append(selects, fmt.Sprintf("SELECT %d, %s FROM information_schema.TABLES WHERE %s", i, next, table))
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
