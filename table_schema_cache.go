package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
	"strings"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// TableSchemaCache is the set of tables to move, by "schema.table" of the source.
type TableSchemaCache map[string]*TableSchema

// AsSlice lists the tables in no particular order; nil when there are none.
func (c TableSchemaCache) AsSlice() (tables []*TableSchema) {
	for _, table := range c {
		tables = append(tables, table)
	}
	return tables
}

// AllTableNames lists the names in no particular order; nil when there are none.
func (c TableSchemaCache) AllTableNames() (tableNames []string) {
	for name := range c {
		tableNames = append(tableNames, name)
	}
	return tableNames
}

// Get returns the table, or nil: `a`.`b.c` is not `a.b`.`c`, though both are "a.b.c" here.
func (c TableSchemaCache) Get(database, table string) *TableSchema {
	t := c[fullTableName(database, table)]
	if t != nil && t.Table != nil && (t.Schema != database || t.Name != table) {
		return nil
	}
	return t
}

// GetTableListWithPriority lists all names, those of the priority list first and in
// its order. Names that are not in the cache, and repeated ones, are left out.
func (c TableSchemaCache) GetTableListWithPriority(priorityList []string) (prioritizedTableNames []string) {
	listed := make(map[string]bool, len(priorityList))
	for _, name := range priorityList {
		if _, known := c[name]; known && !listed[name] {
			listed[name] = true
			prioritizedTableNames = append(prioritizedTableNames, name)
		}
	}
	for _, name := range sortedNames(c) {
		if !listed[name] {
			prioritizedTableNames = append(prioritizedTableNames, name)
		}
	}
	return prioritizedTableNames
}

func fullTableName(schemaName, tableName string) string { return schemaName + "." + tableName }

// NonExistingPaginationKeyColumnError says that a configured column does not exist. It
// is a [*NoUsableKeyError].
func NonExistingPaginationKeyColumnError(schema, table, paginationKey string) error {
	return &NoUsableKeyError{Schema: schema, Table: table, Column: paginationKey,
		Reason: fmt.Sprintf("the configured column %s does not exist", QuoteField(paginationKey))}
}

// NonExistingPaginationKeyError says that a table has no key to walk it by. It is a
// [*NoUsableKeyError].
func NonExistingPaginationKeyError(schema, table string) error {
	return &NoUsableKeyError{Schema: schema, Table: table}
}

// NonNumericPaginationKeyError says that a key column is not an integer. LoadTables
// accepts other types too; the error is for hosts that do not.
func NonNumericPaginationKeyError(schema, table, paginationKey string) error {
	return &NoUsableKeyError{Schema: schema, Table: table, Column: paginationKey,
		Reason: fmt.Sprintf("column %s is non-numeric", QuoteField(paginationKey))}
}

// NonBinaryCollationError says that a text column is not compared by bytes. LoadTables
// accepts such columns; the error is for hosts that do not.
func NonBinaryCollationError(schema, table, paginationKey, collation string) error {
	return &NoUsableKeyError{Schema: schema, Table: table, Column: paginationKey,
		Reason: fmt.Sprintf("column %s has non-binary collation '%s'", QuoteField(paginationKey), collation)}
}

// LoadTables is [LoadTablesContext] without a context.
func LoadTables(db *sql.DB, tableFilter TableFilter, columnCompressionConfig ColumnCompressionConfig, columnIgnoreConfig ColumnIgnoreConfig, forceIndexConfig ForceIndexConfig, cascadingPaginationColumnConfig *CascadingPaginationColumnConfig) (TableSchemaCache, error) {
	return LoadTablesContext(context.Background(), db, tableFilter, columnCompressionConfig, columnIgnoreConfig, forceIndexConfig, cascadingPaginationColumnConfig)
}

// LoadTablesContext reads the definitions of the tables that the filter selects, and
// chooses the key of each: the configured column, the primary key, the configured
// fallback column, or a unique index of whole NOT NULL columns, in this order; a primary
// key or an index of FLOAT, DOUBLE or the beginning of a column is passed over. It reads
// whole schemas at a time, with a constant number of statements each.
//
// System schemas are not offered to the filter; views and sequences are no tables. An
// error of the filter is returned as it is (wrapped). Every selected table without a
// usable key or of an unsupported kind is reported, joined: *[NoUsableKeyError],
// *[UnsupportedTableError]. A filter that selects nothing is an *[EmptySelectionError].
// With an error there is no cache.
func LoadTablesContext(ctx context.Context, db *sql.DB, tableFilter TableFilter, columnCompressionConfig ColumnCompressionConfig, columnIgnoreConfig ColumnIgnoreConfig, forceIndexConfig ForceIndexConfig, cascadingPaginationColumnConfig *CascadingPaginationColumnConfig) (TableSchemaCache, error) {
	cache, faults, err := loadSelectedTables(ctx, db, tableFilter, columnCompressionConfig, columnIgnoreConfig, forceIndexConfig, cascadingPaginationColumnConfig)
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, joinErrors(faults)
	}
	return cache, nil
}

// loadSelectedTables is LoadTablesContext that returns the tables that can be moved together with
// the faults of the others.
func loadSelectedTables(ctx context.Context, db *sql.DB, tableFilter TableFilter, columnCompressionConfig ColumnCompressionConfig, columnIgnoreConfig ColumnIgnoreConfig, forceIndexConfig ForceIndexConfig, cascadingPaginationColumnConfig *CascadingPaginationColumnConfig) (cache TableSchemaCache, faults []error, err error) {
	reader, err := newSchemaReader(ctx, db)
	if err != nil {
		return nil, nil, err
	}
	defer reader.close()

	schemas, err := selectSchemas(ctx, reader, tableFilter)
	if err != nil {
		return nil, nil, err
	}

	var usable []*TableSchema
	for _, schemaName := range schemas {
		loaded, err := reader.tables(ctx, schemaName)
		if err != nil {
			return nil, nil, err
		}
		selected, err := selectTables(schemaName, loaded, tableFilter)
		if err != nil {
			return nil, nil, err
		}
		for _, table := range selected {
			if table.tableType == tableTypeSystemVersioned {
				faults = append(faults, &UnsupportedTableError{Schema: table.Schema, Table: table.Name, Reason: "it is system-versioned, and its history would not be moved"})
				continue
			}
			if err := table.chooseKey(cascadingPaginationColumnConfig); err != nil {
				faults = append(faults, err)
				continue
			}
			table.CompressedColumnsForVerification = columnCompressionConfig.CompressedColumnsFor(table.Schema, table.Name)
			table.IgnoredColumnsForVerification = columnIgnoreConfig.IgnoredColumnsFor(table.Schema, table.Name)
			table.ForcedIndexForVerification = forceIndexConfig.IndexFor(table.Schema, table.Name)
			usable = append(usable, table.TableSchema)
		}
	}
	cache, namesakes := cacheOf(usable)
	faults = append(faults, namesakes...)
	if len(cache) == 0 && len(faults) == 0 {
		return nil, nil, &EmptySelectionError{Databases: schemas}
	}
	return cache, faults, nil
}

// cacheOf names the tables, and refuses those whose schema and name read the same in one as
// another's do: `a`.`b.c` and `a.b`.`c`.
func cacheOf(tables []*TableSchema) (cache TableSchemaCache, faults []error) {
	cache = make(TableSchemaCache, len(tables))
	first := make(map[string]*TableSchema, len(tables))
	refuse := func(table, namesake *TableSchema) {
		delete(cache, table.String())
		faults = append(faults, &UnsupportedTableError{Schema: table.Schema, Table: table.Name,
			Reason: fmt.Sprintf("it reads %s as %s does, and a run tells its tables apart by that: move the two in separate runs", table, QuotedTableName(namesake))})
	}
	for _, table := range tables {
		name := table.String()
		switch other := first[name]; {
		case other == nil:
			first[name], cache[name] = table, table
		case other.Schema == table.Schema: // selected twice
		default:
			if cache[name] != nil {
				refuse(other, table)
			}
			refuse(table, other)
		}
	}
	return cache, faults
}

// systemSchemas are never offered to a table filter.
var systemSchemas = map[string]bool{"mysql": true, "information_schema": true, "performance_schema": true, "sys": true}

func selectSchemas(ctx context.Context, reader *schemaReader, tableFilter TableFilter) ([]string, error) {
	all, err := reader.schemas(ctx)
	if err != nil {
		return nil, err
	}
	existing := make(map[string]bool, len(all))
	offered := make([]string, 0, len(all))
	for _, name := range all {
		existing[name] = true
		if !systemSchemas[strings.ToLower(name)] {
			offered = append(offered, name)
		}
	}

	selected, err := tableFilter.ApplicableDatabases(offered)
	if err != nil {
		return nil, fmt.Errorf("table filter: schemas: %w", err)
	}
	seen := make(map[string]bool, len(selected))
	unique := make([]string, 0, len(selected))
	var faults []error
	for _, name := range selected {
		if seen[name] {
			continue
		}
		seen[name] = true
		if !existing[name] {
			faults = append(faults, &ConfigError{Field: "TableFilter",
				Problem: fmt.Sprintf("the table filter selects schema %s, which does not exist on the source", QuoteField(name)),
				Remedy:  "check its name and the account's privileges on the source"})
			continue
		}
		unique = append(unique, name)
	}
	if len(faults) > 0 {
		return nil, joinErrors(faults)
	}
	if len(unique) == 0 {
		return nil, &EmptySelectionError{}
	}
	return unique, nil
}

// selectTables asks the filter and finds the definitions of what it selects, so that
// a filter may return copies of what it was given.
func selectTables(schemaName string, loaded []*loadedTable, tableFilter TableFilter) ([]*loadedTable, error) {
	offered := make([]*TableSchema, len(loaded))
	byName := make(map[string]*loadedTable, len(loaded))
	for i, table := range loaded {
		offered[i] = table.TableSchema
		byName[table.Name] = table
	}
	applicable, err := tableFilter.ApplicableTables(offered)
	if err != nil {
		return nil, fmt.Errorf("table filter: tables of schema %s: %w", schemaName, err)
	}
	selected := make([]*loadedTable, 0, len(applicable))
	for _, table := range applicable {
		if table == nil || table.Table == nil || table.Schema != schemaName || byName[table.Name] == nil {
			return nil, fmt.Errorf("table filter: tables of schema %s: it returned a table that it was not given: %v", schemaName, table)
		}
		selected = append(selected, byName[table.Name])
	}
	return selected, nil
}

// MaxPaginationKeys reads the greatest key of every table, and lists the tables that
// have no rows. The copy does not need it: it finds the end of a table by reading.
func MaxPaginationKeys(db *sql.DB, tables []*TableSchema, logger Logger) (map[*TableSchema]PaginationKey, []*TableSchema, error) {
	maximum := make(map[*TableSchema]PaginationKey, len(tables))
	var empty []*TableSchema
	for _, table := range tables {
		key, err := maxPaginationKey(context.Background(), db, table)
		if err != nil {
			return maximum, empty, fmt.Errorf("greatest key of table %s: %w", table, err)
		}
		if key == nil {
			empty = append(empty, table)
			if logger != nil {
				logger.WithField(fieldTable, table.String()).Info("no rows in this table")
			}
			continue
		}
		maximum[table] = key
	}
	return maximum, empty, nil
}

// maxPaginationKey returns a nil key for a table without rows.
func maxPaginationKey(ctx context.Context, db *sql.DB, table *TableSchema) (PaginationKey, error) {
	names := table.keyColumnNames()
	if len(names) == 0 {
		return nil, NonExistingPaginationKeyError(table.Schema, table.Name)
	}
	quoted := QuoteFields(names)
	order := strings.Join(quoted, " DESC,") + " DESC"
	if l, err := table.layout(); err == nil { // else only names are known
		for i, k := range l.keys {
			if convertedText(l.columns[k]) { // a key has its text as it is stored
				quoted[i] = "CAST(" + quoted[i] + " AS BINARY)"
			}
		}
	}
	columns := strings.Join(quoted, ",")

	values := make(RowData, len(names))
	into := make([]interface{}, len(names))
	places := make([]int, len(names))
	for i := range values {
		into[i], places[i] = &values[i], i
	}
	err := db.QueryRowContext(ctx, "SELECT "+columns+" FROM "+QuotedTableName(table)+" ORDER BY "+order+" LIMIT 1").Scan(into...)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return table.keyOfValues(values, places)
}

// joinErrors is errors.Join that leaves a single error as it is.
func joinErrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
