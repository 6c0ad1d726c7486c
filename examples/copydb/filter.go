package copydb

import (
	"slices"

	"github.com/ghostferry-go/ghostferry"
)

// StaticTableFilter is a [ghostferry.TableFilter] of fixed names.
type StaticTableFilter struct {
	// Dbs are the schemas to take, or to leave out if DbsIsBlacklist.
	Dbs            []string
	DbsIsBlacklist bool
	// Tables are the bare names of the tables to take, or to leave out if
	// TablesIsBlacklist.
	Tables            []string
	TablesIsBlacklist bool
}

// NewStaticTableFilter makes a filter of two configurations. Without a whitelist the
// blacklist counts, so that two empty configurations take everything.
func NewStaticTableFilter(dbs, tables FilterAndRewriteConfigs) *StaticTableFilter {
	filter := &StaticTableFilter{Dbs: dbs.Whitelist, Tables: tables.Whitelist}
	if len(dbs.Whitelist) == 0 {
		filter.Dbs, filter.DbsIsBlacklist = dbs.Blacklist, true
	}
	if len(tables.Whitelist) == 0 {
		filter.Tables, filter.TablesIsBlacklist = tables.Blacklist, true
	}
	return filter
}

// ApplicableDatabases keeps the schemas to take, in their order. The answer is never
// nil; there is no error.
func (f *StaticTableFilter) ApplicableDatabases(dbs []string) ([]string, error) {
	applicable := make([]string, 0, len(dbs))
	for _, db := range dbs {
		if slices.Contains(f.Dbs, db) != f.DbsIsBlacklist {
			applicable = append(applicable, db)
		}
	}
	return applicable, nil
}

// ApplicableTables keeps the tables to take, in their order. The answer is never nil;
// there is no error.
func (f *StaticTableFilter) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	applicable := make([]*ghostferry.TableSchema, 0, len(tables))
	for _, table := range tables {
		if slices.Contains(f.Tables, table.Name) != f.TablesIsBlacklist {
			applicable = append(applicable, table)
		}
	}
	return applicable, nil
}
