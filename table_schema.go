package ghostferry

import (
	"fmt"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

const (
	// rowMd5Alias names the digest of a row in a fingerprint query.
	rowMd5Alias = "__ghostferry_row_md5"
	// rowMd5Null stands for NULL in a row's digest.
	rowMd5Null = "NULL_PBj}b]74P@JTo$5G_null"
)

// TableIdentifier names a table; it can be a map key.
type TableIdentifier struct {
	SchemaName string
	TableName  string
}

// NewTableIdentifierFromSchemaTable takes the names of a table.
func NewTableIdentifierFromSchemaTable(table *TableSchema) TableIdentifier {
	return TableIdentifier{table.Schema, table.Name}
}

// TableSchema is a table of the source: columns and indexes as go-mysql describes
// them, how to verify it, and by which key it is walked. String gives "schema.table".
type TableSchema struct {
	*schema.Table

	// CompressedColumnsForVerification is column → algorithm.
	CompressedColumnsForVerification map[string]string
	// IgnoredColumnsForVerification are the columns left out of fingerprints.
	IgnoredColumnsForVerification map[string]struct{}
	// ForcedIndexForVerification is the index that fingerprint queries have to use.
	ForcedIndexForVerification string
	// PaginationKeyColumn is the first column of the key; nil in a literal that
	// nobody walks.
	PaginationKeyColumn *schema.TableColumn
	// PaginationKeyIndex is that column's index in Columns.
	PaginationKeyIndex int

	rowMd5 atomic.Pointer[string]

	// What the server says about the table, filled by LoadTables and immutable after
	// that; empty in literals and in schemas read from a state.

	columnInfos  []columnInfo // in the order of Columns
	indexInfos   []indexInfo  // the primary key first, invisible ones included
	engine       string       // "InnoDB"
	approxRows   uint64       // the optimizer's estimate
	dataLength   uint64       // bytes of the clustered index
	keyColumns   []int        // the key's columns as indexes into Columns
	keyIndexName string       // the index that makes the key unique
	leafTypes    bool         // JSON documents are read with the types of their leaves

	cachedLayout atomic.Pointer[tableLayout]
	unhinted     atomic.Bool // the target has said that it lacks the index by which rows are verified
}

// columnInfo is what information_schema says about a column, beyond go-mysql's
// description.
type columnInfo struct {
	Name       string
	DataType   string // "varchar"
	ColumnType string // "varchar(20)"
	Charset    string // empty for columns that are not text
	Collation  string // empty for columns that are not text

	Nullable, Unsigned, Generated, Invisible, AutoIncrement bool

	CharLength  uint64 // greatest length in characters, 0 where there is none
	OctetLength uint64 // greatest length in bytes, 0 where there is none

	Precision, Scale int // of numbers
	FractionalDigits int // of seconds
}

// indexInfo is what information_schema says about an index.
type indexInfo struct {
	Name     string
	Unique   bool
	Columns  []int // indexes into the table's columns; -1 for an expression
	SubParts []int // prefix lengths, in characters or bytes; 0 for the whole column

	Nullable      bool // one of the columns may be NULL
	HasExpression bool // one of the parts is an expression
	Visible       bool
	Hash          bool // MariaDB's of long values: rows cannot be read in its order
}

// hiddenColumns is how many columns the server keeps behind the table's own and logs with its
// rows: MariaDB one for each unique index by hash.
func (t *TableSchema) hiddenColumns() (n int) {
	for _, index := range t.indexInfos {
		if index.Unique && index.Hash {
			n++
		}
	}
	return n
}

// GetPaginationColumn is the first column of the key.
func (t *TableSchema) GetPaginationColumn() *schema.TableColumn { return t.PaginationKeyColumn }

// GetPaginationKeyIndex is that column's index in Columns.
func (t *TableSchema) GetPaginationKeyIndex() int { return t.PaginationKeyIndex }

// FingerprintQuery is the statement that reads the digests of numRows rows of the
// given table by their keys: key, digest, compressed columns in declared order. It is
// produced for hosts; servers without MD5() refuse it and the library never runs it.
func (t *TableSchema) FingerprintQuery(schemaName, tableName string, numRows int) string {
	key := QuoteField(t.GetPaginationColumn().Name)

	var query strings.Builder
	query.WriteString("SELECT " + key + "," + t.RowMd5Query())
	for _, column := range t.compressedColumns() {
		query.WriteString("," + QuoteField(column))
	}
	query.WriteString(" FROM " + QuotedTableNameFromString(schemaName, tableName))
	if t.ForcedIndexForVerification != "" {
		query.WriteString(" FORCE INDEX (" + t.ForcedIndexForVerification + ")")
	}
	query.WriteString(" WHERE " + key + " IN (" + strings.TrimSuffix(strings.Repeat("?,", numRows), ",") + ")")
	return query.String()
}

// RowMd5Query is the expression of a row's digest over all columns in declared order,
// ignored and compressed ones left out. It is made once per table.
func (t *TableSchema) RowMd5Query() string {
	if made := t.rowMd5.Load(); made != nil {
		return *made
	}

	digests := make([]string, 0, len(t.Columns))
	for _, column := range t.Columns {
		_, ignored := t.IgnoredColumnsForVerification[column.Name]
		_, compressed := t.CompressedColumnsForVerification[column.Name]
		if !ignored && !compressed {
			digests = append(digests, columnMd5(column))
		}
	}
	query := fmt.Sprintf("MD5(CONCAT(%s)) AS %s", strings.Join(digests, ","), rowMd5Alias)
	t.rowMd5.Store(&query)
	return query
}

func columnMd5(column schema.TableColumn) string {
	return fmt.Sprintf("MD5(COALESCE(%s, '%s'))", normalizedColumn(column), rowMd5Null)
}

// normalizedColumn is a column as upstream's digests take it.
func normalizedColumn(column schema.TableColumn) string {
	value := QuoteField(column.Name)
	if column.Type == schema.TYPE_FLOAT {
		// 0 and -0 are equal numbers with different texts.
		value = fmt.Sprintf("(if (%s = '-0', 0, %s))", value, value)
	}
	return value
}

// compressedColumns lists the compressed columns in declared order; names that the
// table does not have come last, for the server to complain about.
func (t *TableSchema) compressedColumns() []string {
	names := make([]string, 0, len(t.CompressedColumnsForVerification))
	for name := range t.CompressedColumnsForVerification {
		names = append(names, name)
	}
	place := func(name string) int {
		if index := t.FindColumn(name); index >= 0 {
			return index
		}
		return len(t.Columns)
	}
	sort.Slice(names, func(i, j int) bool {
		if place(names[i]) != place(names[j]) {
			return place(names[i]) < place(names[j])
		}
		return names[i] < names[j]
	})
	return names
}

// ConvertTableColumnsToStrings lists the columns' names.
func ConvertTableColumnsToStrings(columns []schema.TableColumn) []string {
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = column.Name
	}
	return names
}

// QuoteField puts a name in backquotes and doubles those within it.
func QuoteField(field string) string {
	return sqlesc.Ident(field)
}

// QuoteFields quotes every name.
func QuoteFields(fields []string) (out []string) {
	for _, field := range fields {
		out = append(out, QuoteField(field))
	}
	return out
}

// QuotedTableName is `schema`.`table`.
func QuotedTableName(table *TableSchema) string {
	return QuotedTableNameFromString(table.Schema, table.Name)
}

// QuotedTableNameFromString is `database`.`table`.
func QuotedTableNameFromString(database, table string) string {
	return QuoteField(database) + "." + QuoteField(table)
}
