package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// F17: the log that a stopped run needs was purged: refused, naming the first file or the
// transactions, before anything is written.
func TestF17PurgedLog(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneSetting(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p := harness.New(t, s)
			cutRun(t, ctx, p, "purged")
			needed, _, err := p.SourceLogEnd(ctx)
			require.NoError(t, err)
			p.In(t, p.SourceDB, "purged", "INSERT INTO t VALUES (12,12)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (13,13)", "FLUSH BINARY LOGS")
			file, _, err := p.SourceLogEnd(ctx)
			require.NoError(t, err)
			harness.Await(t, "the logs are purged", func() bool {
				p.In(t, p.SourceDB, "", "PURGE BINARY LOGS TO '"+file+"'")
				files := 0
				rows, err := p.SourceDB.Query("SHOW BINARY LOGS")
				require.NoError(t, err)
				for rows.Next() {
					files++
				}
				require.NoError(t, rows.Close())
				return files == 1
			})
			err = refused(t, ctx, p, "purged")
			var purged *ghostferry.PurgedLogError
			require.ErrorAs(t, err, &purged)
			require.False(t, ghostferry.Resumable(err))
			if s.Flavour == servers.MySQL && s.GTID {
				require.Contains(t, purged.Missing, ":")
			} else {
				require.Contains(t, purged.Missing, needed)
			}
		})
	}
}

// F18: the source's log was reset, and has come to the same file name again, further than
// it was: refused, before anything is written.
func TestF18ResetLog(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.SomeSettings(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p := harness.New(t, s)
			cutRun(t, ctx, p, "reset_log")
			was, pos, err := p.SourceLogEnd(ctx)
			require.NoError(t, err)
			awaitAge(t, p)
			if s.Flavour == servers.MySQL {
				p.In(t, p.SourceDB, "", "RESET BINARY LOGS AND GTIDS")
			} else {
				p.In(t, p.SourceDB, "", "RESET MASTER")
			}
			err = refused(t, ctx, p, "reset_log")
			require.NotContains(t, err.Error(), "timed out")
			harness.Await(t, "the log comes to the same place", func() bool {
				file, at, err := p.SourceLogEnd(ctx)
				require.NoError(t, err)
				switch {
				case file != was:
					p.In(t, p.SourceDB, "", "FLUSH BINARY LOGS")
				case at <= pos:
					p.In(t, p.SourceDB, "reset_log", "UPDATE t SET v=v+1")
				default:
					return true
				}
				return false
			})
			err = refused(t, ctx, p, "reset_log")
			var lost *ghostferry.LostTransactionsError
			var lacks *ghostferry.SourceLacksError
			if s.Flavour == servers.MySQL && s.GTID {
				require.ErrorAs(t, err, &lacks)
			} else {
				require.ErrorAs(t, err, &lost)
			}
		})
	}
}
