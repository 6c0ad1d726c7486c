package ghostferry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

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

// DMLEventBase is the shared part of the three events.
type DMLEventBase struct {
	event rowEvent
}

// NewDMLEventBase makes the shared part of an event from its place in the log. query is
// the statement's text, nil when it is not known.
func NewDMLEventBase(table *TableSchema, pos, resumablePos mysql.Position, query []byte, timestamp time.Time) *DMLEventBase {
	return &DMLEventBase{event: rowEvent{
		table: table, end: coordinateFromPosition(pos), resumable: resumablePos,
		query: query, timestamp: timestamp, old: -1, new: -1, txn: &sourceTxn{},
	}}
}

// Database returns the schema's name on the source.
func (e *DMLEventBase) Database() string { return e.event.table.Schema }

// Table returns the table's name on the source.
func (e *DMLEventBase) Table() string { return e.event.table.Name }

// TableSchema returns the table's entry in the schema cache.
func (e *DMLEventBase) TableSchema() *TableSchema { return e.event.table }

// BinlogPosition returns where the rows event ends.
func (e *DMLEventBase) BinlogPosition() mysql.Position { return e.event.end.Position() }

// ResumableBinlogPosition returns the last transaction boundary before the event.
func (e *DMLEventBase) ResumableBinlogPosition() mysql.Position { return e.event.resumable }

// Timestamp returns the event header's time.
func (e *DMLEventBase) Timestamp() time.Time { return e.event.timestamp }

// Annotation returns the text of the comment at the very start of the original
// statement, empty when there is none, and an error when the statement is not in the log.
func (e *DMLEventBase) Annotation() (string, error) {
	if e.event.query == nil {
		return "", errors.New("could not get query from DML event")
	}
	return annotation(e.event.query), nil
}

// annotation is the text of the comment at the very start of a statement, empty without one.
func annotation(statement []byte) string {
	text, ok := bytes.CutPrefix(statement, []byte("/*"))
	if !ok {
		return ""
	}
	comment, _, ok := bytes.Cut(text, []byte("*/"))
	if !ok {
		return ""
	}
	return string(comment)
}

func (e *DMLEventBase) engineEvent() *rowEvent { return &e.event }

func (e *DMLEventBase) paginationKey(values RowData) (string, error) {
	t := e.event.table
	if t.PaginationKeyColumn == nil {
		return "", &NoUsableKeyError{Schema: t.Schema, Table: t.Name}
	}
	key, err := NewPaginationKeyFromRow(values, t.PaginationKeyIndex, t.PaginationKeyColumn)
	if err != nil {
		return "", &TableError{Schema: t.Schema, Table: t.Name, Err: err}
	}
	return key.String(), nil
}

// BinlogInsertEvent is a row that was inserted.
type BinlogInsertEvent struct{ *DMLEventBase }

// OldValues returns nil.
func (e *BinlogInsertEvent) OldValues() RowData { return nil }

// NewValues returns the row.
func (e *BinlogInsertEvent) NewValues() RowData { return e.event.values(e.event.new) }

// AsSQLString returns upstream's INSERT IGNORE of the row.
func (e *BinlogInsertEvent) AsSQLString(schemaName, tableName string) (string, error) {
	l, err := e.event.checkedLayout()
	if err != nil {
		return "", err
	}
	names := make([]string, len(l.columns))
	values := make([]string, len(l.columns))
	for i := range l.columns {
		names[i] = l.columns[i].Name
		values[i] = e.event.literal(l, e.event.new, i)
	}
	return "INSERT IGNORE INTO " + sqlesc.Table(schemaName, tableName) + " (" + sqlesc.Idents(names) + ") VALUES (" + strings.Join(values, ",") + ")", nil
}

// PaginationKey returns the new row's key.
func (e *BinlogInsertEvent) PaginationKey() (string, error) { return e.paginationKey(e.NewValues()) }

// BinlogUpdateEvent is a row that was changed.
type BinlogUpdateEvent struct{ *DMLEventBase }

// OldValues returns the before image.
func (e *BinlogUpdateEvent) OldValues() RowData { return e.event.values(e.event.old) }

// NewValues returns the after image.
func (e *BinlogUpdateEvent) NewValues() RowData { return e.event.values(e.event.new) }

// AsSQLString returns upstream's UPDATE: all columns set, all old values in the WHERE.
func (e *BinlogUpdateEvent) AsSQLString(schemaName, tableName string) (string, error) {
	l, err := e.event.checkedLayout()
	if err != nil {
		return "", err
	}
	sets := make([]string, len(l.columns))
	for i := range l.columns {
		sets[i] = sqlesc.Ident(l.columns[i].Name) + "=" + e.event.literal(l, e.event.new, i)
	}
	return "UPDATE " + sqlesc.Table(schemaName, tableName) + " SET " + strings.Join(sets, ",") + " WHERE " + e.event.oldValuesPredicate(l), nil
}

// PaginationKey returns the after image's key.
func (e *BinlogUpdateEvent) PaginationKey() (string, error) { return e.paginationKey(e.NewValues()) }

// BinlogDeleteEvent is a row that was deleted.
type BinlogDeleteEvent struct{ *DMLEventBase }

// OldValues returns the row.
func (e *BinlogDeleteEvent) OldValues() RowData { return e.event.values(e.event.old) }

// NewValues returns nil.
func (e *BinlogDeleteEvent) NewValues() RowData { return nil }

// AsSQLString returns upstream's DELETE with all old values in the WHERE.
func (e *BinlogDeleteEvent) AsSQLString(schemaName, tableName string) (string, error) {
	l, err := e.event.checkedLayout()
	if err != nil {
		return "", err
	}
	return "DELETE FROM " + sqlesc.Table(schemaName, tableName) + " WHERE " + e.event.oldValuesPredicate(l), nil
}

// PaginationKey returns the before image's key.
func (e *BinlogDeleteEvent) PaginationKey() (string, error) { return e.paginationKey(e.OldValues()) }

func (e *rowEvent) checkedLayout() (*tableLayout, error) {
	if e.layout == nil {
		return nil, fmt.Errorf("event on %s has no row image", e.table)
	}
	return e.layout, nil
}

func (e *rowEvent) literal(l *tableLayout, image, column int) string {
	return string(l.columns[column].AppendLiteral(nil, e.rows.Value(image, column)))
}

func (e *rowEvent) oldValuesPredicate(l *tableLayout) string {
	terms := make([]string, len(l.columns))
	for i := range l.columns {
		ident := sqlesc.Ident(l.columns[i].Name)
		if e.rows.Value(e.old, i) == nil {
			terms[i] = ident + " IS NULL"
			continue
		}
		terms[i] = ident + "=" + e.literal(l, e.old, i)
	}
	return strings.Join(terms, " AND ")
}

// NewBinlogInsertEvents makes one event a row from a decoded rows event.
func NewBinlogInsertEvents(eventBase *DMLEventBase, rowsEvent *replication.RowsEvent) ([]DMLEvent, error) {
	rows, err := encodeRowsEvent(eventBase.event.table, rowsEvent)
	if err != nil {
		return nil, err
	}
	return eventsOfRows(&eventBase.event, rows, insertRows), nil
}

// NewBinlogUpdateEvents makes one event for each pair of rows (old, new).
func NewBinlogUpdateEvents(eventBase *DMLEventBase, rowsEvent *replication.RowsEvent) ([]DMLEvent, error) {
	rows, err := encodeRowsEvent(eventBase.event.table, rowsEvent)
	if err != nil {
		return nil, err
	}
	return eventsOfRows(&eventBase.event, rows, updateRows), nil
}

// NewBinlogDeleteEvents makes one event a row from a decoded rows event.
func NewBinlogDeleteEvents(eventBase *DMLEventBase, rowsEvent *replication.RowsEvent) ([]DMLEvent, error) {
	rows, err := encodeRowsEvent(eventBase.event.table, rowsEvent)
	if err != nil {
		return nil, err
	}
	return eventsOfRows(&eventBase.event, rows, deleteRows), nil
}

// NewBinlogDMLEvents makes the events of a decoded rows event of any kind; another
// event is an error.
func NewBinlogDMLEvents(table *TableSchema, ev *replication.BinlogEvent, pos, resumablePos mysql.Position, query []byte) ([]DMLEvent, error) {
	rowsEvent, ok := ev.Event.(*replication.RowsEvent)
	if !ok {
		return nil, fmt.Errorf("unrecognized rows event: %s", ev.Header.EventType)
	}
	base := NewDMLEventBase(table, pos, resumablePos, query, time.Unix(int64(ev.Header.Timestamp), 0))
	switch rowsKind(ev.Header.EventType) {
	case insertRows:
		return NewBinlogInsertEvents(base, rowsEvent)
	case updateRows:
		return NewBinlogUpdateEvents(base, rowsEvent)
	case deleteRows:
		return NewBinlogDeleteEvents(base, rowsEvent)
	}
	return nil, fmt.Errorf("unrecognized rows event: %s", ev.Header.EventType)
}

// encodeRowsEvent turns the rows that the replication library decoded into canonical ones.
func encodeRowsEvent(table *TableSchema, ev *replication.RowsEvent) (*codec.Rows, error) {
	l, err := table.layout()
	if err != nil {
		return nil, err
	}
	rows := codec.NewRows(len(l.columns), len(ev.Rows), 64*len(ev.Rows))
	for _, row := range ev.Rows {
		if len(row) != len(l.columns) {
			return nil, fmt.Errorf("table %s has %d columns but event has %d columns instead", table, len(l.columns), len(row))
		}
		for i, v := range row {
			if err := rows.AddGo(&l.columns[i], unsignedOf(&l.columns[i], table, i, v)); err != nil {
				return nil, &TableError{Schema: table.Schema, Table: table.Name, Err: err}
			}
		}
	}
	return rows, nil
}

// unsignedOf corrects the sign of a value that the replication library decoded as
// signed, by the width of the Go type; a MEDIUMINT has 24 bits.
func unsignedOf(c *codec.Column, table *TableSchema, i int, v any) any {
	if c.Kind != codec.Uint {
		return v
	}
	switch x := v.(type) {
	case int8:
		return uint8(x)
	case int16:
		return uint16(x)
	case int32:
		if strings.HasPrefix(strings.ToLower(table.Columns[i].RawType), "mediumint") {
			return uint32(x) & 0xffffff
		}
		return uint32(x)
	case int64:
		return uint64(x)
	}
	return v
}

// rowsEventKind says what the rows of a rows event are.
type rowsEventKind uint8

const (
	notRows rowsEventKind = iota
	insertRows
	updateRows
	deleteRows
)

func rowsKind(t replication.EventType) rowsEventKind {
	switch t {
	case replication.WRITE_ROWS_EVENTv1, replication.WRITE_ROWS_EVENTv2:
		return insertRows
	case replication.UPDATE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv2:
		return updateRows
	case replication.DELETE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv2:
		return deleteRows
	}
	return notRows
}

// eventsOfRows makes the events of canonical rows that share a place in the log.
func eventsOfRows(place *rowEvent, rows *codec.Rows, kind rowsEventKind) []DMLEvent {
	step := 1
	if kind == updateRows {
		step = 2
	}
	n := rows.Len() / step
	layout := place.layout
	if layout == nil {
		layout, _ = place.table.layout()
	}
	// Few pieces of memory whatever the number of rows, a single one for one row.
	type event struct {
		base   DMLEventBase
		insert BinlogInsertEvent
		update BinlogUpdateEvent
		remove BinlogDeleteEvent
	}
	var events []event
	var out []DMLEvent
	if n == 1 {
		one := &struct {
			event [1]event
			out   [1]DMLEvent
		}{}
		events, out = one.event[:], one.out[:]
	} else {
		events, out = make([]event, n), make([]DMLEvent, n)
	}
	for i := range events {
		e := &events[i]
		base := &e.base
		base.event = *place
		base.event.rows, base.event.layout = rows, layout
		base.event.old, base.event.new = -1, -1
		switch kind {
		case insertRows:
			base.event.new = i
			e.insert.DMLEventBase, out[i] = base, &e.insert
		case updateRows:
			base.event.old, base.event.new = 2*i, 2*i+1
			if layout.updatable != 0 {
				base.event.set = layout.differing(rowRef{rows, 2 * i}, rowRef{rows, 2*i + 1})
			}
			e.update.DMLEventBase, out[i] = base, &e.update
		default:
			base.event.old = i
			e.remove.DMLEventBase, out[i] = base, &e.remove
		}
	}
	return out
}
