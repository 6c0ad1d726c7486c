package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// RowFilter is a [CopyFilter] that describes its rows by values of columns, such as one
// tenant's rows of tables that many share:
//
//	config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"tenant_id": {42}}}
//
// The library then knows the rows in SQL and in Go, and both answers are the same: a
// row that a change brings into the set is inserted on the target, one that it takes
// out is deleted. Every statement that changes the target carries the condition, so
// that no row of others can be touched; where one of theirs is in the way of ours, by
// its key or a unique value, ours waits for it when another run moves rows of that table
// and may be about to take it away; else the run ends with a *[TargetConflictError]. Tables are
// copied in parallel by the index that begins with the condition's columns, if there is
// one, and only rows of the set are compared.
//
// The set is what the source's server says: a column's collation decides which strings
// are equal. NULL is never in the set.
//
// Columns may be integers, character strings and binary strings; no generated ones.
// Values are Go integers or decimal text for the first, string or []byte for the
// others. For a BINARY(16) column the text of a UUID stands for its bytes.
type RowFilter struct {
	// Where is the condition of all tables that have none in Tables.
	Where RowCondition
	// Tables maps "schema.table" of the source to the condition of that table, instead
	// of Where. An empty condition takes the whole table.
	Tables map[string]RowCondition
}

// RowCondition maps columns to the values that they may have. A row has to satisfy all.
type RowCondition map[string][]any

// RowFilterer is implemented by a host's own CopyFilter to have tables treated as by a
// RowFilter.
type RowFilterer interface {
	CopyFilter
	// RowCondition returns a table's condition; nil leaves the table to the host's
	// BuildSelect and ApplicableEvent, an empty one takes it whole. It is asked once a
	// table.
	RowCondition(table *TableSchema) RowCondition
}

var _ RowFilterer = (*RowFilter)(nil)

// RowCondition returns a table's condition, nil when there is none.
func (r *RowFilter) RowCondition(table *TableSchema) RowCondition {
	if c, ok := r.Tables[table.String()]; ok {
		if c == nil {
			c = RowCondition{}
		}
		return c
	}
	if len(r.Where) == 0 {
		return nil
	}
	return r.Where
}

// scope returns the rows of a table: those of a Ferry's are resolved already, others
// without a server, which collated columns need.
func (r *RowFilter) scope(table *TableSchema) (*tableScope, error) {
	l, err := table.layout()
	if err != nil || l.scope != nil {
		return l.scopeOrNil(), err
	}
	c := r.RowCondition(table)
	if c == nil {
		return nil, nil
	}
	return newTableScope(context.Background(), table, l, c, nil)
}

// Predicate returns the condition of a table as SQL that is true for rows of the set,
// "TRUE" for a table without a condition. Column names are not qualified.
func (r *RowFilter) Predicate(table *TableSchema) (string, error) {
	s, err := r.scope(table)
	if err != nil || s == nil {
		return "TRUE", err
	}
	return s.predicate, nil
}

// BuildSelect returns DefaultBuildSelect's query with the condition.
func (r *RowFilter) BuildSelect(columns []string, table *TableSchema, last PaginationKey, batchSize uint64) (sq.SelectBuilder, error) {
	s, err := r.scope(table)
	query := DefaultBuildSelect(columns, table, last, batchSize)
	if err != nil || s == nil {
		return query, err
	}
	if s.index != "" {
		query = query.From(QuotedTableName(table) + " FORCE INDEX (" + sqlesc.Ident(s.index) + ")")
	}
	return query.Where(sq.Expr(strings.ReplaceAll(s.predicate, "?", "??"))), nil
}

// ApplicableEvent reports whether the row was in the set before the change or is after
// it.
func (r *RowFilter) ApplicableEvent(ev DMLEvent) (bool, error) {
	s, err := r.scope(ev.TableSchema())
	if err != nil || s == nil {
		return err == nil, err
	}
	was, is, err := s.images(context.Background(), ev)
	return was || is, err
}

// scopeTables resolves the filter against the tables that move. All faults are returned.
func (f *Ferry) scopeTables(ctx context.Context) error { return f.scope(ctx, f.Tables, false) }

// ScopeTables resolves the Ferry's row filter against tables that the host has loaded from
// the source by itself, after Initialize: statements about them then keep to their rows in
// the set. Those in Ferry.Tables are resolved already. Without a row filter it does nothing.
func (f *Ferry) ScopeTables(ctx context.Context, tables TableSchemaCache) error {
	return f.scope(ctx, tables, true)
}

// scope is scopeTables for other tables, some of those that the filter knows when some is
// set.
func (f *Ferry) scope(ctx context.Context, tables TableSchemaCache, some bool) error {
	filter, ok := f.CopyFilter.(RowFilterer)
	if !ok {
		return nil
	}
	var faults []error
	if r, ok := filter.(*RowFilter); ok && !some {
		for _, name := range sortedNames(r.Tables) {
			if tables[name] == nil {
				faults = append(faults, &ConfigError{Field: "CopyFilter", Problem: "the row filter has a condition for table " + name + ", which does not move", Remedy: "write \"schema.table\" of the source, or have the TableFilter choose it"})
			}
		}
	}
	server := &collationRules{db: f.SourceDB, patience: f.sourcePatience}
	for _, name := range sortedNames(tables) {
		t := tables[name]
		l, err := t.layout()
		c := filter.RowCondition(t)
		if err != nil || l.scope != nil || c == nil {
			continue // a fault of the table is reported as such
		}
		s, err := newTableScope(ctx, t, l, c, server)
		if err != nil {
			faults = append(faults, &TableError{Schema: t.Schema, Table: t.Name, Err: err})
			continue
		}
		t.setScope(l, s)
		if s.slow(t) {
			f.logger.WithField(fieldTable, t.String()).Warn("no index begins with the row filter's columns: the whole table is read to find the rows, add one")
		}
	}
	return errors.Join(faults...)
}

// setScope makes every statement about the table keep to the scope.
func (t *TableSchema) setScope(l *tableLayout, s *tableScope) {
	scoped := *l
	scoped.scope, scoped.replaced = s, true
	t.cachedLayout.Store(&scoped)
}

func (l *tableLayout) scopeOrNil() *tableScope {
	if l == nil {
		return nil
	}
	return l.scope
}

// findScopeIndexes looks which of the indexes that scopes are read by the target has
// under the same name.
func (f *Ferry) findScopeIndexes(ctx context.Context) error {
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range f.sortedTables() {
		l, err := t.layout()
		if err != nil || l.scope == nil || l.scope.index == "" {
			continue
		}
		schema, table := names.table(t.Schema, t.Name)
		there, err := hasIndex(ctx, f.TargetDB, TableIdentifier{schema, table}, l.scope.index)
		if err != nil {
			return fmt.Errorf("looking for index %s on the target's %s: %w", l.scope.index, sqlesc.Table(schema, table), err)
		}
		l.scope.onTarget.Store(there)
	}
	return nil
}

// hasIndex reports whether a table has an index of that name.
func hasIndex(ctx context.Context, db *sql.DB, table TableIdentifier, index string) (there bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM information_schema.STATISTICS WHERE TABLE_SCHEMA=? AND TABLE_NAME=? AND INDEX_NAME=?)",
		table.SchemaName, table.TableName, index).Scan(&there)
	return there, err
}
