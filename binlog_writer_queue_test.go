package ghostferry

import (
	"testing"

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
	q.push(queuedEvents{events: make([]*rowEvent, 1), bytes: 5 << 20})
	waited := make(chan error, 1)
	go func() { waited <- q.waitForRoom(5 << 20) }()
	items, err := q.take(t.Context(), 100)
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.NoError(t, <-waited)
	q.push(queuedEvents{events: make([]*rowEvent, 1), bytes: 5 << 20})
	require.Zero(t, q.batchEnd(100), "the rest of the transaction is waited for")
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
				q.push(queuedEvents{events: make([]*rowEvent, 1), bytes: bytes})
			}
			waited <- err
		}()
		return waited
	}
	const huge, usual = 100 << 20, 6 << 20
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
	q.written(huge)
	require.NoError(t, <-next)
	q.close(nil)
	_, err = q.take(t.Context(), 100)
	require.NoError(t, err)
	q.written(huge)
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
