package tenants

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
)

// sharedKilledAt are the failpoints at which a process of six moves over one stream dies, in
// the order of a run: the first move that gets there takes all with it.
var sharedKilledAt = []string{
	"copy.before_commit", "copy.after_commit", "apply.intent", "copy.completing", "apply.before_position_commit", "apply.after_position_commit", "cutover.drained",
}

// Six moves that share a stream die with their process at any step, while all tenants write and
// rows pass from each to each; the next process goes on with each of them where it was.
func TestKilledWhileSharing(t *testing.T) {
	program := buildMover(t)
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const rows = 1800
		manyTenants(t, p, rows)
		run := func(failpoint string) (string, error) {
			database := p.Config()
			config, err := json.Marshal(map[string]any{"Source": database.Source, "Target": database.Target, "Schema": schema, "Owners": []int{0, 1, 2, 3, 4, 5}})
			require.NoError(t, err)
			cmd := exec.CommandContext(minutes(t), program, "-many")
			cmd.Env = append(os.Environ(), "GHOSTFERRY_TENANTS_FAILPOINT="+failpoint)
			var said bytes.Buffer
			cmd.Stderr = &said
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			churn := changeTenants(t, p, rows)
			require.NoError(t, cmd.Start())
			_, _ = in.Write(append(config, '\n')) // its end tells what went wrong
			line, _ := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, churn.Stop())
			if line == "ready\n" {
				_, _ = io.WriteString(in, "stopped\n")
			}
			err = cmd.Wait()
			return said.String(), err
		}
		for _, at := range harness.Share(sharedKilledAt, slices.Index(namingTransactions(), p.Setting), 2) {
			said, err := run(at)
			mustBeKilled(t, err, at, said)
			require.Equal(t, 2, harness.Count(t, p.TargetDB, "tenants.t WHERE owner >= 100"))
		}
		said, err := run("")
		require.NoError(t, err, said)
		ours := "SELECT * FROM tenants.t WHERE owner < 6 ORDER BY id"
		require.NotEmpty(t, harness.Rows(t, p.SourceDB, ours))
		require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
		require.Equal(t, 2, harness.Count(t, p.TargetDB, "tenants.t WHERE owner >= 100"))
		require.Zero(t, harness.Count(t, p.TargetDB, "tenants.t WHERE owner = 50"))
	})
}
