package ghostferry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// queuedEvents is what the streamer delivered in one piece, or the end of transactions.
type queuedEvents struct {
	events []*rowEvent
	waits  []*gatedChunk
	bytes  int
	at     time.Time // when they were delivered

	// end is where the last of gtids' transactions ended; zero inside a transaction. hold is
	// where a later process has to begin when it is not there.
	end   BinlogCoordinate
	mark  logMark // of the last transaction; zero: none has ended
	hold  *BinlogCoordinate
	gtids []binlog.GTID
	first [1]binlog.GTID  // memory for them: most items are one transaction
	older *binlog.GTIDSet // those before gtids; nil: none
	whole bool            // a transaction ended there, and the stream has not only passed a place

	broken bool // the stream broke before these events: it begins again where the last transaction ended
}

// foldedGTIDs is how many transactions of an item are kept one by one: while nothing is taken,
// those of others pass by without end, and a set of them has no size.
const foldedGTIDs = 64

// blockedBy returns a chunk that has to close before the events may be executed, or that has
// failed; nil when there is none.
func (e *queuedEvents) blockedBy() *gatedChunk {
	for _, c := range e.waits {
		select {
		case <-c.closed:
			if c.failed != nil {
				return c
			}
		default:
			return c
		}
	}
	return nil
}

func (e *queuedEvents) ended(gtid binlog.GTID) {
	if e.gtids == nil {
		e.gtids = e.first[:0]
	}
	if len(e.gtids) == foldedGTIDs {
		if e.older == nil {
			e.older = &binlog.GTIDSet{}
		}
		for _, g := range e.gtids {
			e.older.Add(g)
		}
		e.gtids = e.gtids[:0]
	}
	e.gtids = append(e.gtids, gtid)
}

// applyQueue holds what was delivered, bounded by bytes, between one producer and one consumer.
type applyQueue struct {
	mu     sync.Mutex
	items  []*queuedEvents
	free   []queuedEvents // memory for the next: a queue of transactions of one row has very many
	bytes  int
	taken  int         // bytes of the batches that are not written yet
	oldest []time.Time // when the first changes of these batches were delivered
	closed bool
	err    error // why the consumer stopped
	// ends: the producer tells where transactions end. Without that, everything that is
	// there makes a batch.
	ends    bool
	starved bool          // the producer waits for room: no end comes before something is taken
	more    chan struct{} // capacity 1: something was added, the producer waits, or the queue was closed
	room    chan struct{} // capacity 1: something was taken

	waits *waitLog // nil counts nothing
}

func (q *applyQueue) waitForRoom(bytes int) error {
	return q.waitUntil(func() bool {
		return q.bytes+q.taken == 0 || q.bytes+bytes <= applyQueueBytes && q.bytes+q.taken+bytes <= applyBytes
	})
}

func (q *applyQueue) waitUntilWritten() error {
	return q.waitUntil(func() bool { return q.bytes+q.taken == 0 })
}

// waitUntil is the producer's wait. enough is asked with the queue locked.
func (q *applyQueue) waitUntil(enough func() bool) error {
	for {
		q.mu.Lock()
		err, fits := q.err, enough()
		if q.closed && err == nil {
			err = errors.New("an event came after the binlog writer was stopped")
		}
		q.starved = !fits
		q.mu.Unlock()
		if err != nil {
			return err
		}
		if fits {
			return nil
		}
		notify(q.more)
		end := q.waits.begin(waitQueueFull)
		<-q.room
		end()
	}
}

func (q *applyQueue) push(item queuedEvents) {
	q.mu.Lock()
	if item.at.IsZero() {
		item.at = time.Now()
	}
	q.add(item)
	q.mu.Unlock()
	notify(q.more)
}

// add is called with the queue locked.
func (q *applyQueue) add(item queuedEvents) *queuedEvents {
	const piece = 32
	if len(q.free) == 0 {
		q.free = make([]queuedEvents, piece)
	}
	added := &q.free[0]
	q.free = q.free[1:]
	*added = item
	q.items = append(q.items, added)
	q.bytes += item.bytes
	return added
}

// pushEnd adds the end of a transaction to what was queued last, or merges it with ends
// that wait already.
func (q *applyQueue) pushEnd(e transactionEnd) {
	q.mu.Lock()
	var last *queuedEvents
	if n := len(q.items); n > 0 {
		last = q.items[n-1]
	} else {
		last = q.add(queuedEvents{})
	}
	if e.at.File != "" {
		last.end, last.hold = e.at, e.hold
		last.whole = last.whole || e.whole
	}
	if !e.mark.isZero() {
		last.mark = e.mark
	}
	if !e.gtid.IsZero() && (!e.undecided || e.gtid.MariaDB) { // MariaDB's sets have no holes: hold does it
		last.ended(e.gtid)
	}
	if !e.decides.IsZero() && !e.decides.MariaDB {
		last.ended(e.decides)
	}
	q.mu.Unlock()
	notify(q.more)
}

func (q *applyQueue) close(err error) {
	q.mu.Lock()
	q.closed = true
	if q.err == nil {
		q.err = err
	}
	q.mu.Unlock()
	notify(q.more)
	notify(q.room)
}

// take returns what belongs in the next batch: whole transactions within the limits, or
// the leading part of one that exceeds them. What waits for a chunk ends a batch before it: it
// must not hold up those that do not. nil means that the queue is closed and empty.
func (q *applyQueue) take(ctx context.Context, maxRows int) ([]*queuedEvents, error) {
	for {
		q.mu.Lock()
		n, blocked := q.batchEnd(maxRows)
		if n > 0 {
			items := q.items[:n:n]
			q.items = q.items[n:]
			for _, item := range items {
				q.bytes -= item.bytes
				q.taken += item.bytes
			}
			if first, ok := firstChange(items); ok {
				q.oldest = append(q.oldest, first)
			}
			q.starved = false
			q.mu.Unlock()
			notify(q.room)
			return items, nil
		}
		closed := q.closed
		q.mu.Unlock()
		if blocked != nil {
			if err := blocked.wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if closed {
			return nil, nil
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// firstChange is when the first change was delivered; false when there is none.
func firstChange(items []*queuedEvents) (time.Time, bool) {
	for _, item := range items {
		if len(item.events) > 0 {
			return item.at, true
		}
	}
	return time.Time{}, false
}

// waitsSince is when the first change was delivered that is not on the target; false when all are.
func (q *applyQueue) waitsSince() (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.oldest) > 0 {
		return q.oldest[0], true
	}
	return firstChange(q.items)
}

// written makes room for what was taken: a batch of so many changes and bytes is on the target.
func (q *applyQueue) written(changes, bytes int) {
	q.mu.Lock()
	if changes > 0 {
		q.oldest = q.oldest[1:]
	}
	q.taken -= bytes
	q.mu.Unlock()
	notify(q.room)
}

// batchEnd returns how many items the next batch takes; 0 to wait for blocked, or, without it,
// for more.
func (q *applyQueue) batchEnd(maxRows int) (n int, blocked *gatedChunk) {
	rows, bytes, whole := 0, 0, 0
	for i, item := range q.items {
		if i > 0 && (rows+len(item.events) > maxRows || bytes+item.bytes > applyBatchBytes) {
			if whole == 0 {
				return i, nil // a transaction larger than a batch: its leading part
			}
			return whole, nil
		}
		if c := item.blockedBy(); c != nil {
			switch {
			case whole > 0:
				return whole, nil
			case i > 0 && !q.ends:
				return i, nil
			}
			return 0, c
		}
		rows += len(item.events)
		bytes += item.bytes
		if item.end.File != "" {
			whole = i + 1
		}
	}
	if whole == 0 && len(q.items) > 0 && (!q.ends || q.closed || q.starved || rows >= maxRows || bytes >= applyBatchBytes) {
		return len(q.items), nil
	}
	return whole, nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
