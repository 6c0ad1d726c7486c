package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A source that has become the read-only replica of another server ends the run, whether it
// waits for the cutover or is in it; the same run goes on when the source is a primary again.
// One that is only read-only was fenced by its operator. The primary of a source that is a replica
// is asked in its place, and ends no run.
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

			p.In(t, p.SourceDB, "", "SET GLOBAL read_only = OFF")
			replica, replicaDB := p.StartReplica(t)
			p.Create(t, "demoted_above", "CREATE TABLE t (id INT PRIMARY KEY)")
			p.In(t, p.SourceDB, "demoted_above", "INSERT INTO t VALUES (1),(2)")
			address, err := faultproxy.Start(addressOf(p.Source))
			require.NoError(t, err)
			defer func() { require.NoError(t, address.Close()) }()
			lead := func(to *servers.Server) { address.Lead(addressOf(to)); address.ResetAll() }
			below := process()
			below.TableFilter = p.Config("demoted_above").TableFilter
			below.Source.Port = uint16(address.Port()) //nolint:gosec // a port
			primary, err := below.Source.SqlDB(nil)
			require.NoError(t, err)
			defer func() { _ = primary.Close() }()
			below.Source.Host, below.Source.Port, below.Source.User, below.Source.Pass = replica.Host, uint16(replica.Port), replica.User(), replica.Password() //nolint:gosec // a port
			gate := &ghostferry.WaitUntilReplicaIsCaughtUpToMaster{
				MasterDB:                        primary,
				ReplicatedMasterPositionFetcher: ghostferry.ReplicatedMasterPositionViaCustomQuery{Query: p.Heartbeat(t, "demoted_beat", replicaDB)},
			}
			below.WaitUntilReplicaIsCaughtUpToMaster = gate
			mustStart(t, ctx, below)
			go func() { ran <- below.RunContext(ctx) }()
			fences := 0
			hooks := ghostferry.CutoverHooks{
				Fence:   func(context.Context) error { fences++; demote(); return nil },
				Unfence: func(context.Context) error { return nil },
			}
			mustRefuse := func(err error) *ghostferry.PrimaryChangedError {
				t.Helper()
				changed, ok := errors.AsType[*ghostferry.PrimaryChangedError](err)
				require.True(t, ok, "%v", err)
				require.True(t, ghostferry.Resumable(err))
				require.Equal(t, 1, fences)
				return changed
			}
			_, err = below.Cutover(ctx, hooks)
			changed := mustRefuse(err)
			require.Equal(t, changed.Was, changed.Is)
			failure, ok := errors.AsType[*ghostferry.CutoverError](err)
			require.True(t, ok, "%v", err)
			require.True(t, failure.Following)
			_, err = below.Cutover(ctx, hooks)
			mustRefuse(err) // before the fence
			p.In(t, p.SourceDB, "", leave...)

			lead(p.Target)
			_, err = below.Cutover(ctx, hooks)
			require.NotEqual(t, changed.Was, mustRefuse(err).Is)
			mustRefuse(gate.WaitContext(ctx))
			lead(p.Source)

			// Nor are writers stopped while the replica is later than they may be kept waiting.
			delay := func(seconds int) {
				if s.Flavour == servers.MariaDB {
					harness.Exec(t, replicaDB, fmt.Sprintf("STOP SLAVE;\nCHANGE MASTER TO MASTER_DELAY=%d;\nSTART SLAVE", seconds))
				} else {
					harness.Exec(t, replicaDB, fmt.Sprintf("STOP REPLICA;\nCHANGE REPLICATION SOURCE TO SOURCE_DELAY=%d;\nSTART REPLICA", seconds))
				}
			}
			delay(2) // which servers count in whole seconds
			below.Update(ghostferry.UpdatableConfig{MaxWriteBlock: ghostferry.Duration(500 * time.Millisecond)})
			hooks.Fence = func(context.Context) error { fences++; return nil }
			cut := make(chan error, 1)
			go func() {
				_, err := below.Cutover(ctx, hooks)
				cut <- err
			}()
			harness.Await(t, "the cutover waits", func() bool {
				return slices.ContainsFunc(below.Progress().Waits, func(w ghostferry.WaitStats) bool { return w.Cause == "next_cutover" && w.Count > 0 })
			})
			require.Equal(t, 1, below.Progress().Cutover.Attempts, "of the one before")
			delay(0)
			below.Update(ghostferry.UpdatableConfig{MaxWriteBlock: -1})
			require.NoError(t, <-cut)
			require.Equal(t, 2, fences)
			require.NoError(t, <-ran)
			require.NoError(t, below.Close())
			p.MustEqual(t, "demoted_above")
		})
	}
}
