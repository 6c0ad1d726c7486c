package ghostferry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/klauspost/compress/snappy"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// CompressionSnappy names the only compression of column values that is known; the
// name is matched without regard to case.
const CompressionSnappy = "SNAPPY"

// UnsupportedCompressionError names a column whose compression is not known.
type UnsupportedCompressionError struct {
	table, column, algorithm string
}

// Error names algorithm, table and column.
func (e UnsupportedCompressionError) Error() string {
	return fmt.Sprintf("Compression algorithm: %s not supported on table: %s for column: %s", e.algorithm, e.table, e.column)
}

func checkCompression(table, column, algorithm string) error {
	if !strings.EqualFold(algorithm, CompressionSnappy) {
		return UnsupportedCompressionError{table, column, algorithm}
	}
	return nil
}

// decompress returns the plain value of a compressed one. Equal values may be
// compressed differently, which is why such columns are compared decompressed.
func decompress(table, column, algorithm string, compressed []byte) ([]byte, error) {
	if err := checkCompression(table, column, algorithm); err != nil {
		return nil, err
	}
	plain, err := snappy.Decode(nil, compressed)
	if err != nil {
		return nil, fmt.Errorf("decompressing a value of column %s of table %s: %w", QuoteField(column), QuoteField(table), err)
	}
	return plain, nil
}

// CompressionVerifier compares rows after decompressing columns of theirs; the
// IterativeVerifier uses it. NewCompressionVerifier makes it.
type CompressionVerifier struct {
	// TableSchemaCache tells the types of the tables' keys. A host may replace it after
	// it has loaded tables again.
	TableSchemaCache TableSchemaCache

	compressions TableColumnCompressionConfig
}

// NewCompressionVerifier checks that every algorithm is known.
func NewCompressionVerifier(tableColumnCompressions TableColumnCompressionConfig, tableSchemaCache TableSchemaCache) (*CompressionVerifier, error) {
	for _, table := range sortedNames(tableColumnCompressions) {
		columns := tableColumnCompressions[table]
		for _, column := range sortedNames(columns) {
			if err := checkCompression(table, column, columns[column]); err != nil {
				return nil, err
			}
		}
	}
	return &CompressionVerifier{TableSchemaCache: tableSchemaCache, compressions: tableColumnCompressions}, nil
}

// IsCompressedTable reports whether columns of a table, by its bare name, are compressed.
func (c *CompressionVerifier) IsCompressedTable(table string) bool {
	return len(c.compressions[table]) > 0
}

// Decompress returns the plain value of a compressed one.
func (c *CompressionVerifier) Decompress(table, column, algorithm string, compressed []byte) ([]byte, error) {
	return decompress(table, column, algorithm, compressed)
}

// HashRow returns the SHA-256 in hexadecimal of a row's values, each with its length in
// front; nil stands for NULL. An empty row is an error.
func (c *CompressionVerifier) HashRow(decompressedRowData [][]byte) ([]byte, error) {
	if len(decompressedRowData) == 0 {
		return nil, errors.New("row data to hash is empty")
	}
	h := sha256.New()
	for _, value := range decompressedRowData {
		if value == nil {
			h.Write([]byte("N"))
			continue
		}
		h.Write(binary.BigEndian.AppendUint64([]byte("V"), uint64(len(value))))
		h.Write(value)
	}
	return hex.AppendEncode(nil, h.Sum(nil)), nil
}

// GetCompressedHashes returns the digests, in hexadecimal, of the rows that have one of
// the keys, by the keys' String form. The digest is over the given columns and the key,
// compressed ones decompressed. schemaName and tableName are those of the server that
// db is; a table that is not in TableSchemaCache under these names is an error.
func (c *CompressionVerifier) GetCompressedHashes(db *sql.DB, schemaName, tableName, paginationKeyColumn string, columns []schema.TableColumn, paginationKeys []interface{}) (map[string][]byte, error) {
	table := c.TableSchemaCache.Get(schemaName, tableName)
	if table == nil {
		return nil, fmt.Errorf("table %s is not in the schema cache: give the names that it was loaded under", QuotedTableNameFromString(schemaName, tableName))
	}
	hashes, err := hashesOf(context.Background(), db, table, paginationKeyColumn, columns, c.compressions[tableName], paginationKeys)
	metricsOrGlobal(nil).Gauge("compression_verifier_decompress_rows", float64(len(hashes)), []MetricTag{{"table", tableName}}, 1)
	return hashes, err
}
