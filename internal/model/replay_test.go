package model

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReplayTakesWhatTheModelDoes: the trace of every walk of the model is a schedule of it.
func TestReplayTakesWhatTheModelDoes(t *testing.T) {
	for _, c := range []Config{
		base(Cutover, Parts).fine().changing(AllChanges).sized(4).named("two phases"),
		base(Cutover, Parts, OnePhase).fine().valued(0).starting("N -").changing(AllChanges).named("one phase"),
		base(Cutover, Parts).fine().crashing(2).changing(SetU | MoveKey).starting("a b").sized(4).named("two crashes"),
	} {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			cfg := c.prepared()
			random := rand.New(rand.NewPCG(1, 2))
			for range 100 {
				acts, states := walk(cfg, random)
				void, err := Replay(traceOf(cfg, acts, states), Projection{"t", [2]string{"1", "2"}}, false)
				if void || err != nil {
					v := Violation{acts: acts, states: states}
					t.Fatalf("void: %t, %v\n%s", void, err, v.Schedule(cfg))
				}
			}
		})
	}
}

// TestReplayRejectsMutants: what an engine without a rule did is not a schedule of the model.
func TestReplayRejectsMutants(t *testing.T) {
	rejected := 0
	for _, mc := range MutantCases() {
		if mc.Config.Coarse || len(mc.Config.Mutants) > 1 || !tells(mc) {
			continue
		}
		t.Run(mc.Name, func(t *testing.T) {
			res := Explore(mc.Config, Limits{})
			require.NotNil(t, res.Violation)
			_, err := Replay(traceOf(res.Config, res.Violation.acts, res.Violation.states), Projection{"t", [2]string{"1", "2"}}, false)
			var e *RejectedError
			require.True(t, errors.As(err, &e), "accepted:\n%s", res.Violation.Schedule(res.Config))
			t.Log(err)
			rejected++
		})
	}
	require.Greater(t, rejected, 10)
}

// tells says whether a trace has all that the mutant's configuration can do.
func tells(mc MutantCase) bool {
	for _, f := range mc.Config.Features {
		if f != Parts && f != Cutover && f != OnePhase {
			return false
		}
	}
	switch mc.Mutant {
	case DebtBoundAtRead, FailedBatchDropped, StatementRetried, TargetTrigger, RestartKeepsRows, CompareAndSet, PayloadDropped, UnloggedCascade,
		MarkBeforeRows, UnorderedPage, SkipLowest, PositionBeforeData:
		return false // traceOf has no step for what they do, or the log is not what was delivered
	}
	return true
}
