package codec

import "bytes"

// Bulk reports whether LOAD DATA carries the column's values exactly, as AppendBulk
// writes them. The text of an ENUM's, SET's, YEAR's or BIT's number would mean something
// else there than the number itself, and a JSON value cannot be made from binary text.
func (c *Column) Bulk() bool {
	switch c.Kind {
	case Int, Uint, Decimal, Float, Double, Date, Time, DateTime, Timestamp, Text, Binary:
		return true
	}
	return false
}

// BulkFormat is the clause of LOAD DATA that reads what AppendBulk writes. Without a
// character set nothing is converted, and every byte stands for itself; the characters
// are given as numbers because SQL modes change what a backslash means in a string.
const BulkFormat = " CHARACTER SET binary FIELDS TERMINATED BY 0x09 ENCLOSED BY '' ESCAPED BY 0x5C LINES TERMINATED BY 0x0A"

// AppendBulk appends a row's values of cols as one line for LOAD DATA.
func (r *Rows) AppendBulk(dst []byte, row int, cols []int) []byte {
	for i, c := range cols {
		if i > 0 {
			dst = append(dst, '\t')
		}
		v := r.Value(row, c)
		if v == nil {
			dst = append(dst, '\\', 'N')
			continue
		}
		dst = appendEscaped(dst, v)
	}
	return append(dst, '\n')
}

// appendEscaped escapes what ends a field or a line, and the escape itself: behind an
// escape these three bytes stand for themselves.
func appendEscaped(dst, v []byte) []byte {
	const long = 32 // from here on three fast searches are cheaper than one look at each byte
	if len(v) >= long && bytes.IndexByte(v, '\\') < 0 && bytes.IndexByte(v, '\t') < 0 && bytes.IndexByte(v, '\n') < 0 {
		return append(dst, v...)
	}
	from := 0
	for i, b := range v {
		if b <= '\\' && (b == '\\' || b == '\t' || b == '\n') {
			dst = append(append(dst, v[from:i]...), '\\')
			from = i
		}
	}
	return append(dst, v[from:]...)
}
