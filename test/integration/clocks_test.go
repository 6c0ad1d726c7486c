package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// F37: events that are stamped an hour early or late, as by a source whose clock is stepped.
// What decides is by places in the log: the run waits for what is there, cuts over and
// arrives, and nothing that it tells of times is negative or endless. (Both clocks apart:
// TestF37LagByTheSourcesClock, TestF37DurationsAreMonotonic.)
func TestF37SteppedClocks(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "stepped", "CREATE TABLE t (id INT PRIMARY KEY, v INT, at TIMESTAMP(3) NULL)")
		at := func(hours int, statements ...string) {
			t.Helper()
			p.In(t, p.SourceDB, "stepped", append([]string{fmt.Sprintf("SET SESSION timestamp=UNIX_TIMESTAMP()+%d", 3600*hours)}, statements...)...)
		}
		at(1, "INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<200) SELECT id, 0, NOW(3) FROM n")
		f := shopFerry(p, "stepped", 20)
		f.Config.AutomaticCutover = false
		mustStart(t, ctx, f)
		ran := make(chan error, 1)
		go func() { ran <- harness.RunStarted(ctx, f, func() error { return nil }) }()
		sane := func(progress *ghostferry.Progress) {
			t.Helper()
			for what, seconds := range map[string]float64{
				"BinlogStreamerLag": progress.BinlogStreamerLag, "BinlogWriterLag": progress.BinlogWriterLag,
				"ETA": progress.ETA, "CopySeconds": progress.CopySeconds, "TimeTaken": progress.TimeTaken,
			} {
				require.GreaterOrEqual(t, seconds, 0.0, what)
				if progress.BinlogStreamerLag < 1e9 { // something was streamed
					require.Less(t, seconds, 2*3600.0, what)
				}
			}
		}
		for round, hours := range []int{-1, 1, -1, 0, 1} {
			at(hours, fmt.Sprintf("UPDATE t SET v=v+1, at=NOW(3) WHERE id%%5=%d", round), fmt.Sprintf("INSERT INTO t VALUES (%d, 0, NOW(3))", 1000+round))
			sane(f.Progress())
			require.NoError(t, f.WaitUntilBinlogStreamerCatchesUpContext(ctx))
			require.Equal(t, 1, harness.Count(t, p.TargetDB, fmt.Sprintf("stepped.t WHERE id=%d", 1000+round)), "it had caught up")
			progress := f.Progress()
			sane(progress)
			if hours >= 0 {
				require.Less(t, progress.BinlogStreamerLag, 60.0, "an event of now, or of the future")
			}
		}
		f.AllowCutover()
		require.NoError(t, <-ran)
		sane(f.Progress())
		require.NoError(t, f.Close())
		p.MustEqual(t, "stepped")
	})
}
