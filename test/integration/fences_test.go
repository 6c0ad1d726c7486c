package integration

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// fencedApplication is an account that may write one table, and its pool.
func fencedApplication(t *testing.T, p *harness.Pair, schema string) *sql.DB {
	t.Helper()
	p.Create(t, schema, "CREATE TABLE rows_ (id INT NOT NULL PRIMARY KEY, n INT NOT NULL)")
	p.In(t, p.SourceDB, schema, "INSERT INTO rows_ VALUES (1,0),(2,0)",
		"DROP USER IF EXISTS 'fenced_app'@'%'", "CREATE USER 'fenced_app'@'%' IDENTIFIED BY 'app pass'", "GRANT ALL ON "+schema+".* TO 'fenced_app'@'%'")
	dsn, err := mysql.ParseDSN(p.Source.DSN(schema))
	require.NoError(t, err)
	dsn.User, dsn.Passwd = "fenced_app", "app pass"
	connector, err := mysql.NewConnector(dsn)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// A ready-made fence stops the application, also one that is in the middle of a
// transaction, and undoes exactly what it did.
func TestFences(t *testing.T) {
	for _, setting := range harness.SomeSettings(t) {
		for _, kind := range []string{ghostferry.FenceReadOnly, ghostferry.FenceAccounts, ghostferry.FenceLockTables} {
			t.Run(setting.Name+"/"+kind, func(t *testing.T) {
				ctx := cutoverContext(t)
				p := harness.Shared(t, setting)
				app := fencedApplication(t, p, "fenced")
				f := &ghostferry.Ferry{Config: p.Config("fenced")}
				f.TailGuardSeconds = -1
				f.CutoverFence = &ghostferry.FenceConfig{Kind: kind, KillAfter: 1}
				if kind == ghostferry.FenceAccounts {
					f.CutoverFence.Accounts = []string{"fenced_app@%"}
				}
				require.NoError(t, f.InitializeContext(ctx))
				defer f.Close()
				fence, err := f.NewFence(f.CutoverFence)
				require.NoError(t, err)

				tx, err := app.BeginTx(ctx, nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(ctx, "UPDATE rows_ SET n = n + 1 WHERE id = 1")
				require.NoError(t, err)
				require.NoError(t, fence.Fence(ctx))
				require.NoError(t, fence.Fence(ctx), "it is idempotent")
				require.NoError(t, fence.Fenced(ctx))
				require.Error(t, tx.Commit(), "a transaction in flight was committed behind the fence")

				written := make(chan error, 1)
				go func() {
					_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = n + 10 WHERE id = 2")
					written <- err
				}()
				if kind != ghostferry.FenceLockTables { // which makes writers wait
					require.Error(t, <-written)
				}
				var n int
				require.NoError(t, p.SourceDB.QueryRowContext(ctx, "SELECT SUM(n) FROM fenced.rows_").Scan(&n))
				require.Zero(t, n)
				require.NoError(t, fence.Unfence(ctx))
				require.NoError(t, fence.Unfence(ctx))
				if kind == ghostferry.FenceLockTables {
					require.NoError(t, <-written)
				}
				_, err = app.ExecContext(ctx, "UPDATE rows_ SET n = 7")
				require.NoError(t, err)
				require.Error(t, fence.Fenced(ctx))
				require.NoError(t, fence.Close(ctx))
				var state string
				require.NoError(t, p.SourceDB.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&state))
				require.Equal(t, "0", state)

				// The same as a part of a cutover.
				require.NoError(t, f.StartContext(ctx))
				ran := make(chan error, 1)
				go func() { ran <- f.RunContext(ctx) }()
				report, err := f.Cutover(ctx, ghostferry.CutoverHooks{Switch: func(ctx context.Context) error {
					if kind == ghostferry.FenceLockTables {
						return nil
					}
					_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = 8")
					require.Error(t, err)
					return nil
				}})
				require.NoError(t, err)
				require.NoError(t, <-ran)
				require.True(t, report.Fenced)
				p.MustEqual(t, "fenced")
				p.In(t, p.SourceDB, "", "SET GLOBAL read_only = OFF", "DROP USER 'fenced_app'@'%'")
			})
		}
	}
}

// What was fenced by somebody else is left as it was.
func TestFenceLeavesWhatItFound(t *testing.T) {
	ctx := cutoverContext(t)
	p := harness.Shared(t, harness.Settings[0])
	fencedApplication(t, p, "fenced")
	f := &ghostferry.Ferry{Config: p.Config("fenced")}
	require.NoError(t, f.InitializeContext(ctx))
	defer f.Close()
	p.In(t, p.SourceDB, "", "ALTER USER 'fenced_app'@'%' ACCOUNT LOCK", "SET GLOBAL read_only = ON")
	defer p.In(t, p.SourceDB, "", "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
	for _, config := range []*ghostferry.FenceConfig{{Kind: ghostferry.FenceReadOnly}, {Kind: ghostferry.FenceAccounts, Accounts: []string{"fenced_app@%"}}} {
		fence, err := f.NewFence(config)
		require.NoError(t, err)
		require.NoError(t, fence.Fence(ctx))
		require.NoError(t, fence.Unfence(ctx))
		require.NoError(t, fence.Close(ctx))
	}
	var readOnly, superReadOnly bool
	var locked string
	require.NoError(t, p.SourceDB.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only").Scan(&readOnly, &superReadOnly))
	require.True(t, readOnly)
	require.False(t, superReadOnly)
	require.NoError(t, p.SourceDB.QueryRowContext(ctx, "SELECT account_locked FROM mysql.user WHERE User = 'fenced_app'").Scan(&locked))
	require.Equal(t, "Y", locked)
}

// sourceProcesses are the source's statements that contain a text, in a state that does.
func sourceProcesses(t *testing.T, p *harness.Pair, text, state string) []harness.Process {
	t.Helper()
	list, err := harness.Processes(t.Context(), p.SourceDB)
	require.NoError(t, err)
	return slices.DeleteFunc(list, func(one harness.Process) bool {
		return !strings.Contains(one.Info, text) || !strings.Contains(one.State, state)
	})
}

// A fence that is given up while it waits for a long statement does not go on waiting on the
// server: it would hold up the writers behind it, and close itself when nobody opens it again.
func TestFenceThatIsGivenUp(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		for kind, statement := range map[string]string{ghostferry.FenceReadOnly: "read_only = ON", ghostferry.FenceLockTables: "LOCK TABLES "} {
			t.Run(kind, func(t *testing.T) {
				ctx := cutoverContext(t)
				app := fencedApplication(t, p, "fenced")
				f := &ghostferry.Ferry{Config: p.Config("fenced")}
				require.NoError(t, f.InitializeContext(ctx))
				defer f.Close()
				fence, err := f.NewFence(&ghostferry.FenceConfig{Kind: kind, KillAfter: -1})
				require.NoError(t, err)
				defer func() { require.NoError(t, fence.Close(ctx)) }()
				giveUp, fenced, long := fenceBehindAStatement(ctx, t, p, app, fence, statement)
				giveUp()
				require.ErrorIs(t, <-fenced, context.Canceled)
				require.Empty(t, sourceProcesses(t, p, statement, ""), "the fence still waits on the server")
				require.NoError(t, fence.Unfence(ctx))
				for _, one := range sourceProcesses(t, p, "SLEEP(30)", "") {
					harness.Exec(t, p.SourceDB, fmt.Sprintf("KILL QUERY %d", one.ID))
				}
				<-long // whether it was interrupted is no matter
				_, err = app.ExecContext(ctx, "UPDATE rows_ SET n = 1 WHERE id = 2")
				require.NoError(t, err)
				var readOnly bool
				require.NoError(t, p.SourceDB.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&readOnly))
				require.False(t, readOnly)
			})
		}
	})
}

// A fence with a connection of its own kills what is in its way, and nothing of the mover's.
func TestFenceSparesTheMover(t *testing.T) {
	ctx := cutoverContext(t)
	p := harness.Shared(t, harness.Settings[0])
	app := fencedApplication(t, p, "fenced")
	f := &ghostferry.Ferry{Config: p.Config("fenced")}
	f.Source.Marginalia = "of a mover with a name"
	require.NoError(t, f.InitializeContext(ctx))
	defer f.Close()
	fence, err := f.NewFence(&ghostferry.FenceConfig{Kind: ghostferry.FenceReadOnly, Connection: p.Config().Source, KillAfter: 1})
	require.NoError(t, err)
	killed, spared := make(chan error, 1), make(chan int, 1)
	go func() {
		_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = n + SLEEP(30) WHERE id = 1")
		killed <- err
	}()
	go func() {
		interrupted := -1
		_ = f.SourceDB.QueryRowContext(ctx, "SELECT SLEEP(2)").Scan(&interrupted)
		spared <- interrupted
	}()
	harness.Await(t, "both run", func() bool {
		return len(sourceProcesses(t, p, "SLEEP(30)", "")) > 0 && len(sourceProcesses(t, p, "SLEEP(2)", "")) > 0
	})
	require.NoError(t, fence.Fence(ctx))
	require.Error(t, <-killed)
	require.Zero(t, <-spared, "a statement of the mover was killed")
	require.NoError(t, fence.Unfence(ctx))
	require.NoError(t, fence.Close(ctx))
	p.In(t, p.SourceDB, "", "DROP USER 'fenced_app'@'%'")
}

// A transaction that is idle has five times as long to end as a statement, behind table locks, too.
func TestTableLocksWaitForTransactions(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		ctx := cutoverContext(t)
		app := fencedApplication(t, p, "fenced")
		f := &ghostferry.Ferry{Config: p.Config("fenced")}
		require.NoError(t, f.InitializeContext(ctx))
		defer f.Close()
		fence, err := f.NewFence(&ghostferry.FenceConfig{Kind: ghostferry.FenceLockTables, KillAfter: ghostferry.Duration(time.Second)})
		require.NoError(t, err)
		tx, err := app.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, "UPDATE rows_ SET n = 3 WHERE id = 1")
		require.NoError(t, err)
		closed := make(chan error, 1)
		go func() { closed <- fence.Fence(ctx) }()
		harness.Await(t, "the fence has waited for a while", func() bool {
			var waits int
			err := p.SourceDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%LOCK TABLES %READ' AND TIME >= 2").Scan(&waits)
			require.NoError(t, err)
			return waits > 0
		})
		require.NoError(t, tx.Commit(), "its connection was killed")
		require.NoError(t, <-closed)
		require.NoError(t, fence.Unfence(ctx))
		require.NoError(t, fence.Close(ctx))
		p.In(t, p.SourceDB, "", "DROP USER 'fenced_app'@'%'")
	})
}

// Connections of a user's two accounts look the same: both have to be named.
func TestAccountFenceWantsAllAccountsOfAUser(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		ctx := cutoverContext(t)
		app := fencedApplication(t, p, "fenced")
		p.In(t, p.SourceDB, "", "DROP USER IF EXISTS 'fenced_app'@'localhost'", "CREATE USER 'fenced_app'@'localhost'")
		defer p.In(t, p.SourceDB, "", "DROP USER 'fenced_app'@'localhost', 'fenced_app'@'%'")
		f := &ghostferry.Ferry{Config: p.Config("fenced")}
		require.NoError(t, f.InitializeContext(ctx))
		defer f.Close()
		write := func() error { _, err := app.ExecContext(ctx, "UPDATE rows_ SET n = n + 1"); return err }

		one, err := f.NewFence(&ghostferry.FenceConfig{Kind: ghostferry.FenceAccounts, Accounts: []string{"fenced_app@%"}})
		require.NoError(t, err)
		require.ErrorContains(t, one.Fence(ctx), "user fenced_app has account 'fenced_app'@'localhost', too")
		require.NoError(t, write(), "nothing was locked")
		require.NoError(t, one.Close(ctx))

		both, err := f.NewFence(&ghostferry.FenceConfig{Kind: ghostferry.FenceAccounts, Accounts: []string{"fenced_app@%", "fenced_app@localhost"}})
		require.NoError(t, err)
		require.NoError(t, both.Fence(ctx))
		require.Error(t, write())
		require.NoError(t, both.Unfence(ctx))
		require.NoError(t, write())
		require.NoError(t, both.Close(ctx))
	})
}

// While it is not known who has the traffic the source stays fenced, by table locks as long
// as the Ferry is there. Who waits for them then is sent away.
func TestTableLocksStayWhileTheTrafficIsUnknown(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		ctx := cutoverContext(t)
		app := fencedApplication(t, p, "fenced")
		f := &ghostferry.Ferry{Config: p.Config("fenced")}
		f.CutoverFence = &ghostferry.FenceConfig{Kind: ghostferry.FenceLockTables}
		f.MaxCutoverRetries = 1
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		ran := make(chan error, 1)
		go func() { ran <- f.RunContext(ctx) }()
		_, err := f.Cutover(ctx, ghostferry.CutoverHooks{Switch: func(context.Context) error { return ghostferry.ErrTrafficUnknown }})
		require.ErrorIs(t, err, ghostferry.ErrTrafficUnknown)
		require.ErrorContains(t, err, "its table locks last until this process ends or closes the Ferry")
		require.NoError(t, <-ran)
		written := make(chan error, 1)
		go func() {
			_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = 5 /* late */")
			written <- err
		}()
		harness.Await(t, "the writer waits for the locks", func() bool { return len(sourceProcesses(t, p, "/* late */", "Waiting for table")) > 0 })
		require.NoError(t, f.Close())
		require.Error(t, <-written)
		p.MustEqual(t, "fenced")
		p.In(t, p.SourceDB, "", "DROP USER 'fenced_app'@'%'")
	})
}

// fenceBehindAStatement lets a fence wait with a statement of its own for a long one of the
// application. It returns how the fence is given up, and the ends of both.
func fenceBehindAStatement(ctx context.Context, t *testing.T, p *harness.Pair, app *sql.DB, fence ghostferry.Fence, statement string) (giveUp context.CancelFunc, fenced, long <-chan error) {
	t.Helper()
	applied := make(chan error, 1)
	go func() {
		_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = n + SLEEP(30) WHERE id = 1")
		applied <- err
	}()
	harness.Await(t, "the long statement runs", func() bool { return len(sourceProcesses(t, p, "SLEEP(30)", "")) > 0 })
	budget, giveUp := context.WithCancel(ctx)
	closed := make(chan error, 1)
	go func() { closed <- fence.Fence(budget) }()
	harness.Await(t, "the fence waits", func() bool { return len(sourceProcesses(t, p, statement, "")) > 0 })
	return giveUp, closed, applied
}
