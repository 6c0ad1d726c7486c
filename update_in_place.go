package ghostferry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

const (
	// maxUpdateRows bounds the rows of one update: the server sorts their keys.
	maxUpdateRows = 2000
	// maxUpdateColumns: with more changed columns than that an upsert is as cheap.
	maxUpdateColumns = 8
	// maxUpdateSets is how many different sets of changed columns have statements of
	// their own; with more, all rows have all of these columns set.
	maxUpdateSets = 8
)

// columnSet is a set of a table's columns, by index; tables with more columns than it
// can hold are not updated in place.
type columnSet uint64

const maxColumnSet = 64

// settable returns the columns that an update in place may set: their values are
// the same whether they are given as a literal or chosen among several as a string. A
// JSON value that compares equal would not be stored; a YEAR, ENUM, SET or BIT means
// something else as a string.
func (l *tableLayout) settable() columnSet {
	var set columnSet
	if !l.integerKey || l.replaced || len(l.columns) > maxColumnSet {
		return 0
	}
	for _, c := range l.writable {
		switch l.columns[c].Kind {
		case codec.Int, codec.Uint, codec.Decimal, codec.Float, codec.Double, codec.Date, codec.Time, codec.DateTime, codec.Timestamp, codec.Text, codec.Binary:
			set |= 1 << c
		}
	}
	return set &^ (1 << l.keys[0])
}

// differing returns the columns in which two images of a row differ, of a table with no more
// than maxColumnSet.
func (l *tableLayout) differing(before, after rowRef) (set columnSet) {
	for _, c := range l.writable {
		x, y := before.rows.Value(before.row, c), after.rows.Value(after.row, c)
		if (x == nil) != (y == nil) || !bytes.Equal(x, y) {
			set |= 1 << c
		}
	}
	return set
}

// changed returns the columns that a change sets; false when its row cannot be updated in place.
func (l *tableLayout) changed(c *rowChange) (columnSet, bool) {
	if l.updatable == 0 || c.before.rows == nil || c.image.rows == nil {
		return 0, false
	}
	set := c.set
	if !c.setKnown {
		set = l.differing(c.before, c.image)
	}
	return set, set&^l.updatable == 0 && bits.OnesCount64(uint64(set)) <= maxUpdateColumns
}

// errNotInPlace says that rows were not on the target as they were believed to be. The
// batch then has to be written the other way, which does not ask what is there.
var errNotInPlace = errors.New("rows could not be updated in place")

// splitUpdates parts changes into those to be written whole and those of rows that are
// known to be on the target as the batch before has left them: of these only the columns
// that changed are written, and nothing where nothing did.
func (t *tableChanges) splitUpdates(changes []*rowChange) (whole []*rowChange, updates map[columnSet][]*rowChange) {
	if !t.inPlace {
		return changes, nil
	}
	updates = map[columnSet][]*rowChange{}
	for _, c := range changes {
		set, ok := t.writer.layout.changed(c)
		switch {
		case !ok:
			whole = append(whole, c)
		case set != 0:
			updates[set] = append(updates[set], c)
		}
	}
	if len(updates) > maxUpdateSets {
		var all columnSet
		for set := range updates {
			all |= set
		}
		var rows []*rowChange
		for _, c := range changes { // in the order of keys again
			if set, ok := t.writer.layout.changed(c); ok && set != 0 {
				rows = append(rows, c)
			}
		}
		updates = map[columnSet][]*rowChange{all: rows}
	}
	return whole, updates
}

// update sets columns of rows, given in the order of their keys, by statements like
//
//	UPDATE t SET c=ELT(INTERVAL(id,3,5,9),'x','y','z') WHERE id IN (3,5,9)
//
// INTERVAL finds the row's key by binary search, ELT takes the value of that number: each
// row is found once and changed where it stands, which no form of INSERT or of a join
// does. Every row has to be there and to change; otherwise it is an errNotInPlace.
func (w *tableWriter) update(ctx context.Context, s *session, set columnSet, rows []*rowChange) error {
	for len(rows) > 0 {
		stmt, n := w.appendUpdate(s.statement(), set, rows)
		affected, err := s.exec(ctx, stmt)
		switch {
		case err != nil && mysqlerr.Retryable(mysqlerr.Classify(err)), ctx.Err() != nil:
			return err
		case mysqlerr.Classify(err) == mysqlerr.PacketTooBig && n > 1:
			return w.halved(err, len(stmt), n)
		case err != nil:
			return fmt.Errorf("%w: %w", errNotInPlace, err)
		case affected != int64(n):
			return fmt.Errorf("%w: %d of %d have changed", errNotInPlace, affected, n)
		}
		rows = rows[n:]
	}
	return nil
}

// appendUpdate appends the update of as many rows as a statement takes, and returns how many.
func (w *tableWriter) appendUpdate(dst []byte, set columnSet, rows []*rowChange) ([]byte, int) {
	l := w.layout
	n, size, limit := 0, 0, w.maxBytes()
	for ; n < min(len(rows), maxUpdateRows) && (n == 0 || size < limit); n++ {
		size += rows[n].image.rows.RowBytes(rows[n].image.row)
	}
	rows = rows[:n]
	if size > 2*largeRow { // one of them is large, see appendInsert, and what is set of it may be small
		bytes := 0
		for _, r := range rows {
			for rest := set; rest != 0; rest &= rest - 1 {
				bytes += len(r.image.rows.Value(r.image.row, bits.TrailingZeros64(uint64(rest))))
			}
		}
		dst = slices.Grow(dst, bytes+bytes/8)
	}
	appendKeys := func(dst []byte) []byte {
		for i, c := range rows {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, integerPart(c.key)...)
		}
		return dst
	}
	key := sqlesc.Ident(l.columns[l.keys[0]].Name)
	dst = append(append(append(dst, "UPDATE "...), w.quoted...), l.forceKeyIndex()...)
	separator := " SET "
	for rest := set; rest != 0; rest &= rest - 1 {
		c := bits.TrailingZeros64(uint64(rest))
		dst = append(append(append(dst, separator...), sqlesc.Ident(l.columns[c].Name)...), "=ELT(INTERVAL("...)
		dst = append(append(dst, key...), ',')
		dst = append(appendKeys(dst), ')')
		for _, r := range rows {
			dst = l.columns[c].AppendText(append(dst, ','), r.image.rows.Value(r.image.row, c))
		}
		dst, separator = append(dst, ')'), ","
	}
	for _, c := range l.writable {
		// What is assigned to itself is not set to the present time (ON UPDATE).
		if kind := l.columns[c].Kind; set>>c&1 == 0 && (kind == codec.Timestamp || kind == codec.DateTime) {
			name := sqlesc.Ident(l.columns[c].Name)
			dst = append(append(append(append(dst, ','), name...), '='), name...)
		}
	}
	dst = append(append(append(dst, " WHERE "...), key...), " IN ("...)
	return append(appendKeys(dst), ')'), n
}

// settle decides which tables of a batch may be updated in place: those that are known to
// be on the target as the batch before has left them. While a transaction is repeated the rows
// are further than its changes say.
func (w *BinlogWriter) settle(ctx context.Context, b *applyBatch) error {
	if b.repeats {
		return nil
	}
	for _, t := range b.tables {
		tw := t.writer
		if w.settledFrom == nil || tw.layout.updatable == 0 || tw.layout.scope != nil || tw.unsettled {
			continue
		}
		if tw.settledAt == nil {
			at, known, err := w.settledFrom(ctx, tw.table)
			if err != nil {
				return err
			}
			if !known {
				continue
			}
			tw.settledAt = &at
		}
		if !tw.settled {
			w.applied.Lock()
			at := w.applied.at
			w.applied.Unlock()
			tw.settled = tw.settledAt.IsZero() || at.File != "" && at.CompareFilePos(*tw.settledAt) >= 0
		}
		t.inPlace = tw.settled && !w.ledger.owes(tw.table)
	}
	return nil
}

// writeWhole has a batch written without updates in place. Tables that made it necessary
// are unsettled for good: what is on the target is not what it should be, and this way of
// writing makes it so.
func (b *applyBatch) writeWhole(unsettle bool) {
	for _, t := range b.tables {
		t.writer.unsettled = t.writer.unsettled || unsettle && t.inPlace
		t.inPlace = false
	}
}
