package ghostferry

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// applyBatch is a part of the log compacted to what it leaves behind.
type applyBatch struct {
	tables    []*tableChanges
	changes   int       // row changes before compaction
	bytes     int       // of them
	timestamp time.Time // of the last change

	end      BinlogCoordinate // end of the last whole transaction; File empty when there is none
	intent   BinlogCoordinate // how far the batch reaches
	position BinlogCoordinate // up to where everything is executed: end, or that of the batch before
	mark     logMark          // of the last transaction up to position

	// began is how far checkpoint and states say that anything may have been executed: intent, or
	// what an earlier process had begun beyond it.
	began executedUpTo

	// hold is where a later process has to begin because XA transactions are prepared at
	// position; nil: at position.
	hold *BinlogCoordinate

	// repeats: of a transaction in which the stream broke, changes that are on the target may
	// be executed again, beginning with its first.
	repeats bool
}

// openTransaction is the one whose changes were taken into batches, and its end was not. Owned
// by the goroutine that builds batches.
type openTransaction struct {
	last  partOfTransaction
	again partOfTransaction // what was taken of it before the stream broke, which brings it again; zero: it did not
}

// partOfTransaction is how far a transaction was taken; zero: not at all.
type partOfTransaction struct {
	end BinlogCoordinate
	txn *sourceTxn
}

func (o *openTransaction) broken() {
	if o.again.end.CompareFilePos(o.last.end) < 0 {
		o.again = o.last
	}
	o.last = partOfTransaction{}
}

// writerResume is what a writer takes over from an earlier process that had to begin
// again before its position.
type writerResume struct {
	// position is how far that one had executed everything. Until the stream has come
	// there the target may hold older images, so a later process has to begin no later
	// than this one has come; but all decisions up to there are known to be executed.
	position BinlogCoordinate
	mark     logMark
	// hold is what the checkpoint has.
	hold *BinlogCoordinate
	// furthest is how far lanes had begun to execute, zero when this process is past that.
	// An intent is never lowered: if the source loses what lies between, it has to be known
	// that it may be on the target.
	furthest executedUpTo
	// mariaDB: the source's sets of GTIDs do not contain each other.
	mariaDB bool
}

// reach is how far a batch may have executed, with what an earlier process had begun.
func (r *writerResume) reach(intent executedUpTo) executedUpTo {
	if r.furthest.IsZero() {
		return intent
	}
	behind := intent.CompareFilePos(r.furthest.BinlogCoordinate) < 0
	if !behind && (r.mariaDB || intent.GTIDSet == "") {
		r.furthest = executedUpTo{}
		return intent
	}
	out := intent
	if behind {
		out = r.furthest
	}
	if r.mariaDB || intent.GTIDSet == "" {
		return out
	}
	set, err := binlog.ParseGTIDSet(intent.GTIDSet, false)
	before, err2 := binlog.ParseGTIDSet(r.furthest.GTIDSet, false)
	if err != nil || err2 != nil {
		return r.furthest // neither happens: both were parsed before
	}
	if set.Contains(before) && !behind {
		r.furthest = executedUpTo{}
		return intent
	}
	set.AddSet(before)
	out.GTIDSet = set.String()
	return out
}

// tableChanges are the changes of one table in a batch. Where Go can tell equal keys,
// they are compacted to the last image of each key; otherwise they stay in log order.
type tableChanges struct {
	writer  *tableWriter
	byKey   map[string]*rowChange
	ordered []*rowChange // the same, sorted by key
	free    []rowChange  // memory for the next
	serial  []*rowEvent
	inPlace bool // rows that stay may be updated where they are; decided before they are written
}

// rowChange is what a batch leaves of one key: an image, or its absence.
type rowChange struct {
	key    string // encoded
	order  uint64 // of an integer key: numbers in the order of keys
	before rowRef // the row before the batch; rows nil: it was not there, or is not known
	image  rowRef // rows nil: the row is gone

	set      columnSet // the columns in which they differ
	setKnown bool      // and not to be found yet
}

// newBatch compacts queued events.
func (w *BinlogWriter) newBatch(items []*queuedEvents) (*applyBatch, error) {
	b := &applyBatch{}
	changes := map[*TableSchema]*tableChanges{}
	var last *rowEvent
	for _, item := range items {
		if item.broken {
			w.open.broken()
		}
		for _, ev := range item.events {
			t := changes[ev.table]
			if t == nil {
				tw, err := w.writer(ev.table)
				if err != nil {
					return nil, err
				}
				t = &tableChanges{writer: tw, byKey: make(map[string]*rowChange, tw.changed)}
				changes[ev.table] = t
				b.tables = append(b.tables, t)
			}
			t.add(ev)
			last = ev
		}
		if n := len(item.events); n > 0 {
			w.open.last = partOfTransaction{item.events[n-1].end, item.events[n-1].txn}
			b.repeats = b.repeats || w.open.again.end.File != ""
		}
		if item.whole {
			w.open = openTransaction{}
		}
		b.changes += len(item.events)
		b.bytes += item.bytes
		if item.older != nil {
			w.executed.AddSet(item.older)
		}
		for _, g := range item.gtids {
			w.executed.Add(g)
		}
		if item.end.File != "" {
			b.end, b.hold = item.end, item.hold
		}
		if !item.mark.isZero() {
			w.mark = item.mark
		}
	}
	if b.end.File != "" {
		b.end.GTIDSet = w.executed.String()
	}
	for _, t := range b.tables {
		t.sort()
	}
	if last != nil {
		b.timestamp = last.timestamp
	}
	b.mark = w.mark
	b.setReach(w, last)
	began := executedUpTo{b.intent, w.mark}
	for _, part := range []partOfTransaction{w.open.last, w.open.again} {
		began = w.reaching(began, part)
	}
	b.began = w.resumed.reach(began)
	return b, nil
}

// setReach decides what the checkpoint says: the position is the end of a whole
// transaction, the intent covers every row of the batch.
func (b *applyBatch) setReach(w *BinlogWriter, last *rowEvent) {
	if b.end.File != "" {
		b.position, b.intent = b.end, b.end
		if before := w.resumed.position; !before.IsZero() && b.end.before(before) {
			b.position, b.mark = before, w.resumed.mark
			if b.hold == nil {
				b.hold = &b.end
			}
		}
		w.start, w.resumed.hold = b.position, b.hold
		if last != nil { // of a transaction in which the stream broke: the end is of what it passed then
			b.intent = w.reaching(executedUpTo{BinlogCoordinate: b.intent}, partOfTransaction{last.end, last.txn}).BinlogCoordinate
		}
		return
	}
	if b.end.IsZero() && last != nil && !w.queue.ends && w.checkpoint == nil {
		b.end = coordinateFromPosition(last.resumable)
		b.position, b.intent = b.end, b.end
		return
	}
	b.position, b.intent, b.hold = w.start, w.start, w.resumed.hold
	if last == nil {
		return
	}
	// A part of a large transaction: it reaches beyond the position.
	b.intent = w.reaching(executedUpTo{BinlogCoordinate: BinlogCoordinate{GTIDSet: w.start.GTIDSet}}, partOfTransaction{last.end, last.txn}).BinlogCoordinate
}

// reaching is at, or a part of a transaction where that lies beyond. A transaction is in the log
// as a whole or not at all, so that the mark of its first event tells whether the part still is.
func (w *BinlogWriter) reaching(at executedUpTo, part partOfTransaction) executedUpTo {
	if part.end.File == "" || at.CompareFilePos(part.end) > 0 {
		return at
	}
	at.File, at.Pos = part.end.File, part.end.Pos
	if part.txn != nil && !part.txn.gtid.IsZero() {
		at.GTIDSet = w.executed.With(part.txn.gtid)
	}
	if part.txn != nil && !part.txn.mark.isZero() {
		at.mark = part.txn.mark
	}
	return at
}

func (t *tableChanges) add(ev *rowEvent) {
	if !t.writer.layout.keyBytes {
		t.serial = append(t.serial, ev)
		return
	}
	var before rowRef
	if ev.old >= 0 {
		before = rowRef{ev.rows, ev.old}
	}
	if ev.old >= 0 && (ev.new < 0 || ev.changesKey()) {
		t.set(ev.rows, ev.old, before, rowRef{})
		before = rowRef{}
	}
	if ev.new < 0 {
		return
	}
	if c := t.set(ev.rows, ev.new, before, rowRef{ev.rows, ev.new}); c != nil && before.rows != nil && ev.layout == t.writer.layout {
		c.set, c.setKnown = ev.set, true
	}
}

// set notes what is left of the row whose key is that of a row of rows, and returns the
// change when it is the first of that key.
func (t *tableChanges) set(rows *codec.Rows, row int, before, image rowRef) *rowChange {
	var memory [64]byte
	key := rows.AppendKey(memory[:0], row, t.writer.layout.keys)
	if c := t.byKey[string(key)]; c != nil {
		c.image, c.setKnown = image, false
		return nil
	}
	if len(t.free) == 0 {
		t.free = make([]rowChange, min(max(8, len(t.ordered)), 512))
	}
	c := &t.free[0]
	t.free = t.free[1:]
	*c = rowChange{key: string(key), before: before, image: image}
	if l := t.writer.layout; l.integerKey {
		c.order = orderOfInteger(l.columns[l.keys[0]].Kind, integerPart(c.key))
	}
	t.byKey[c.key] = c
	t.ordered = append(t.ordered, c)
	return c
}

// sort orders the changes by key, integers as the server does: neighbouring rows then
// share pages and a lane.
func (t *tableChanges) sort() {
	compare := func(a, b *rowChange) int { return cmp.Compare(a.key, b.key) }
	if t.writer.layout.integerKey {
		compare = func(a, b *rowChange) int { return cmp.Compare(a.order, b.order) }
	}
	slices.SortFunc(t.ordered, compare)
	t.writer.changed = len(t.ordered)
	t.byKey, t.free = nil, nil
}

// integerPart is the only part of an encoded integer key.
func integerPart(key string) string {
	const head = 4 // its length
	return key[head:]
}

// orderOfInteger is a number that is greater where an integer is.
func orderOfInteger(kind codec.Kind, text string) uint64 {
	if kind == codec.Uint {
		n, _ := strconv.ParseUint(text, 10, 64) // it is one: it comes from the log
		return n
	}
	n, _ := strconv.ParseInt(text, 10, 64)
	return uint64(n) ^ 1<<63
}

// twoPhase reports whether the table's changed rows are deleted first and inserted then.
func (t *tableChanges) twoPhase() bool { return t.writer.layout.replaced }

// share returns lane's part of the changes.
func (t *tableChanges) share(lane, lanes int) []*rowChange {
	n := len(t.ordered)
	return t.ordered[n*lane/lanes : n*(lane+1)/lanes]
}

func (w *BinlogWriter) writer(table *TableSchema) (*tableWriter, error) {
	if tw := w.writers[table]; tw != nil {
		return tw, nil
	}
	targetSchema, targetTable := newRewrites(w.DatabaseRewrites, w.TableRewrites).table(table.Schema, table.Name)
	tw, err := newTableWriter(table, targetSchema, targetTable, w.srv.UpsertRowAlias(), w.srv.MaxAllowedPacket)
	if err == nil {
		tw.collide = w.collisions.leave
		w.writers[table] = tw
	}
	return tw, err
}
