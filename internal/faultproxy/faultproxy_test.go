package faultproxy_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

var running struct {
	sync.Mutex
	servers []*servers.Server
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range running.servers {
		_ = s.Stop()
	}
	os.Exit(code)
}

// world is a server behind a proxy.
type world struct {
	*faultproxy.Proxy
	server *servers.Server
	direct *sql.DB // past the proxy
}

// onBoth runs a test with a server of each flavour and a proxy of the test's own.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		on(t, flavour, test)
	}
}

func on(t *testing.T, flavour servers.Flavour, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run(string(flavour), func(t *testing.T) {
		w := &world{server: serverOf(t, flavour)}
		var err error
		w.direct, err = w.server.DB(t.Context())
		require.NoError(t, err)
		for _, stmt := range []string{
			"CREATE DATABASE IF NOT EXISTS proxied", "DROP TABLE IF EXISTS proxied.t",
			"CREATE TABLE proxied.t (id INT PRIMARY KEY, v TEXT)", "INSERT INTO proxied.t VALUES (1, REPEAT('x', 5000)), (2, REPEAT('y', 5000))",
		} {
			_, err := w.direct.ExecContext(t.Context(), stmt)
			require.NoError(t, err)
		}
		w.Proxy, err = faultproxy.Start(net.JoinHostPort(w.server.Host, strconv.Itoa(w.server.Port)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, w.Close()) })
		test(t, w)
	})
}

func serverOf(t *testing.T, flavour servers.Flavour) *servers.Server {
	t.Helper()
	running.Lock()
	defer running.Unlock()
	for _, s := range running.servers {
		if s.Flavour == flavour {
			return s
		}
	}
	s, err := servers.Start(t.Context(), servers.Options{Flavour: flavour, GTID: true})
	require.NoError(t, err)
	running.servers = append(running.servers, s)
	return s
}

// conn is one connection through the proxy.
func (w *world) conn(t *testing.T, options func(*driver.Config)) *sql.Conn {
	t.Helper()
	c, err := driver.ParseDSN(w.server.DSN("proxied"))
	require.NoError(t, err)
	c.Addr = w.Addr()
	if options != nil {
		options(c)
	}
	connector, err := driver.NewConnector(c)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	return conn
}

// insert begins a transaction that inserts row 3.
func insert(t *testing.T, conn *sql.Conn) {
	t.Helper()
	for _, stmt := range []string{"BEGIN", "INSERT INTO t VALUES (3, 'z')"} {
		_, err := conn.ExecContext(t.Context(), stmt)
		require.NoError(t, err)
	}
}

func (w *world) rows(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, w.direct.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM proxied.t").Scan(&n))
	return n
}

func TestPacketsPass(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		large := make([]byte, 17<<20) // more than one packet
		var n int
		_, err := w.direct.ExecContext(t.Context(), "SET GLOBAL max_allowed_packet = 64<<20")
		require.NoError(t, err)
		conn := w.conn(t, func(c *driver.Config) { c.MaxAllowedPacket = 64 << 20; c.InterpolateParams = true })
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT LENGTH(?)", large).Scan(&n))
		require.Equal(t, len(large), n)
		require.Empty(t, w.Faults())
	})
}

func TestRulesCountMatches(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		third := w.On(faultproxy.Rule{Match: faultproxy.Query("^select 3"), Skip: 2, Do: faultproxy.Reset})
		conn := w.conn(t, nil)
		var n int
		for range 2 {
			require.NoError(t, conn.QueryRowContext(t.Context(), "/* who asks */ SELECT 3").Scan(&n))
			require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT 4").Scan(&n))
		}
		require.Zero(t, third.Taken())
		require.Error(t, conn.QueryRowContext(t.Context(), "SELECT 3").Scan(&n))
		<-third.Fired()
		require.NoError(t, w.conn(t, nil).QueryRowContext(t.Context(), "SELECT 3").Scan(&n))
		require.Len(t, w.Faults(), 1)
		require.Equal(t, "SELECT 3", w.Faults()[0].Text)
	})
}

func TestCommitIsLostOrItsAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.On(faultproxy.Rule{Match: faultproxy.Query("^COMMIT"), Do: faultproxy.Reset})
		conn := w.conn(t, nil)
		insert(t, conn)
		_, err := conn.ExecContext(t.Context(), "COMMIT")
		require.Error(t, err)
		require.Equal(t, 2, w.rows(t), "the packet was lost")

		answer := w.On(faultproxy.Rule{Match: faultproxy.Query("^COMMIT"), Do: faultproxy.LoseAnswer})
		conn = w.conn(t, nil)
		insert(t, conn)
		_, err = conn.ExecContext(t.Context(), "COMMIT")
		require.Error(t, err)
		<-answer.Fired()
		require.Equal(t, 3, w.rows(t), "only the answer was lost")
	})
}

func TestHeldPacketsArriveLater(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		commit := w.On(faultproxy.Rule{Match: faultproxy.Query("^COMMIT"), Do: faultproxy.Hold})
		conn := w.conn(t, nil)
		insert(t, conn)
		_, err := conn.ExecContext(t.Context(), "COMMIT")
		require.Error(t, err)
		require.Equal(t, 2, w.rows(t))
		require.NoError(t, commit.Deliver())
		require.Equal(t, 3, w.rows(t), "the transaction of the lost client was committed")

		body := w.On(faultproxy.Rule{Match: faultproxy.Query("^DELETE"), Do: faultproxy.Hold})
		conn = w.conn(t, nil)
		_, err = conn.ExecContext(t.Context(), "BEGIN")
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), "DELETE FROM t")
		require.Error(t, err)
		require.NoError(t, body.Deliver())
		require.Equal(t, 3, w.rows(t), "without its COMMIT nothing has happened")
	})
}

func TestAnswerIsCut(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.On(faultproxy.Rule{Match: faultproxy.Query("^SELECT v"), Do: faultproxy.Cut, Bytes: 7000})
		rows, err := w.conn(t, nil).QueryContext(t.Context(), "SELECT v FROM t ORDER BY id")
		require.NoError(t, err)
		defer rows.Close()
		require.True(t, rows.Next(), "the first row passes")
		require.False(t, rows.Next())
		require.Error(t, rows.Err())
	})
}

func TestSilence(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		rule := w.On(faultproxy.Rule{Match: faultproxy.Query("^INSERT"), Do: faultproxy.Silence})
		conn, other := w.conn(t, nil), w.conn(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-rule.Fired()
			cancel()
		}()
		_, err := conn.ExecContext(ctx, "INSERT INTO t VALUES (4, '')")
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 2, w.rows(t))
		require.NoError(t, other.PingContext(t.Context()), "other connections are not concerned")

		w.Silence()
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, other.PingContext(ctx), context.DeadlineExceeded)
	})
}

func TestDelay(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const wait = 50 * time.Millisecond
		w.On(faultproxy.Rule{Match: faultproxy.Query("^SELECT 1"), Do: faultproxy.Delay, Wait: wait})
		conn := w.conn(t, nil)
		begun := time.Now()
		var n int
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT 1").Scan(&n))
		require.GreaterOrEqual(t, time.Since(begun), wait)
	})
}

func TestEncryptedConnectionsPass(t *testing.T) {
	// MySQL makes itself a certificate.
	on(t, servers.MySQL, func(t *testing.T, w *world) {
		rule := w.On(faultproxy.Rule{Match: faultproxy.Query("."), Do: faultproxy.Reset})
		conn := w.conn(t, func(c *driver.Config) { c.TLSConfig = "skip-verify" })
		var name, cipher string
		require.NoError(t, conn.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher))
		require.NotEmpty(t, cipher)
		require.Zero(t, rule.Taken())
		w.ResetAll()
		require.Error(t, conn.QueryRowContext(t.Context(), "SELECT 1").Scan(&name))
	})
}

func TestRefuse(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		db, err := sql.Open("mysql", "nobody@tcp("+w.Addr()+")/")
		require.NoError(t, err)
		defer db.Close()
		w.Refuse(true)
		require.Error(t, db.PingContext(t.Context()))
		w.Refuse(false)
		require.NoError(t, w.conn(t, nil).PingContext(t.Context()))
	})
}

func TestRowsEventIsCut(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		rule := w.On(faultproxy.Rule{Match: faultproxy.RowsEvent, Skip: 1, Do: faultproxy.Cut})
		dump := w.On(faultproxy.Rule{Match: faultproxy.BinlogDump, Do: faultproxy.Delay, Wait: time.Millisecond})
		flavour := mysql.MySQLFlavor
		if w.server.Flavour == servers.MariaDB {
			flavour = mysql.MariaDBFlavor
		}
		syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
			ServerID: 4242, Flavor: flavour, Host: "127.0.0.1", Port: uint16(w.Port()),
			User: w.server.User(), Password: w.server.Password(), DisableRetrySync: true,
			Logger: slog.New(slog.DiscardHandler),
		})
		defer syncer.Close()
		stream, err := syncer.StartSync(w.logEnd(t))
		require.NoError(t, err)
		<-dump.Fired()
		_, err = w.direct.ExecContext(t.Context(), "INSERT INTO proxied.t VALUES (5, '')")
		require.NoError(t, err)
		for passed := false; !passed; {
			ev, err := stream.GetEvent(t.Context())
			require.NoError(t, err)
			_, passed = ev.Event.(*replication.RowsEvent)
		}
		_, err = w.direct.ExecContext(t.Context(), "INSERT INTO proxied.t VALUES (6, REPEAT('6', 500))")
		require.NoError(t, err)
		for err == nil {
			var ev *replication.BinlogEvent
			if ev, err = stream.GetEvent(t.Context()); err == nil {
				require.NotEqual(t, "WriteRowsEventV2", ev.Header.EventType.String())
			}
		}
		require.Equal(t, 1, rule.Taken())
	})
}

func (w *world) logEnd(t *testing.T) mysql.Position {
	t.Helper()
	query := "SHOW BINARY LOG STATUS"
	if w.server.Flavour == servers.MariaDB {
		query = "SHOW MASTER STATUS"
	}
	rows, err := w.direct.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	names, err := rows.Columns()
	require.NoError(t, err)
	var at mysql.Position
	values := []any{&at.Name, &at.Pos}
	for range names[2:] {
		values = append(values, new(sql.RawBytes))
	}
	require.NoError(t, rows.Scan(values...))
	require.NoError(t, rows.Err())
	return at
}
