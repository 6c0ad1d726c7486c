package ghostferry

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// TableMaxPaginationKey is a table with its highest key at the start.
type TableMaxPaginationKey struct {
	Table            *TableSchema
	MaxPaginationKey PaginationKey
}

// DataIteratorSorter decides the order in which tables are copied. Sort returns every table that
// it is given, each once; anything else ends the copy before it begins.
type DataIteratorSorter interface {
	Sort(unorderedTables map[*TableSchema]PaginationKey) ([]TableMaxPaginationKey, error)
}

// MaxPaginationKeySorter orders by the highest key, descending.
type MaxPaginationKeySorter struct{}

// Sort orders the tables.
func (s *MaxPaginationKeySorter) Sort(unorderedTables map[*TableSchema]PaginationKey) ([]TableMaxPaginationKey, error) {
	out := tablesOf(unorderedTables)
	sort.SliceStable(out, func(i, j int) bool { return out[i].MaxPaginationKey.Compare(out[j].MaxPaginationKey) > 0 })
	return out, nil
}

// MaxTableSizeSorter orders by the bytes of the tables' data, descending.
type MaxTableSizeSorter struct {
	// DataIterator supplies the connection.
	DataIterator *DataIterator
}

// Sort orders the tables; on an error they come unordered with it.
func (s *MaxTableSizeSorter) Sort(unorderedTables map[*TableSchema]PaginationKey) ([]TableMaxPaginationKey, error) {
	out := tablesOf(unorderedTables)
	sizes, err := tableSizes(context.Background(), s.DataIterator.DB)
	if err != nil {
		return out, err
	}
	size := func(t *TableSchema) uint64 { return sizes[NewTableIdentifierFromSchemaTable(t)] }
	sort.SliceStable(out, func(i, j int) bool { return size(out[i].Table) > size(out[j].Table) })
	return out, nil
}

func tablesOf(tables map[*TableSchema]PaginationKey) []TableMaxPaginationKey {
	out := make([]TableMaxPaginationKey, 0, len(tables))
	for table, key := range tables {
		out = append(out, TableMaxPaginationKey{table, key})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Table.String() < out[j].Table.String() })
	return out
}

func tableSizes(ctx context.Context, db *sql.DB) (map[TableIdentifier]uint64, error) {
	rows, err := db.QueryContext(ctx, "SELECT table_schema, table_name, COALESCE(data_length,0) FROM information_schema.tables WHERE table_type='BASE TABLE'")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	sizes := map[TableIdentifier]uint64{}
	for rows.Next() {
		var id TableIdentifier
		var size uint64
		if err := rows.Scan(&id.SchemaName, &id.TableName, &size); err != nil {
			return nil, err
		}
		sizes[id] = size
	}
	return sizes, rows.Err()
}

// sortTables orders the tables for the copy: by the host's sorter, else largest first
// as the server estimated it when the schemas were loaded.
func (d *DataIterator) sortTables(tables []*TableSchema) ([]*TableSchema, error) {
	if d.TableSorter == nil {
		sorted := append([]*TableSchema(nil), tables...)
		sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].dataLength > sorted[j].dataLength })
		return sorted, nil
	}
	keys, empty, err := MaxPaginationKeys(d.DB, tables, nil)
	if err != nil {
		return nil, err
	}
	sorted, err := d.TableSorter.Sort(keys)
	if err != nil {
		return nil, err
	}
	out, err := orderGiven(keys, sorted)
	if err != nil {
		return nil, err
	}
	return append(out, empty...), nil
}

// orderGiven is the order that a sorter has given the tables of keys. It has to name each of them
// once: one that it leaves out would never be copied, and the run come to its end without it.
func orderGiven(keys map[*TableSchema]PaginationKey, sorted []TableMaxPaginationKey) ([]*TableSchema, error) {
	missing := make(map[TableIdentifier]*TableSchema, len(keys))
	given := make(map[TableIdentifier]bool, len(keys))
	for table := range keys {
		id := NewTableIdentifierFromSchemaTable(table)
		missing[id], given[id] = table, true
	}
	var faults []string
	out := make([]*TableSchema, 0, len(keys))
	for _, t := range sorted {
		if t.Table == nil || t.Table.Table == nil {
			faults = append(faults, "an entry has no table")
			continue
		}
		id := NewTableIdentifierFromSchemaTable(t.Table)
		switch {
		case !given[id]:
			faults = append(faults, t.Table.String()+" was not given to it")
		case missing[id] == nil:
			faults = append(faults, t.Table.String()+" is there twice")
		default:
			out = append(out, missing[id])
			delete(missing, id)
		}
	}
	for _, t := range missing {
		faults = append(faults, t.String()+" is missing")
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		return nil, fmt.Errorf("DataIterator.TableSorter has to return every table that it is given, each once: %s", strings.Join(faults, ", "))
	}
	return out, nil
}
