package ghostferry

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Clocks that differ by an hour, or events that are stamped so, are neither lag nor the lack of it.
func TestF37LagByTheSourcesClock(t *testing.T) {
	for _, apart := range []time.Duration{-time.Hour, 0, time.Hour} {
		s := &BinlogStreamer{}
		there := time.Now().Add(apart)
		s.clock.set(there)
		require.False(t, s.IsAlmostCaughtUp(), "nothing was streamed yet")

		s.tick(&rawEvent{time: uint32(there.Unix() - 5)})
		require.InDelta(t, 5, s.lag().Seconds(), 3)
		require.True(t, s.IsAlmostCaughtUp())
		s.tick(&rawEvent{time: uint32(there.Unix() - 60)})
		require.InDelta(t, 60, s.lag().Seconds(), 3)
		require.False(t, s.IsAlmostCaughtUp())

		s.tick(&rawEvent{time: uint32(there.Unix() + 3600)}) // SET timestamp: the future
		require.InDelta(t, 0, s.lag().Seconds(), 3)
		s.clock.set(there.Add(time.Minute)) // a minute later it is a minute old, and not of the future still
		require.InDelta(t, 60, s.lag().Seconds(), 3)
		s.tick(&rawEvent{time: uint32(there.Unix() - 3600)})
		require.False(t, s.IsAlmostCaughtUp())
		s.heartbeat(&rawEvent{}) // the source has nothing else
		require.True(t, s.IsAlmostCaughtUp())
	}
}

// What measures how long something takes has a monotonic reading: a step of this host's
// clock changes none of it.
func TestF37DurationsAreMonotonic(t *testing.T) {
	f := &Ferry{}
	require.Zero(t, f.elapsed())
	f.begin()
	require.Contains(t, f.began.String(), " m=", "the reading is there")
	require.Equal(t, f.StartTime.Unix(), f.began.Unix())
	f.began = f.began.Add(-90 * time.Second)
	f.StartTime = f.StartTime.Add(time.Hour) // as a clock stepped back would have it
	require.InDelta(t, 90, f.elapsed().Seconds(), 5)

	h := &history{every: time.Second}
	now := time.Now()
	h.add(now, HistoryPoint{Time: now.Unix()})
	h.add(now.Add(2*time.Second), HistoryPoint{Time: now.Unix() - 3600})
	require.Len(t, h.points, 2, "the history goes on after a step back")
}
