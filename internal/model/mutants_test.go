package model

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden schedules anew")

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

			sound := mc.Config
			sound.Mutants = nil
			res = Explore(sound, Limits{})
			t.Log(res.Line())
			if res.Violation != nil {
				t.Fatalf("without the mutant:\n%s", res.Violation.Schedule(res.Config))
			}
		})
	}
}
