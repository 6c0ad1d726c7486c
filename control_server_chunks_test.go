package ghostferry

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The map of a table is full when the table is complete, whatever its keys are and whether
// or not it is still known in which ranges they were copied.
func TestChunkMapOfACompleteTable(t *testing.T) {
	low := 70.0
	for name, c := range map[string]struct {
		to     float64
		low    *float64
		copied []span
	}{
		"forgotten ranges": {to: 5000}, "one key": {to: 0}, "negative keys": {to: -3}, "known": {to: 100, low: &low, copied: []span{{math.Inf(-1), 80}}},
		"far from zero": {to: 1e12, copied: []span{{1e12 - 50, 1e12}}},
	} {
		t.Run(name, func(t *testing.T) {
			var m ControlServerChunks
			m.draw(c.to, c.low, c.copied, nil, true)
			require.Less(t, m.From, m.To)
			require.Len(t, m.Copied, chunkCells)
			require.Equal(t, 100, slices.Min(m.Copied), "%v", m)
		})
	}
}

// Half a table is half a map, and the chunk under way is in its cell.
func TestChunkMapOfHalfATable(t *testing.T) {
	low := 100.0
	var m ControlServerChunks
	m.draw(200, &low, nil, []span{{100, 101}}, false)
	require.Equal(t, 100, slices.Min(m.Copied[:chunkCells/2]))
	require.Zero(t, slices.Max(m.Copied[chunkCells/2+1:]))
	require.Contains(t, m.Copying, chunkCells/2)
}
