package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
)

// The text of a JSON document does not tell the types of all its leaves: 7 may be an
// INTEGER, an UNSIGNED INTEGER or a DECIMAL, 1.50 a DOUBLE or a DECIMAL, and dates and
// binary values are printed as strings. In canonical form such a leaf is preceded by
// jsonMark, a byte that JSON text cannot have, and the letter of its type; a leaf without
// a mark has the type that the server gives it when it reads the text.
const jsonMark = 1

// Letters of the marks.
const (
	markUnsigned  = 'U'
	markDecimal   = 'N'
	markDate      = 'D'
	markTime      = 'T'
	markDateTime  = 'S'
	markTimestamp = 'Z'
	markOpaque    = 'B' // its field type is in its text
)

// jsonPlain returns a canonical document as plain JSON text.
func jsonPlain(v []byte) []byte {
	i := bytes.IndexByte(v, jsonMark)
	if i < 0 {
		return v
	}
	out := make([]byte, 0, len(v))
	for i >= 0 {
		out, v = append(out, v[:i]...), v[min(i+2, len(v)):]
		i = bytes.IndexByte(v, jsonMark)
	}
	return append(out, v...)
}

// appendJSONLiteral appends an expression for a canonical document. Marked leaves are
// put in their places one by one, each made as a value of the SQL type that becomes the
// leaf's type. Types that no cast makes are those of the columns of a JSON_TABLE with one
// row; a subquery for each leaf would not do, because it makes one kind of BLOB of all.
func appendJSONLiteral(dst, v []byte) []byte {
	if bytes.IndexByte(v, jsonMark) < 0 {
		// A JSON value cannot be made from a binary string.
		return appendQuoted(append(dst, "_utf8mb4"...), v)
	}
	return appendMarkedLiteral(dst, v)
}

// appendMarkedLiteral is appendJSONLiteral for a document with marks. It is a function of its
// own because of what it allocates, which others need not pay.
func appendMarkedLiteral(dst, v []byte) []byte {
	start := len(dst)
	var cells, columns []byte // of the JSON_TABLE
	dst = appendQuoted(append(dst, "(SELECT JSON_REPLACE(CAST(_utf8mb4"...), jsonPlain(v))
	dst = append(dst, " AS JSON)"...)
	n, marked := 0, false
	w := jsonWalk{text: v, leaf: func(path, token []byte, mark byte) {
		if mark == 0 {
			return
		}
		marked = true
		dst = append(appendQuoted(append(dst, ",_utf8mb4"...), path), ',')
		text := bytes.Trim(token, `"`)
		cell, column := typedCell(mark, text)
		if column == "" {
			dst = appendJSONLeaf(dst, mark, text)
			return
		}
		name := strconv.AppendInt([]byte("l"), int64(n), 10)
		dst = append(dst, name...)
		if n > 0 {
			cells, columns = append(cells, ','), append(columns, ',')
		}
		cells = append(cells, cell...)
		columns = append(append(append(columns, name...), ' '), column...)
		columns = append(strconv.AppendInt(append(columns, " PATH '$["...), int64(n), 10), "]'"...)
		n++
	}}
	if err := w.walk(); err != nil || !marked {
		// Canonical documents are well-formed; the server refuses what is not.
		return appendQuoted(append(dst[:start], "_utf8mb4"...), v)
	}
	dst = append(dst, ')')
	if n > 0 {
		dst = append(append(append(dst, " FROM JSON_TABLE(JSON_ARRAY("...), cells...), "),'$' COLUMNS ("...)
		dst = append(append(dst, columns...), ")) AS t"...)
	}
	return append(dst, ')')
}

// appendJSONLeaf appends the expression of a marked leaf that a cast makes.
func appendJSONLeaf(dst []byte, mark byte, text []byte) []byte {
	cast := func(typ string) []byte {
		return append(append(append(append(dst, "CAST('"...), text...), "' AS "...), typ...)
	}
	switch mark {
	case markUnsigned:
		return cast("UNSIGNED)")
	case markDecimal:
		whole, fraction, _ := bytes.Cut(bytes.TrimPrefix(text, []byte{'-'}), []byte{'.'})
		digits := max(1, len(bytes.TrimLeft(whole, "0"))+len(fraction))
		return cast("DECIMAL(" + strconv.Itoa(digits) + "," + strconv.Itoa(len(fraction)) + "))")
	case markDate:
		return cast("DATE)")
	case markTime:
		return cast("TIME(6))")
	case markDateTime:
		return cast("DATETIME(6))")
	}
	_, value, err := parseOpaque(text)
	if err != nil { // refused when the document was read
		return append(dst, "NULL"...)
	}
	return append(hex.AppendEncode(append(dst, "X'"...), value), '\'')
}

// typedCell returns a leaf that only a column's type makes: its value as an element of
// JSON_ARRAY, and the type.
func typedCell(mark byte, text []byte) (cell []byte, column string) {
	switch mark {
	case markTimestamp:
		return appendQuoted(nil, text), "TIMESTAMP(6)"
	case markOpaque:
	default:
		return nil, ""
	}
	typ, value, err := parseOpaque(text)
	if err != nil {
		return nil, ""
	}
	switch typ {
	case typeBit:
		return strconv.AppendUint(nil, bigEndian(value, len(value)), 10), "BIT(" + strconv.Itoa(8*len(value)) + ")"
	case typeString:
		column = "BINARY(" + strconv.Itoa(len(value)) + ")"
	default:
		column = opaqueColumns[typ]
	}
	return append(hex.AppendEncode([]byte("X'"), value), '\''), column
}

// opaqueColumns are the column types whose values become opaque values of a field type.
var opaqueColumns = map[int]string{typeTinyBlob: "TINYBLOB", typeBlob: "BLOB", typeMediumBlob: "MEDIUMBLOB", typeLongBlob: "LONGBLOB"}

// parseOpaque reads the form in which the server prints a binary value.
func parseOpaque(text []byte) (typ int, value []byte, err error) {
	rest, ok := bytes.CutPrefix(text, []byte("base64:type"))
	number, encoded, found := bytes.Cut(rest, []byte{':'})
	if typ, err = strconv.Atoi(string(number)); !ok || !found || err != nil {
		return 0, nil, fmt.Errorf("a binary value in a JSON document begins with %.20q", text)
	}
	switch typ {
	case typeBit, typeString, typeVarchar, typeVarString:
	default:
		if opaqueColumns[typ] == "" {
			return 0, nil, fmt.Errorf("a JSON document holds a binary value of type number %d, which no SQL value makes", typ)
		}
	}
	encoded = bytes.ReplaceAll(encoded, []byte(`\n`), nil) // a line has 76 characters
	value = make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Decode(value, encoded)
	if err != nil || typ == typeBit && n > 8 {
		return 0, nil, fmt.Errorf("a binary value in a JSON document cannot be read: %.40q", text)
	}
	return typ, value[:n], nil
}

// appendOpaqueText is the inverse of parseOpaque, without quotes.
func appendOpaqueText(dst []byte, typ byte, v []byte) []byte {
	dst = append(dst, "base64:type"...)
	dst = append(strconv.AppendUint(dst, uint64(typ), 10), ':')
	const line = 76 / 4 * 3
	for len(v) > line {
		dst = append(base64.StdEncoding.AppendEncode(dst, v[:line]), `\n`...)
		v = v[line:]
	}
	return base64.StdEncoding.AppendEncode(dst, v)
}

// jsonWalk goes through the text of a document, with or without marks, as the server or
// AppendJSONText prints it.
type jsonWalk struct {
	text []byte
	// leaf is told every scalar: its path as an SQL/JSON path, valid during the call, its
	// text, and its mark or 0.
	leaf func(path, token []byte, mark byte)
	// open and end, when set, are told containers.
	open func(array bool)
	end  func()

	at   int
	path []byte
}

func (w *jsonWalk) walk() error {
	w.at, w.path = 0, append(w.path[:0], '$')
	if err := w.value(0); err != nil {
		return err
	}
	if w.skip(); w.at != len(w.text) {
		return errJSONText
	}
	return nil
}

func (w *jsonWalk) skip() {
	for w.at < len(w.text) && (w.text[w.at] == ' ' || w.text[w.at] == '\n' || w.text[w.at] == '\t' || w.text[w.at] == '\r') {
		w.at++
	}
}

func (w *jsonWalk) value(depth int) error {
	if w.skip(); w.at >= len(w.text) || depth > jsonMaxDepth {
		return errJSONText
	}
	mark := byte(0)
	if w.text[w.at] == jsonMark && w.at+2 < len(w.text) {
		mark = w.text[w.at+1]
		w.at += 2
	}
	start := w.at
	switch w.text[w.at] {
	case '{', '[':
		return w.container(depth, w.text[w.at] == '[')
	case '"':
		if err := w.str(); err != nil {
			return err
		}
	default:
		for w.at < len(w.text) && w.text[w.at] != ',' && w.text[w.at] != ']' && w.text[w.at] != '}' && w.text[w.at] != ' ' {
			w.at++
		}
	}
	if w.at == start {
		return errJSONText
	}
	w.leaf(w.path, w.text[start:w.at], mark)
	return nil
}

// str passes a string.
func (w *jsonWalk) str() error {
	for w.at++; w.at < len(w.text); w.at++ {
		switch w.text[w.at] {
		case '\\':
			w.at++
		case '"':
			w.at++
			return nil
		}
	}
	return errJSONText
}

func (w *jsonWalk) container(depth int, array bool) error {
	if w.open != nil {
		w.open(array)
		defer w.end()
	}
	end := byte('}')
	if array {
		end = ']'
	}
	w.at++
	length := len(w.path)
	for i := 0; ; i++ {
		w.skip()
		if w.at < len(w.text) && w.text[w.at] == end && i == 0 {
			w.at++
			return nil
		}
		w.path = w.path[:length]
		if array {
			w.path = append(strconv.AppendInt(append(w.path, '['), int64(i), 10), ']')
		} else if err := w.key(); err != nil {
			return err
		}
		if err := w.value(depth + 1); err != nil {
			return err
		}
		if w.skip(); w.at >= len(w.text) {
			return errJSONText
		}
		next := w.text[w.at]
		w.at++
		if next == end {
			w.path = w.path[:length]
			return nil
		}
		if next != ',' {
			return errJSONText
		}
	}
}

// key passes a member's name and adds it to the path.
func (w *jsonWalk) key() error {
	start := w.at
	if start >= len(w.text) || w.text[start] != '"' {
		return errJSONText
	}
	if err := w.str(); err != nil {
		return err
	}
	w.path = append(append(w.path, '.'), w.text[start:w.at]...)
	if w.skip(); w.at >= len(w.text) || w.text[w.at] != ':' {
		return errJSONText
	}
	w.at++
	return nil
}
