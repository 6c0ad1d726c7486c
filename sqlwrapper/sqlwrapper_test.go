package sqlwrapper_test

import (
	"context"
	sqlorig "database/sql"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

func TestAnnotateStmt(t *testing.T) {
	for marginalia, want := range map[string]string{
		"application:x":        "/*application:x*/ SELECT 1",
		"":                     "/**/ SELECT 1",
		"a*/ DROP TABLE t; /*": "/*a* / DROP TABLE t; /**/ SELECT 1",
		"***/":                 "/**** /*/ SELECT 1",
		"!50000 SELECT 2":      "/* !50000 SELECT 2*/ SELECT 1",
		"M!100000 SELECT 2":    "/* M!100000 SELECT 2*/ SELECT 1",
		"+ HINT":               "/* + HINT*/ SELECT 1",
	} {
		require.Equal(t, want, sqlwrapper.AnnotateStmt("SELECT 1", marginalia))
	}
}

// Asks the server what it is being asked: the text arrives with the comment in front.
const ownText = "SELECT INFO FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID() AND 1 = ?"

func TestEveryStatementIsAnnotated(t *testing.T) {
	server, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MariaDB})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	config, err := mysql.ParseDSN(server.DSN(""))
	require.NoError(t, err)
	connector, err := mysql.NewConnector(config)
	require.NoError(t, err)

	for _, marginalia := range []string{"application:x", "a*/ b", "!50000 x", "it's ; here -- #"} {
		db := sqlwrapper.OpenDB(connector, marginalia)
		defer db.Close()
		wanted := sqlwrapper.AnnotateStmt(ownText, marginalia)
		ctx := t.Context()

		tx, err := db.Begin()
		require.NoError(t, err)
		defer tx.Rollback()
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		connTx, err := conn.BeginTx(ctx, &sqlorig.TxOptions{ReadOnly: true})
		require.NoError(t, err)
		defer connTx.Rollback()

		row := func(row *sqlorig.Row) {
			t.Helper()
			var text string
			require.NoError(t, row.Scan(&text))
			require.Equal(t, wanted, text)
		}
		row(db.QueryRow(ownText, 1))
		row(db.QueryRowContext(ctx, ownText, 1))
		row(tx.QueryRow(ownText, 1))
		row(tx.QueryRowContext(ctx, ownText, 1))
		row(connTx.QueryRowContext(ctx, ownText, 1))
		row(conn.QueryRowContext(ctx, ownText, 1))

		rows := func(rows *sqlorig.Rows, err error) {
			t.Helper()
			require.NoError(t, err)
			defer rows.Close()
			require.True(t, rows.Next())
			var text string
			require.NoError(t, rows.Scan(&text))
			require.Equal(t, wanted, text)
			require.False(t, rows.Next())
			require.NoError(t, rows.Err())
		}
		rows(db.Query(ownText, 1))
		rows(db.QueryContext(ctx, ownText, 1))
		rows(tx.Query(ownText, 1))
		rows(tx.QueryContext(ctx, ownText, 1))
		rows(conn.QueryContext(ctx, ownText, 1))

		prepared := func(statement *sqlorig.Stmt, err error) {
			t.Helper()
			require.NoError(t, err)
			defer statement.Close()
			row(statement.QueryRow(1))
		}
		prepared(db.Prepare(ownText))
		prepared(db.PrepareContext(ctx, ownText))
		prepared(tx.Prepare(ownText))
		prepared(tx.PrepareContext(ctx, ownText))
		prepared(conn.PrepareContext(ctx, ownText))

		// A statement without rows leaves its text in a variable of its session.
		const remember = "SET @text = (SELECT INFO FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID() AND 1 = ?)"
		executed := func(run func(context.Context, string, ...interface{}) (sqlorig.Result, error), read func(context.Context, string, ...interface{}) *sqlorig.Row) {
			t.Helper()
			_, err := run(ctx, remember, 1)
			require.NoError(t, err)
			var text string
			require.NoError(t, read(ctx, "SELECT @text").Scan(&text))
			require.Equal(t, sqlwrapper.AnnotateStmt(remember, marginalia), text)
		}
		executed(tx.ExecContext, tx.QueryRowContext)
		executed(func(_ context.Context, query string, args ...interface{}) (sqlorig.Result, error) {
			return tx.Exec(query, args...)
		}, tx.QueryRowContext)
		executed(conn.ExecContext, conn.QueryRowContext)
		require.NoError(t, connTx.Rollback())
		require.NoError(t, conn.Close())
		require.NoError(t, tx.Rollback())
		db.SetMaxOpenConns(1)
		executed(db.ExecContext, db.QueryRowContext)
		executed(func(_ context.Context, query string, args ...interface{}) (sqlorig.Result, error) {
			return db.Exec(query, args...)
		}, db.QueryRowContext)

		version, err := db.QueryMySQLVersion()
		require.NoError(t, err)
		require.Equal(t, server.Version, version)
	}
}

func TestOpenReturnsADBEvenWithAnError(t *testing.T) {
	db, err := sqlwrapper.Open("no such driver", "", "")
	require.Error(t, err)
	require.NotNil(t, db)
	require.NoError(t, db.Close())

	db, err = sqlwrapper.Open("mysql", "u@tcp(127.0.0.1:1)/", "m")
	require.NoError(t, err)
	require.Equal(t, "m", db.Marginalia)
	_, err = db.Begin()
	require.Error(t, err)
	_, err = db.Conn(t.Context())
	require.Error(t, err)
	require.NoError(t, db.Close())
}
