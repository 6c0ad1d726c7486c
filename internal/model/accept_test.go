package model

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAcceptTakesWhatTheModelDoes: whatever way the model goes, its trace is
// accepted.
func TestAcceptTakesWhatTheModelDoes(t *testing.T) {
	for _, c := range []Config{
		base(Cutover, Parts).fine().changing(AllChanges).sized(3).named("two phases"),
		base(Cutover, OnePhase).fine().valued(0).starting("N -").changing(AllChanges).named("one phase"),
		base(Cutover, Replans).fine().oneLane().failing(1).crashing(2).changing(AllChanges).sized(4).named("one lane"),
	} {
		t.Run(c.Name, func(t *testing.T) {
			cfg := c.prepared()
			random := rand.New(rand.NewPCG(1, 2))
			done := 0
			for range 1000 {
				acts, states := walk(cfg, random)
				if states[len(states)-1].halt == haltDone {
					done++
				}
				if err := Accept(traceOf(cfg, acts, states)); err != nil {
					v := Violation{acts: acts, states: states}
					t.Fatalf("%v\n%s", err, v.Schedule(cfg))
				}
			}
			require.Greater(t, done, 30, "most walks should end with done")
		})
	}
}

// walk takes steps at random, progress more often than others, until none is left.
func walk(c *Config, random *rand.Rand) (acts []action, states []state) {
	s := c.initial()[0]
	states = append(states, s)
	mac := machine{cfg: c}
	for {
		if mac.next(&s); len(mac.out) == 0 {
			return acts, states
		}
		step := mac.out[random.IntN(len(mac.out))]
		if !step.act.progress() && random.IntN(3) > 0 {
			step = mac.out[random.IntN(len(mac.out))]
		}
		s = step.to
		acts, states = append(acts, step.act), append(states, s)
	}
}

// TestAcceptRejectsMutants: a trace shows that a rule was broken before anything
// is lost.
func TestAcceptRejectsMutants(t *testing.T) {
	rules := map[Mutant]string{
		NoGate:             "waits for chunk",
		GateNewKeyOnly:     "waits for chunk",
		GatesBetweenPhases: "waits for chunk",
		NoBarrier:          "the barrier covers",
		PartsDoNotCount:    "the barrier covers",
		RacyOpen:           "changes are delivered",
		NoMeeting:          "is not deleted yet",
		OldKeyStays:        "is not deleted yet",
		StopBeforeBlock:    "before the writes are blocked",
	}
	for _, mc := range MutantCases() {
		want, ok := rules[mc.Mutant]
		if !ok || mc.Config.Coarse || len(mc.Config.Mutants) > 1 {
			continue
		}
		t.Run(mc.Name, func(t *testing.T) {
			delete(rules, mc.Mutant)
			res := Explore(mc.Config, Limits{})
			require.NotNil(t, res.Violation)
			err := Accept(traceOf(res.Config, res.Violation.acts, res.Violation.states))
			var rejected *RejectedError
			require.True(t, errors.As(err, &rejected), "accepted:\n%s", res.Violation.Schedule(res.Config))
			require.Contains(t, rejected.Rule, want)
		})
	}
	require.Empty(t, rules)
}

// TestAcceptRejects names the rules that the model's own mutants do not reach.
func TestAcceptRejects(t *testing.T) {
	head := []Step{{Kind: "table", Table: "t", Phases: 2}}
	change := func(at, key string, end bool) Step {
		return Step{Kind: "deliver", Table: "t", At: at, Old: key, New: key, End: end}
	}
	for _, tc := range []struct {
		name  string
		steps []Step
		rule  string
	}{
		{"a change is left out", []Step{change("1", "k", true), {Kind: "batch", At: "1"}, {Kind: "delete", Table: "t", Keys: []string{"k"}}, {Kind: "position", At: "1"}}, "is not written yet"},
		{"the position is inside a transaction", []Step{change("1", "k", false), {Kind: "batch", At: "1"}, {Kind: "delete", Table: "t", Keys: []string{"k"}}, {Kind: "write", Table: "t", Keys: []string{"k"}}, {Kind: "position", At: "1"}}, "the last transaction ended after 0 changes"},
		{"two lanes write a key", []Step{change("1", "k", true), {Kind: "batch", At: "1"}, {Kind: "delete", Table: "t", Keys: []string{"k"}}, {Kind: "delete", Table: "t", Lane: 1, Keys: []string{"k"}}}, "two lanes"},
		{"a chunk is written again after its gate closed", []Step{{Kind: "open", Chunk: 1, Table: "t"}, {Kind: "barrier", Chunk: 1}, {Kind: "read", Chunk: 1}, {Kind: "abandon", Chunk: 1}, {Kind: "close", Chunk: 1}, {Kind: "open", Chunk: 1, Table: "t"}, {Kind: "copy", Chunk: 1}}, "without having been read"},
		{"a gate closes while its chunk may land", []Step{{Kind: "open", Chunk: 1, Table: "t"}, {Kind: "close", Chunk: 1}}, "neither committed nor abandoned"},
		{"a run resumes from elsewhere", []Step{change("1", "k", true), {Kind: "crash"}, {Kind: "resume", At: "1", Epoch: 1}}, "covered by the position"},
		{"a run resumes without a new epoch", []Step{{Kind: "crash"}, {Kind: "resume"}}, "not higher"},
		{"a change is not delivered again", []Step{change("1", "k", true), change("2", "l", true), {Kind: "crash"}, {Kind: "resume", Epoch: 1}, change("2", "l", true)}, "comes after 0 changes"},
		{"a debt is left", []Step{{Kind: "open", Chunk: 1, Table: "t"}, {Kind: "barrier", Chunk: 1}, {Kind: "read", Chunk: 1}, {Kind: "copy", Chunk: 1, Keys: []string{"k"}}, {Kind: "close", Chunk: 1}, {Kind: "block"}, {Kind: "stop"}, {Kind: "done"}}, "have not been paid"},
		{"done comes early", []Step{{Kind: "block"}, {Kind: "stop", At: "1"}, {Kind: "done"}}, "not everything"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Accept(append(head, tc.steps...))
			var rejected *RejectedError
			require.ErrorAs(t, err, &rejected)
			require.Equal(t, len(tc.steps), rejected.Index)
			require.Contains(t, rejected.Rule, tc.rule)
		})
	}
}
