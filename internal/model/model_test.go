package model

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSmall searches the small configuration to the end.
func TestSmall(t *testing.T) {
	small := Configs()[0]
	require.Equal(t, "small", small.Name)
	res := Explore(small, Limits{})
	t.Log(res.Line())
	requireSound(t, res)
	require.True(t, res.Complete)
	require.Greater(t, res.States, 100_000)
}

// TestConfigs begins every other configuration; make model ends them.
func TestConfigs(t *testing.T) {
	for _, c := range append(Configs()[1:], Medium()...) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			requireSound(t, Explore(c, enough))
		})
	}
}

func requireSound(t *testing.T, res Result) {
	t.Helper()
	if res.Violation != nil {
		t.Fatalf("%s\n%s", res.Line(), res.Violation.Schedule(res.Config))
	}
}

// TestEveryFeatureMeetsACrashAndAKeyChange: a feature that is never on when the
// mover dies and keys change has not been searched.
func TestEveryFeatureMeetsACrashAndAKeyChange(t *testing.T) {
	met := map[Feature]bool{}
	for _, c := range Configs() {
		require.NotEmpty(t, c.Bounds())
		for _, f := range c.Features {
			if c.Crashes > 0 && c.Changes&MoveKey != 0 {
				met[f] = true
			}
		}
	}
	for f := range Feature(featureCount) {
		require.True(t, met[f], "feature %s", f)
	}
}

// TestCoarseStepsHideNothing: a mutant that breaks an invariant in single steps
// breaks one in coarse steps.
func TestCoarseStepsHideNothing(t *testing.T) {
	for _, mc := range MutantCases() {
		if mc.Config.Coarse {
			continue
		}
		t.Run(mc.Name, func(t *testing.T) {
			t.Parallel()
			res := Explore(mc.Config.coarse(), Limits{})
			require.NotNil(t, res.Violation)
		})
	}
}

// TestSearchFindsTheEnd: a search that is stopped says so, and what it counts is
// the same every time.
func TestSearchFindsTheEnd(t *testing.T) {
	first, second := Explore(tiny(1), Limits{}), Explore(tiny(1), Limits{})
	require.True(t, first.Complete)
	require.Equal(t, first.States, second.States)
	require.Equal(t, first.Transitions, second.Transitions)
	bounded := Explore(tiny(1), Limits{States: 10})
	require.False(t, bounded.Complete)
	require.True(t, strings.Contains(bounded.Line(), "stopped at the bound"))
}
