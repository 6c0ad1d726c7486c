package model

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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

// TestEveryCounterexampleIsNamed: CE-1 to CE-29 of the design and M1 to M24 of its harness
// are mutants or listed as not modelled, and the tests that cover those exist.
func TestEveryCounterexampleIsNamed(t *testing.T) {
	named := map[string]bool{}
	name := func(text string) {
		for _, word := range regexp.MustCompile(`\b(CE-|M)\d+b?\b`).FindAllString(text, -1) {
			named[strings.TrimSuffix(word, "b")] = true
		}
	}
	for _, mc := range MutantCases() {
		name(mc.Known)
	}
	for _, text := range NotModelled() {
		name(text)
		for _, test := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
			require.True(t, testExists(t, test), "%s does not exist: %s", test, text)
		}
	}
	for i := range 29 {
		require.True(t, named[fmt.Sprintf("CE-%d", i+1)], "CE-%d", i+1)
	}
	for i := range 24 {
		require.True(t, named[fmt.Sprintf("M%d", i+1)], "M%d", i+1)
	}
}

// testExists looks for a test among those on real servers. The numbers of promises in
// front of a name come and go.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	numbers := regexp.MustCompile(`^Test(F\d+(To)?)*`)
	wanted := regexp.MustCompile(`(?m)^func Test(F\d+(To)?)*` + numbers.ReplaceAllString(name, "") + `\(`)
	files, err := filepath.Glob(filepath.Join("..", "..", "test", "*", "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if wanted.Match(text) {
			return true
		}
	}
	return false
}
