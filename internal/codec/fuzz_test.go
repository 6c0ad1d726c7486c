package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// jsonContainer makes a small array whose elements are all at one place.
func jsonContainer(count, at int, child []byte, typ byte) []byte {
	size := 4 + 3*count + len(child)
	doc := binary.LittleEndian.AppendUint16(nil, uint16(count))
	doc = binary.LittleEndian.AppendUint16(doc, uint16(size))
	for range count {
		doc = append(doc, typ)
		doc = binary.LittleEndian.AppendUint16(doc, uint16(at))
	}
	return append(doc, child...)
}

// A document in which every element of every level points to the same child would be a
// text of 10^20 elements.
func TestJSONBomb(t *testing.T) {
	doc := []byte{0, 0, 4, 0} // an empty array
	for range 20 {
		doc = jsonContainer(10, 4+3*10, doc, jsonSmallArray)
	}
	if text, err := AppendJSONText(nil, append([]byte{jsonSmallArray}, doc...)); err == nil {
		t.Fatalf("%d bytes are a text of %d", len(doc), len(text))
	}
	one := jsonContainer(1, 7, []byte{0, 0, 4, 0}, jsonSmallArray)
	if text, err := AppendJSONText(nil, append([]byte{jsonSmallArray}, one...)); err != nil || string(text) != "[[]]" {
		t.Fatalf("%s %v", text, err)
	}
}

// A binary document is refused, or becomes a JSON text of about its size.
func FuzzJSON(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{jsonLiteral, 1})
	f.Add(append([]byte{jsonDouble}, make([]byte, 8)...))
	f.Add([]byte{jsonString, 3, 'a', '"', 1})
	f.Add([]byte{jsonOpaque, typeNewDecimal, 4, 3, 1, 0x80, 5})
	f.Add(append([]byte{jsonOpaque, typeDateTime, 8}, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add([]byte{jsonSmallObject, 1, 0, 13, 0, 11, 0, 1, 0, jsonInt16, 5, 0, 'k', 'x'})
	f.Add(append([]byte{jsonSmallArray}, jsonContainer(2, 10, []byte{0, 0, 4, 0}, jsonSmallArray)...))
	f.Fuzz(func(t *testing.T, doc []byte) {
		text, err := AppendJSONText([]byte("x"), doc)
		if err != nil {
			return
		}
		if text[0] != 'x' || !json.Valid(jsonPlain(text[1:])) {
			t.Fatalf("%x becomes %q", doc, text)
		}
		if len(text) > 16*len(doc)+64 {
			t.Fatalf("%d bytes become %d", len(doc), len(text))
		}
	})
}

// packedDecimal is the inverse of appendDecimal: unscaled is the value times 10^scale.
func packedDecimal(unscaled *big.Int, precision, scale int) []byte {
	digits := new(big.Int).Abs(unscaled).String()
	digits = strings.Repeat("0", max(0, precision-len(digits))) + digits
	var out []byte
	group := func(part string) {
		v, _ := new(big.Int).SetString(part, 10)
		var buf [4]byte
		n := decimalBytes[len(part)]
		out = append(out, v.FillBytes(buf[:n])...)
	}
	whole, fraction := digits[:precision-scale], digits[precision-scale:]
	if n := len(whole) % 9; n > 0 {
		group(whole[:n])
		whole = whole[n:]
	}
	for ; len(whole) > 0; whole = whole[9:] {
		group(whole[:9])
	}
	for ; len(fraction) >= 9; fraction = fraction[9:] {
		group(fraction[:9])
	}
	if len(fraction) > 0 {
		group(fraction)
	}
	if unscaled.Sign() < 0 {
		for i := range out {
			out[i] = ^out[i]
		}
	}
	out[0] ^= 0x80
	return out
}

// A packed decimal is read as the number that was packed; no bytes make it panic.
func FuzzDecimal(f *testing.F) {
	f.Add([]byte{1, 2, 3}, true, byte(10), byte(2))
	f.Add([]byte{0xff}, false, byte(65), byte(30))
	f.Add([]byte{}, false, byte(1), byte(0))
	f.Add(bytes.Repeat([]byte{0xff}, 30), true, byte(65), byte(65))
	f.Fuzz(func(t *testing.T, number []byte, negative bool, precision, scale byte) {
		if dst, n, err := appendDecimal(nil, number, int(precision), int(scale)); err == nil && (n > len(number) || len(dst) > 100) {
			t.Fatalf("%x as decimal(%d,%d) is %q of %d bytes", number, precision, scale, dst, n)
		}
		p := 1 + int(precision)%65
		s := int(scale) % (min(p, 38) + 1)
		unscaled := new(big.Int).SetBytes(number)
		unscaled.Mod(unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(p)), nil))
		if negative {
			unscaled.Neg(unscaled)
		}
		packed := packedDecimal(unscaled, p, s)
		text, n, err := appendDecimal(nil, packed, p, s)
		if err != nil || n != len(packed) {
			t.Fatalf("%v, %d bytes of %d", err, n, len(packed))
		}
		want := new(big.Rat).SetFrac(unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s)), nil)).FloatString(s)
		if string(text) != want {
			t.Fatalf("decimal(%d,%d) %s was read as %s", p, s, want, text)
		}
	})
}

// The parts of a key are found again, and equal encodings are equal keys.
func FuzzKeyParts(f *testing.F) {
	f.Add([]byte("a"), []byte{}, true, []byte("\x00\x00\x00\x01a"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, []byte("b"), false, []byte{0xff})
	f.Fuzz(func(t *testing.T, a, b []byte, null bool, garbage []byte) {
		if null {
			b = nil
		} else if b == nil {
			b = []byte{}
		}
		parts := [][]byte{append([]byte{}, a...), b, append([]byte{}, garbage...)}
		var key []byte
		for _, p := range parts {
			key = AppendKeyPart(key, p)
		}
		same := func(x, y []byte) bool { return (x == nil) == (y == nil) && bytes.Equal(x, y) }
		if got := SplitKey(key, len(parts)); !slices.EqualFunc(got, parts, same) {
			t.Fatalf("%q becomes %q", parts, got)
		}
		rows := NewRows(len(parts), 1, 0)
		for _, p := range parts {
			rows.Add(p)
		}
		if got := rows.AppendKey(nil, 0, []int{0, 1, 2}); !bytes.Equal(got, key) {
			t.Fatalf("%x is not %x", got, key)
		}
		// What is no key gives no more parts than it has bytes for.
		for _, p := range SplitKey(garbage, 1<<20) {
			if len(p) > len(garbage) {
				t.Fatalf("%x has a part of %d bytes", garbage, len(p))
			}
		}
	})
}

// tableMapOf makes the body of a table map with these types and metadata.
func tableMapOf(types, metas []byte) []byte {
	body := append(make([]byte, 8), 1, 's', 0, 1, 't', 0, byte(len(types)))
	body = append(append(body, types...), byte(len(metas)))
	return append(body, metas...)
}

// named adds the columns' names to a table map, as servers write them with
// binlog_row_metadata=FULL: behind the bits of columns that can be NULL and other fields.
func named(body []byte, names ...string) []byte {
	body = append(body, make([]byte, (len(names)+7)/8)...)
	body = append(body, 1, 1, 0) // which numbers are unsigned
	var list []byte
	for _, name := range names {
		list = append(append(list, byte(len(name))), name...)
	}
	body = append(append(body, optionalColumnNames, byte(len(list))), list...)
	return append(body, 8, 1, 0) // the primary key
}

// columnsOf are columns that a table with this map can have: where a type in the log is of
// several kinds, neighbours are of different ones.
func columnsOf(m *TableMap) []Column {
	columns := make([]Column, m.Columns())
	for i := range columns {
		columns[i] = Column{Name: "c", Kind: Binary, Digits: i % 8}
		var kinds []Kind
		for k := Int; k <= Inet6; k++ {
			if k.loggedAs(m.types[i], byte(m.metas[i]>>8)) {
				kinds = append(kinds, k)
			}
		}
		if len(kinds) > 0 {
			columns[i].Kind = kinds[i%len(kinds)]
		}
		if columns[i].Kind == Binary && m.types[i] == typeString {
			columns[i].FixedLen = int(m.metas[i] & 0xff)
		}
	}
	return columns
}

// A table map and a row event of any bytes are refused, or give rows of about their size.
func FuzzRows(f *testing.F) {
	all := []byte{
		typeTiny, typeShort, typeInt24, typeLong, typeLongLong, typeFloat, typeDouble, typeYear, typeDate, typeTime2, typeDateTime2, typeTimestamp2,
		typeBit, typeVarchar, typeString, typeString, typeBlob, typeJSON, typeNewDecimal, typeGeometry,
	}
	metas := []byte{4, 8, 6, 3, 0, 1, 2, 255, 0, 0xfe, 20, typeEnum, 1, 2, 4, 10, 2, 4}
	image := append(make([]byte, 8), 2, 0, byte(len(all)), 0xff, 0xff, 0xff, 0, 0, 0)
	f.Add(tableMapOf(all, metas), append(image, make([]byte, 100)...), false)
	f.Add(tableMapOf([]byte{typeLong, typeVarchar}, []byte{44, 1}), append(make([]byte, 8), 2, 0, 2, 3, 3, 0, 1, 0, 0, 0, 1, 0, 'a', 0, 2, 0, 0, 0, 1, 0, 'b'), true)
	f.Add(named(tableMapOf([]byte{typeLong, typeLong}, nil), "a", "b"), append(make([]byte, 8), 2, 0, 2, 3, 0, 1, 0, 0, 0, 2, 0, 0, 0), false)
	old := bytes.Repeat([]byte{typeTime, typeDateTime, typeTimestamp}, 8)
	f.Add(tableMapOf(old, nil), append(append(make([]byte, 8), byte(len(old)), 0xff, 0xff, 0xff, 0, 0, 0), bytes.Repeat([]byte{0x81}, 150)...), false)
	f.Add(tableMapOf(nil, nil), append(make([]byte, 8), 2, 0, 0, 1), false)
	// Strings of every length and kind: values of VECTOR, UUID, INET4 and INET6, whole, cut and too long.
	for n := range byte(20) {
		strings := bytes.Repeat([]byte{typeString}, 7)
		value := append([]byte{n}, bytes.Repeat([]byte{'\''}, int(n))...)
		f.Add(tableMapOf(strings, bytes.Repeat([]byte{0xfe, 16}, len(strings))), append(append(make([]byte, 8), byte(len(strings)), 0xff, 0), bytes.Repeat(value, len(strings))...), false)
	}
	others := []byte{typeVector, typeVector, typeVector, typeBlob, typeBlob, typeBlob, typeBlob, typeVarchar, typeVarchar, typeVarchar, typeVarchar, typeVarchar, typeVarchar}
	f.Add(tableMapOf(others, append(bytes.Repeat([]byte{1}, 7), bytes.Repeat([]byte{200, 0}, 6)...)),
		append(append(make([]byte, 8), byte(len(others)), 0xff, 0xff, 0, 0), bytes.Repeat([]byte{4, 'a', '\'', 0x80, 0x3f}, len(others))...), false)
	f.Fuzz(func(t *testing.T, table, event []byte, update bool) {
		m, err := ParseTableMap(table)
		if err != nil {
			return
		}
		columns := columnsOf(m)
		m.Differs(columns)
		m.Renamed(columns)
		if n := len(columns); n > 3 {
			columns, m.Hidden = columns[:n-1], 1
		}
		for _, v2 := range []bool{false, true} {
			h, err := ParseRowsHeader(event, v2, update)
			if err != nil {
				continue
			}
			rows := NewRows(len(columns), 2, 0)
			if err := m.DecodeRows(h, columns, rows); err != nil {
				continue
			}
			packed := bytes.IndexByte(m.types, typeBlobCompressed) >= 0 || bytes.IndexByte(m.types, typeVarcharCompressed) >= 0
			if limit := 300*len(event) + 300*len(columns); rows.Bytes() > limit && !packed {
				t.Fatalf("%d bytes become %d", len(event), rows.Bytes())
			}
			for row := range rows.Len() {
				for i := range columns {
					v := rows.Value(row, i)
					if literal := columns[i].AppendLiteral(nil, v); !isLiteral(literal) && bytes.IndexByte(v, jsonMark) < 0 {
						t.Fatalf("%x becomes the literal %q", v, literal)
					}
					columns[i].ToGo(v)
					columns[i].ToDriver(v, nil)
				}
			}
		}
	})
}

// isLiteral reports whether a text is one literal (documents with marks are expressions), without backslash escapes: nothing
// that a source sends may become a statement on the target.
func isLiteral(text []byte) bool {
	for _, introducer := range []string{"_binary", "_utf8mb4"} {
		text = bytes.TrimPrefix(text, []byte(introducer))
	}
	if len(text) > 0 && text[0] == '\'' {
		inner := bytes.ReplaceAll(text[1:len(text)-1], []byte("''"), nil)
		return len(text) > 1 && text[len(text)-1] == '\'' && !bytes.Contains(inner, []byte("'"))
	}
	return len(text) > 0 && len(bytes.Trim(text, "-.0123456789")) == 0 || string(text) == "NULL"
}

// A table map whose types are not those of the columns is told.
func TestTableMapDiffers(t *testing.T) {
	m, err := ParseTableMap(tableMapOf([]byte{typeLong, typeString, typeString, typeVarchar, typeBlob}, []byte{typeEnum, 1, 0xfe, 20, 9, 0, 2}))
	if err != nil {
		t.Fatal(err)
	}
	columns := []Column{{Kind: Uint}, {Kind: Enum}, {Kind: Text}, {Kind: Binary}, {Kind: Text}}
	if i := m.Differs(columns); i != -1 {
		t.Errorf("column %d differs", i)
	}
	for i, other := range []Kind{Text, Set, Enum, UUID, Inet6} {
		changed := slices.Clone(columns)
		changed[i].Kind = other
		if got := m.Differs(changed); got != i {
			t.Errorf("column %d of kind %d: %d differs", i, other, got)
		}
	}
}

// A table map that names its columns tells those that have other names than the table's;
// one that does not, or is damaged there, tells none.
func TestTableMapRenamed(t *testing.T) {
	columns := []Column{{Name: "id"}, {Name: "v"}, {Name: "größe"}}
	types := []byte{typeLong, typeLong, typeLong}
	whole := named(tableMapOf(types, nil), "id", "V", "größe")
	for _, c := range []struct {
		body []byte
		want int
		name string
	}{
		{tableMapOf(types, nil), -1, ""},
		{whole, -1, ""},
		{named(tableMapOf(types, nil), "id", "größe", "v"), 1, "größe"},
		{named(tableMapOf(types, nil), "id", "v", "w"), 2, "w"},
		{named(tableMapOf(types, nil), "other", "v"), -1, ""}, // names of two of three
		{named(tableMapOf(types, nil), "other", "v", "w", "x"), -1, ""},
	} {
		m, err := ParseTableMap(c.body)
		if err != nil {
			t.Fatal(err)
		}
		if i, name := m.Renamed(columns); i != c.want || name != c.name {
			t.Errorf("column %d is told to be %q, not %d %q: %x", i, name, c.want, c.name, c.body)
		}
	}
	for n := len(tableMapOf(types, nil)); n < len(whole); n++ {
		m, err := ParseTableMap(whole[:n])
		if err != nil {
			t.Fatal(err)
		}
		if i, _ := m.Renamed(columns); i != -1 {
			t.Errorf("the first %d bytes tell that column %d was renamed", n, i)
		}
	}
}
