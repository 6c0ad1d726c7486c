package integration

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// The source comes back without transactions that are on the target already: the run ends
// and says which, and cannot be resumed.
func TestSourceLosesItsTail(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneFlavour(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p := harness.New(t, s)
			p.Create(t, "tail", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
			p.In(t, p.SourceDB, "tail", "INSERT INTO t VALUES (1,1),(2,2)")
			restore := older(t, p)
			config := p.Config("tail")
			config.AutomaticCutover = false
			f := &ghostferry.Ferry{Config: config}
			mustStart(t, ctx, f)
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(ctx) }()
			p.In(t, p.SourceDB, "tail", "INSERT INTO t VALUES (3,3)", "INSERT INTO t VALUES (4,4)")
			awaitRows(t, p.TargetDB, "tail.t", 4, f)

			restore()
			err := <-ran
			var lost *ghostferry.LostTransactionsError
			require.ErrorAs(t, err, &lost)
			require.NotEmpty(t, lost.Missing)
			require.False(t, ghostferry.Resumable(err))
			require.NoError(t, f.Close())
		})
	}
}

func copyDirectory(t *testing.T, from, to string) {
	t.Helper()
	output, err := exec.Command("cp", "-r", from, to).CombinedOutput()
	require.NoError(t, err, string(output))
}
