package ghostferry

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
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

// What is found is a setting; a number that somebody sets, the same one as well, ends the
// search, and so do the copied rows, with the setting as it was.
func TestFoundWorkersAreASetting(t *testing.T) {
	for _, c := range []struct {
		name      string
		choose    int64
		throttled bool
		late      bool
		found     int64
		want      int // in the end
	}{
		{"nobody sets one", 0, false, false, 12, 4}, {"one is set", 3, false, false, 12, 3}, {"the same is set", 12, false, false, 12, 12},
		{"throttled", 0, true, false, 4, 4}, {"changes are late", 0, false, true, 4, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := &Config{}
				for range 2 { // it may be validated again
					config.validateNumbers(nil)
					config.fillUpdatable()
				}
				require.True(t, config.workersByDefault)
				bytes, at := 0.0, time.Now()
				search := &copyWorkers{config: config, least: config.UpdatableConfig.workers(), most: 12, logger: LogWithField("tag", "test"),
					throttled: func() bool { return c.throttled }, late: func() bool { return c.late },
					copied: func() uint64 {
						bytes, at = bytes+1e6*time.Since(at).Seconds()*float64(config.UpdatableConfig.workers()), time.Now()
						return uint64(bytes)
					}}
				copied, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					search.run(context.Background(), copied)
				}()
				time.Sleep(time.Minute)
				require.Equal(t, c.found, config.Updatable().DataIterationConcurrency)
				config.Update(UpdatableConfig{DataIterationConcurrency: c.choose})
				time.Sleep(time.Minute)
				close(copied)
				<-ended
				require.EqualValues(t, c.want, config.Updatable().DataIterationConcurrency)
			})
		})
	}
	config := &Config{DataIterationConcurrency: 4}
	config.validateNumbers(nil)
	require.False(t, config.workersByDefault)
}

// The search for workers keeps to half of the pools that a host has bounded.
func TestWorkersKeepToBoundedPools(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, server *servers.Server) {
		other, err := testDatabaseConfig(server).SqlDB(nil)
		require.NoError(t, err)
		defer other.Close()
		f := &Ferry{Config: &Config{}, SourceDB: db, TargetDB: other}
		for _, bound := range []int{0, 16, 11} {
			other.SetMaxOpenConns(bound)
			most, err := f.mostWorkers(t.Context())
			require.NoError(t, err)
			if bound == 0 {
				require.Equal(t, maxFoundWorkers, most)
			} else {
				require.Equal(t, bound/2, most)
			}
		}
	})
}
