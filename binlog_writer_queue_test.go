package ghostferry

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// While nothing is taken, transactions of others end without end: they are counted, and take
// no memory each.
func TestEndsOfOthersTakeNoMemory(t *testing.T) {
	q := &applyQueue{ends: true, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	sid := uuid.MustParse("11111111-2222-3333-4444-555555555555")
	const n = 100_000
	for i := range n {
		q.pushEnd(transactionEnd{at: BinlogCoordinate{File: "log.000001", Pos: uint64(i + 1)}, gtid: binlog.GTID{SID: sid, Number: int64(i + 1)}})
	}
	require.Len(t, q.items, 1)
	require.LessOrEqual(t, len(q.items[0].gtids), foldedGTIDs)
	items, err := q.take(t.Context(), 1)
	require.NoError(t, err)
	w := &BinlogWriter{}
	batch, err := w.newBatch(items)
	require.NoError(t, err)
	require.Equal(t, "11111111-2222-3333-4444-555555555555:1-100000", batch.end.GTIDSet)
}

// A producer without room has what is there taken, though its transaction has not ended.
func TestQueueWithoutRoomGivesThePartOfATransaction(t *testing.T) {
	q := &applyQueue{ends: true, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	q.push(queuedEvents{events: []*rowEvent{{}}, bytes: applyQueueBytes/2 + 1})
	waited := make(chan error, 1)
	go func() { waited <- q.waitForRoom(applyQueueBytes/2 + 1) }()
	items, err := q.take(t.Context(), 100)
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.NoError(t, <-waited)
	q.push(queuedEvents{events: []*rowEvent{{}}, bytes: applyQueueBytes/2 + 1})
	n, _ := q.batchEnd(100)
	require.Zero(t, n, "the rest of the transaction is waited for")
}

// Changes that wait for a chunk do not hold up those before them, and are taken when it has
// closed; one that has failed is the queue's error.
func TestWhatWaitsForAChunkEndsABatch(t *testing.T) {
	q := &applyQueue{ends: true, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	chunks := []*gatedChunk{{closed: make(chan struct{})}, {closed: make(chan struct{})}, {closed: make(chan struct{})}}
	push := func(ends bool, waits ...*gatedChunk) {
		item := queuedEvents{events: []*rowEvent{{}}, bytes: 1, waits: waits}
		if ends {
			item.end.File = "log.000001"
		}
		q.push(item)
	}
	taken := func(what string, n int) {
		t.Helper()
		items, err := q.take(t.Context(), 100)
		require.NoError(t, err)
		require.Len(t, items, n, what)
	}
	push(true)
	push(false)
	push(true, chunks[0]) // the transaction of the one before
	push(true, chunks[0], chunks[1])
	push(true, chunks[2])
	taken("the transaction before", 1)
	n, blocked := q.batchEnd(100)
	require.Zero(t, n)
	require.Same(t, chunks[0], blocked)
	go close(chunks[0].closed)
	taken("the one that waited, and not the next, which waits for another chunk as well", 2)
	go close(chunks[1].closed)
	taken("the next", 1)
	chunks[2].failed = errors.New("the copy has failed")
	close(chunks[2].closed)
	_, err := q.take(t.Context(), 100)
	require.ErrorIs(t, err, chunks[2].failed)

	alone := &applyQueue{more: make(chan struct{}, 1), room: make(chan struct{}, 1)} // nobody tells of ends
	alone.push(queuedEvents{events: []*rowEvent{{}}, bytes: 1})
	alone.push(queuedEvents{events: []*rowEvent{{}}, bytes: 1, waits: []*gatedChunk{{closed: make(chan struct{})}}})
	n, _ = alone.batchEnd(100)
	require.Equal(t, 1, n)
}

// The oldest change that is not on the target is in the batch that is written, in the next, or
// still queued.
func TestQueueKnowsTheOldestChange(t *testing.T) {
	q := &applyQueue{ends: true, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	second := func(s int64) time.Time { return time.Unix(s, 0) }
	change := func(s int64) {
		q.push(queuedEvents{events: []*rowEvent{{}}, bytes: 1, at: second(s)})
		q.push(queuedEvents{end: BinlogCoordinate{File: "log.000001", Pos: uint64(s)}})
	}
	requireOldest := func(s int64) {
		t.Helper()
		oldest, waits := q.waitsSince()
		require.Equal(t, s > 0, waits)
		if waits {
			require.Equal(t, second(s), oldest)
		}
	}
	take := func() {
		t.Helper()
		_, err := q.take(t.Context(), 1)
		require.NoError(t, err)
	}
	requireOldest(0)
	change(1)
	change(2)
	requireOldest(1)
	take()
	take()
	requireOldest(1)
	change(3)
	q.written(1, 1)
	requireOldest(2)
	q.written(1, 1)
	requireOldest(3)
	take()
	q.push(queuedEvents{end: BinlogCoordinate{File: "log.000001", Pos: 9}})
	take() // without changes
	requireOldest(3)
	q.written(0, 0)
	requireOldest(3)
	q.written(1, 1)
	requireOldest(0)
}

// What was taken counts until it is on the target: of very large rows there is one between
// the stream and the target, while ordinary ones are made into a batch beside the one that is
// written.
func TestQueueCountsWhatIsBeingWritten(t *testing.T) {
	q := &applyQueue{ends: true, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	deliver := func(bytes int) <-chan error {
		waited := make(chan error, 1)
		go func() {
			err := q.waitForRoom(bytes)
			if err == nil {
				q.push(queuedEvents{events: []*rowEvent{{}}, bytes: bytes})
			}
			waited <- err
		}()
		return waited
	}
	const huge, usual = 10 * applyBytes, applyBatchBytes
	require.NoError(t, <-deliver(huge))
	next := deliver(huge)
	_, err := q.take(t.Context(), 100) // a part of a transaction, because the next one has no room
	require.NoError(t, err)
	for waits := false; !waits; { // again, after a look at the room
		select {
		case err := <-next:
			t.Fatalf("a row came in while another one was being written: %v", err)
		case <-q.more:
			q.mu.Lock()
			waits = q.starved
			q.mu.Unlock()
		}
	}
	q.written(1, huge)
	require.NoError(t, <-next)
	q.close(nil)
	_, err = q.take(t.Context(), 100)
	require.NoError(t, err)
	q.written(1, huge)
	require.Zero(t, q.taken)

	q = &applyQueue{more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	for range 3 { // one is written, one made, one waits
		require.NoError(t, <-deliver(usual))
		if q.taken < 2*usual {
			_, err = q.take(t.Context(), 100)
			require.NoError(t, err)
		}
	}
}

// A batch has as many changes as are written in half a second, within its bounds. What round
// trips take says nothing about that.
func TestBatchesFollowTheTargetsSpeed(t *testing.T) {
	w := &BinlogWriter{}
	require.Equal(t, applyBatchRows, w.maxRows())
	w.pace(4000, time.Second, 0)
	require.Equal(t, 2000, w.maxRows())
	w.pace(1000, time.Minute, time.Millisecond)
	require.Equal(t, leastBatchRows, w.maxRows())
	w.pace(10000, time.Millisecond, time.Millisecond)
	require.Equal(t, applyBatchRows, w.maxRows())
	w.BatchSize = 300
	require.Equal(t, 300, w.maxRows())
	w.pace(300, time.Minute, 0)
	require.Equal(t, 300, w.maxRows())

	// A target 40 ms away, with five tables: 19 round trips in the lanes, 4 for the position, and
	// 25 us a change. Batches grow, however small they were.
	w.BatchSize = 0
	changes := leastBatchRows
	for range 5 {
		w.pace(changes, 760*time.Millisecond+time.Duration(changes)*25*time.Microsecond, 160*time.Millisecond)
		changes = w.maxRows()
	}
	require.Equal(t, applyBatchRows, changes)
}
