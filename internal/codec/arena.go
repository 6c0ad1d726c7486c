package codec

import "unsafe"

// Arena makes many small sets of rows that live about as long as each other, such as
// those of row events that follow each other, without memory of its own for each: it is
// cut from larger pieces. A piece is freed with the last set in it. The zero value is
// ready; it is not safe for concurrent use.
type Arena struct {
	buf  []byte
	ends []uint32
}

const (
	// arenaBytes and arenaValues are the size of a piece: large enough that its cost is
	// shared by dozens of rows, small enough that one row kept alone wastes little.
	arenaBytes  = 16 << 10
	arenaValues = 1 << 10
)

// NewRows returns an empty set of rows with room for about size bytes and rows rows. It
// is written before the next one is made, and kept by Keep.
func (a *Arena) NewRows(cols, rows, size int) *Rows {
	if size > arenaBytes/4 || rows*cols > arenaValues/4 {
		return NewRows(cols, rows, size)
	}
	if cap(a.buf)-len(a.buf) < size {
		a.buf = make([]byte, 0, arenaBytes)
	}
	if cap(a.ends)-len(a.ends) < rows*cols {
		a.ends = make([]uint32, 0, arenaValues)
	}
	return &Rows{cols: cols, buf: a.buf[len(a.buf):], ends: a.ends[len(a.ends):]}
}

// Keep ends the writing of the rows made last: what they do not use is for the next.
// Rows that have outgrown their piece have memory of their own already.
func (a *Arena) Keep(r *Rows) {
	if n := len(a.buf); n < cap(a.buf) && unsafe.SliceData(r.buf) == unsafe.SliceData(a.buf[n:]) {
		a.buf = a.buf[:n+len(r.buf)]
	}
	if n := len(a.ends); n < cap(a.ends) && unsafe.SliceData(r.ends) == unsafe.SliceData(a.ends[n:]) {
		a.ends = a.ends[:n+len(r.ends)]
	}
	r.buf, r.ends = r.buf[:len(r.buf):len(r.buf)], r.ends[:len(r.ends):len(r.ends)]
}
