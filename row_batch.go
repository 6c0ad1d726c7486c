package ghostferry

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// RowBatch is an immutable batch of rows of one table, in key order. The engine's own
// batches hold the rows in canonical form; Values decodes them for listeners that ask.
// It is safe for concurrent use.
type RowBatch struct {
	table              *TableSchema
	columns            []int // index in the table of each column of rows
	rows               *codec.Rows
	paginationKeyIndex int
	chunk              *chunk       // the chunk these rows were read for; nil outside the gated copy
	held               func() error // fails when the row locks of the read are gone; nil without any
	digests            []byte       // of each row, one after the other; nil when they were not selected

	once         sync.Once
	values       []RowData
	digestsOnce  sync.Once
	fingerprints map[string][]byte
}

// NewRowBatch makes a batch of rows whose values are in the table's column order.
// paginationKeyIndex is the key's index in each row, -1 when it is not among them.
func NewRowBatch(table *TableSchema, values []RowData, paginationKeyIndex int) *RowBatch {
	b := &RowBatch{table: table, values: values, paginationKeyIndex: paginationKeyIndex}
	for i := range table.Columns {
		b.columns = append(b.columns, i)
	}
	b.once.Do(func() {})
	return b
}

// newCanonicalBatch makes a batch of canonical rows; columns maps their columns to the table's.
func newCanonicalBatch(table *TableSchema, l *tableLayout, columns []int, rows *codec.Rows) *RowBatch {
	index := -1
	for i, c := range columns {
		if c == l.keys[0] {
			index = i
		}
	}
	return &RowBatch{table: table, columns: columns, rows: rows, paginationKeyIndex: index}
}

// Values returns the rows as Go values: int64 or uint64, float64, []byte for
// everything else, nil for NULL. The first call decodes the batch.
func (b *RowBatch) Values() []RowData {
	b.once.Do(func() {
		l, err := b.table.layout()
		if err != nil { // the rows were read with this layout
			return
		}
		values := make([]RowData, b.rows.Len())
		for r := range values {
			row := make(RowData, len(b.columns))
			for i, c := range b.columns {
				row[i] = l.columns[c].ToDriver(b.rows.Value(r, i), enumLabels(b.table, c))
			}
			values[r] = row
		}
		b.values = values
	})
	return b.values
}

func enumLabels(t *TableSchema, column int) []string {
	return t.Columns[column].EnumValues
}

// canonical returns the rows in canonical form, encoding those of NewRowBatch.
func (b *RowBatch) canonical(l *tableLayout) (*codec.Rows, error) {
	if b.rows != nil {
		return b.rows, nil
	}
	rows := codec.NewRows(len(b.columns), len(b.values), 64*len(b.values))
	for _, values := range b.values {
		if len(values) != len(b.columns) {
			return nil, fmt.Errorf("row of %s has %d values for %d columns", b.table, len(values), len(b.columns))
		}
		for i, c := range b.columns {
			if err := rows.AddGo(&l.columns[c], values[i]); err != nil {
				return nil, &TableError{Schema: b.table.Schema, Table: b.table.Name, Err: err}
			}
		}
	}
	return rows, nil
}

// EstimateByteSize returns the sum of the sizes of the rows as JSON.
func (b *RowBatch) EstimateByteSize() uint64 {
	var total uint64
	for _, row := range b.Values() {
		if data, err := json.Marshal(row); err == nil {
			total += uint64(len(data))
		}
	}
	return total
}

// byteSize returns the size of the rows' values in bytes.
func (b *RowBatch) byteSize() uint64 {
	if b.rows != nil {
		return uint64(b.rows.Bytes())
	}
	return b.EstimateByteSize()
}

// PaginationKeyIndex returns the index of the (first) key column in each row.
func (b *RowBatch) PaginationKeyIndex() int { return b.paginationKeyIndex }

// ValuesContainPaginationKey reports whether the rows hold the key.
func (b *RowBatch) ValuesContainPaginationKey() bool { return b.paginationKeyIndex >= 0 }

// Size returns the number of rows.
func (b *RowBatch) Size() int {
	if b.rows != nil {
		return b.rows.Len()
	}
	return len(b.values)
}

// TableSchema returns the table.
func (b *RowBatch) TableSchema() *TableSchema { return b.table }

// Fingerprints returns the rows' digests in hexadecimal by the String form of their keys,
// nil when they were not selected.
func (b *RowBatch) Fingerprints() map[string][]byte {
	b.digestsOnce.Do(func() {
		if b.digests == nil {
			return
		}
		f, err := newFingerprint(b.table)
		if err != nil { // the digests were read with it
			return
		}
		keys, err := b.encodedKeys(f.layout)
		if err != nil {
			return
		}
		b.fingerprints = make(map[string][]byte, len(keys))
		for i, key := range keys {
			b.fingerprints[f.keyText(key)] = hex.AppendEncode(nil, b.digests[digestSize*i:digestSize*(i+1)])
		}
	})
	return b.fingerprints
}

// encodedKeys returns the encoded key of each row.
func (b *RowBatch) encodedKeys(l *tableLayout) ([]string, error) {
	rows, err := b.canonical(l)
	if err != nil {
		return nil, err
	}
	places := make([]int, len(l.keys))
	for i, k := range l.keys {
		if places[i] = slices.Index(b.columns, k); places[i] < 0 {
			return nil, fmt.Errorf("the rows of %s lack their pagination key %s", b.table, l.keyNames())
		}
	}
	keys := make([]string, rows.Len())
	for r := range keys {
		keys[r] = string(rows.AppendKey(nil, r, places))
	}
	return keys, nil
}

// AsSQLQuery returns upstream's multi-row INSERT IGNORE with placeholders, and its
// arguments, for hosts that write batches themselves. The engine does not execute it:
// INSERT IGNORE hides truncated values.
func (b *RowBatch) AsSQLQuery(schemaName, tableName string) (string, []interface{}, error) {
	names := make([]string, len(b.columns))
	for i, c := range b.columns {
		names[i] = b.table.Columns[c].Name
	}
	values := b.Values()
	args := make([]interface{}, 0, len(values)*len(names))
	for _, row := range values {
		if len(row) != len(names) {
			return "", nil, fmt.Errorf("row of %s has %d values for %d columns", b.table, len(row), len(names))
		}
		args = append(args, row...)
	}
	tuple := "(" + strings.TrimSuffix(strings.Repeat("?,", len(names)), ",") + ")"
	tuples := strings.TrimSuffix(strings.Repeat(tuple+",", len(values)), ",")
	query := "INSERT IGNORE INTO " + sqlesc.Table(schemaName, tableName) + " (" + sqlesc.Idents(names) + ") VALUES " + tuples
	return query, args, nil
}
