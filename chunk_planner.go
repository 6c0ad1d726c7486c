package ghostferry

import (
	"context"
	"database/sql/driver"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

const (
	// maxChunkRows bounds a chunk of tiny rows: its gate holds back the events of all of them.
	maxChunkRows = 20000
	// chunkTime is how long a chunk should take at most, read and write together.
	chunkTime = 500 * time.Millisecond
	// heldChunkTime is that for one of whose rows changes wait for it: they are that late, and
	// with them everything behind them.
	heldChunkTime = chunkTime / 2
	// leastChunk is by how much a chunk may be smaller than wanted because of the time that the
	// last one took: what takes long whatever a chunk has must not make them tiny.
	leastChunk = 50
	// leastHeldChunk is that for one of half a second at most for which changes wait: whatever it
	// has, a target that is far away takes so long.
	leastHeldChunk = 8
	// spanGrowth bounds how much wider than the last range the next computed one may be,
	// so that one gap in the keys does not make the next chunk huge.
	spanGrowth = 4
	// maxGuess is how many times a chunk's rows a computed range may have keys where nothing
	// limits the rows that are read: behind a gap there may be a row for every key.
	maxGuess = 4
	// stretchChunks is how many chunks a stretch must have left to be divided.
	stretchChunks = 8
)

// keyRange is a range of keys: low < key <= high. A nil low is open; a nil high stands
// for the table's highest key.
type keyRange struct{ low, high keyTuple }

// chunk is a range of one table that is read and written as one.
type chunk struct {
	keyRange
	table  *TableSchema
	number uint64 // unique in the run for its table
	limit  int    // rows to read at most; a fuller range is cut and the rest given back
	bytes  int    // of its rows, as planned
	large  int    // bytes of its largest row, as far as a large one is expected; else 0
	worker int    // who claimed it
	held   bool   // changes of its rows had to wait for it

	readEnd BinlogCoordinate // how far the source's log reached after its read
}

// stretch is a range that is still to be planned and the worker that works through it,
// 0 for nobody yet.
type stretch struct {
	keyRange
	worker int
	large  int // bytes of the large row that is expected next, else 0
}

// chunkPlanner cuts the not yet copied ranges of one table into chunks, for several
// workers at once. A single integer key is cut by arithmetic, at the density of rows
// seen so far; other keys by asking the server for the boundary, so that its order of
// keys is the only one that counts.
//
// With an integer key every worker goes through a stretch of its own: rows that arrive
// in key order fill the target's pages, while workers that take turns in one place
// split each other's (the table becomes a seventh larger, and slower to write).
type chunkPlanner struct {
	table  *TableSchema
	layout *tableLayout
	print  *fingerprint // nil: rows are read without digests
	reader *sourceReader
	rows   func() int // rows a chunk should have, when configured; 0 means by bytes
	bytes  func() int // bytes a chunk should have about
	// largeBytes is what a chunk of large rows should have: they are in the budget of all workers.
	largeBytes int
	pace       *copyPace // nil: chunks are as large as configured
	// quick is how many bytes a chunk of any table was seen to have and to be in time: one that is
	// larger than the default by our own choice begins with that. nil: the host has chosen.
	quick *atomic.Int64
	// unlimited: the rows of a chunk are not read with a limit, so that a range of which only
	// the density of rows before it says how many it has must not be wide.
	unlimited bool

	mu struct {
		sync.Mutex
		ranges    []stretch // in key order as far as known
		next      uint64    // number of the next chunk
		inFlight  int
		target    float64 // rows a chunk should have
		timely    float64 // rows that take about chunkTime, where that is fewer than wanted; else 0
		density   float64 // rows per key value, integer keys only
		lastSpan  uint64
		rowBytes  float64 // moving average
		exhausted bool
	}
}

// newChunkPlanner plans the given ranges; every high is set. It is ready when it has begun.
func newChunkPlanner(table *TableSchema, reader *sourceReader, ranges []keyRange, firstNumber uint64, rows, bytes func() int) (*chunkPlanner, error) {
	l, err := table.layout()
	if err != nil {
		return nil, err
	}
	p := &chunkPlanner{table: table, layout: l, reader: reader, rows: rows, bytes: bytes, largeBytes: bytes()}
	p.mu.next = firstNumber
	p.mu.density = 1
	p.mu.rowBytes = 256
	if table.approxRows > 0 {
		p.mu.rowBytes = max(16, float64(table.dataLength)/float64(table.approxRows))
	}
	large := 0
	if l.mayBeLarge && (table.approxRows == 0 || p.mu.rowBytes >= carefulRowBytes) {
		large = largeRowsBytes
	}
	for _, r := range ranges {
		p.mu.ranges = append(p.mu.ranges, stretch{keyRange: r, large: large})
	}
	return p, nil
}

// begin sizes the first chunks, by what is set.
func (p *chunkPlanner) begin() {
	p.mu.target, p.mu.timely = p.wantedRows(), 0
	if p.quick == nil || p.rows() > 0 { // the host has sized them
		return
	}
	if known := float64(max(p.quick.Load(), defaultDataIterationChunkBytes)) / p.mu.rowBytes; known < p.mu.target {
		p.mu.target, p.mu.timely = math.Max(1, known), math.Max(1, known)
	}
}

// wantedRows is how many rows a chunk should have by configuration and row size.
func (p *chunkPlanner) wantedRows() float64 {
	want := math.Min(float64(p.bytes())/p.mu.rowBytes, maxChunkRows)
	if n := p.rows(); n > 0 {
		want = math.Min(want, float64(n))
	}
	return math.Max(1, want*p.pace.chunkFraction())
}

// limit is how many rows of a chunk are read at most. A range of more bytes than a chunk may
// have is ended by it, and not by closing the connection, where the size of rows is known.
func (p *chunkPlanner) limit() int {
	const surely = 0.75 // the size of rows is an average
	return int(math.Max(1, math.Min(2*p.mu.target, surely*float64(fullChunk(p.bytes()))/p.mu.rowBytes)))
}

// claim returns the worker's next chunk, or nil when everything has been planned.
// Workers count from 1; 0 takes whatever is first. It may query the source while
// holding the planner: claims of one table are made one at a time.
func (p *chunkPlanner) claim(ctx context.Context, worker int) (*chunk, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.ranges) == 0 {
		return nil, nil
	}
	i := p.stretchOf(worker)
	r := &p.mu.ranges[i]
	c := &chunk{keyRange: r.keyRange, table: p.table, number: p.mu.next, limit: p.limit(), worker: worker, bytes: int(p.mu.target * p.mu.rowBytes)}
	if r.large > 0 {
		c.expect(r.large, p.largeBytes)
	}
	high, err := p.boundary(ctx, r.keyRange)
	if err != nil {
		return nil, err
	}
	if high == nil {
		p.mu.ranges = slices.Delete(p.mu.ranges, i, i+1)
	} else {
		c.high, r.low = high, high
	}
	p.mu.next++
	p.mu.inFlight++
	return c, nil
}

// stretchOf returns the index of the stretch that a worker goes on with: its own, one
// that nobody has, or the upper half of the widest. When none is worth dividing, the
// workers finish what is there together.
func (p *chunkPlanner) stretchOf(worker int) int {
	for _, wanted := range []int{worker, 0} {
		for i := range p.mu.ranges {
			if r := &p.mu.ranges[i]; r.worker == wanted {
				r.worker = worker
				return i
			}
		}
	}
	widest, span := 0, uint64(0)
	if worker > 0 && p.layout.integerKey {
		for i, r := range p.mu.ranges {
			if s := p.span(r.keyRange); s > span {
				widest, span = i, s
			}
		}
	}
	if float64(span)*p.mu.density < stretchChunks*p.mu.target {
		return 0
	}
	r := &p.mu.ranges[widest]
	column := &p.layout.columns[p.layout.keys[0]]
	middle := keyTuple{keyFromOrdinal(column, keyOrdinal(column, r.low[0])+span/2)}
	upper := stretch{keyRange{middle, r.high}, worker, r.large}
	r.high = middle
	p.mu.ranges = slices.Insert(p.mu.ranges, widest+1, upper)
	return widest + 1
}

// span returns how many keys a range of integers can have; 0 when its low is open.
func (p *chunkPlanner) span(r keyRange) uint64 {
	if r.low == nil {
		return 0
	}
	column := &p.layout.columns[p.layout.keys[0]]
	low, high := keyOrdinal(column, r.low[0]), keyOrdinal(column, r.high[0])
	return max(high, low) - low
}

// boundary returns where the next chunk of the range ends, nil for the range's own end.
func (p *chunkPlanner) boundary(ctx context.Context, r keyRange) (keyTuple, error) {
	if p.layout.integerKey && r.low != nil {
		if high := p.computedBoundary(r); !p.unlimited || float64(p.mu.lastSpan) <= maxGuess*p.mu.target {
			return high, nil
		}
	}
	if t := p.table; r.low == nil && !p.unlimited && t.approxRows > 0 && float64(t.approxRows) < p.mu.target/2 && t.dataLength < uint64(p.bytes())/2 {
		return nil, nil // a small table is one chunk, without asking; its limit bounds a wrong estimate
	}
	return p.readBoundary(ctx, r)
}

func (p *chunkPlanner) computedBoundary(r keyRange) keyTuple {
	span := uint64(math.Min(p.mu.target/p.mu.density, 1e18))
	if p.mu.lastSpan > 0 {
		span = min(span, p.mu.lastSpan*spanGrowth)
	}
	span = max(span, uint64(p.mu.target), 1)
	p.mu.lastSpan = span
	if p.span(r) <= span {
		return nil
	}
	column := &p.layout.columns[p.layout.keys[0]]
	return keyTuple{keyFromOrdinal(column, keyOrdinal(column, r.low[0])+span)}
}

// readBoundary asks for the key of the row that is a chunk's rows away.
func (p *chunkPlanner) readBoundary(ctx context.Context, r keyRange) (keyTuple, error) {
	var key keyTuple
	err := p.reader.read(ctx, deliveredMark{}, func(s *session, _ string) error {
		stmt := append(s.statement(), "SELECT "+p.layout.keySelectList()+" FROM "+sqlesc.Table(p.table.Schema, p.table.Name)+p.layout.forceRangeIndex()+" WHERE "...)
		stmt = p.layout.appendRange(stmt, r)
		stmt = append(stmt, " ORDER BY "+p.layout.keyOrder(false)+" LIMIT 1 OFFSET "+strconv.Itoa(int(p.mu.target)-1)...)
		var err error
		key, err = p.layout.queryKey(ctx, s, stmt)
		return err
	})
	return key, err
}

// giveBack returns the rest of a worker's chunk that turned out too full, with the size of
// the large row that is expected next in it, 0 for none.
func (p *chunkPlanner) giveBack(r keyRange, worker, large int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.ranges = slices.Insert(p.mu.ranges, 0, stretch{r, worker, large})
}

// done reports what a chunk of the range turned out to hold, so that the next ones fit.
// large is the size of its largest row if that is a large one, else 0.
func (p *chunkPlanner) done(c *chunk, rows, bytes, large int, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.inFlight--
	if c.large > 0 && rows > 0 { // what follows is taken to be like it; a gap says nothing
		for i := range p.mu.ranges {
			if p.mu.ranges[i].worker == c.worker {
				p.mu.ranges[i].large = large
			}
		}
	}
	if rows > 0 {
		p.mu.rowBytes = 0.7*p.mu.rowBytes + 0.3*float64(bytes)/float64(rows)
	}
	p.mu.target = p.inTime(c, rows, took)
	if p.quick != nil && c.large == 0 && 2*bytes >= c.bytes { // a few rows prove nothing
		p.quick.Store(int64(p.mu.target * p.mu.rowBytes))
	}
	if p.layout.integerKey && c.low != nil {
		if span := p.span(c.keyRange); span > 0 {
			seen := (float64(rows) + 0.1) / float64(span)
			p.mu.density = math.Min(1, 0.5*p.mu.density+0.5*seen)
			if rows == 0 {
				p.mu.density = math.Min(p.mu.density, seen)
			}
		}
	}
}

// inTime returns how many rows the next chunk should have after one of so many. What has taken
// too long is remembered: with a chunk of the full size again, every second one would be late.
func (p *chunkPlanner) inTime(c *chunk, rows int, took time.Duration) float64 {
	want, most := p.wantedRows(), chunkTime
	least := want / leastChunk
	if c.held && took <= chunkTime {
		most, least = heldChunkTime, want/leastHeldChunk
	}
	switch {
	case rows == 0: // a gap says nothing
	case took > most:
		// Rows may be so slow that the least is more than what was late.
		p.mu.timely = math.Min(p.mu.target, math.Max(math.Max(1, least), float64(rows)*float64(most)/float64(took)))
	case took < most/2:
		p.mu.timely *= 2
	case took < most: // perhaps it was not the rows that took so long, but a wait in front of them
		p.mu.timely *= 1.2
	}
	if p.mu.timely == 0 || p.mu.timely >= want {
		p.mu.timely = 0
		return want
	}
	return p.mu.timely
}

// abandon gives a claimed chunk back unread.
func (p *chunkPlanner) abandon(c *chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.inFlight--
	p.mu.ranges = slices.Insert(p.mu.ranges, 0, stretch{c.keyRange, c.worker, c.large})
}

// left returns the ranges that were not claimed yet.
func (p *chunkPlanner) left() []keyRange {
	p.mu.Lock()
	defer p.mu.Unlock()
	ranges := make([]keyRange, len(p.mu.ranges))
	for i := range p.mu.ranges {
		ranges[i] = p.mu.ranges[i].keyRange
	}
	return ranges
}

// finished reports whether every range was planned and every chunk is done.
func (p *chunkPlanner) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.ranges) > 0 || p.mu.inFlight > 0 || p.mu.exhausted {
		return false
	}
	p.mu.exhausted = true // true once only: the caller completes the table
	return true
}

// keyOrdinal maps an integer key to an unsigned number in the same order.
func keyOrdinal(c *codec.Column, v []byte) uint64 {
	if c.Kind == codec.Uint {
		u, _ := strconv.ParseUint(string(v), 10, 64)
		return u
	}
	i, _ := strconv.ParseInt(string(v), 10, 64)
	return uint64(i) ^ 1<<63
}

func keyFromOrdinal(c *codec.Column, u uint64) []byte {
	if c.Kind == codec.Uint {
		return strconv.AppendUint(nil, u, 10)
	}
	return strconv.AppendInt(nil, int64(u^1<<63), 10)
}

// appendRange appends the predicate of the rows in scope of a range; an open range is
// TRUE.
func (l *tableLayout) appendRange(dst []byte, r keyRange) []byte {
	return l.appendInScope(l.appendWholeRange(dst, r))
}

func (l *tableLayout) appendWholeRange(dst []byte, r keyRange) []byte {
	switch {
	case r.low == nil && r.high == nil:
		return append(dst, "TRUE"...)
	case r.low == nil:
		return l.appendUpTo(dst, r.high)
	case r.high == nil:
		return l.appendAfter(dst, r.low)
	}
	return l.appendBetween(dst, r.low, r.high)
}

// queryKey runs a statement that returns at most one key, nil when there is none.
func (l *tableLayout) queryKey(ctx context.Context, s querySession, stmt []byte) (keyTuple, error) {
	var key keyTuple
	err := s.query(ctx, stmt, func(values []driver.Value) (err error) {
		key, err = l.keyOfValues(values)
		return err
	})
	return key, err
}

// edgeKey returns the lowest or highest key of the table's rows in scope that is visible,
// nil when there is none. The highest key of a server without GTIDs is read with a lock, so
// that a row being committed at its end is waited for.
// The end of the log after the read is returned with it.
func (r *sourceReader) edgeKey(ctx context.Context, table *TableSchema, highest bool) (key keyTuple, end BinlogCoordinate, err error) {
	l, err := table.layout()
	if err != nil {
		return nil, end, err
	}
	err = r.patience.doWhile(ctx, edgeAttempts, retryableRead, func(ctx context.Context, _ int) error {
		return r.readOnce(ctx, deliveredMark{}, r.noted(ctx, &end, func(s *session, suffix string) error {
			stmt := append(s.statement(), "SELECT "+l.keySelectList()+" FROM "+sqlesc.Table(table.Schema, table.Name)+l.forceRangeIndex()+" WHERE "...)
			stmt = append(l.appendRange(stmt, keyRange{}), " ORDER BY "+l.keyOrder(highest)+" LIMIT 1"+suffix...)
			var err error
			key, err = l.queryKey(ctx, s, stmt)
			return err
		}))
	})
	return key, end, err
}
