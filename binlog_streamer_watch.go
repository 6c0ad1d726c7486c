package ghostferry

import (
	"slices"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// A watched target's tables have the source's columns by name: their order may be another, and
// there may be more of them.

// watchedColumns are the columns of a table as the watched target has them.
type watchedColumns struct {
	names   []string
	columns []codec.Column // as they stand in the log
	order   []int          // where those of the source stand among them; nil: one to one
}

// passedOver reports whether nobody asks for the rows of an event: they are ours, or of a table
// that anybody may change. Of an XA transaction that is so or not when it is committed.
func (s *BinlogStreamer) passedOver(t *streamedTable, ev *rawEvent) bool {
	return s.own != nil && s.query != nil && s.own(s.query) || s.xa.reading == nil && s.exempted(t.table, ev)
}

func (s *BinlogStreamer) exempted(table *TableSchema, ev *rawEvent) bool {
	return s.exempt != nil && s.exempt(table, ev.end)
}

// watch finds out how a row of somebody else on the target is read. It reports false when the
// definition there has changed, so that nobody can tell any more.
func (s *BinlogStreamer) watch(t *streamedTable) (bool, error) {
	if t.columns != nil {
		return true, nil
	}
	w := s.watched[t.table]
	if w == nil || !w.fits(t) { // else the table has only got another id
		reader, err := newSchemaReader(s.ctx, s.DB)
		if err != nil {
			return false, err
		}
		defer reader.close()
		names, err := reader.columnNames(s.ctx, t.mapped.Schema, t.mapped.Table)
		if err != nil {
			return false, err
		}
		if w = newWatchedColumns(t.layout, names); w == nil || !w.fits(t) {
			return false, nil
		}
		if s.watched == nil {
			s.watched = map[*TableSchema]*watchedColumns{}
		}
		s.watched[t.table] = w
	}
	t.columns, t.order, t.mapped.Hidden = w.columns, w.order, t.mapped.Columns()-len(w.names)
	return true, nil
}

// newWatchedColumns returns nil when a column of the source is missing.
func newWatchedColumns(l *tableLayout, names []string) *watchedColumns {
	w := &watchedColumns{names: names, order: make([]int, len(l.columns))}
	for _, name := range names {
		// What only the target has is read to come to the next one, if it is in the row at all.
		w.columns = append(w.columns, codec.Column{Name: name, Kind: codec.Uint, Generated: true})
	}
	for i, c := range l.columns {
		at := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, c.Name) })
		if at < 0 {
			return nil
		}
		w.columns[at], w.order[i] = c, at
	}
	if len(names) == len(l.columns) && slices.IsSorted(w.order) {
		w.order = nil
	}
	return w
}

// fits compares the number of columns. The target may not have those that the source hides
// behind them.
func (w *watchedColumns) fits(t *streamedTable) bool {
	hidden := t.mapped.Columns() - len(w.names)
	return hidden >= 0 && hidden <= t.table.hiddenColumns()
}

// unreadable is what ends the watch at a row of somebody else that cannot be read. Whose row it
// is need not be known where all rows move.
func (s *BinlogStreamer) unreadable(ev *rawEvent, t *streamedTable, what, remedy string) error {
	if s.Filter != nil {
		return s.unsupported(ev, t.table, "on the target "+what+" by somebody else, which may be a moved one,", remedy)
	}
	e := &ForeignWriteError{Schema: t.table.Schema, Table: t.table.Name, Change: "update", Coordinate: ev.end.Position(), Comment: annotation(s.query)}
	switch rowsKind(ev.kind) {
	case insertRows:
		e.Change = "insert"
	case deleteRows:
		e.Change = "delete"
	}
	return e
}
