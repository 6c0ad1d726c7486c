package ghostferry

import (
	"context"
	"fmt"
	"slices"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// reloadTables reads the tables of a cache that came with a state again, and insists
// that they are still defined as they were. The result knows all that LoadTables
// knows; a cache from a state does not. Faults are *SchemaChangedErrors, joined.
func reloadTables(ctx context.Context, db *sql.DB, known TableSchemaCache, config *Config) (TableSchemaCache, error) {
	live, err := LoadTablesContext(ctx, db, knownTablesFilter(known), config.CompressedColumnsForVerification,
		config.IgnoredColumnsForVerification, config.ForceIndexForVerification, config.CascadingPaginationColumnConfig)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, name := range sortedNames(known) {
		if change := definitionChange(known[name], live[name]); change != "" {
			faults = append(faults, &SchemaChangedError{Schema: known[name].Schema, Table: known[name].Name, Change: change})
		}
	}
	if len(faults) > 0 {
		return nil, joinErrors(faults)
	}
	return live, nil
}

// knownTablesFilter selects exactly the tables of a cache.
type knownTablesFilter TableSchemaCache

func (f knownTablesFilter) ApplicableDatabases([]string) ([]string, error) {
	schemas := make(map[string]bool)
	for _, table := range f {
		schemas[table.Schema] = true
	}
	return sortedNames(schemas), nil
}

func (f knownTablesFilter) ApplicableTables(tables []*TableSchema) ([]*TableSchema, error) {
	var known []*TableSchema
	for _, table := range tables {
		if TableSchemaCache(f).Get(table.Schema, table.Name) != nil {
			known = append(known, table)
		}
	}
	return known, nil
}

// definitionChange describes the first difference that matters between a table's
// definition then and now, or is empty.
func definitionChange(then, now *TableSchema) string {
	if now == nil {
		return "it no longer exists"
	}
	for i := 0; i < len(then.Columns) && i < len(now.Columns); i++ {
		before, after := then.Columns[i], now.Columns[i]
		if before.Name != after.Name {
			return fmt.Sprintf("column %d was %s and is %s", i+1, QuoteField(before.Name), QuoteField(after.Name))
		}
		if before.RawType != after.RawType || before.Collation != after.Collation {
			return fmt.Sprintf("column %s was %s %s and is %s %s", QuoteField(before.Name), before.RawType, before.Collation, after.RawType, after.Collation)
		}
	}
	if len(then.Columns) != len(now.Columns) {
		return fmt.Sprintf("it had %d columns and has %d", len(then.Columns), len(now.Columns))
	}
	if !slices.Equal(then.PKColumns, now.PKColumns) {
		return "its primary key is another"
	}
	if then.PaginationKeyColumn != nil && then.PaginationKeyIndex != now.PaginationKeyIndex {
		return fmt.Sprintf("it was walked by %s and would be walked by %s", QuoteField(then.PaginationKeyColumn.Name), QuoteField(now.PaginationKeyColumn.Name))
	}
	return ""
}
