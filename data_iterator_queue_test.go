package ghostferry

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"
)

// countedJob is a table with some pieces left.
type countedJob struct {
	table *TableSchema
	left  int
}

func (j *countedJob) claim(context.Context, int) (func(context.Context) error, error) {
	if j.left == 0 {
		return nil, nil
	}
	j.left--
	return func(context.Context) error { return nil }, nil
}
func (j *countedJob) finished() bool       { return false }
func (j *countedJob) schema() *TableSchema { return j.table }

func TestWorkersStayWithATableOfTheirOwn(t *testing.T) {
	job := func(name string, pieces int) *countedJob {
		table := &TableSchema{Table: &schema.Table{Schema: "shop", Name: name}}
		return &countedJob{table, pieces}
	}
	q := &copyQueue{at: map[int]copyJob{}, changed: make(chan struct{})}
	q.jobs = newJobList([]copyJob{job("large", 4), nil, job("second", 2), job("third", 1)})
	taken := func(worker int) string {
		got, piece, changed, err := q.next(t.Context(), worker)
		require.NoError(t, err)
		if piece == nil {
			require.NotNil(t, changed, "other pieces are still under way")
			return ""
		}
		return got.schema().Name
	}
	require.Equal(t, "large", taken(1), "the first table first")
	require.Equal(t, "second", taken(2), "not beside another worker")
	require.Equal(t, "large", taken(1), "a worker stays")
	require.Equal(t, "third", taken(3))
	require.Equal(t, "second", taken(2))
	require.Equal(t, "large", taken(2), "and helps when no table is without a worker")
	require.Equal(t, "large", taken(3))
	require.Empty(t, taken(1))
	require.Empty(t, taken(4))
}

func TestAJobListWithoutAJob(t *testing.T) {
	a, b, c := &countedJob{}, &countedJob{left: 1}, &countedJob{left: 2}
	whole := newJobList([]copyJob{a, b, c})
	without := func(jobs ...copyJob) []copyJob {
		l := whole
		for _, job := range jobs {
			l = l.without(job)
		}
		return slices.Collect(l.all())
	}
	require.Equal(t, []copyJob{b, c}, without(a))
	require.Equal(t, []copyJob{a, c}, without(b))
	require.Equal(t, []copyJob{a, b}, without(c))
	require.Empty(t, without(a, c, b))
	require.Equal(t, []copyJob{a, b, c}, slices.Collect(whole.all()), "who walks through it still sees all")
}

// While changes are late one worker copies, and the others go on when they no longer are.
func TestLateChangesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Bool
		late.Store(true)
		q := &copyQueue{d: &DataIterator{Concurrency: 3, madeWith: 3, late: late.Load}, over: make(chan struct{})}
		waits := &waitLog{}
		ctx := withWaits(t.Context(), waits)
		wanted := func(worker int) bool {
			ok, err := q.wanted(ctx, worker)
			require.NoError(t, err)
			return ok
		}
		require.True(t, wanted(1))
		rested := make(chan bool, 2)
		for worker := range 2 {
			go func() { rested <- wanted(worker + 2) }()
		}
		time.Sleep(5 * lateLook)
		synctest.Wait()
		require.Empty(t, rested, "a worker went on while changes were late")
		late.Store(false)
		require.True(t, <-rested)
		require.True(t, <-rested)
		stats := waits.stats()[waitLate]
		require.EqualValues(t, 2, stats.Count, "a rest is one wait, however often it looks")
		require.Zero(t, stats.Waiting)
		late.Store(true)
		go func() { rested <- wanted(2) }()
		synctest.Wait()
		close(q.over)
		require.False(t, <-rested, "no table is left")
	})
}

// A rest that does not help ends, and is not repeated for a while.
func TestRestsForLateChangesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &copyQueue{d: &DataIterator{Concurrency: 3, madeWith: 3, late: func() bool { return true }}, over: make(chan struct{})}
		rest := func(worker int) time.Duration {
			began := time.Now()
			wanted, err := q.wanted(t.Context(), worker)
			require.NoError(t, err)
			require.True(t, wanted)
			return time.Since(began)
		}
		require.Zero(t, rest(1))
		require.InDelta(t, longestRest, rest(2), float64(2*lateLook))
		require.Zero(t, rest(3))
		time.Sleep(restPause)
		require.InDelta(t, longestRest, rest(3), float64(2*lateLook))
		require.Zero(t, rest(2))
	})
}
