package ghostferry

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/schema"
)

// chooseKey decides by which columns the table is walked: the column that the
// configuration names for it; else the primary key; else the configured fallback
// column; else a unique index over whole columns that are NOT NULL, the clustered one
// first. A primary key or an index whose values cannot be compared exactly is passed
// over: beside the key it is one more unique index, whose values only the servers
// compare. The error is a *NoUsableKeyError, of the first that did not do.
func (t *TableSchema) chooseKey(config *CascadingPaginationColumnConfig) error {
	if name, configured := config.PaginationColumnFor(t.Schema, t.Name); configured {
		return t.useColumn(name)
	}
	var first error
	if len(t.PKColumns) > 0 {
		if first = t.useIndex(t.indexInfos[0]); first == nil {
			return nil
		}
	}
	if name, configured := config.FallbackPaginationColumnName(); configured {
		// It is meant for tables without a primary key: there it has to do.
		if err := t.useColumn(name); err == nil || first == nil {
			return err
		}
	}
	for _, index := range t.indexInfos {
		if !index.Visible || !index.identifiesRows() {
			continue
		}
		err := t.useIndex(index)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	for _, index := range t.indexInfos {
		if index.Unique && index.Hash && !index.Nullable {
			return &NoUsableKeyError{Schema: t.Schema, Table: t.Name,
				Reason: fmt.Sprintf("unique key %s is an index by hash, which has no order to read rows in", QuoteField(index.Name))}
		}
	}
	return NonExistingPaginationKeyError(t.Schema, t.Name)
}

// identifiesRows says whether no two rows can have equal values in the whole columns
// of the index, and whether rows can be read in its order.
func (i indexInfo) identifiesRows() bool {
	if !i.Unique || i.Nullable || i.HasExpression || i.Hash {
		return false
	}
	for _, length := range i.SubParts {
		if length != 0 {
			return false
		}
	}
	return true
}

// useColumn takes a configured column, which has to identify rows all by itself.
func (t *TableSchema) useColumn(name string) error {
	column := t.FindColumn(name)
	if column < 0 {
		return NonExistingPaginationKeyColumnError(t.Schema, t.Name, name)
	}
	for _, index := range t.indexInfos {
		if len(index.Columns) == 1 && index.Columns[0] == column && index.identifiesRows() {
			return t.useIndex(index)
		}
	}
	return &NoUsableKeyError{Schema: t.Schema, Table: t.Name, Column: name,
		Reason: fmt.Sprintf("the configured column %s is not unique and NOT NULL by an index of its own", QuoteField(name))}
}

func (t *TableSchema) useIndex(index indexInfo) error {
	for i, column := range index.Columns {
		info := t.columnInfos[column]
		if index.SubParts[i] != 0 {
			return &NoUsableKeyError{Schema: t.Schema, Table: t.Name, Column: info.Name,
				Reason: fmt.Sprintf("index %s has only the first %d characters of column %s", QuoteField(index.Name), index.SubParts[i], QuoteField(info.Name))}
		}
		if t.Columns[column].Type == schema.TYPE_FLOAT {
			return &NoUsableKeyError{Schema: t.Schema, Table: t.Name, Column: info.Name,
				Reason: fmt.Sprintf("column %s of index %s is %s, whose values cannot be compared exactly", QuoteField(info.Name), QuoteField(index.Name), info.ColumnType)}
		}
	}
	t.keyColumns = append([]int(nil), index.Columns...)
	t.keyIndexName = index.Name
	t.PaginationKeyIndex = index.Columns[0]
	t.PaginationKeyColumn = &t.Columns[t.PaginationKeyIndex]
	return nil
}

// keyColumnIndexes are the key's columns as indexes into Columns: those that
// LoadTables chose, or in a literal or a schema from a state the primary key if
// PaginationKeyIndex begins it, or else PaginationKeyIndex alone.
func (t *TableSchema) keyColumnIndexes() []int {
	if len(t.keyColumns) > 0 {
		return t.keyColumns
	}
	if t.PaginationKeyColumn == nil {
		return nil
	}
	if len(t.PKColumns) > 1 && t.PKColumns[0] == t.PaginationKeyIndex {
		return t.PKColumns
	}
	return []int{t.PaginationKeyIndex}
}

// keyColumnNames are the names of the key's columns in the key's order.
func (t *TableSchema) keyColumnNames() []string {
	indexes := t.keyColumnIndexes()
	names := make([]string, len(indexes))
	for i, index := range indexes {
		names[i] = t.Columns[index].Name
	}
	return names
}

// keyOfValues makes the key of a row in which places says where the values of the
// key's columns are.
func (t *TableSchema) keyOfValues(row RowData, places []int) (PaginationKey, error) {
	indexes := t.keyColumnIndexes()
	if len(indexes) == 0 || len(places) != len(indexes) {
		return nil, NonExistingPaginationKeyError(t.Schema, t.Name)
	}
	parts := make([]PaginationKey, len(indexes))
	for i, index := range indexes {
		part, err := NewPaginationKeyFromRow(row, places[i], &t.Columns[index])
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t, err)
		}
		parts[i] = part
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return CompositeKey{Parts: parts}, nil
}
