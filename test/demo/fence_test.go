package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLockDespiteRowLocks closes the fence while one transaction waits for a row
// that another one has locked. Making the server read-only then waits for the
// first, and the second, which could free the row, waits for the server.
func TestLockDespiteRowLocks(t *testing.T) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			// Shorter than the servers' row lock timeout of 50 s.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			server, err := servers.Start(ctx, servers.Options{Flavour: flavour})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, server.Stop()) })
			root, err := server.DB(ctx)
			require.NoError(t, err)
			require.NoError(t, shop.CreateSchema(ctx, root, database))
			options := shop.Options{Database: database, Rows: 2000}
			_, err = shop.Seed(ctx, root, options)
			require.NoError(t, err)
			account := shop.Account{Name: appAccount, Password: "test", Database: database}
			require.NoError(t, account.Create(ctx, root))
			app := account.Open(server.Host, server.Port)
			t.Cleanup(func() { require.NoError(t, app.Close()) })
			f := &fence{
				console: newConsole(os.Stderr), flavour: flavour, source: root, rogue: app,
				writer: shop.NewWriter(shop.WriterConfig{DB: app, Shop: options}),
			}

			const update = "UPDATE shop.orders SET remark = 'fenced' WHERE id = "
			holder, waiter := begin(ctx, t, app), begin(ctx, t, app)
			_, err = holder.ExecContext(ctx, update+"1")
			require.NoError(t, err)

			var racing errgroup.Group
			racing.Go(func() error {
				if _, err := waiter.ExecContext(ctx, update+"1"); err == nil {
					return errors.New("the waiting update went through")
				}
				return waiter.Rollback()
			})
			untilQuery(ctx, t, root, "information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'")
			racing.Go(func() error { return f.lock(ctx) })
			untilQuery(ctx, t, root, "(SELECT 1) AS one WHERE @@GLOBAL.read_only = 1")
			_, err = holder.ExecContext(ctx, update+"2")
			require.Error(t, err)
			require.NoError(t, holder.Rollback())
			require.NoError(t, racing.Wait())
			require.True(t, f.closed())
			require.False(t, f.opened())

			var changed int
			require.NoError(t, root.QueryRowContext(ctx, "SELECT COUNT(*) FROM shop.orders WHERE remark = 'fenced'").Scan(&changed))
			require.Zero(t, changed)
		})
	}
}

func begin(ctx context.Context, t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	return tx
}

// untilQuery waits until there is a row.
func untilQuery(ctx context.Context, t *testing.T, db *sql.DB, from string) {
	t.Helper()
	poll := time.NewTicker(110 * time.Millisecond) // see fence.untilNoneInFlight
	defer poll.Stop()
	for {
		var n int
		require.NoError(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+from).Scan(&n))
		if n > 0 {
			return
		}
		<-poll.C
	}
}
