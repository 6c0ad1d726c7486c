package ghostferry

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// chunkRows is what was read of a chunk.
type chunkRows struct {
	rows    *codec.Rows
	digests []byte // of each row, one after the other; nil when they are not read
	// cut: the chunk was fuller than its limits, and the rows are its first.
	cut bool
	// next is the size of the next row when it is known to be a large one, else 0.
	next int
}

// largest is the size of the largest row if it is a large one, else 0.
func (r *chunkRows) largest() (bytes int) {
	if r.rows.Bytes() <= largeRow {
		return 0
	}
	for row := range r.rows.Len() {
		bytes = max(bytes, r.rows.RowBytes(row))
	}
	if bytes <= largeRow {
		return 0
	}
	return bytes
}

// expected is the size of the large row that is taken to come next, 0 for none.
func (r *chunkRows) expected() int { return max(r.next, r.largest()) }

// readGated reads a chunk behind its gate, which is left open when it succeeds, and gives
// back what the chunk cannot hold.
func (d *DataIterator) readGated(ctx context.Context, p *chunkPlanner, c *chunk, lease *largeRowsLease) (read *chunkRows, gated *gatedChunk, err error) {
	for {
		if err := lease.take(ctx, c.large*c.limit); err != nil {
			return nil, nil, err
		}
		err := d.reader.patience.doWhile(ctx, max(1, d.CursorConfig.ReadRetries), retryableRead, func(ctx context.Context, _ int) error {
			g, mark := d.reader.gate.openChunk(p.table, c.low, c.high)
			traceChunk(g, c)
			var err error
			if read, err = d.reader.readChunk(ctx, p.layout, p.print, c, mark, p.bytes(), lease); err != nil {
				traceAbandon(g)
				d.reader.gate.closeChunk(g)
				return err
			}
			if read.cut {
				last := keyOf(read.rows, read.rows.Len()-1, p.layout.keys)
				if !slices.EqualFunc(last, c.high, bytes.Equal) { // else nothing is left
					p.giveBack(keyRange{last, c.high}, c.worker, read.expected())
				}
				c.high = last
			}
			traceRead(c, p.layout, read.rows)
			gated = g
			return nil
		})
		large, isLarge := errors.AsType[*largeRowError](err)
		if !isLarge {
			return read, gated, err
		}
		c.expect(large.bytes, p.largeBytes)
	}
}

// expect prepares a chunk for large rows.
func (c *chunk) expect(bytes, chunkBytes int) {
	c.large = bytes
	c.limit = max(1, min(c.limit, chunkBytes/bytes))
}

// newRows has room for the rows that the chunk is planned to have and an eighth more, so
// that it need not grow (within reason), or for those of the whole table where that is less:
// of the first chunk of one in which the server knows of no row, a few.
func (c *chunk) newRows(spare *spareRows, l *tableLayout, chunkBytes int) *codec.Rows {
	const surplus = 9.0 / 8
	// A chunk that is planned to be small has room for others, whose memory it becomes, within limits.
	rows, bytes := float64(c.limit)/2, float64(min(chunkBytes, max(4*c.bytes, defaultDataIterationChunkBytes)))
	if t := c.table; t.approxRows > 0 || c.low == nil {
		rows, bytes = min(rows, float64(max(t.approxRows, 16))), min(bytes, float64(max(t.dataLength, 16<<10)))
	}
	return spare.take(len(l.columns), int(rows*surplus)+1, int(min(bytes, 4<<20)*surplus)+1)
}

// readChunk reads the rows of a chunk so that everything delivered up to the mark is
// seen, with their digests when fp is set. One should have about chunkBytes; it ends behind
// the row with which it has several times as much.
func (r *sourceReader) readChunk(ctx context.Context, l *tableLayout, fp *fingerprint, c *chunk, mark deliveredMark, chunkBytes int, lease *largeRowsLease) (read *chunkRows, err error) {
	maxBytes := fullChunk(chunkBytes)
	err = r.readOnce(ctx, mark, r.noted(ctx, &c.readEnd, func(s *session, suffix string) error {
		traceBarrier(c)
		return withLeaves(func(leaves leafReports) (err error) {
			read, err = readRows(ctx, s, l, fp, c, c.newRows(&r.spare, l, chunkBytes), leaves, suffix, maxBytes, lease)
			return err
		})
	}))
	return read, err
}

func readRows(ctx context.Context, s *session, l *tableLayout, fp *fingerprint, c *chunk, rows *codec.Rows, leaves leafReports, suffix string, maxBytes int, lease *largeRowsLease) (*chunkRows, error) {
	read := &chunkRows{rows: rows}
	stmt := append(s.statement(), "SELECT "+l.reading(leaves)...)
	if fp != nil {
		stmt = append(append(stmt, ','), fp.row...)
	}
	stmt = append(stmt, " FROM "+sqlesc.Table(c.table.Schema, c.table.Name)+l.forceRangeIndex()+" WHERE "...)
	stmt = l.appendRange(stmt, c.keyRange)
	stmt = append(stmt, " ORDER BY "+l.keyOrder(false)+" LIMIT "+strconv.Itoa(c.limit)+suffix...)
	err := s.query(ctx, stmt, func(values []driver.Value) error {
		size := 0
		if l.mayBeLarge {
			size = valueBytes(values)
		}
		large := size > largeRow
		if large {
			if !lease.extend(size) {
				if rows.Len() == 0 {
					return &largeRowError{size}
				}
				read.cut, read.next = true, size
				return errEnough
			}
			rows.Grow(size)
		}
		if err := l.appendRow(rows, values); err != nil {
			return err
		}
		if fp != nil {
			var err error
			if read.digests, err = fp.appendDigest(read.digests, values[l.readWidth()], func(column int) driver.Value { return values[column] }); err != nil {
				return err
			}
		}
		if rows.Len() == c.limit {
			read.cut = true // there may be more, which the server does not send
			return nil
		}
		// What is behind a large row that was not expected may be another one.
		if rows.Bytes() > maxBytes || large && c.large == 0 {
			read.cut = true
			return errEnough
		}
		return nil
	})
	return read, err
}

// valueBytes is the size of a row as the driver returned it.
func valueBytes(values []driver.Value) (n int) {
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			n += len(b)
		}
	}
	return n
}

// errRange names the range that could not be read.
func errRange(p *chunkPlanner, c *chunk, err error) error {
	return &TableError{Schema: p.table.Schema, Table: p.table.Name, Err: fmt.Errorf("reading rows after %s up to %s: %w", p.layout.describeKey(c.low), p.layout.describeKey(c.high), err)}
}
