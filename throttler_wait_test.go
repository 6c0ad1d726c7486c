package ghostferry

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// reportingThrottler pauses for what it is told.
type reportingThrottler struct {
	PauserThrottler
	report *ThrottleReport
}

func (r *reportingThrottler) Throttled() bool                 { return r.report != nil }
func (r *reportingThrottler) ThrottleReport() *ThrottleReport { return r.report }

// The copy pauses first, and the apply only by hand or when that was not enough; nothing
// pauses while the writers wait.
func TestTheApplyPausesAfterTheCopy(t *testing.T) {
	for name, c := range map[string]struct {
		report      *ThrottleReport
		copy, apply bool
	}{
		"nobody":       {nil, false, false},
		"a moment ago": {&ThrottleReport{Who: "load", Since: time.Now()}, true, false},
		"long ago":     {&ThrottleReport{Who: "load", Since: time.Now().Add(-applyPatience - time.Second)}, true, true},
		"by hand":      {&ThrottleReport{Who: pausedByHand, Since: time.Now()}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			var blocked atomic.Bool
			run := runThrottler{&reportingThrottler{report: c.report}, &blocked, nil}
			require.Equal(t, c.copy, run.Throttled())
			require.Equal(t, c.apply, applyThrottler{run}.Throttled())
			blocked.Store(true)
			require.False(t, run.Throttled())
			require.False(t, applyThrottler{run}.Throttled())
		})
	}
}

func TestSplitTableName(t *testing.T) {
	for text, want := range map[string][2]string{
		"a.b": {"a", "b"}, "`a.x`.`b`": {"a.x", "b"}, "`a`.`b``.c`": {"a", "b`.c"},
	} {
		schema, table, ok := splitTableName(text)
		require.True(t, ok, text)
		require.Equal(t, want, [2]string{schema, table})
	}
	for _, text := range []string{"", "a", "a.", ".b", "a.b.c", "`a`", "`a`.b", "``.`b`"} {
		_, _, ok := splitTableName(text)
		require.False(t, ok, text)
	}
}
