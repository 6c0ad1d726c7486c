package ghostferry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"
)

// A comparison that would not be over within the budget, by how long keys have taken so far,
// is given up before it begins.
func TestComparisonThatWouldExceedTheBudget(t *testing.T) {
	keyed := keyedFingerprint(t, "int", schema.TYPE_NUMBER, "")
	v := &OnlineVerifier{Tables: []*TableSchema{keyed.table}, Concurrency: 2}
	c, err := v.core()
	require.NoError(t, err)
	f := &Ferry{Config: &Config{}, Verifier: v}
	f.UpdatableConfig.MaxWriteBlock = Duration(time.Minute)
	fence := func(context.Context) error { return nil }
	a := &cutoverAttempt{f: f, hooks: CutoverHooks{Fence: fence}, began: time.Now()}

	c.queue.add(keyed, "1", "2", "3")
	require.NoError(t, a.withinBudgetByEstimate(v), "nothing is known of how long a key takes")
	c.counters.rechecks.Store(10)
	c.counters.recheckTime.Store(int64(100 * time.Second)) // 15 s for three keys of two workers
	require.NoError(t, a.withinBudgetByEstimate(v))
	c.queue.add(keyed, "4", "5", "6", "7", "8", "9", "10", "11", "12")
	err = a.verify(t.Context()) // which has no servers to ask
	given, ok := errors.AsType[*WriteBlockBudgetError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, PhaseVerify, given.Phase)
	require.Equal(t, time.Minute, given.Budget)
	require.Equal(t, time.Minute, given.Needs.Truncate(time.Minute))
	require.ErrorContains(t, err, "the verify would have been over after 1m0")
	keys, _ := c.queue.counts()
	require.Equal(t, 12, keys, "nothing was compared")

	a.began = time.Now().Add(-50 * time.Second) // fence and drain count
	c.queue.take()
	c.queue.add(keyed, "1", "2", "3")
	require.ErrorAs(t, a.withinBudgetByEstimate(v), &given)
	require.Greater(t, given.Needs, 64*time.Second)
	a.hooks.Fence = nil
	require.NoError(t, a.withinBudgetByEstimate(v), "nobody waits")
}

// An error of Switch says that the application is where it was, unless it says otherwise or
// Switch was cut off: then nobody knows.
func TestSwitchThatIsCutOff(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	refused := errors.New("no")
	for name, test := range map[string]struct {
		ctx     context.Context
		hook    func(ctx context.Context) error
		unknown bool
	}{
		"refused":        {t.Context(), func(context.Context) error { return refused }, false},
		"unknown":        {t.Context(), func(context.Context) error { return errors.Join(refused, ErrTrafficUnknown) }, true},
		"panic":          {t.Context(), func(context.Context) error { panic(refused) }, true},
		"its time is up": {ended, func(ctx context.Context) error { return errors.Join(refused, ctx.Err()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&cutoverAttempt{hooks: CutoverHooks{Switch: test.hook}}).switchOver(test.ctx)
			require.ErrorContains(t, err, refused.Error())
			require.Equal(t, test.unknown, errors.Is(err, ErrTrafficUnknown))
		})
	}
	again := &cutoverAttempt{hooks: CutoverHooks{Switch: func(context.Context) error { panic(refused) }}}
	require.ErrorIs(t, again.switchOver(t.Context()), ErrTrafficUnknown)
	again.hooks.Switch = func(context.Context) error { return refused }
	require.ErrorIs(t, again.switchOver(t.Context()), ErrTrafficUnknown, "of the call before")
	again.hooks.Switch = func(context.Context) error { return nil }
	require.NoError(t, again.switchOver(t.Context()))
	require.NoError(t, (&cutoverAttempt{hooks: CutoverHooks{Switch: func(context.Context) error { return nil }}}).switchOver(ended), "it has said so")
}

// The cutover waits for a backlog, and not for the time that any change takes to the target.
func TestCatchUpTrend(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		took   []time.Duration
		budget time.Duration
		after  int // how many times; 0: it goes on waiting
	}{
		"at once":             {took: []time.Duration{20 * ms}, after: 1},
		"a backlog":           {took: []time.Duration{9000 * ms, 7000 * ms, 5000 * ms, 3000 * ms, 2500 * ms, 2000 * ms, 1500 * ms, 1000 * ms, 600 * ms, 200 * ms}, after: 10},
		"a slow one":          {took: []time.Duration{2900 * ms, 2800 * ms, 2700 * ms, 2600 * ms, 2500 * ms, 2400 * ms, 2300 * ms, 2200 * ms, 2100 * ms}},
		"a long path":         {took: []time.Duration{2000 * ms, 700 * ms, 400 * ms, 650 * ms, 380 * ms, 500 * ms, 720 * ms, 410 * ms}, after: 8},
		"too long":            {took: []time.Duration{5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms}},
		"the budget is more":  {took: []time.Duration{5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms}, budget: 10 * time.Second, after: 6},
		"one of them is long": {took: []time.Duration{400 * ms, 400 * ms, 400 * ms, 400 * ms, 400 * ms, 9000 * ms, 400 * ms}, after: 7},
	} {
		t.Run(name, func(t *testing.T) {
			var trend catchUpTrend
			after := 0
			for i, took := range c.took {
				if trend.caughtUp(took, c.budget) {
					after = i + 1
					break
				}
			}
			require.Equal(t, c.after, after)
		})
	}
}
