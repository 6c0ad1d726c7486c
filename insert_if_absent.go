package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// maxStatementBytes bounds a multi-row statement: larger ones gain nothing and cost memory.
const maxStatementBytes = 1 << 20

// tableWriter builds the statements that write one table's rows to the target.
type tableWriter struct {
	table     *TableSchema
	layout    *tableLayout
	quoted    string       // `schema`.`table` on the target
	head      string       // INSERT INTO … (columns) VALUES
	absent    string       // tail: keep an existing row as it is
	overwrite string       // tail: overwrite every column, the key's too
	maxPacket uint64       // max_allowed_packet of the target at the beginning
	limit     atomic.Int64 // bytes of a statement with several rows
	bulk      atomic.Bool  // whether copied rows go by LOAD DATA
	asked     uint64       // when it was asked for last; owned by the BatchWriter

	// collide is told of a row that a row of others keeps out, by the index; when it
	// returns false, or is nil, that is a conflict.
	collide func(ctx context.Context, s *session, w *tableWriter, r rowRef, index string) (bool, error)

	// For changes, owned by the goroutine that writes them: the table is settled when
	// the apply has passed settledAt (nil: not known yet), and never when unsettled.
	settledAt          *BinlogCoordinate
	settled, unsettled bool
	changed            int // keys of the batch before; owned by the goroutine that builds them
}

// newTableWriter prepares the texts. rowAlias: how ON DUPLICATE KEY UPDATE names the new row.
func newTableWriter(table *TableSchema, targetSchema, targetTable string, rowAlias bool, maxPacket uint64) (*tableWriter, error) {
	l, err := table.layout()
	if err != nil {
		return nil, err
	}
	w := &tableWriter{table: table, layout: l, quoted: sqlesc.Table(targetSchema, targetTable), maxPacket: maxPacket}
	w.limit.Store(maxStatementBytes)
	if maxPacket > 0 {
		w.limit.Store(min(maxStatementBytes, int64(maxPacket/2)))
	}
	w.head = "INSERT INTO " + w.quoted + " (" + l.columnNames + ") VALUES "
	first := sqlesc.Ident(l.columns[l.writable[0]].Name)
	// An assignment of a column to itself: the duplicate is not an error and changes
	// nothing, while every other error stays one (INSERT IGNORE would hide them).
	w.absent = " ON DUPLICATE KEY UPDATE " + first + "=" + w.quoted + "." + first
	alias, as := "new_row", ""
	if strings.EqualFold(targetTable, alias) { // an alias is not the table's name
		alias += "_"
	}
	if rowAlias {
		as = " AS " + alias
	}
	w.overwrite = as + " ON DUPLICATE KEY UPDATE "
	for i, c := range l.writable {
		if i > 0 {
			w.overwrite += ","
		}
		name := sqlesc.Ident(l.columns[c].Name)
		if rowAlias {
			w.overwrite += name + "=" + alias + "." + name
		} else {
			w.overwrite += name + "=VALUES(" + name + ")"
		}
	}
	return w, nil
}

// rowRef is one row of a row set.
type rowRef struct {
	rows *codec.Rows
	row  int
}

// allRows returns every row of a row set.
func allRows(rows *codec.Rows) []rowRef {
	refs := make([]rowRef, rows.Len())
	for i := range refs {
		refs[i] = rowRef{rows, i}
	}
	return refs
}

// insert sends rows in statements of bounded size, each ended by tail, and returns the
// rows affected.
func (w *tableWriter) insert(ctx context.Context, s *session, rows []rowRef, columns []int, tail string) (int64, error) {
	var total int64
	if len(w.layout.enums) > 0 {
		var zeros []rowRef
		if rows, zeros = w.layout.splitEnumZeros(rows); len(zeros) > 0 {
			affected, err := w.insertEnumZeros(ctx, s, zeros, columns, tail)
			if err != nil {
				return 0, err
			}
			total = affected
		}
	}
	affected, err := w.insertTogether(ctx, s, rows, columns, tail)
	return total + affected, err
}

// insertTogether is insert for rows that a strict session takes.
func (w *tableWriter) insertTogether(ctx context.Context, s *session, rows []rowRef, columns []int, tail string) (int64, error) {
	var total int64
	for len(rows) > 0 {
		affected, n, err := w.insertSome(ctx, s, rows, columns, tail)
		if err != nil {
			return total, err
		}
		total += affected
		rows = rows[n:]
	}
	return total, nil
}

// insertSome inserts the first n rows, as many as fit into one statement.
func (w *tableWriter) insertSome(ctx context.Context, s *session, rows []rowRef, columns []int, tail string) (affected int64, n int, err error) {
	stmt, n := w.appendInsert(s.statement(), rows, columns, tail)
	if affected, err = s.exec(ctx, stmt); err != nil {
		return 0, n, w.rejected(ctx, s, err, len(stmt), rows[:n])
	}
	return affected, n, nil
}

// appendInsert appends an INSERT of the first rows, as many as fit, and returns how many.
func (w *tableWriter) appendInsert(stmt []byte, rows []rowRef, columns []int, tail string) ([]byte, int) {
	stmt = append(stmt, w.head...)
	n, limit := 0, w.maxBytes()
	for n < len(rows) && (n == 0 || len(stmt)+rows[n].rows.RowBytes(rows[n].row) < limit) {
		if n > 0 {
			stmt = append(stmt, ',')
		} else if rows[0].rows.RowBytes(rows[0].row) > largeRow { // growing bit by bit would take the memory of it twice
			stmt = slices.Grow(stmt, rows[0].rows.LiteralBytes(rows[0].row)+len(tail))
		}
		stmt = rows[n].rows.AppendTuple(stmt, rows[n].row, w.layout.columns, columns)
		n++
	}
	return append(stmt, tail...), n
}

// insertAbsent inserts the rows that are not there and returns the encoded keys of
// those that another row's unique value keeps out. It must run inside a transaction.
func (w *tableWriter) insertAbsent(ctx context.Context, s *session, rows []rowRef) (skipped []string, err error) {
	if w.layout.scope != nil {
		return w.insertScoped(ctx, s, rows)
	}
	inserted, err := w.insert(ctx, s, rows, w.layout.writable, w.absent)
	if err != nil || inserted == int64(len(rows)) || !w.layout.secondaryUnique {
		// Without a further unique index a row that was not inserted is there.
		return nil, err
	}
	return w.missing(ctx, s, rows)
}

// missing returns the encoded keys of rows that are not on the target.
func (w *tableWriter) missing(ctx context.Context, s *session, rows []rowRef) ([]string, error) {
	keys := make([]keyTuple, len(rows))
	for i, r := range rows {
		keys[i] = keyOf(r.rows, r.row, w.layout.keys)
	}
	return w.missingKeys(ctx, s, w.quoted, "", keys)
}

// missingKeys returns those of the keys, encoded, that no row has of a table of either side. suffix
// is a lock clause.
func (w *tableWriter) missingKeys(ctx context.Context, s *session, quotedTable, suffix string, keys []keyTuple) ([]string, error) {
	if !w.layout.keyBytes {
		return w.missingOneByOne(ctx, s, quotedTable, suffix, keys)
	}
	found := make(map[string]struct{}, len(keys))
	for from := 0; from < len(keys); {
		stmt := append(s.statement(), "SELECT "+w.layout.keySelectList()+" FROM "+quotedTable+" WHERE "...)
		stmt, n := w.layout.appendKeyList(stmt, len(keys)-from, w.maxBytes(), func(i int) keyTuple { return keys[from+i] })
		from += n
		err := s.query(ctx, append(stmt, suffix...), func(values []driver.Value) error {
			var key []byte
			for i, k := range w.layout.keys {
				v, err := w.layout.columns[k].AppendDriver([]byte{}, values[i])
				if err != nil {
					return err
				}
				key = codec.AppendKeyPart(key, v)
			}
			found[string(key)] = struct{}{}
			return nil
		})
		if err != nil {
			return nil, w.halved(err, len(stmt), n)
		}
	}
	var missing []string
	for _, key := range keys {
		encoded := key.encode()
		if _, ok := found[encoded]; !ok {
			missing = append(missing, encoded)
		}
	}
	return missing, nil
}

// missingOneByOne asks for each key by itself: only the server knows which keys of a
// collated column are equal.
func (w *tableWriter) missingOneByOne(ctx context.Context, s *session, quotedTable, suffix string, keys []keyTuple) ([]string, error) {
	var missing []string
	for _, key := range keys {
		stmt := append(s.statement(), "SELECT 1 FROM "+quotedTable+" WHERE "...)
		stmt, _ = w.layout.appendKeyList(stmt, 1, 0, func(int) keyTuple { return key })
		found := false
		err := s.query(ctx, append(stmt, suffix...), func([]driver.Value) error { found = true; return nil })
		if err != nil {
			return nil, err
		}
		if !found {
			missing = append(missing, key.encode())
		}
	}
	return missing, nil
}

// deleteKeys deletes the rows with the given keys.
func (w *tableWriter) deleteKeys(ctx context.Context, s *session, keys []keyTuple) error {
	head := "DELETE FROM " + w.quoted + " WHERE "
	if w.layout.scope != nil && w.layout.keyIndex == "PRIMARY" {
		// By the scope's index, which a server that knows little of the table may prefer, it
		// would wait for rows that are just being copied. Only this form takes a hint.
		head = "DELETE " + w.quoted + " FROM " + w.quoted + " FORCE INDEX (PRIMARY) WHERE "
	}
	for from := 0; from < len(keys); {
		stmt := append(s.statement(), head...)
		stmt, n := w.layout.appendKeyList(stmt, len(keys)-from, w.maxBytes(), func(i int) keyTuple { return keys[from+i] })
		from += n
		if _, err := s.exec(ctx, stmt); err != nil {
			return fmt.Errorf("deleting from %s: %w", w.quoted, w.halved(err, len(stmt), n))
		}
	}
	return nil
}
