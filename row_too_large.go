package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

// RowTooLargeError says that a row does not fit into a statement for the target.
type RowTooLargeError struct {
	final
	// Table is the quoted name on the target.
	Table string
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

// statementTooLargeError says that a statement with several rows or keys did not fit into
// max_allowed_packet of a session of the target. Statements of its table are smaller from
// then on, and the transaction has to be done again.
type statementTooLargeError struct {
	table string
	bytes int // of statements from now on
	limit *atomic.Int64
	err   error
}

// halve lowers the limit once more, when statements under it were still too large: what a
// literal takes beyond its value does not count in it.
func (e *statementTooLargeError) halve() {
	e.limit.CompareAndSwap(int64(e.bytes), int64(e.bytes/2))
}

func (e *statementTooLargeError) Error() string {
	return fmt.Sprintf("a statement for %s was too large, the next ones have at most %d bytes: %v", e.table, e.bytes, e.err)
}

func (e *statementTooLargeError) Unwrap() error { return e.err }

// maxBytes is how long a statement with several rows may be.
func (w *tableWriter) maxBytes() int { return int(w.limit.Load()) }

// halved is err, unless a statement of so many bytes with n rows or keys was too large:
// sessions have the limit of when they were opened, which may have been lowered since. Then
// the next statements are half as large.
func (w *tableWriter) halved(err error, bytes, n int) error {
	if n < 2 || mysqlerr.Classify(err) != mysqlerr.PacketTooBig {
		return err
	}
	half := int64(bytes / 2)
	for {
		limit := w.limit.Load()
		if limit <= half || w.limit.CompareAndSwap(limit, half) {
			return &statementTooLargeError{w.quoted, int(min(limit, half)), &w.limit, err}
		}
	}
}

// rejected is err with its remedy, or what it means when a statement of so many bytes with these
// rows was too large.
func (w *tableWriter) rejected(ctx context.Context, s *session, err error, bytes int, rows []rowRef) error {
	if mysqlerr.Number(err) == mysqlerr.CheckViolated {
		return fmt.Errorf("%w: rows are moved as they are on the source: ALTER TABLE %s ALTER CHECK … NOT ENFORCED on the target, or correct the rows on the source, and run again", err, w.quoted)
	}
	if mysqlerr.Classify(err) != mysqlerr.PacketTooBig || len(rows) > 1 {
		return w.halved(err, bytes, len(rows))
	}
	r := rows[0]
	return &RowTooLargeError{
		Table: w.quoted, Key: w.layout.describeKey(keyOf(r.rows, r.row, w.layout.keys)),
		Bytes: r.rows.RowBytes(r.row), Limit: w.packetLimit(ctx, s), Err: err,
	}
}

// packetLimit is max_allowed_packet of a session, or what it was at the beginning when the
// session cannot tell any more.
func (w *tableWriter) packetLimit(ctx context.Context, s *session) uint64 {
	limit := w.maxPacket
	err := s.query(ctx, append(s.statement(), "SELECT @@max_allowed_packet"...), func(values []driver.Value) error {
		n, err := strconv.ParseUint(warningText(values[0]), 10, 64)
		if err == nil {
			limit = n
		}
		return err
	})
	if err != nil {
		return w.maxPacket
	}
	return limit
}
