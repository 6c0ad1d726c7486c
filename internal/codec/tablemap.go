package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Column types of the replication protocol that matter here; source: MySQL's
// documentation of enum_field_types.
const (
	typeTiny       = 1
	typeShort      = 2
	typeLong       = 3
	typeFloat      = 4
	typeDouble     = 5
	typeNull       = 6
	typeTimestamp  = 7
	typeLongLong   = 8
	typeInt24      = 9
	typeDate       = 10
	typeTime       = 11
	typeDateTime   = 12
	typeYear       = 13
	typeNewDate    = 14
	typeVarchar    = 15
	typeBit        = 16
	typeTimestamp2 = 17
	typeDateTime2  = 18
	typeTime2      = 19

	typeBlobCompressed    = 140 // MariaDB
	typeVarcharCompressed = 141 // MariaDB

	typeVector     = 242
	typeJSON       = 245
	typeNewDecimal = 246
	typeEnum       = 247
	typeSet        = 248
	typeTinyBlob   = 249
	typeMediumBlob = 250
	typeLongBlob   = 251
	typeBlob       = 252
	typeVarString  = 253
	typeString     = 254
	typeGeometry   = 255
)

var errTruncated = errors.New("the event ends in the middle of a value")

// TableMap is what a table map event says of the rows that follow it.
type TableMap struct {
	TableID uint64
	Schema  string
	Table   string
	types   []byte
	metas   []uint16
	names   []string // of the columns; nil where the log does not tell them

	// Hidden is how many columns follow those of the definition: MariaDB keeps one with the
	// hash of each long unique key and logs it. Set it before DecodeRows, which leaves them out.
	Hidden int
}

// Columns returns how many columns the rows have.
func (t *TableMap) Columns() int { return len(t.types) }

// ParseTableMap parses the body of a TABLE_MAP_EVENT (after the common header,
// without checksum). Layout: table id (6 bytes), flags (2), schema and table name
// (length byte, text, zero byte), column count (packed), types, length of the
// metadata (packed), metadata, null bitmap, optional metadata.
func ParseTableMap(data []byte) (*TableMap, error) {
	if len(data) < 8 {
		return nil, errTruncated
	}
	t := &TableMap{TableID: uint48(data)}
	data = data[8:]
	var ok bool
	if t.Schema, data, ok = shortString(data); !ok {
		return nil, errTruncated
	}
	if t.Table, data, ok = shortString(data); !ok {
		return nil, errTruncated
	}
	count, n := packedInt(data)
	if n == 0 || uint64(len(data)-n) < count {
		return nil, errTruncated
	}
	data = data[n:]
	t.types = append([]byte(nil), data[:count]...)
	data = data[count:]
	size, n := packedInt(data)
	if n == 0 || uint64(len(data)-n) < size {
		return nil, errTruncated
	}
	if err := t.parseMetas(data[n : n+int(size)]); err != nil {
		return nil, err
	}
	data = data[n+int(size):]
	if nullable := (int(count) + 7) / 8; len(data) > nullable {
		t.names = columnNames(data[nullable:], int(count))
	}
	return t, nil
}

func (t *TableMap) parseMetas(meta []byte) error {
	t.metas = make([]uint16, len(t.types))
	for i, typ := range t.types {
		n := metaSize(typ)
		if len(meta) < n {
			return errTruncated
		}
		switch {
		case n == 1:
			t.metas[i] = uint16(meta[0])
		case n == 2 && (typ == typeString || typ == typeNewDecimal || typ == typeEnum || typ == typeSet):
			t.metas[i] = uint16(meta[0])<<8 | uint16(meta[1]) // real type or precision first
		case n == 2:
			t.metas[i] = binary.LittleEndian.Uint16(meta)
		}
		meta = meta[n:]
	}
	return nil
}

func metaSize(typ byte) int {
	switch typ {
	case typeFloat, typeDouble, typeBlob, typeTinyBlob, typeMediumBlob, typeLongBlob, typeGeometry, typeJSON, typeVector,
		typeBlobCompressed, typeTimestamp2, typeDateTime2, typeTime2:
		return 1
	case typeVarchar, typeVarcharCompressed, typeBit, typeString, typeNewDecimal, typeVarString, typeEnum, typeSet:
		return 2
	default:
		return 0
	}
}

// Row events with typed layouts differ only in the header; see ParseRowsHeader.

// RowsHeader is the start of a row event.
type RowsHeader struct {
	TableID uint64
	Columns int
	Before  []byte // bitmap of the columns present in the (first) image
	After   []byte // the same for the second image of an update, else nil
	Body    []byte // the images
}

// ParseRowsHeader parses the body of a version 1 or 2 row event (after the common
// header, without checksum). v2 events carry extra data between flags and columns.
func ParseRowsHeader(data []byte, v2, update bool) (RowsHeader, error) {
	var h RowsHeader
	if len(data) < 8 {
		return h, errTruncated
	}
	h.TableID = uint48(data)
	data = data[8:]
	if v2 {
		if len(data) < 2 {
			return h, errTruncated
		}
		extra := int(binary.LittleEndian.Uint16(data)) // includes its own two bytes
		if extra < 2 || len(data) < extra {
			return h, errTruncated
		}
		data = data[extra:]
	}
	count, n := packedInt(data)
	if n == 0 || count > 1<<16 {
		return h, errTruncated
	}
	data = data[n:]
	h.Columns = int(count)
	size := (h.Columns + 7) / 8
	if len(data) < size {
		return h, errTruncated
	}
	h.Before, data = data[:size], data[size:]
	if update {
		if len(data) < size {
			return h, errTruncated
		}
		h.After, data = data[:size], data[size:]
	}
	h.Body = data
	return h, nil
}

// MissingColumnError says that an image lacks a column, which happens when a session
// of the source does not log full row images.
type MissingColumnError struct{ Column string }

func (e *MissingColumnError) Error() string {
	return fmt.Sprintf("the row image lacks column `%s`: a session of the source runs with binlog_row_image other than FULL", e.Column)
}

// DecodeRows appends the images of a row event to rows, in order (before and after
// alternating for updates). columns must describe the table's columns, without the hidden
// ones, one to one.
func (t *TableMap) DecodeRows(h RowsHeader, columns []Column, rows *Rows) error {
	if h.Columns != len(t.types) || len(t.types) != len(columns)+t.Hidden {
		return fmt.Errorf("table `%s`.`%s` has %d columns but event has %d columns instead", t.Schema, t.Table, len(columns), h.Columns)
	}
	body := h.Body
	after := false
	for len(body) > 0 {
		bitmap := h.Before
		if after {
			bitmap = h.After
		}
		n, err := t.decodeImage(body, bitmap, columns, rows)
		switch {
		case err != nil:
			return err
		case n == 0: // an image of no columns: there is no end of them
			return errTruncated
		case len(rows.buf) > MaxRowsBytes:
			return fmt.Errorf("the rows of one event have more than %d bytes", MaxRowsBytes)
		}
		body = body[n:]
		after = h.After != nil && !after
	}
	if after {
		return errTruncated
	}
	return nil
}

// decodeImage appends one row and returns the bytes it took: a bitmap of the NULLs
// among the columns present, then the values of those that are present and not NULL.
func (t *TableMap) decodeImage(data, present []byte, columns []Column, rows *Rows) (int, error) {
	count := 0
	for i := range t.types {
		if bit(present, i) {
			count++
		}
	}
	pos := (count + 7) / 8
	if len(data) < pos {
		return 0, errTruncated
	}
	nulls := data[:pos]
	index := 0
	for i := range columns {
		c := &columns[i]
		if !bit(present, i) {
			if !c.Generated {
				return 0, &MissingColumnError{Column: c.Name}
			}
			rows.addNull()
			continue
		}
		if bit(nulls, index) {
			rows.addNull()
		} else {
			buf, n, err := appendField(rows.buf, c, t.types[i], t.metas[i], data[pos:])
			if err != nil {
				return 0, fmt.Errorf("column `%s`: %w", c.Name, err)
			}
			rows.buf = buf
			rows.endValue()
			pos += n
		}
		index++
	}
	for i := len(columns); i < len(t.types); i++ {
		if !bit(present, i) {
			continue
		}
		if !bit(nulls, index) {
			_, n, err := appendField(rows.buf, &hiddenColumn, t.types[i], t.metas[i], data[pos:])
			if err != nil {
				return 0, fmt.Errorf("hidden column %d: %w", i+1, err)
			}
			pos += n
		}
		index++
	}
	return pos, nil
}

// hiddenColumn is what the values of hidden columns are read as.
var hiddenColumn = Column{Kind: Uint}

func bit(bitmap []byte, i int) bool { return bitmap[i>>3]&(1<<(i&7)) != 0 }

func uint48(b []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint16(b[4:]))<<32
}

func shortString(data []byte) (string, []byte, bool) {
	if len(data) < 1 || len(data) < int(data[0])+2 {
		return "", nil, false
	}
	n := int(data[0])
	return string(data[1 : 1+n]), data[n+2:], true
}

// packedInt reads a length-encoded integer; n is 0 when data is too short.
func packedInt(data []byte) (v uint64, n int) {
	if len(data) == 0 {
		return 0, 0
	}
	switch first := data[0]; {
	case first < 0xfb:
		return uint64(first), 1
	case first == 0xfc && len(data) >= 3:
		return uint64(binary.LittleEndian.Uint16(data[1:])), 3
	case first == 0xfd && len(data) >= 4:
		return uint64(data[1]) | uint64(data[2])<<8 | uint64(data[3])<<16, 4
	case first == 0xfe && len(data) >= 9:
		return binary.LittleEndian.Uint64(data[1:]), 9
	}
	return 0, 0
}
