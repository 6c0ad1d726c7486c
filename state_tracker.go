package ghostferry

import (
	"bytes"
	"container/ring"
	"strconv"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// PaginationKeyPositionLog is one sample of the copy's speed.
type PaginationKeyPositionLog struct {
	// Position is the sum of the numeric positions of all keys copied so far.
	Position float64
	// At is when it was reached.
	At time.Time
}

// RowStats counts rows and their bytes.
type RowStats struct {
	NumBytes uint64
	NumRows  uint64
}

// StateTracker remembers how far copy and apply are. It is safe for concurrent use.
type StateTracker struct {
	// BinlogRWMutex guards the binary log positions; a host may hold it to read them
	// together.
	BinlogRWMutex *sync.RWMutex
	// CopyRWMutex guards the progress of the copy.
	CopyRWMutex *sync.RWMutex

	// guarded by BinlogRWMutex
	lastWritten    mysql.Position
	lastWrittenSet string            // the same as a GTID set
	executedUpTo   *BinlogCoordinate // set when XA transactions hold lastWritten back
	begun          executedUpTo      // how far anything may have been executed
	lastVerified   mysql.Position
	watched        watchedPlace // of the target
	watchBegan     BinlogCoordinate
	lastMark       logMark // of the last transaction up to lastWritten
	process        sourceProcess
	unconfirmed    *unconfirmedReads // nil: nothing is known of reads

	// guarded by CopyRWMutex
	tables      map[string]*tableProgress // by "schema.table"
	written     uint64                    // bytes of all tables, by this process
	speed       *ring.Ring
	definitions map[string]string // of the tables when the run began
}

// tableProgress is how far the copy of one table is. A nil one has not begun.
type tableProgress struct {
	completed bool
	written   RowStats      // by this process
	before    uint64        // rows written by earlier processes of the run, as far as that is known
	last      PaginationKey // everything up to it is on the target; nil: nothing yet
	ranges    *copiedRanges // nil: nothing was copied by ranges
	resumed   []CopiedRange // what the state had beyond last
}

// beyond is what is on the target beyond last. Until the table's copy goes on it is what the state had.
func (p *tableProgress) beyond() []CopiedRange {
	if p.ranges == nil {
		return p.resumed
	}
	return p.ranges.beyondLow()
}

// progress returns a table's, which it makes; CopyRWMutex is held for writing.
func (t *StateTracker) progress(table string) *tableProgress {
	p := t.tables[table]
	if p == nil {
		p = &tableProgress{}
		t.tables[table] = p
	}
	return p
}

// copiedRanges are the ranges of one table that are on the target: everything up to
// low, and ranges beyond it that wait for the gap before them to close. Ranges that
// touch are one.
type copiedRanges struct {
	table  *TableSchema
	layout *tableLayout
	low    keyTuple            // nil: nothing yet
	beyond map[string]keyRange // by encoded low
	ends   map[string]string   // encoded high to encoded low
}

func newCopiedRanges(table *TableSchema, l *tableLayout) *copiedRanges {
	return &copiedRanges{table: table, layout: l}
}

// add joins a range to those that it touches.
func (c *copiedRanges) add(r keyRange) {
	if start, ok := c.ends[r.low.encode()]; ok {
		delete(c.ends, r.low.encode())
		r.low = c.beyond[start].low
		delete(c.beyond, start)
	}
	if next, ok := c.beyond[r.high.encode()]; ok {
		delete(c.beyond, r.high.encode())
		r.high = next.high
	}
	if r.low.encode() == c.low.encode() {
		delete(c.ends, r.high.encode())
		c.low = r.high
		return
	}
	if c.beyond == nil {
		c.beyond, c.ends = map[string]keyRange{}, map[string]string{}
	}
	c.beyond[r.low.encode()] = r
	c.ends[r.high.encode()] = r.low.encode()
}

// beyondLow renders the ranges beyond low for a state.
func (c *copiedRanges) beyondLow() []CopiedRange {
	var out []CopiedRange
	for _, low := range sortedNames(c.beyond) {
		r := c.beyond[low]
		out = append(out, CopiedRange{After: c.layout.paginationKey(c.table, r.low), UpTo: c.layout.paginationKey(c.table, r.high)})
	}
	return out
}

// NewStateTracker returns an empty tracker whose speed is measured over a ring of the
// given number of samples; none when it is not positive.
func NewStateTracker(speedLogCount int) *StateTracker {
	t := &StateTracker{
		BinlogRWMutex: &sync.RWMutex{}, CopyRWMutex: &sync.RWMutex{},
		tables: map[string]*tableProgress{},
	}
	if speedLogCount > 0 {
		t.speed = ring.New(speedLogCount)
		t.speed.Value = PaginationKeyPositionLog{At: time.Now()}
	}
	return t
}

// NewStateTrackerFromSerializedState returns a tracker that goes on from a state.
func NewStateTrackerFromSerializedState(speedLogCount int, serializedState *SerializableState) *StateTracker {
	t := NewStateTracker(speedLogCount)
	for table, key := range serializedState.LastSuccessfulPaginationKeys {
		t.progress(table).last = key
	}
	for table, done := range serializedState.CompletedTables {
		t.progress(table).completed = done
	}
	for table, ranges := range serializedState.CopiedRanges {
		t.progress(table).resumed = ranges
	}
	for table, rows := range serializedState.RowsCopied {
		t.progress(table).before = rows
	}
	t.lastWritten = serializedState.LastWrittenBinlogPosition
	t.lastWrittenSet = serializedState.LastWrittenGTIDSet
	t.executedUpTo = serializedState.LastExecutedBinlogCoordinate
	t.definitions = serializedState.TableDefinitions
	t.lastVerified = serializedState.LastStoredBinlogPositionForInlineVerifier
	t.watched, _ = serializedState.watched() // a damaged one is refused before the watch begins
	return t
}

// UpdateLastResumableSourceBinlogPosition records up to where changes are on the target.
func (t *StateTracker) UpdateLastResumableSourceBinlogPosition(pos mysql.Position) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.lastWritten, t.lastWrittenSet, t.executedUpTo = pos, "", nil
}

// writtenUpTo records up to where changes are on the target, and where a later process
// has to begin when it is not there (nil: there).
func (t *StateTracker) writtenUpTo(c BinlogCoordinate, hold *BinlogCoordinate) {
	t.writtenTo(c, hold, logMark{})
}

// writtenTo is writtenUpTo with the mark of the last transaction, zero to keep the one before.
func (t *StateTracker) writtenTo(c BinlogCoordinate, hold *BinlogCoordinate, mark logMark) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.executedUpTo = nil
	if hold != nil {
		executed := c
		t.executedUpTo, c = &executed, *hold
	}
	t.lastWritten, t.lastWrittenSet = c.Position(), c.GTIDSet
	if !mark.isZero() {
		t.lastMark = mark
	}
}

// begin records how far anything may have been executed, before it is.
func (t *StateTracker) begin(at executedUpTo) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.begun = at
}

// follow records which process of the source is read, and by which event its log is known;
// zero keeps the one before.
func (t *StateTracker) follow(source sourceProcess, mark logMark) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.process = source
	if !mark.isZero() {
		t.lastMark = mark
	}
}

// UpdateLastResumableSourceBinlogPositionForInlineVerifier records up to where changes
// are queued for verification.
func (t *StateTracker) UpdateLastResumableSourceBinlogPositionForInlineVerifier(pos mysql.Position) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.lastVerified = pos
}

// UpdateLastResumableBinlogPositionForTargetVerifier records up to where the target was watched.
func (t *StateTracker) UpdateLastResumableBinlogPositionForTargetVerifier(pos mysql.Position) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.watched.at = coordinateFromPosition(pos)
}

// watchedTo is UpdateLastResumableBinlogPositionForTargetVerifier with where a later process has to
// begin when it is not there (nil: there) and the mark of the last transaction, zero to keep the one
// before. What is read again, because something prepared held the place back, moves no mark back; and
// what is read of before the watch began, of which the rows do not count, moves nothing: a later
// process would not know what was prepared before it and decided there.
func (t *StateTracker) watchedTo(c BinlogCoordinate, hold *BinlogCoordinate, mark logMark) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	if c.CompareFilePos(t.watchBegan) < 0 {
		return
	}
	t.watched.at = c
	if hold != nil {
		t.watched.at = *hold
	}
	if before := t.watched.mark; !mark.isZero() && (before.isZero() || before.place().CompareFilePos(mark.place()) < 0) {
		t.watched.mark = mark
	}
}

// watchBegins records where the watch begins, and of what.
func (t *StateTracker) watchBegins(place watchedPlace) {
	t.BinlogRWMutex.Lock()
	defer t.BinlogRWMutex.Unlock()
	t.watched, t.watchBegan = place, place.at
}

// keepDefinitions records how the tables were defined when the run began; the map is not
// changed any more.
func (t *StateTracker) keepDefinitions(definitions map[string]string) {
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	t.definitions = definitions
}

// UpdateLastSuccessfulPaginationKey records that a table ("schema.table") is copied up
// to a key, and counts the rows of the batch that got it there.
func (t *StateTracker) UpdateLastSuccessfulPaginationKey(table string, paginationKey PaginationKey, rowStats RowStats) {
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	t.count(table, rowStats)
	t.advance(table, paginationKey)
}

func (t *StateTracker) count(table string, stats RowStats) {
	p := t.progress(table)
	p.written.NumRows += stats.NumRows
	p.written.NumBytes += stats.NumBytes
	t.written += stats.NumBytes
}

// bytesWritten returns how many bytes of rows this process has copied.
func (t *StateTracker) bytesWritten() uint64 {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	return t.written
}

// advance moves a table's key and, with it, the speed log.
func (t *StateTracker) advance(table string, key PaginationKey) {
	var before float64
	p := t.progress(table)
	if p.last != nil {
		before = p.last.NumericPosition()
	}
	p.last = key
	t.logSpeed(key.NumericPosition() - before)
}

// logSpeed adds a sample: keys of this distance were copied.
func (t *StateTracker) logSpeed(distance float64) {
	if t.speed == nil {
		return
	}
	last, _ := t.speed.Value.(PaginationKeyPositionLog)
	t.speed = t.speed.Next()
	t.speed.Value = PaginationKeyPositionLog{Position: last.Position + distance, At: time.Now()}
}

// rangeCopied records that a range of a table is on the target. Ranges may come in any
// order: the table's key is the end of the contiguous part.
func (t *StateTracker) rangeCopied(table *TableSchema, l *tableLayout, r keyRange, stats RowStats) {
	name := table.String()
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	t.count(name, stats)
	p := t.progress(name)
	if p.ranges == nil {
		p.ranges = newCopiedRanges(table, l)
	}
	p.ranges.add(r)
	if low := p.ranges.low; low != nil {
		p.last = l.paginationKey(table, low)
	}
	distance := l.paginationKey(table, r.high).NumericPosition()
	if r.low != nil {
		distance -= l.paginationKey(table, r.low).NumericPosition()
	}
	t.logSpeed(distance)
}

// resumedRanges returns what a state says is copied of a table.
func (t *StateTracker) resumedRanges(name string, l *tableLayout) []keyRange {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	var done []keyRange
	p := t.tables[name]
	if p == nil {
		return nil
	}
	if low := l.keyTupleOf(p.last); low != nil {
		done = append(done, keyRange{nil, low})
	}
	for _, r := range p.resumed {
		if low, high := l.keyTupleOf(r.After), l.keyTupleOf(r.UpTo); low != nil && high != nil {
			done = append(done, keyRange{low, high})
		}
	}
	return done
}

// copied seeds a table's ranges when a run is resumed.
func (t *StateTracker) copied(table *TableSchema, l *tableLayout, done []keyRange) {
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	c := newCopiedRanges(table, l)
	for _, r := range done {
		c.add(r)
	}
	p := t.progress(table.String())
	p.ranges = c
	if c.low != nil {
		p.last = l.paginationKey(table, c.low)
	}
}

// copiedBefore records how many rows of a table earlier processes have written.
func (t *StateTracker) copiedBefore(name string, rows uint64) {
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	t.progress(name).before = rows
}

// forgetTable takes back what was known of a table's copy, before it begins again.
func (t *StateTracker) forgetTable(name string) {
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	if p := t.tables[name]; p != nil {
		*p = tableProgress{written: p.written}
	}
}

// RowStatsWrittenPerTable returns what this process has written, by table.
func (t *StateTracker) RowStatsWrittenPerTable() map[string]RowStats {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	out := make(map[string]RowStats, len(t.tables))
	for table, p := range t.tables {
		if p.written != (RowStats{}) {
			out[table] = p.written
		}
	}
	return out
}

// eachTable calls f for every name with what is known of its copy, all of the same moment;
// f must neither block nor keep it.
func (t *StateTracker) eachTable(names []string, f func(i int, p *tableProgress)) {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	for i, name := range names {
		p := t.tables[name]
		if p == nil {
			p = &tableProgress{}
		}
		f(i, p)
	}
}

// LastSuccessfulPaginationKey returns the key up to which a table is copied: its
// kind's highest when complete, its lowest when nothing is copied yet.
func (t *StateTracker) LastSuccessfulPaginationKey(table string, tableSchema *TableSchema) PaginationKey {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	switch p := t.tables[table]; {
	case p == nil:
	case p.completed:
		return MaxPaginationKey(tableSchema.GetPaginationColumn())
	case p.last != nil:
		return p.last
	}
	return MinPaginationKey(tableSchema.GetPaginationColumn())
}

// lastKey returns the key up to which a table is copied, nil when nothing is.
func (t *StateTracker) lastKey(table string) PaginationKey {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	if p := t.tables[table]; p != nil {
		return p.last
	}
	return nil
}

// MarkTableAsCompleted records that every row of a table is on the target.
func (t *StateTracker) MarkTableAsCompleted(table string) {
	t.CopyRWMutex.Lock()
	defer t.CopyRWMutex.Unlock()
	t.progress(table).completed = true
}

// IsTableComplete reports whether every row of a table is on the target.
func (t *StateTracker) IsTableComplete(table string) bool {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	p := t.tables[table]
	return p != nil && p.completed
}

// EstimatedPaginationKeysPerSecond returns the speed over the samples kept, 0 without any.
func (t *StateTracker) EstimatedPaginationKeysPerSecond() float64 {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	if t.speed == nil {
		return 0
	}
	newest, _ := t.speed.Value.(PaginationKeyPositionLog)
	oldest := newest
	t.speed.Do(func(v any) {
		if sample, ok := v.(PaginationKeyPositionLog); ok && sample.At.Before(oldest.At) {
			oldest = sample
		}
	})
	seconds := newest.At.Sub(oldest.At).Seconds()
	if seconds <= 0 || newest.Position <= oldest.Position {
		return 0
	}
	return (newest.Position - oldest.Position) / seconds
}

// Serialize returns the state. Both arguments may be nil.
func (t *StateTracker) Serialize(lastKnownTableSchemaCache TableSchemaCache, binlogVerifyStore *BinlogVerifyStore) *SerializableState {
	t.BinlogRWMutex.RLock()
	defer t.BinlogRWMutex.RUnlock()
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	s := &SerializableState{
		StateFormatVersion:                        stateFormatVersion,
		GhostferryVersion:                         BuildVersion(),
		LastKnownTableSchemaCache:                 lastKnownTableSchemaCache,
		LastSuccessfulPaginationKeys:              make(map[string]PaginationKey, len(t.tables)),
		CopiedRanges:                              make(map[string][]CopiedRange),
		RowsCopied:                                make(map[string]uint64, len(t.tables)),
		CompletedTables:                           make(map[string]bool, len(t.tables)),
		LastWrittenBinlogPosition:                 t.lastWritten,
		LastWrittenGTIDSet:                        t.lastWrittenSet,
		LastExecutedBinlogCoordinate:              t.executedUpTo,
		LastWrittenLogMark:                        t.lastMark.String(),
		SourceStartedAt:                           t.process.started,
		TableDefinitions:                          t.definitions,
		LastStoredBinlogPositionForInlineVerifier: t.lastVerified,
		LastStoredBinlogPositionForTargetVerifier: t.watched.at.Position(),
		LastWatchedTargetLogMark:                  t.watched.mark.String(),
		TargetUnwatched:                           t.watched.gap,
	}
	written := coordinateFromPosition(t.lastWritten)
	written.GTIDSet = t.lastWrittenSet
	if begun := t.begun.BinlogCoordinate; !begun.IsZero() && written.before(begun) {
		s.LastBegunBinlogCoordinate, s.LastBegunLogMark = &begun, t.begun.mark.String()
	}
	if end := t.unconfirmed.furthest(); end.File != "" {
		s.LastReadBinlogCoordinate = &end
	}
	for table, p := range t.tables {
		if p.last != nil {
			s.LastSuccessfulPaginationKeys[table] = p.last
		}
		if rows := p.before + p.written.NumRows; rows > 0 {
			s.RowsCopied[table] = rows
		}
		if p.completed {
			s.CompletedTables[table] = true
		} else if ranges := p.beyond(); len(ranges) > 0 {
			s.CopiedRanges[table] = ranges
		}
	}
	if binlogVerifyStore != nil {
		s.BinlogVerifyStore = binlogVerifyStore.Serialize()
	}
	return s
}

// encode makes a map key of a tuple; the open end has one of its own.
func (k keyTuple) encode() string {
	if k == nil {
		return "open"
	}
	var dst []byte
	for _, v := range k {
		dst = codec.AppendKeyPart(dst, v)
	}
	return string(dst)
}

// paginationKey renders a key tuple as hosts see it.
func (l *tableLayout) paginationKey(table *TableSchema, key keyTuple) PaginationKey {
	parts := make([]PaginationKey, len(key))
	for i, k := range l.keys {
		column := &table.Columns[k]
		var value any = bytes.Clone(key[i])
		if l.columns[k].Kind == codec.Bit { // a query gives it as bytes, here it is a number
			if n, err := strconv.ParseUint(string(key[i]), 10, 64); err == nil {
				value = n
			}
		}
		part, err := NewPaginationKeyFromRow(RowData{value}, 0, column)
		if err != nil {
			part = NewTextKeyWithColumn(column.Name, string(key[i]))
		}
		parts[i] = part
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return NewCompositeKey(parts...)
}

// keyTupleOf is the inverse of paginationKey, for keys of a state; nil when the key is
// of another shape than the table's.
func (l *tableLayout) keyTupleOf(key PaginationKey) keyTuple {
	parts := []PaginationKey{key}
	if c, ok := key.(CompositeKey); ok {
		parts = c.Parts
	}
	if key == nil || len(parts) != len(l.keys) {
		return nil
	}
	tuple := make(keyTuple, len(parts))
	for i, part := range parts {
		v, err := l.columns[l.keys[i]].AppendGo([]byte{}, part.SQLValue())
		if err != nil {
			return nil
		}
		tuple[i] = v
	}
	return tuple
}
