package ghostferry

import (
	"context"
	"errors"
	"fmt"

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

// Get returns the table, or nil.
func (c TableSchemaCache) Get(database, table string) *TableSchema {
	return c[fullTableName(database, table)]
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

// NonExistingPaginationKeyColumnError says that a configured column does not exist.
func NonExistingPaginationKeyColumnError(schema, table, paginationKey string) error {
	return fmt.Errorf("Pagination Key `%s` for %s non existent", paginationKey, QuotedTableNameFromString(schema, table))
}

// NonExistingPaginationKeyError says that a table has no key to walk it by.
func NonExistingPaginationKeyError(schema, table string) error {
	return &NoUsableKeyError{Schema: schema, Table: table}
}

// NonNumericPaginationKeyError says that a column's type cannot be walked.
func NonNumericPaginationKeyError(schema, table, paginationKey string) error {
	return fmt.Errorf("Pagination Key `%s` for %s is non-numeric", paginationKey, QuotedTableNameFromString(schema, table))
}

// NonBinaryCollationError says that a text column is not compared by bytes.
func NonBinaryCollationError(schema, table, paginationKey, collation string) error {
	return fmt.Errorf("Pagination Key `%s` for %s has non-binary collation '%s'", paginationKey, QuotedTableNameFromString(schema, table), collation)
}

// LoadTables is [LoadTablesContext] without a context.
func LoadTables(db *sql.DB, tableFilter TableFilter, columnCompressionConfig ColumnCompressionConfig, columnIgnoreConfig ColumnIgnoreConfig, forceIndexConfig ForceIndexConfig, cascadingPaginationColumnConfig *CascadingPaginationColumnConfig) (TableSchemaCache, error) {
	return LoadTablesContext(context.Background(), db, tableFilter, columnCompressionConfig, columnIgnoreConfig, forceIndexConfig, cascadingPaginationColumnConfig)
}

// LoadTablesContext reads the tables that the filter selects.
func LoadTablesContext(ctx context.Context, db *sql.DB, tableFilter TableFilter, columnCompressionConfig ColumnCompressionConfig, columnIgnoreConfig ColumnIgnoreConfig, forceIndexConfig ForceIndexConfig, cascadingPaginationColumnConfig *CascadingPaginationColumnConfig) (TableSchemaCache, error) {
	return nil, errors.New("loading tables is not there yet")
}

// joinErrors is errors.Join that leaves a single error as it is.
func joinErrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
