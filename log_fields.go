package ghostferry

import (
	"errors"
	"strings"
)

// Names of the fields that lines of the log carry where they are about such a thing; each
// line of a run has "run", its id, and "tag", the component, besides.
const (
	fieldTable      = "table"      // "schema.table" on the source
	fieldCoordinate = "coordinate" // a place in a binary log
	fieldKey        = "key"        // the columns of a table's key; a row's key where the line is about a row
	fieldKeyKind    = "key_kind"   // how a table is walked by its key, see keyKind
)

// subject is an error that tells what it is about; either may be empty.
type subject interface {
	error
	about() (tables []string, at BinlogCoordinate)
}

// fieldsOf returns what an error is about, as fields of a line of the log.
func fieldsOf(err error) Fields {
	fields := Fields{}
	for {
		s, ok := errors.AsType[subject](err)
		if !ok {
			return fields
		}
		tables, at := s.about()
		if len(tables) > 0 && fields[fieldTable] == nil {
			fields[fieldTable] = strings.Join(tables, ",")
		}
		if !at.IsZero() && fields[fieldCoordinate] == nil {
			fields[fieldCoordinate] = at.String()
		}
		err = errors.Unwrap(s)
	}
}

// about returns the table.
func (e *NoUsableKeyError) about() ([]string, BinlogCoordinate) {
	return []string{fullTableName(e.Schema, e.Table)}, BinlogCoordinate{}
}

// about returns the table.
func (e *UnsupportedTableError) about() ([]string, BinlogCoordinate) {
	return []string{fullTableName(e.Schema, e.Table)}, BinlogCoordinate{}
}

// about returns the table.
func (e *SchemaChangedError) about() ([]string, BinlogCoordinate) {
	return []string{fullTableName(e.Schema, e.Table)}, BinlogCoordinate{}
}

// about returns the table.
func (e *TableError) about() ([]string, BinlogCoordinate) {
	return []string{fullTableName(e.Schema, e.Table)}, BinlogCoordinate{}
}

// about returns the target's table.
func (e *TargetConflictError) about() ([]string, BinlogCoordinate) {
	return []string{e.Table}, BinlogCoordinate{}
}

// about returns the event's table and its end.
func (e *UnsupportedEventError) about() (tables []string, at BinlogCoordinate) {
	if e.Table != "" {
		tables = []string{e.Table}
	}
	if at = e.End; at.IsZero() {
		at = coordinateFromPosition(e.Coordinate)
	}
	return tables, at
}

// about returns the changed tables and the stop position.
func (e *PreparedTransactionsError) about() ([]string, BinlogCoordinate) {
	return e.Tables, e.Coordinate
}

// about returns the tables and the first write's place.
func (e *LateWriteError) about() (tables []string, at BinlogCoordinate) {
	if len(e.Writes) > 0 {
		at = e.Writes[0].Coordinate
	}
	return e.Tables, at
}

// about returns the table and the place by which its rows were due.
func (e *DebtError) about() ([]string, BinlogCoordinate) {
	return []string{e.Table}, coordinateFromPosition(e.Coordinate)
}

// about returns the table and the place in the target's log.
func (e *ForeignWriteError) about() ([]string, BinlogCoordinate) {
	return []string{fullTableName(e.Schema, e.Table)}, coordinateFromPosition(e.Coordinate)
}

// about returns how far the log was followed.
func (e *UnconfirmedRowsError) about() ([]string, BinlogCoordinate) { return nil, e.StreamedUpTo }

// about returns where the writers had stopped.
func (e *CutoverError) about() ([]string, BinlogCoordinate) { return nil, e.Coordinate }

// about returns the tables with rows that have no parent.
func (e *OrphanRowsError) about() (tables []string, at BinlogCoordinate) {
	for _, k := range e.ForeignKeys {
		tables = append(tables, k.Table)
	}
	return tables, at
}

// keyKind says how a table is walked by its key: in ranges that are computed ("integer"),
// in ranges between keys that are read and that Go can order ("ordered"), or in an order that
// only the server knows ("collated").
func (l *tableLayout) keyKind() string {
	switch {
	case l.integerKey:
		return "integer"
	case l.keyOrdered:
		return "ordered"
	}
	return "collated"
}

// tableFields are the fields of a line about a table's copy.
func tableFields(table *TableSchema) Fields {
	fields := Fields{fieldTable: table.String()}
	if l, err := table.layout(); err == nil {
		names := make([]string, len(l.keys))
		for i, k := range l.keys {
			names[i] = l.columns[k].Name
		}
		fields[fieldKey], fields[fieldKeyKind] = strings.Join(names, ","), l.keyKind()
	}
	return fields
}
