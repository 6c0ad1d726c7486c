package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A source that has become the read-only replica of another server ends the run, whether it
// waits for the cutover or is in it; the same run goes on when the source is a primary again.
// One that is only read-only was fenced by its operator.
func TestDemotedSourceEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, s := range harness.OneFlavour(t) {
		t.Run(string(s.Flavour), func(t *testing.T) {
			t.Parallel()
			ctx := cutoverContext(t)
			p := harness.New(t, s)
			p.Create(t, "demoted", "CREATE TABLE t (id INT PRIMARY KEY)")
			p.In(t, p.SourceDB, "demoted", "INSERT INTO t VALUES (1),(2)")
			// It need not answer: the source tries to reach it.
			follow := []string{fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%d, SOURCE_USER='nobody', SOURCE_AUTO_POSITION=1", p.Target.Port), "START REPLICA"}
			leave := []string{"STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = OFF"}
			if s.Flavour == servers.MariaDB {
				follow = []string{fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='nobody'", p.Target.Port), "START SLAVE"}
				leave = []string{"STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF"}
			}
			demote := func() { p.In(t, p.SourceDB, "", append([]string{"SET GLOBAL read_only = ON"}, follow...)...) }
			process := func() *ghostferry.Ferry {
				f := &ghostferry.Ferry{Config: p.Config("demoted")}
				f.TailGuardSeconds = -1
				return f
			}
			mustEnd := func(f *ghostferry.Ferry, err error) {
				var demoted *ghostferry.SourceDemotedError
				require.ErrorAs(t, err, &demoted)
				require.True(t, ghostferry.Resumable(err))
				require.NoError(t, f.Close())
				p.In(t, p.SourceDB, "", leave...)
			}

			waits := process()
			waits.Config.AutomaticCutover = false
			mustStart(t, ctx, waits)
			ran := make(chan error, 1)
			go func() { ran <- waits.RunContext(ctx) }()
			harness.Await(t, "the rows are copied", func() bool { return waits.OverallState.Load() == ghostferry.StateWaitingForCutover })
			demote()
			mustEnd(waits, <-ran)

			cuts := process()
			mustStart(t, ctx, cuts)
			require.True(t, cuts.Resuming())
			mustEnd(cuts, harness.RunStarted(ctx, cuts, func() error { demote(); return nil }))

			fenced := process()
			mustStart(t, ctx, fenced)
			require.NoError(t, harness.RunStarted(ctx, fenced, func() error {
				p.In(t, p.SourceDB, "", "SET GLOBAL read_only = ON")
				return nil
			}))
			require.NoError(t, fenced.Close())
			p.MustEqual(t, "demoted")
		})
	}
}
