package ghostferry

import (
	"context"
	"runtime"
	"runtime/metrics"

	"github.com/go-mysql-org/go-mysql/replication"
	"golang.org/x/sync/semaphore"
)

const (
	// largeRow is from how many bytes on a row is copied within the budget of large rows.
	largeRow = 1 << 20
	// largeRowsBytes is that budget: smaller ones of the large rows share it, larger ones
	// have it alone. On its way from one server to the other a row takes about four times
	// its size: the packet that it came in, the row, its statement, the statement's packet.
	largeRowsBytes = 8 << 20
	// carefulRowBytes: of a table whose rows may be large and are that large on average, or
	// of unknown size, each stretch begins as if the first row was a large one.
	carefulRowBytes = 64 << 10
)

// largeRows bounds the large rows that are between their read and their commit, of all
// workers together: memory then does not grow with the number of workers.
//
// Order: the budget comes before everything else that a chunk takes (gate, sessions, locks
// on either side). A worker waits for it while it has none of them, so who has the budget
// never waits for who waits for it. With the gate open it is only asked whether there is
// room: if not, the row is left to the next chunk.
type largeRows struct{ budget *semaphore.Weighted }

func newLargeRows() *largeRows { return &largeRows{semaphore.NewWeighted(largeRowsBytes)} }

// largeRowsLease is a chunk's part of the budget. It is used by one goroutine.
type largeRowsLease struct {
	of      *largeRows
	held    int64
	largest int // of the rows that were seen
}

// take waits until rows of so many bytes have room. No gate of the chunk may be open.
func (l *largeRowsLease) take(ctx context.Context, bytes int) error {
	wanted := min(int64(bytes), largeRowsBytes)
	if wanted <= l.held {
		return nil
	}
	l.release() // who waits for more holds nothing
	if err := l.of.budget.Acquire(ctx, wanted); err != nil {
		return err
	}
	l.held = wanted
	return nil
}

// extend asks, without waiting, whether a row that was just received has room.
func (l *largeRowsLease) extend(bytes int) bool {
	l.largest = max(l.largest, bytes)
	more := min(int64(bytes), largeRowsBytes) - l.held
	if more <= 0 {
		return true
	}
	if !l.of.budget.TryAcquire(more) {
		return false
	}
	l.held += more
	return true
}

func (l *largeRowsLease) release() {
	l.collect()
	l.of.budget.Release(l.held)
	l.held, l.largest = 0, 0
}

// collect frees what the driver and the statement have left behind of a row that has the
// budget alone: by itself that would be done only when as much again has been allocated as
// is in use. Where the process has much more in use than such rows, it is left alone.
func (l *largeRowsLease) collect() { collectLarge(l.largest) }

// collectLarge does it after a row or an event of so many bytes.
func collectLarge(bytes int) {
	if bytes < largeRowsBytes {
		return
	}
	const usual = 96 << 20
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 && live[0].Value.Uint64() > usual+4*uint64(bytes) {
		return
	}
	runtime.GC()
}

// dropPacket frees the event that is being handled, when it is a large one: its rows are
// decoded, or there are none for us. What it came in is as large as they are, and the next
// one may be, too.
func (s *BinlogStreamer) dropPacket() {
	ev := s.packet
	s.packet = nil
	if ev == nil || len(ev.RawData) < largeRowsBytes {
		return
	}
	bytes := len(ev.RawData)
	if body, ok := ev.Event.(*replication.GenericEvent); ok {
		body.Data = nil // it is in the same piece of memory as the event, which is kept
	}
	ev.RawData, ev.Event, s.raw.body = nil, &replication.GenericEvent{}, nil
	collectLarge(bytes)
}

// largeRowError ends a read whose first row is large while others have the budget.
type largeRowError struct{ bytes int }

func (e *largeRowError) Error() string { return "a large row has to wait for others" }
func (e *largeRowError) Unwrap() error { return errEnough }
