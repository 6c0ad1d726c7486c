package ghostferry

import (
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// RowData is one row: driver or binlog values in column order.
type RowData []interface{}

// DMLEvent is one row change from a binary log.
type DMLEvent interface {
	// Database is the schema's name on the source.
	Database() string
	// Table is the table's name on the source.
	Table() string
	// TableSchema is the table's entry in the schema cache.
	TableSchema() *TableSchema
	// AsSQLString renders the change for the given target schema and table.
	AsSQLString(string, string) (string, error)
	// OldValues is the before image, nil for an insert.
	OldValues() RowData
	// NewValues is the after image, nil for a delete.
	NewValues() RowData
	// PaginationKey is the String form of the row's key: of the after image, or of
	// the before image for a delete.
	PaginationKey() (string, error)
	// BinlogPosition is where the rows event ends.
	BinlogPosition() mysql.Position
	// ResumableBinlogPosition is the last transaction boundary before the event.
	ResumableBinlogPosition() mysql.Position
	// Annotation is the leading comment of the original statement.
	Annotation() (string, error)
	// Timestamp is the event header's time.
	Timestamp() time.Time
}
