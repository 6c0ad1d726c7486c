package ghostferry

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// Nobody waits for a seat that was given back, full as its queue may be, and nothing more is
// put there.
func TestSharedSeatIsGivenBack(t *testing.T) {
	s := &SharedStreamer{core: &BinlogStreamer{ctx: t.Context()}}
	s.mu.seats, s.mu.waiting = map[*sharedSeat]struct{}{}, map[*sharedSeat]struct{}{}
	seat := s.join()
	require.True(t, seat.push(&sharedEvent{bytes: sharedQueueBytes}))
	require.False(t, seat.push(&sharedEvent{bytes: 1}))
	waited := make(chan error, 1)
	go func() { waited <- s.waitFor(seat, []*sharedSeat{seat}, &sharedEvent{bytes: 1}) }()
	stream := &BinlogStreamer{seat: seat}
	stream.releaseSeat()
	select {
	case err := <-waited:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("it is waited for a seat that was given back")
	}
	require.True(t, seat.over())
	require.False(t, seat.usable())
	require.Nil(t, stream.seat)
	require.Empty(t, s.mu.waiting)
	require.Empty(t, seat.mu.queue)
	stream.releaseSeat()
}

// A large event stays whole for those who share the stream, which itself needs nothing of it.
func TestSharedLargeEventStaysWhole(t *testing.T) {
	core := &BinlogStreamer{}
	s := &SharedStreamer{core: core}
	core.tap, core.logger = s, LogWithField("tag", "test")
	s.mu.seats, s.mu.waiting = map[*sharedSeat]struct{}{}, map[*sharedSeat]struct{}{}
	seat := s.join()
	s.mu.seats[seat] = struct{}{}
	large := craftedEvent(replication.ROWS_QUERY_EVENT, 100, 0, make([]byte, largeRowsBytes))
	size := len(large.RawData)
	require.NoError(t, core.handleStreamed(t.Context(), large))
	require.Len(t, seat.mu.queue, 1)
	require.Len(t, seat.mu.queue[0].ev.RawData, size)
	require.Len(t, seat.mu.queue[0].ev.Event.(*replication.GenericEvent).Data, largeRowsBytes)

	core.tap = nil // a connection of one's own
	require.NoError(t, core.handleStreamed(t.Context(), large))
	require.Empty(t, large.RawData)
}

// What a move has learnt of the JSON documents that it has read is no difference of the rows of an
// event: they are decoded once for all.
func TestSharedRowsWithDocumentsAreDecodedOnce(t *testing.T) {
	shared := &sharedRows{decoded: new(atomic.Uint64)}
	var got []*codec.Rows
	for range 2 { // subscribers
		r := newRecordedStream(t, false)
		for _, table := range r.TableSchema {
			table.leafTypes = true
		}
		require.NoError(t, r.handle(craftedEvent(replication.GTID_EVENT, 60, 56, craftedGTID(1))))
		require.NoError(t, r.handle(craftedEvent(replication.TABLE_MAP_EVENT, 140, 80, craftedTableMap(1, "fuzz", "t", false))))
		r.memo = shared
		require.NoError(t, r.handle(craftedEvent(replication.WRITE_ROWS_EVENTv2, 180, 40, []byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0xff, 0xfe, 7, 0, 0, 0})))
		require.Len(t, r.events, 1)
		row, err := rowEventOf(r.events[0])
		require.NoError(t, err)
		require.NotEmpty(t, row.layout.documents)
		got = append(got, row.rows)
	}
	require.Same(t, got[0], got[1])
	require.EqualValues(t, 1, shared.decoded.Load())
}

// A move that joins a shared stream which is behind it keeps its place while that comes through a
// rotation, and is told by the heartbeats of an idle source that there is nothing more.
func TestSharedStreamIsBehind(t *testing.T) {
	r := newRecordedStream(t, false)
	skip := BinlogCoordinate{File: "log.000002", Pos: 900}
	r.start, r.streamed = skip, skip // by its own connection; the shared one is in the file before
	for _, ev := range []*replication.BinlogEvent{
		craftedEvent(replication.HEARTBEAT_EVENT, 500, 39, []byte("log.000001")),
		craftedEvent(replication.ROTATE_EVENT, 540, 40, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, "log.000002"...)),
		craftedEvent(replication.FORMAT_DESCRIPTION_EVENT, 126, 122, nil),
		craftedEvent(replication.GTID_EVENT, 186, 60, craftedGTID(1)),
		craftedEvent(replication.XID_EVENT, 900, 31, make([]byte, 8)),
	} {
		require.NoError(t, r.handleShared(ev, skip))
		require.Equal(t, skip, r.lastStreamed())
		require.Equal(t, skip, r.resumeFrom())
	}
	require.Empty(t, r.ends)
	require.NoError(t, r.handleShared(craftedEvent(replication.HEARTBEAT_EVENT, 900, 39, []byte("log.000002")), skip))
	require.Equal(t, []BinlogCoordinate{skip}, r.ends)
	require.False(t, r.lastEvent().IsZero())
}
