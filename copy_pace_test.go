package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The pace rises slowly while the source answers as when it was quietest, falls quickly
// when it does not, and keeps to its bounds.
func TestCopyPace(t *testing.T) {
	told := 0
	p := newCopyPace(AdaptiveConfig{MinWorkers: 2, MinChunkFraction: 0.1}, nil, nil, func() { told++ })
	decide := func(microseconds float64) {
		probes := make([]float64, paceProbes)
		for i := range probes {
			probes[i] = microseconds
		}
		probes[0] = 1e6 // one that was unlucky
		p.set(p.next(probes))
	}
	require.Equal(t, 2, p.workers(8))
	require.InDelta(t, 0.1, p.chunkFraction(), 1e-9)
	for range 20 {
		decide(100)
	}
	require.InDelta(t, 1.0, p.now(), 1e-9)
	require.Equal(t, 8, p.workers(8))
	require.InDelta(t, 1, p.chunkFraction(), 1e-9)
	require.LessOrEqual(t, told, 11, "it tells of changes only")
	decide(130)
	require.InDelta(t, 0.5, p.now(), 1e-9)
	require.Equal(t, 5, p.workers(8))
	decide(120) // within the bound
	require.InDelta(t, 0.6, p.now(), 1e-9)
	for range 20 {
		decide(500)
	}
	require.Equal(t, 2, p.workers(8))
	require.Equal(t, 1, p.workers(1), "never more than configured")
	var none *copyPace
	require.Equal(t, 4, none.workers(4))
	require.InDelta(t, 1, none.chunkFraction(), 1e-9)
	require.Error(t, (&AdaptiveConfig{MaxSlowdown: 0.9}).validate())
}
