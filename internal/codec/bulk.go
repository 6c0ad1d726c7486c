package codec

import (
	"bytes"
	"io"
)

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
// escape these three bytes stand for themselves. Each is searched for on its own, by the fast
// search for one byte: a look at every byte of arbitrary data is guessed wrong every few bytes.
func appendEscaped(dst, v []byte) []byte {
	const short = 16 // up to here a look at each byte is cheaper than three searches
	if len(v) <= short {
		for _, b := range v {
			if b == '\\' || b == '\t' || b == '\n' {
				dst = append(dst, '\\')
			}
			dst = append(dst, b)
		}
		return dst
	}
	from, escape, tab, line := 0, indexFrom(v, 0, '\\'), indexFrom(v, 0, '\t'), indexFrom(v, 0, '\n')
	for {
		i := min(escape, tab, line)
		if i == len(v) {
			return append(dst, v[from:]...)
		}
		dst = append(append(dst, v[from:i]...), '\\')
		from = i
		switch i {
		case escape:
			escape = indexFrom(v, i+1, '\\')
		case tab:
			tab = indexFrom(v, i+1, '\t')
		default:
			line = indexFrom(v, i+1, '\n')
		}
	}
}

// indexFrom returns where a byte comes next, from a place on; the end when it does not.
func indexFrom(v []byte, from int, b byte) int {
	if i := bytes.IndexByte(v[from:], b); i >= 0 {
		return from + i
	}
	return len(v)
}

// bulkPiece is about how much of its lines a BulkReader makes at a time.
const bulkPiece = 64 << 10

// BulkReader reads rows as lines for LOAD DATA, as AppendBulk makes them, in pieces: however
// large a row is, its line is never there as a whole.
type BulkReader struct {
	rows    *Rows
	cols    []int
	row, to int
	col, at int // how far the row has been read: its column, and the byte of that
	memory  []byte
	unread  []byte // the end of memory
}

// NewBulkReader reads the rows from one up to another, without that. The reader makes its
// pieces in memory, which may be nil.
func NewBulkReader(rows *Rows, from, to int, cols []int, memory []byte) *BulkReader {
	return &BulkReader{rows: rows, cols: cols, row: from, to: to, memory: memory}
}

// Memory is what the next reader may be given when this one is not read any more.
func (b *BulkReader) Memory() []byte { return b.memory }

// Read reads the next bytes of the lines.
func (b *BulkReader) Read(p []byte) (int, error) {
	if len(b.unread) == 0 {
		b.memory = b.memory[:0]
		for b.row < b.to && len(b.memory) < bulkPiece {
			if b.col == 0 && b.at == 0 && b.rows.RowBytes(b.row) <= bulkPiece {
				b.memory = b.rows.AppendBulk(b.memory, b.row, b.cols)
				b.row++
			} else {
				b.memory = b.appendPart(b.memory)
			}
		}
		if b.unread = b.memory; len(b.unread) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, b.unread)
	b.unread = b.unread[n:]
	return n, nil
}

// appendPart appends about a piece of the row, and its end when it comes there.
func (b *BulkReader) appendPart(dst []byte) []byte {
	for full := len(dst) + bulkPiece; b.col < len(b.cols); b.col++ {
		if len(dst) >= full {
			return dst
		}
		if b.col > 0 && b.at == 0 {
			dst = append(dst, '\t')
		}
		v := b.rows.Value(b.row, b.cols[b.col])
		if v == nil {
			dst = append(dst, '\\', 'N')
			continue
		}
		part := v[b.at:min(len(v), b.at+bulkPiece)]
		dst = appendEscaped(dst, part)
		if b.at += len(part); b.at < len(v) {
			return dst
		}
		b.at = 0
	}
	b.row, b.col = b.row+1, 0
	return append(dst, '\n')
}
