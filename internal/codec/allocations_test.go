package codec

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/big"
	"testing"
)

// carried is a value of a column on both of its roads: as the log has it and as the driver
// returns it for SelectExpr.
type carried struct {
	column Column
	typ    byte
	meta   []byte
	logged []byte // nil is NULL
	driver any
}

// carriedValues are of every kind, and of every type in the log that has a form of its own.
// COMPRESSED columns are not among them: what inflates a value is an allocation.
func carriedValues() []carried {
	const (
		date    = (2024*13+2)<<5 | 3 // 2024-02-03 in packed forms
		clock   = 7<<12 | 5<<6 | 6   // 07:05:06
		seconds = 7*3600 + 5*60 + 6
		unix    = 1706951282 // 2024-02-03 09:08:02
	)
	bigEndian := func(v uint64, size int) []byte { return binary.BigEndian.AppendUint64(nil, v)[8-size:] }
	littleEndian := func(v uint64, size int) []byte { return binary.LittleEndian.AppendUint64(nil, v)[:size] }
	prefixed := func(v string, size int) []byte { return append(littleEndian(uint64(len(v)), size), v...) }
	const text = "it's a text"
	document := string([]byte{jsonSmallObject, 1, 0, 13, 0, 11, 0, 1, 0, jsonInt16, 5, 0, 'k', 'x'})
	return []carried{
		{Column{Kind: Int}, typeLong, nil, []byte{0xf9, 0xff, 0xff, 0xff}, int64(-7)},
		{Column{Kind: Text, Charset: "utf8mb4"}, typeVarchar, []byte{200, 0}, prefixed(text, 1), []byte(text)},
		{Column{Kind: DateTime, Digits: 6}, typeDateTime2, []byte{6}, append(bigEndian(0x8000000000+date<<17|clock, 5), 0, 1, 2), []byte("2024-02-03 07:05:06.000258")},
		{Column{Kind: Decimal}, typeNewDecimal, []byte{20, 5}, packedDecimal(big.NewInt(-1234567890), 20, 5), []byte("-12345.67890")},
		{Column{Kind: Uint}, typeLongLong, nil, littleEndian(1<<63+1, 8), uint64(1<<63 + 1)},
		{Column{Kind: Int, Nullable: true}, typeShort, nil, nil, nil},
		{Column{Kind: Year}, typeYear, nil, []byte{124}, int64(2024)},
		{Column{Kind: Bit}, typeBit, []byte{1, 1}, []byte{1, 1}, uint64(257)},
		{Column{Kind: Enum}, typeString, []byte{typeEnum, 1}, []byte{2}, uint64(2)},
		{Column{Kind: Set}, typeString, []byte{typeSet, 1}, []byte{5}, uint64(5)},
		{Column{Kind: Float}, typeFloat, []byte{4}, littleEndian(uint64(math.Float32bits(1.1)), 4), float64(float32(1.1))},
		{Column{Kind: Double}, typeDouble, []byte{8}, littleEndian(math.Float64bits(-1.1e-300), 8), -1.1e-300},
		{Column{Kind: Double}, typeDouble, []byte{8}, littleEndian(math.Float64bits(2.5), 8), []byte("2.5")},
		{Column{Kind: Date}, typeDate, nil, littleEndian(2024<<9|2<<5|3, 3), []byte("2024-02-03")},
		{Column{Kind: Time, Digits: 3}, typeTime2, []byte{3}, append(bigEndian(0x800000+clock, 3), 0x10, 0x0e), []byte("07:05:06.411")},
		{Column{Kind: Timestamp}, typeTimestamp2, []byte{0}, bigEndian(unix, 4), []byte("2024-02-03 09:08:02")},
		{Column{Kind: Timestamp}, typeTimestamp, nil, littleEndian(unix, 4), []byte("2024-02-03 09:08:02")},
		{Column{Kind: DateTime}, typeDateTime, nil, littleEndian(20240203070506, 8), []byte("2024-02-03 07:05:06")},
		{Column{Kind: Time}, typeTime, nil, littleEndian(70506, 3), []byte("07:05:06")},
		{Column{Kind: DateTime, Digits: 3}, typeDateTime, nil, bigEndian((date*86400+seconds)*1000+789, 7), []byte("2024-02-03 07:05:06.789")},
		{Column{Kind: Binary, FixedLen: 16}, typeString, []byte{0xfe, 16}, prefixed(text, 1), []byte(text + "\x00\x00\x00\x00\x00")},
		{Column{Kind: Binary, Object: true}, typeBlob, []byte{2}, prefixed(text, 2), []byte(text)},
		{Column{Kind: JSON, Object: true}, typeJSON, []byte{4}, prefixed(document, 4), []byte(`{"k": 5}`)},
		{Column{Kind: Geometry, Object: true}, typeGeometry, []byte{4}, prefixed(text, 4), []byte(text)},
		{Column{Kind: Vector, Object: true}, typeVector, []byte{4}, prefixed(text[:8], 4), []byte(text[:8])},
		{Column{Kind: UUID}, typeString, []byte{0xfe, 16}, prefixed("0123456789abcdef", 1), []byte("30313233-3435-3637-3839-616263646566")},
		{Column{Kind: Inet4}, typeString, []byte{0xfe, 4}, prefixed("\n\x00\x00\x01", 1), []byte("10.0.0.1")},
		{Column{Kind: Inet6}, typeString, []byte{0xfe, 16}, prefixed("\x20\x01\r\xb8", 1), []byte("2001:db8::")},
	}
}

// carriedRows are rows of a table with so many columns, which take their turns.
type carriedRows struct {
	count    int
	columns  []Column
	all      []int
	bulk     []int // those that LOAD DATA carries
	values   []any // of a row, as the driver returned them
	tableMap *TableMap
	event    []byte // an update of the rows, each to itself
	rows     *Rows
}

func newCarriedRows(t *testing.T, columns, count int) *carriedRows {
	t.Helper()
	c := &carriedRows{count: count}
	values := carriedValues()
	var types, metas, image []byte
	present, nulls := make([]byte, (columns+7)/8), make([]byte, (columns+7)/8)
	for i := range columns {
		v := &values[i%len(values)]
		c.columns, c.all, c.values = append(c.columns, v.column), append(c.all, i), append(c.values, v.driver)
		if v.column.Bulk() {
			c.bulk = append(c.bulk, i)
		}
		types, metas, image = append(types, v.typ), append(metas, v.meta...), append(image, v.logged...)
		present[i/8] |= 1 << (i % 8)
		if v.logged == nil {
			nulls[i/8] |= 1 << (i % 8)
		}
	}
	var err error
	if c.tableMap, err = ParseTableMap(tableMapOf(types, metas)); err != nil {
		t.Fatal(err)
	}
	c.event = append(append(append(make([]byte, 8), 2, 0, byte(columns)), present...), present...)
	for range 2 * count {
		c.event = append(append(c.event, nulls...), image...)
	}
	if c.rows, err = c.decode(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *carriedRows) decode() (*Rows, error) {
	h, err := ParseRowsHeader(c.event, true, true)
	if err != nil {
		return nil, err
	}
	rows := NewRows(len(c.columns), 2*c.count, 4*len(c.event))
	return rows, c.tableMap.DecodeRows(h, c.columns, rows)
}

func (c *carriedRows) read() (*Rows, error) {
	rows := NewRows(len(c.columns), c.count, 40*len(c.columns)*c.count)
	for range c.count {
		for i, v := range c.values {
			if err := rows.AddDriver(&c.columns[i], v); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

// A value is the same by both roads.
func TestCarriedValues(t *testing.T) {
	c := newCarriedRows(t, len(carriedValues()), 1)
	selected, err := c.read()
	if err != nil || selected.Len() != 1 || c.rows.Len() != 2 {
		t.Fatalf("%v, %d rows selected and %d logged", err, selected.Len(), c.rows.Len())
	}
	for image := range c.rows.Len() {
		for i := range c.columns {
			x, y := c.rows.Value(image, i), selected.Value(0, i)
			if (x == nil) != (y == nil) || !bytes.Equal(x, y) {
				t.Errorf("value %d of kind %d is %q in the log and %q by SELECT", i, c.columns[i].Kind, x, y)
			}
		}
	}
}

// A row costs what it costs, however many values it has: no road of the codec allocates for
// a value.
func TestNoAllocationAValue(t *testing.T) {
	const few, many, count = 4, 40, 25
	narrow, wide := newCarriedRows(t, few, count), newCarriedRows(t, many, count)
	for _, road := range []struct {
		name string
		most float64 // allocations for all rows together
		of   func(c *carriedRows) func()
	}{
		{"INSERT tuples", 0, func(c *carriedRows) func() {
			var dst []byte
			return func() {
				dst = dst[:0]
				for row := range c.rows.Len() {
					dst = c.rows.AppendTuple(dst, row, c.columns, c.all)
				}
			}
		}},
		{"LOAD DATA lines", 1, func(c *carriedRows) func() { // the reader
			var memory []byte
			p := make([]byte, 4096)
			return func() {
				lines := NewBulkReader(c.rows, 0, c.rows.Len(), c.bulk, memory)
				for {
					if _, err := lines.Read(p); err == io.EOF {
						break
					}
				}
				memory = lines.Memory()
			}
		}},
		{"driver values", 3, func(c *carriedRows) func() { // a set of rows is three pieces of memory
			return func() {
				if _, err := c.read(); err != nil {
					t.Error(err)
				}
			}
		}},
		{"rows events", 3, func(c *carriedRows) func() {
			return func() {
				if _, err := c.decode(); err != nil {
					t.Error(err)
				}
			}
		}},
	} {
		t.Run(road.name, func(t *testing.T) {
			a, b := testing.AllocsPerRun(50, road.of(narrow)), testing.AllocsPerRun(50, road.of(wide))
			if a != b || a > road.most {
				t.Errorf("%d rows of %d columns take %v allocations, of %d columns %v; %v are right", count, few, a, many, b, road.most)
			}
		})
	}
}
