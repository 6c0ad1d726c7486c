package ghostferry

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// The number of workers goes to where more of them bring nothing, whatever the noise, and
// comes down again where fewer are as fast.
func TestWorkersAreFound(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		search := &workerSearch{least: 4, most: 12}
		search.workers = search.least
		copied := func(intervals int, rate func(workers float64) float64) (mean float64) {
			workers, sum := search.restart(), 0
			for range intervals {
				sum += workers
				workers = search.next(rate(float64(workers)) * (0.97 + 0.06*random.Float64()))
				require.GreaterOrEqual(t, workers, 4)
				require.LessOrEqual(t, workers, 12)
			}
			return float64(sum) / float64(intervals)
		}
		flat := func(float64) float64 { return 1e8 }
		upTo := func(most float64) func(float64) float64 {
			return func(workers float64) float64 { return 1e7 * min(workers, most) }
		}
		require.Less(t, copied(200, flat), 5.0, seed)
		copied(40, upTo(100))
		require.Greater(t, copied(100, upTo(100)), 11.0, seed)
		copied(100, upTo(9))
		mean := copied(200, upTo(9))
		require.Greater(t, mean, 8.0, seed)
		require.Less(t, mean, 11.0, seed)
		copied(200, flat)
		require.Less(t, copied(200, flat), 5.5, seed)
	}
}

// A trial that was cut short changes nothing, and is made again.
func TestWorkersAreFoundAfterARestart(t *testing.T) {
	search := &workerSearch{least: 4, most: 12, workers: 4}
	require.Equal(t, 6, search.next(100))
	require.Equal(t, 4, search.restart())
	require.Equal(t, 6, search.next(50))
	require.Equal(t, 9, search.next(75), "six paid")
	require.Equal(t, 6, search.next(76), "nine did not")
}
