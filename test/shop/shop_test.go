package shop_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShapeHasAtLeastTheRowsAskedFor(t *testing.T) {
	for _, rows := range []int{0, 1, 1999, 2000, 2001, 12_345, 1_000_000, 1_000_001} {
		require.GreaterOrEqual(t, shop.ShapeOf(rows).Rows(), rows)
		require.Less(t, shop.ShapeOf(rows).Rows(), max(rows, 2000)+100)
	}
}

// TestWriterAlone proves that the application itself is sound before any mover
// is judged by it: every kind of transaction works on both servers, nothing that
// was rolled back is ever seen, a read-only server fences every connection, and
// all of them go on afterwards.
func TestWriterAlone(t *testing.T) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			server, err := servers.Start(ctx, servers.Options{Flavour: flavour, GTID: true})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, server.Stop()) })
			root, err := server.DB(ctx)
			require.NoError(t, err)

			options := shop.Options{Database: "shop test", Seed: 3, Rows: 3000}
			require.NoError(t, shop.CreateSchema(ctx, root, options.Database))
			rows, err := shop.Seed(ctx, root, options)
			require.NoError(t, err)
			require.Equal(t, shop.ShapeOf(options.Rows).Rows(), rows)

			app := shop.Account{Name: "shop_app", Password: "open sesame", Database: options.Database}
			require.NoError(t, app.Create(ctx, root))
			db := app.Open(server.Host, server.Port)
			t.Cleanup(func() { require.NoError(t, db.Close()) })

			writer := shop.NewWriter(shop.WriterConfig{DB: db, Shop: options, Seed: 4, Rate: -1, Connections: 6})
			require.NoError(t, writer.Start(ctx))
			everyKind := func(s shop.Stats) bool { return len(s.Kinds) == shop.Kinds()-1 && s.RolledBack > 10 }
			require.NoError(t, writer.UntilCommitted(ctx, everyKind))

			require.NoError(t, writer.Pause(ctx))
			paused := count(t, root, "SELECT COUNT(*) FROM `shop test`.orders")
			requireNothingRolledBackIsSeen(t, root)
			require.Equal(t, paused, count(t, root, "SELECT COUNT(*) FROM `shop test`.orders"))
			writer.Resume()

			_, err = root.ExecContext(ctx, "SET GLOBAL read_only = ON")
			require.NoError(t, err)
			require.NoError(t, writer.UntilFenced(ctx))
			fenced := writer.Stats()
			require.GreaterOrEqual(t, fenced.Fenced, 6)

			_, err = root.ExecContext(ctx, "SET GLOBAL read_only = OFF")
			require.NoError(t, err)
			writer.SwitchTo(db, nil)
			require.NoError(t, writer.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed > fenced.Committed+100 }))
			stats, err := writer.Stop()
			require.NoError(t, err)
			require.Positive(t, stats.SwitchGap)
			require.GreaterOrEqual(t, stats.LongestGap, stats.SwitchGap)
			t.Log(stats)

			again := shop.NewWriter(shop.WriterConfig{DB: db, Shop: options, Seed: 4, Rate: -1})
			require.NoError(t, again.Start(ctx))
			require.NoError(t, again.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed > 300 }))
			_, err = again.Stop()
			require.NoError(t, err, "a second writer with the same seed")
			requireNothingRolledBackIsSeen(t, root)
		})
	}
}

func requireNothingRolledBackIsSeen(t *testing.T, db *sql.DB) {
	t.Helper()
	require.Zero(t, count(t, db, "SELECT COUNT(*) FROM `shop test`.orders WHERE remark = 'must never be seen'"))
	require.Zero(t, count(t, db, "SELECT COUNT(*) FROM `shop test`.customers WHERE remark = 'must never be seen'"))
	require.Zero(t, count(t, db, "SELECT COUNT(*) FROM `shop test`.seats WHERE ticket LIKE 'tmp%'"))
	require.Zero(t, count(t, db, "SELECT COUNT(*) FROM `shop test`.stock WHERE on_hand = -12345.678"))
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}
