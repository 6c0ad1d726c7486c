package ghostferry

import (
	"context"
	"database/sql/driver"
	"strconv"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// Where other rows than ours live, rows are written by plain INSERT only: a duplicate is
// an error then, and is looked at row by row, because who is in the way decides what to
// do. A row of ours with the same key is newer or the same: it stays. A row of ours with
// the same unique value is the image of a later moment: the row left out is a debt, see
// debtLedger. A row of others may be leaving by another move, see collisionLedger;
// otherwise it is a conflict that nobody but the operator can resolve.

// holder says whose row has a key or a unique value.
type holder uint8

const (
	nobody holder = iota
	ours
	others
)

// insertScoped is insertAbsent for a table with a scope.
func (w *tableWriter) insertScoped(ctx context.Context, s *session, rows []rowRef) (skipped []string, err error) {
	rows, zeros := w.layout.splitEnumZeros(rows)
	if len(zeros) > 0 {
		_, err = w.insert(ctx, s, zeros, w.layout.writable, "")
		if mysqlerr.Classify(err) == mysqlerr.Duplicate { // those before it are there
			skipped, err = w.insertAround(ctx, s, zeros)
		}
		if err != nil {
			return nil, err
		}
	}
	for len(rows) > 0 {
		stmt, n := w.appendInsert(s.statement(), rows, w.layout.writable, "")
		_, err := s.exec(ctx, stmt)
		if mysqlerr.Classify(err) == mysqlerr.Duplicate {
			var left []string
			left, err = w.insertAround(ctx, s, rows[:n])
			skipped = append(skipped, left...)
		} else if err != nil {
			err = w.rejected(ctx, s, err, len(stmt), rows[:n])
		}
		if err != nil {
			return nil, err
		}
		rows = rows[n:]
	}
	return skipped, nil
}

// insertAround inserts the rows of a statement that met a duplicate, and was rolled back
// as a statement.
func (w *tableWriter) insertAround(ctx context.Context, s *session, rows []rowRef) (skipped []string, err error) {
	held, err := w.keyHolders(ctx, s, rows)
	if err != nil {
		return nil, err
	}
	var absent, collided []rowRef
	for i, r := range rows {
		switch held[i] {
		case others:
			collided = append(collided, r)
		case nobody:
			absent = append(absent, r)
		}
	}
	if len(absent) > 0 && len(absent) < len(rows) {
		_, err := w.insert(ctx, s, absent, w.layout.writable, "")
		if err != nil && mysqlerr.Classify(err) != mysqlerr.Duplicate {
			return nil, err
		}
		if err == nil {
			absent = nil
		}
	}
	for _, r := range append(collided, absent...) {
		left, err := w.insertOne(ctx, s, r)
		if err != nil {
			return nil, err
		}
		skipped = append(skipped, left...)
	}
	return skipped, nil
}

// insertOneAttempts bounds how often a row is tried whose obstacle was gone when it was
// looked for.
const insertOneAttempts = 5

func (w *tableWriter) insertOne(ctx context.Context, s *session, r rowRef) (skipped []string, err error) {
	index := ""
	for range insertOneAttempts {
		_, err := w.insert(ctx, s, []rowRef{r}, w.layout.writable, "")
		if mysqlerr.Classify(err) != mysqlerr.Duplicate {
			return nil, err
		}
		held, err := w.keyHolders(ctx, s, []rowRef{r})
		if err != nil {
			return nil, err
		}
		by := held[0]
		switch by {
		case ours:
			return nil, nil
		case others:
			index = w.keyIndexName()
		default:
			if by, index, err = w.uniqueHolder(ctx, s, r); err != nil {
				return nil, err
			}
		}
		if by == ours {
			return []string{string(r.rows.AppendKey(nil, r.row, w.layout.keys))}, nil
		}
		// A conflict is looked at again: another move may just have ended, after it had taken
		// its row away.
		if by == others && w.collide != nil {
			if left, err := w.collide(ctx, s, w, r, index); err != nil || left {
				return nil, err
			}
		}
	}
	return nil, w.conflict(r, index)
}

// keyHolders tells of each row who has its key on the target.
func (w *tableWriter) keyHolders(ctx context.Context, s *session, rows []rowRef) ([]holder, error) {
	held := make([]holder, len(rows))
	if !w.layout.keyBytes { // only the server knows which keys are equal
		for i, r := range rows {
			key := keyOf(r.rows, r.row, w.layout.keys)
			stmt := append(s.statement(), "SELECT COALESCE("+w.layout.scope.predicate+",0) FROM "+w.quoted+" WHERE "...)
			stmt, _ = w.layout.appendAnyKeys(stmt, 1, 0, func(int) keyTuple { return key })
			if err := s.query(ctx, stmt, func(values []driver.Value) error { held[i] = holderOf(values[0]); return nil }); err != nil {
				return nil, err
			}
		}
		return held, nil
	}
	found := make(map[string]holder, len(rows))
	for from := 0; from < len(rows); {
		stmt := append(s.statement(), "SELECT COALESCE("+w.layout.scope.predicate+",0),"+w.layout.keySelectList()+" FROM "+w.quoted+" WHERE "...)
		stmt, n := w.layout.appendAnyKeys(stmt, len(rows)-from, w.maxBytes(), func(i int) keyTuple {
			return keyOf(rows[from+i].rows, rows[from+i].row, w.layout.keys)
		})
		from += n
		err := s.query(ctx, stmt, func(values []driver.Value) error {
			var key []byte
			for i, k := range w.layout.keys {
				v, err := w.layout.columns[k].AppendDriver([]byte{}, values[i+1])
				if err != nil {
					return err
				}
				key = codec.AppendKeyPart(key, v)
			}
			found[string(key)] = holderOf(values[0])
			return nil
		})
		if err != nil {
			return nil, w.halved(err, len(stmt), n)
		}
	}
	for i, r := range rows {
		held[i] = found[string(r.rows.AppendKey(nil, r.row, w.layout.keys))]
	}
	return held, nil
}

func holderOf(inScope driver.Value) holder {
	switch v := inScope.(type) {
	case int64:
		if v == 1 {
			return ours
		}
	case []byte:
		if string(v) == "1" {
			return ours
		}
	}
	return others
}

// uniqueHolder looks for the rows that have one of a row's unique values, and names the
// index. One row of others decides.
func (w *tableWriter) uniqueHolder(ctx context.Context, s *session, r rowRef) (by holder, index string, err error) {
	err = w.eachUniqueMatch(ctx, s, "COALESCE("+w.layout.scope.predicate+",0)", r, func(name string, values []driver.Value) (enough bool, err error) {
		if h := holderOf(values[0]); h > by {
			by, index = h, name
		}
		return by == others, nil
	})
	return by, index, err
}

// eachUniqueMatch reads an expression of the rows of the target that have one of a row's unique
// values, index by index until match has enough.
func (w *tableWriter) eachUniqueMatch(ctx context.Context, s *session, expression string, r rowRef, match func(index string, values []driver.Value) (enough bool, err error)) error {
	for _, u := range w.table.indexInfos {
		if !u.Unique || u.isExactly(w.layout.keys) {
			continue
		}
		stmt := append(s.statement(), "SELECT "+expression+" FROM "+w.quoted+" WHERE "...)
		stmt, hasValue := w.appendUniqueValue(stmt, u, r)
		if !hasValue {
			continue
		}
		enough := false
		err := s.query(ctx, stmt, func(values []driver.Value) (err error) {
			if !enough {
				enough, err = match(u.Name, values)
			}
			return err
		})
		if err != nil || enough {
			return err
		}
	}
	return nil
}

// appendUniqueValue appends the predicate of a row's value of a unique index; a NULL is
// equal to nothing.
func (w *tableWriter) appendUniqueValue(stmt []byte, u indexInfo, r rowRef) ([]byte, bool) {
	for i, at := range u.Columns {
		if at < 0 {
			return stmt, false
		}
		v := r.rows.Value(r.row, at)
		if v == nil {
			return stmt, false
		}
		if i > 0 {
			stmt = append(stmt, " AND "...)
		}
		c := &w.layout.columns[at]
		name := sqlesc.Ident(c.Name)
		if n := u.SubParts[i]; n > 0 {
			length := "," + strconv.Itoa(n) + ")"
			stmt = append(stmt, "LEFT("+name+length+"=LEFT("...)
			stmt = append(c.AppendCompared(stmt, v), length...)
			continue
		}
		stmt = c.AppendCompared(append(stmt, name+"="...), v)
	}
	return stmt, true
}

func (w *tableWriter) keyIndexName() string {
	if w.table.keyIndexName == "" {
		return "PRIMARY"
	}
	return w.table.keyIndexName
}

func (w *tableWriter) conflict(r rowRef, index string) error {
	return &TargetConflictError{Table: w.quoted, Key: w.layout.describeKey(keyOf(r.rows, r.row, w.layout.keys)), Index: index, Others: true}
}
