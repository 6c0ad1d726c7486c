package ghostferry

import (
	"bytes"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// sourceTxn is one transaction of the source as the stream delivers it.
type sourceTxn struct {
	gtid      binlog.GTID
	mark      logMark // of its first event; zero when that is not known. Set before its rows are delivered.
	delivered bool    // guarded by gate.mu
}

// rowEvent is one row change in the engine's form: canonical images with the place
// they stand at. Immutable.
type rowEvent struct {
	table    *TableSchema
	layout   *tableLayout
	rows     *codec.Rows // images of the whole binary log event, shared by its rows
	old, new int         // index of the images in rows, -1 when there is none
	txn      *sourceTxn

	end       BinlogCoordinate // end of the event
	resumable mysql.Position   // end of the last transaction before it
	query     []byte           // leading comment of the statement (a host may have made it of the whole text), nil when not in the log
	timestamp time.Time

	// set are the columns in which the images of an update differ, where it may be written in
	// place: found while they have just been decoded, which is a quarter of what it costs later.
	set columnSet
}

// rowEventOf returns the engine's form of an event; events made by a host are encoded.
func rowEventOf(ev DMLEvent) (*rowEvent, error) {
	if e, ok := ev.(interface{ engineEvent() *rowEvent }); ok {
		if r := e.engineEvent(); r != nil && r.rows != nil {
			return r, nil
		}
	}
	table := ev.TableSchema()
	l, err := table.layout()
	if err != nil {
		return nil, err
	}
	r := &rowEvent{
		table: table, layout: l, old: -1, new: -1, txn: &sourceTxn{},
		end: coordinateFromPosition(ev.BinlogPosition()), resumable: ev.ResumableBinlogPosition(), timestamp: ev.Timestamp(),
		rows: codec.NewRows(len(l.columns), 2, 256),
	}
	for _, image := range []struct {
		values RowData
		index  *int
	}{{ev.OldValues(), &r.old}, {ev.NewValues(), &r.new}} {
		if image.values == nil {
			continue
		}
		if len(image.values) != len(l.columns) {
			return nil, fmt.Errorf("table %s has %d columns but event has %d columns instead", table, len(l.columns), len(image.values))
		}
		*image.index = r.rows.Len()
		for i, v := range image.values {
			if err := r.rows.AddGo(&l.columns[i], v); err != nil {
				return nil, &TableError{Schema: table.Schema, Table: table.Name, Err: err}
			}
		}
	}
	return r, nil
}

// key returns the encoded key of the image at index, for maps.
func (e *rowEvent) key(image int) string {
	return string(e.rows.AppendKey(nil, image, e.layout.keys))
}

// changesKey reports whether the two images of an update have different key bytes.
func (e *rowEvent) changesKey() bool {
	if e.old < 0 || e.new < 0 {
		return false
	}
	for _, c := range e.layout.keys {
		if !bytes.Equal(e.rows.Value(e.old, c), e.rows.Value(e.new, c)) {
			return true
		}
	}
	return false
}

// eventOverhead is about what an event costs in memory beside its images.
const eventOverhead = 640

// size is how much memory the event holds, for budgets.
func (e *rowEvent) size() int {
	n := eventOverhead + len(e.query)
	if e.old >= 0 {
		n += e.rows.RowBytes(e.old)
	}
	if e.new >= 0 {
		n += e.rows.RowBytes(e.new)
	}
	return n
}

// mayTouch reports whether the event's old or new key may lie in the chunk. Keys that
// Go cannot order as the server does may lie anywhere.
func (e *rowEvent) mayTouch(c *gatedChunk) bool {
	if !e.layout.keyOrdered {
		return true
	}
	return e.old >= 0 && e.imageIn(c, e.old) || e.new >= 0 && e.imageIn(c, e.new)
}

func (e *rowEvent) imageIn(c *gatedChunk, image int) bool {
	if c.keys != nil {
		_, in := c.keys[e.key(image)]
		return in || !e.layout.keyBytes
	}
	return (c.low == nil || e.compareKey(image, c.low) > 0) && (c.high == nil || e.compareKey(image, c.high) <= 0)
}

func (e *rowEvent) compareKey(image int, key keyTuple) int {
	for i, k := range e.layout.keys {
		if n := e.layout.columns[k].Compare(e.rows.Value(image, k), key[i]); n != 0 {
			return n
		}
	}
	return 0
}

// values decodes one image for hosts, nil when there is none.
func (e *rowEvent) values(image int) RowData {
	if image < 0 {
		return nil
	}
	out := make(RowData, len(e.layout.columns))
	for i := range out {
		out[i] = e.layout.columns[i].ToGo(e.rows.Value(image, i))
	}
	return out
}
