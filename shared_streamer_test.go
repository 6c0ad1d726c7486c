package ghostferry

import (
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"
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
