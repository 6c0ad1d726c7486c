package server_test

import (
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// Connections are found and ended also while one of them runs a statement with bytes that are
// no text, which keeps MySQL from making information_schema.PROCESSLIST.
func TestProcesses(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		ctx := t.Context()
		busy := conn(t, db)
		var id int64
		require.NoError(t, busy.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id))
		ended := make(chan error, 1)
		go func() {
			_, err := busy.ExecContext(ctx, "DO SLEEP(60), '\xcd\xff bytes'")
			ended <- err
		}()
		running := func(without string) []int64 {
			ids, err := s.RunningStatements(ctx, db, without)
			require.NoError(t, err)
			return ids
		}
		// The list may have a statement that begins without its text, and that before a little longer.
		require.Eventually(t, func() bool {
			return slices.Contains(running("somebody"), id) && !slices.Contains(running("SLEEP(60)"), id)
		}, time.Minute, 5*time.Millisecond)
		var user string
		require.NoError(t, db.QueryRowContext(ctx, "SELECT SUBSTRING_INDEX(USER(), '@', 1)").Scan(&user))
		ids, err := s.Connections(ctx, db, []string{"nobody", user})
		require.NoError(t, err)
		require.Contains(t, ids, id)
		ids, err = s.WaitingForTableLocks(ctx, db)
		require.NoError(t, err)
		require.NotContains(t, ids, id)
		idle, err := s.ThreadIdle(ctx, db, id)
		require.NoError(t, err)
		require.False(t, idle)

		require.Eventually(t, func() bool {
			gone, err := s.EndConnection(ctx, db, id)
			require.NoError(t, err)
			return gone
		}, time.Minute, 5*time.Millisecond)
		require.Error(t, <-ended)
		require.NoError(t, s.Kill(ctx, db, "CONNECTION", id), "it is gone already")
	})
}
