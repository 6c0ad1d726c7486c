package ghostferry

import (
	"context"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// gate orders the copy of a chunk against the row events inside it, so that no lock on
// the source has to outlive the read (docs/algorithm.md).
//
// Opening a chunk records, in one step with registering it, everything the streamer has
// delivered; the reader then makes sure that all of it is visible (the barrier). An event
// delivered while a chunk that may hold its key is open is not executed on the target
// before that chunk closes. Opening and delivering therefore exclude each other: recording
// and registering in two steps would let an event slip between them unseen.
//
// All components made by one Ferry share its gate.
type gate struct {
	mu struct {
		sync.Mutex
		open map[*TableSchema]map[*gatedChunk]struct{}
		// pending are transactions that were streamed and are not known to be visible on
		// the source (MySQL with GTIDs). Those of other tables are in it as well, so that
		// the set stays a few intervals however long nobody reads.
		pending binlog.GTIDSet
		count   uint64 // how often pending grew
		// position is the end of the last delivered event (servers without MySQL GTIDs).
		position BinlogCoordinate
		// reading: rows of the source have been read, or are about to be.
		reading bool
	}
}

// deliveredMark names a moment of delivery: everything delivered up to it.
type deliveredMark struct {
	count    uint64
	position BinlogCoordinate
}

// gatedChunk is a contiguous key range of one table that is being copied: low < key <= high,
// an open end where nil. With keys set it is those rows instead.
type gatedChunk struct {
	table     *TableSchema
	low, high keyTuple
	keys      map[string]struct{} // encoded
	closed    chan struct{}
	failed    error // why its rows may be missing; read it when closed is
	held      bool  // changes were told to wait for it; guarded by the gate until it is closed
}

func newGate() *gate {
	g := &gate{}
	g.mu.open = map[*TableSchema]map[*gatedChunk]struct{}{}
	return g
}

// openChunk registers a chunk as being copied and returns what was delivered by then.
func (g *gate) openChunk(table *TableSchema, low, high keyTuple) (*gatedChunk, deliveredMark) {
	return g.open(&gatedChunk{table: table, low: low, high: high, closed: make(chan struct{})})
}

// openKeys is openChunk for rows with some keys.
func (g *gate) openKeys(table *TableSchema, keys []string) (*gatedChunk, deliveredMark) {
	c := &gatedChunk{table: table, keys: make(map[string]struct{}, len(keys)), closed: make(chan struct{})}
	for _, key := range keys {
		c.keys[key] = struct{}{}
	}
	return g.open(c)
}

func (g *gate) open(c *gatedChunk) (*gatedChunk, deliveredMark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	chunks := g.mu.open[c.table]
	if chunks == nil {
		chunks = map[*gatedChunk]struct{}{}
		g.mu.open[c.table] = chunks
	}
	chunks[c] = struct{}{}
	traceOpen(c)
	return c, g.markLocked()
}

// closeChunk lets the events of the chunk pass. It may be called only when the chunk's
// rows are known to be committed, or when none of them can reach the target any more;
// otherwise see failChunk.
func (g *gate) closeChunk(c *gatedChunk) {
	g.mu.Lock()
	delete(g.mu.open[c.table], c)
	if len(g.mu.open[c.table]) == 0 {
		delete(g.mu.open, c.table) // of ten thousand tables, few are copied at a time
	}
	traceClose(c)
	g.mu.Unlock()
	close(c.closed)
}

// failChunk ends a chunk of which nobody knows what reached the target: whoever waits
// for it gets the error, and its events are not applied.
func (g *gate) failChunk(c *gatedChunk, err error) {
	c.failed = err
	g.closeChunk(c)
}

// wait returns when the chunk is closed, with the error that it failed with.
func (c *gatedChunk) wait(ctx context.Context) error {
	select {
	case <-c.closed:
		return c.failed
	default:
	}
	defer waitingFor(ctx, waitChunk)()
	select {
	case <-c.closed:
		return c.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mark returns what has been delivered by now.
func (g *gate) mark() deliveredMark {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.markLocked()
}

func (g *gate) markLocked() deliveredMark {
	return deliveredMark{count: g.mu.count, position: g.mu.position}
}

// deliver records events of one transaction as delivered and returns the chunks each
// of them has to wait for: those open now whose range may hold its old or new key.
// The transaction counts from its first row.
func (g *gate) deliver(events []*rowEvent) []*gatedChunk {
	g.mu.Lock()
	defer g.mu.Unlock()
	traceDeliver(events)
	var waits []*gatedChunk
	for _, ev := range events {
		if txn := ev.txn; txn != nil && !txn.delivered {
			txn.delivered = true
			g.pendLocked(txn.gtid)
		}
		if ev.end.File != "" {
			g.mu.position = BinlogCoordinate{File: ev.end.File, Pos: ev.end.Pos}
		}
		for c := range g.mu.open[ev.table] {
			if ev.mayTouch(c) && !containsChunk(waits, c) {
				waits = append(waits, c)
				c.held = true
			}
		}
	}
	return waits
}

// streamed records a transaction of other tables.
func (g *gate) streamed(gtid binlog.GTID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pendLocked(gtid)
}

func (g *gate) pendLocked(gtid binlog.GTID) {
	if gtid.IsZero() || gtid.MariaDB {
		return
	}
	g.mu.pending.Add(gtid)
	g.mu.count++
}

// notYetVisible returns a set with every transaction of a mark that is not yet known to
// be visible, empty when there is none, and the mark that the set stands for.
func (g *gate) notYetVisible(m deliveredMark) (set string, upTo deliveredMark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.count == 0 {
		return "", m
	}
	return g.mu.pending.String(), g.markLocked()
}

// passed records that everything up to the mark is visible on the source.
func (g *gate) passed(m deliveredMark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.count == m.count {
		g.mu.pending.Clear() // else the new ones stay, and those before do no harm
	}
}

// beginReading records that rows of the source are read from here on.
func (g *gate) beginReading() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.reading = true
}

// deliverUnread records a transaction whose rows are not delivered as delivered, if every
// read of the source comes after it and therefore sees them; else it returns false.
func (g *gate) deliverUnread(gtid binlog.GTID, at BinlogCoordinate) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.reading {
		return false
	}
	g.pendLocked(gtid)
	g.mu.position = BinlogCoordinate{File: at.File, Pos: at.Pos}
	return true
}

// startAfter seeds the gate with the furthest position that an earlier run may have
// executed on the target.
func (g *gate) startAfter(c BinlogCoordinate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.position = BinlogCoordinate{File: c.File, Pos: c.Pos}
}

func containsChunk(chunks []*gatedChunk, c *gatedChunk) bool {
	for _, x := range chunks {
		if x == c {
			return true
		}
	}
	return false
}
