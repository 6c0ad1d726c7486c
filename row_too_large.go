package ghostferry

import (
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

// RowTooLargeError says that a row does not fit into a statement for the target.
type RowTooLargeError struct {
	final
	// Key is the row's key.
	Key string
	// Bytes is how long its values are; in a statement they may be longer.
	Bytes int
	// Limit is the target's max_allowed_packet in bytes.
	Limit uint64
	// Err is what was answered.
	Err error
}

// Error names the row, the sizes and what to do.
func (e *RowTooLargeError) Error() string {
	return fmt.Sprintf("the row with key %s has %d bytes, and max_allowed_packet of the target is %d bytes: %v: SET GLOBAL max_allowed_packet there to at least twice the row, and run again",
		e.Key, e.Bytes, e.Limit, e.Err)
}

// Unwrap returns what was answered.
func (e *RowTooLargeError) Unwrap() error { return e.Err }

// Resumable is true: with a larger packet the run goes on.
func (e *RowTooLargeError) Resumable() bool { return true }

// explainTooLarge names the largest of the rows when err says that a statement was too
// large: rows share statements only where they fit.
func explainTooLarge(err error, l *tableLayout, rows *codec.Rows, limit uint64) error {
	if mysqlerr.Classify(err) != mysqlerr.PacketTooBig {
		return err
	}
	largest := 0
	for row := range rows.Len() {
		if rows.RowBytes(row) > rows.RowBytes(largest) {
			largest = row
		}
	}
	return &RowTooLargeError{Key: l.describeKey(keyOf(rows, largest, l.keys)), Bytes: rows.RowBytes(largest), Limit: limit, Err: err}
}
