package model

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden schedules anew")

// enough bounds the searches that find nothing; make model completes them.
var enough = Limits{States: 5_000}

// TestMutantsAreCaught searches each mutant's configuration: with the mutant the
// schedule in testdata must come out, without it nothing may be broken.
func TestMutantsAreCaught(t *testing.T) {
	for _, mc := range MutantCases() {
		t.Run(mc.Name, func(t *testing.T) {
			t.Parallel()
			res := Explore(mc.Config, Limits{})
			t.Log(res.Line())
			require.NotNil(t, res.Violation, "the mutant survives: %s", mc.Rule)
			require.Equal(t, mc.Breaks, res.Violation.Invariant, "\n%s", res.Violation.Schedule(res.Config))
			golden := filepath.Join("testdata", mc.Name+".txt")
			text := mc.Golden(res)
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(text), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), text)

			res = Explore(mc.Sound(), enough)
			t.Log(res.Line())
			if res.Violation != nil {
				t.Fatalf("without the mutant:\n%s", res.Violation.Schedule(res.Config))
			}
		})
	}
}

// TestEveryInvariantIsAlive: for each invariant there is a mutant that breaks it,
// and every golden file belongs to a mutant.
func TestEveryInvariantIsAlive(t *testing.T) {
	broken := map[Invariant]bool{}
	files := map[string]bool{}
	caught := map[Mutant]bool{}
	for _, mc := range MutantCases() {
		require.False(t, files[mc.Name+".txt"], "two cases named %s", mc.Name)
		broken[mc.Breaks], files[mc.Name+".txt"], caught[mc.Mutant] = true, true, true
	}
	for i := Convergence; i <= Liveness; i++ {
		require.True(t, broken[i], "no mutant breaks %s", i)
	}
	for _, fc := range FreeCases() {
		caught[fc.Mutant] = true
	}
	for m := range Mutant(mutantCount) {
		require.True(t, caught[m], "mutant %d is in no case", m)
	}
	entries, err := os.ReadDir("testdata")
	require.NoError(t, err)
	for _, e := range entries {
		require.True(t, files[e.Name()], "%s belongs to no mutant", e.Name())
	}
}

// TestFreeRules: the rules that docs/algorithm.md calls free break nothing when
// they are taken away.
func TestFreeRules(t *testing.T) {
	for _, fc := range FreeCases() {
		t.Run(fc.Rule, func(t *testing.T) {
			t.Parallel()
			c := fc.Config
			c.Mutants = append(slices.Clone(c.Mutants), fc.Mutant)
			res := Explore(c, enough)
			t.Log(res.Line())
			if res.Violation != nil {
				t.Fatalf("is needed after all:\n%s", res.Violation.Schedule(res.Config))
			}
		})
	}
}
