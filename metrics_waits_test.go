package ghostferry

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Somebody who still waits counts from when it began, and once when it is over.
func TestWaitsUnderWayCount(t *testing.T) {
	w := &waitLog{}
	first, second := w.begin(waitChunk), w.begin(waitChunk)
	w.causes[waitChunk].since -= 2 * time.Minute.Microseconds() // both began a minute ago
	under := w.stats()[waitChunk]
	require.EqualValues(t, 2, under.Waiting)
	require.EqualValues(t, 2, under.Count)
	require.GreaterOrEqual(t, under.Seconds, 120.0)
	w.causes[waitChunk].since += 2 * time.Minute.Microseconds()
	first()
	second()
	over := w.stats()[waitChunk]
	require.Zero(t, over.Waiting)
	require.EqualValues(t, 2, over.Count)
	require.Less(t, over.Seconds, 120.0)
	require.Zero(t, w.stats()[waitBarrier].Count)
}
