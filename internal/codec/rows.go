package codec

import (
	"bytes"
	"fmt"
)

// Rows is a compact set of rows of canonical values: one byte buffer and one end
// offset a value, so that a row costs no allocation of its own. The zero value is
// empty and not ready; use NewRows. It is not safe for concurrent writing.
type Rows struct {
	cols int
	buf  []byte
	ends []uint32 // end offset of each value; nullBit set for NULL
}

const (
	nullBit = 1 << 31
	// MaxRowsBytes is how many bytes one Rows may hold.
	MaxRowsBytes = nullBit - 1
)

// ErrTooManyBytes says that rows do not fit into one Rows.
var ErrTooManyBytes = fmt.Errorf("the rows of one batch have more than %d bytes: make batches smaller (DataIterationBatchSize, DataIterationChunkBytes)", MaxRowsBytes)

// NewRows returns an empty set of rows of cols columns with room for size bytes.
func NewRows(cols, rows, size int) *Rows {
	return &Rows{cols: cols, buf: make([]byte, 0, size), ends: make([]uint32, 0, rows*cols)}
}

// Memory is how much memory the rows have, used or not.
func (r *Rows) Memory() int { return cap(r.buf) + 4*cap(r.ends) }

// Reuse empties the rows for others of cols columns: what was made of them before must not be
// in use any more. It reports false, and does nothing, where their values' memory is not half of
// the size.
func (r *Rows) Reuse(cols, rows, size int) bool {
	if 2*cap(r.buf) < size {
		return false
	}
	if cap(r.ends) < rows*cols {
		r.ends = make([]uint32, 0, rows*cols)
	}
	r.cols, r.buf, r.ends = cols, r.buf[:0], r.ends[:0]
	return true
}

// Grow makes room for so many bytes of values, and no more than that.
func (r *Rows) Grow(bytes int) {
	if cap(r.buf)-len(r.buf) >= bytes {
		return
	}
	buf := make([]byte, len(r.buf), len(r.buf)+bytes)
	copy(buf, r.buf)
	r.buf = buf
}

// Columns returns how many values a row has.
func (r *Rows) Columns() int { return r.cols }

// Len returns the number of complete rows.
func (r *Rows) Len() int {
	if r.cols == 0 {
		return 0
	}
	return len(r.ends) / r.cols
}

// Bytes returns the size of all values.
func (r *Rows) Bytes() int { return len(r.buf) }

// Value returns the canonical bytes of a value, nil for NULL. The slice is valid as
// long as the Rows is not changed and must not be written to.
func (r *Rows) Value(row, col int) []byte {
	i := row*r.cols + col
	end := r.ends[i]
	if end&nullBit != 0 {
		return nil
	}
	var start uint32
	if i > 0 {
		start = r.ends[i-1] &^ nullBit
	}
	return r.buf[start:end:end]
}

// RowBytes returns the size of one row's values.
func (r *Rows) RowBytes(row int) int {
	var start uint32
	if i := row * r.cols; i > 0 {
		start = r.ends[i-1] &^ nullBit
	}
	return int(r.ends[(row+1)*r.cols-1]&^nullBit - start)
}

// LiteralBytes is about how long AppendTuple of all of a row's values is, and hardly less.
func (r *Rows) LiteralBytes(row int) int {
	const around = len(",_binary''")
	n := r.cols*around + len("()")
	for c := range r.cols {
		v := r.Value(row, c)
		n += len(v) + bytes.Count(v, []byte{'\''})
	}
	return n
}

// Pick returns the same rows with those of their columns only, in that order.
func (r *Rows) Pick(columns []int) *Rows {
	picked := NewRows(len(columns), r.Len(), len(r.buf))
	for row := range r.Len() {
		for _, c := range columns {
			picked.Add(r.Value(row, c))
		}
	}
	return picked
}

// Add appends one value; nil is NULL.
func (r *Rows) Add(v []byte) {
	if v == nil {
		r.addNull()
		return
	}
	r.buf = append(r.buf, v...)
	r.endValue()
}

func (r *Rows) addNull()  { r.ends = append(r.ends, uint32(len(r.buf))|nullBit) }
func (r *Rows) endValue() { r.ends = append(r.ends, uint32(len(r.buf))) }

// AddDriver appends one value as the SQL driver returned it.
func (r *Rows) AddDriver(c *Column, v any) error {
	if v == nil {
		r.addNull()
		return nil
	}
	buf, err := c.AppendDriver(r.buf, v)
	if err != nil {
		return err
	}
	return r.take(buf)
}

// take ends a value that was appended to the buffer. Beyond MaxRowsBytes the end of a value
// would be read as a NULL.
func (r *Rows) take(buf []byte) error {
	if len(buf) > MaxRowsBytes {
		return ErrTooManyBytes
	}
	r.buf = buf
	r.endValue()
	return nil
}

// AddJSON appends a document as the SQL driver returned it, with the report of its
// column's LeafTypes. After an error the row set is as it was before.
func (r *Rows) AddJSON(c *Column, v, report any) error {
	text, ok := v.([]byte)
	if v == nil || !ok {
		return r.AddDriver(c, v)
	}
	types, ok := report.([]byte)
	if !ok {
		return fmt.Errorf("column `%s`: the types of a document's leaves were not read", c.Name)
	}
	buf, err := c.Leaves.Mark(r.buf, text, types)
	if err != nil {
		return fmt.Errorf("column `%s`: %w", c.Name, err)
	}
	return r.take(buf)
}

// AddGo appends one value as a host holds it.
func (r *Rows) AddGo(c *Column, v any) error {
	if v == nil {
		r.addNull()
		return nil
	}
	if b, ok := v.([]byte); ok && b == nil {
		r.addNull()
		return nil
	}
	buf, err := c.AppendGo(r.buf, v)
	if err != nil {
		return err
	}
	return r.take(buf)
}

// AppendTuple appends `(v1,v2,…)` of the columns listed in cols.
func (r *Rows) AppendTuple(dst []byte, row int, columns []Column, cols []int) []byte {
	dst = append(dst, '(')
	for i, c := range cols {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = columns[c].AppendLiteral(dst, r.Value(row, c))
	}
	return append(dst, ')')
}

// AppendKey appends an unambiguous encoding of the values of cols: equal encodings
// are equal values byte by byte. A NULL is encoded apart from every value.
func (r *Rows) AppendKey(dst []byte, row int, cols []int) []byte {
	for _, c := range cols {
		dst = AppendKeyPart(dst, r.Value(row, c))
	}
	return dst
}

// AppendKeyPart appends one part of a key as AppendKey does.
func AppendKeyPart(dst, v []byte) []byte {
	if v == nil {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	n := len(v)
	dst = append(dst, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(dst, v...)
}

// SplitKey is the inverse of AppendKey.
func SplitKey(key []byte, parts int) [][]byte {
	out := make([][]byte, 0, parts)
	for len(out) < parts && len(key) >= 4 {
		if key[0] == 0xff {
			out, key = append(out, nil), key[4:]
			continue
		}
		n := int(key[0])<<24 | int(key[1])<<16 | int(key[2])<<8 | int(key[3])
		if n > len(key)-4 {
			break
		}
		out, key = append(out, key[4:4+n:4+n]), key[4+n:]
	}
	return out
}
