package ghostferry

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/webui"
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

// Every cause has a name, the page has words for it, and the operator's guide explains it.
func TestCausesOfWaitsAreExplained(t *testing.T) {
	guide, err := os.ReadFile("docs/operations.md")
	require.NoError(t, err)
	page, err := webui.Files.ReadFile("static/overview.js")
	require.NoError(t, err)
	for _, name := range waitNames {
		require.NotEmpty(t, name)
		require.Contains(t, string(guide), "`"+name+"`")
		require.Contains(t, string(page), name+": \"")
	}
}
