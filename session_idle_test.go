package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// oneSchema is a TableFilter.
type oneSchema string

func (s oneSchema) ApplicableDatabases([]string) ([]string, error) { return []string{string(s)}, nil }

func (s oneSchema) ApplicableTables(tables []*TableSchema) ([]*TableSchema, error) {
	return tables, nil
}

// halfOpenMove is a started move of a table with two unique indexes.
func halfOpenMove(t *testing.T, ctx context.Context, source, target *DatabaseConfig, idle time.Duration) *Ferry {
	t.Helper()
	f := halfOpenFerry(t, ctx, source, target)
	f.targetServer.IdleLimit = idle
	require.NoError(t, f.StartContext(ctx))
	return f
}

func halfOpenFerry(t *testing.T, ctx context.Context, source, target *DatabaseConfig) *Ferry {
	t.Helper()
	f := &Ferry{Config: &Config{Source: source, Target: target, TableFilter: oneSchema("half_open"), CheckpointSchema: "half_open_runs", AutomaticCutover: true, VerifierType: VerifierTypeNoVerification}}
	require.NoError(t, f.InitializeContext(ctx))
	return f
}

// The machine of a process is gone in the middle of a batch, and the target is not told: it ends
// the session, and with it the locks on the checkpoint, so that the next process goes on.
func TestHalfOpenSessionDoesNotKeepItsLocks(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, target *servers.Server) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		source, err := servers.Start(ctx, servers.Options{Flavour: target.Flavour, Name: "source", GTID: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, source.Stop()) }()
		from, err := testDatabaseConfig(source).SqlDB(nil)
		require.NoError(t, err)
		defer from.Close()
		freshSchema(t, db, "half_open_runs")
		for _, side := range []*sql.DB{from, db} {
			freshSchema(t, side, "half_open")
			mustExec(t, side, "CREATE TABLE half_open.t (id INT PRIMARY KEY, v INT UNIQUE)")
		}
		mustExec(t, from, "INSERT INTO half_open.t VALUES (1,1),(2,2)")
		proxy, err := faultproxy.Start(net.JoinHostPort(target.Host, strconv.Itoa(target.Port)))
		require.NoError(t, err)
		defer func() { require.NoError(t, proxy.Close()) }()
		proxied := testDatabaseConfig(target)
		proxied.Host, proxied.Port = "127.0.0.1", uint16(proxy.Port())

		first := halfOpenMove(t, ctx, testDatabaseConfig(source), proxied, 3*time.Second)
		run, stop := context.WithCancel(ctx)
		ran := make(chan error, 1)
		go func() { ran <- first.RunContext(run) }()
		require.NoError(t, first.WaitUntilRowCopyIsCompleteContext(ctx))
		// The first phase has recorded its intent; its DELETE does not arrive.
		silent := proxy.On(faultproxy.Rule{Do: faultproxy.Silence, Match: faultproxy.Query("^DELETE FROM .half_open.\\..t.")})
		mustExec(t, from, "UPDATE half_open.t SET v=3 WHERE id=1")
		select {
		case <-silent.Fired():
		case err := <-ran:
			require.NoError(t, err, "the run ended")
		}
		require.Positive(t, count(t, db, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_modified > 0"), "the checkpoint is locked")
		stop()
		require.ErrorIs(t, <-ran, ErrInterrupted)
		require.NoError(t, first.Close())

		second := halfOpenMove(t, ctx, testDatabaseConfig(source), testDatabaseConfig(target), 0)
		go func() { ran <- second.RunContext(ctx) }()
		for _, step := range []func(context.Context) error{
			second.WaitUntilRowCopyIsCompleteContext, second.WaitUntilBinlogStreamerCatchesUpContext, second.FlushBinlogAndStopStreamingContext,
		} {
			require.NoError(t, step(ctx))
		}
		require.NoError(t, <-ran)
		limitedTransactions(t, ctx, second)
		tidiedAndForgotten(t, ctx, db, second, func() *Ferry { return halfOpenFerry(t, ctx, testDatabaseConfig(source), proxied) }, proxy)
		require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM half_open.t WHERE id=1 AND v=3"))
	})
}

// limitedTransactions looks at the transactions that a run makes beside those that write the data: each
// ends with its process, too, and one session after the other makes no login for each.
func limitedTransactions(t *testing.T, ctx context.Context, f *Ferry) {
	t.Helper()
	session := 0
	for _, of := range []struct {
		what   string
		run    func(context.Context, func(context.Context, *sql.Tx) error) error
		pooled bool
	}{{"the checkpoint's", f.checkpoint.owned, true}, {"without a checkpoint", f.onTarget, true}, {"the host's", f.InOwnedTransaction, false}} {
		err := of.run(ctx, func(ctx context.Context, tx *sql.Tx) error {
			var idle, locked, checks, id int
			require.NoError(t, tx.QueryRowContext(ctx, "SELECT @@wait_timeout, @@innodb_lock_wait_timeout, @@foreign_key_checks, CONNECTION_ID()").Scan(&idle, &locked, &checks, &id))
			require.Equal(t, []int{120, 5, 0}, []int{idle, locked, checks}, of.what)
			if session == 0 {
				session = id
			}
			require.Equal(t, of.pooled, session == id, of.what)
			return nil
		})
		require.NoError(t, err, of.what)
	}
}

// tidiedAndForgotten closes a run that has finished with very many rows to compare again, and has it forgotten,
// with a failure before.
func tidiedAndForgotten(t *testing.T, ctx context.Context, db *sql.DB, f *Ferry, next func() *Ferry, proxy *faultproxy.Proxy) {
	t.Helper()
	rechecks := func(run string) int {
		return count(t, db, "SELECT COUNT(*) FROM half_open_runs.rechecks WHERE run_id='"+run+"'")
	}
	id := f.checkpoint.runID
	add := func() {
		const digits = "(SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
		mustExec(t, db, fmt.Sprintf("INSERT INTO half_open_runs.rechecks (run_id, table_number, row_key, sum) SELECT '%s', 1, '1', %d FROM %s a, %[3]s b, %[3]s c, %[3]s d", id, recheckSum(1, "1"), digits))
	}
	mustExec(t, db, "INSERT INTO half_open_runs.rechecks (run_id, table_number, row_key, sum) VALUES ('another', 1, '1', 0)")
	add()
	f.tidy()
	require.Equal(t, 2*removedAtOnce, rechecks(id), "the writers are stopped")
	require.NoError(t, f.EndCutoverContext(ctx, time.Now()))
	require.NoError(t, f.Close())
	require.Zero(t, rechecks(id))
	require.Equal(t, 1, rechecks("another"))

	add()
	f = next()
	refused := proxy.On(faultproxy.Rule{Do: faultproxy.Refuse, Match: faultproxy.Query("^DELETE FROM .half_open_runs...rechecks."), Error: 1118})
	require.ErrorContains(t, f.ForgetCheckpoint(ctx), "1118")
	require.Equal(t, 1, refused.Taken())
	require.NoError(t, f.Close())
	require.Equal(t, 2*removedAtOnce, rechecks(id), "all or nothing")

	f = next()
	require.NoError(t, f.ForgetCheckpoint(ctx))
	require.NoError(t, f.Close())
	for _, table := range []string{"runs", "lanes", "tables", "chunks", "rechecks", "debts", "definitions"} {
		require.Zero(t, count(t, db, "SELECT COUNT(*) FROM half_open_runs."+table+" WHERE run_id='"+id+"'"), table)
	}
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(query).Scan(&n))
	return n
}

// A session that has rested in the pool for half of its time is not used any more: nobody meets
// one that the server has ended.
func TestPoolLeavesRestedSessionsAlone(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		srv.IdleLimit = time.Second
		pool := &sessionPool{open: func(ctx context.Context) (*session, error) { return openWriter(ctx, db, srv) }}
		defer pool.close()
		id := func() (s *session, id int) {
			s, err := pool.get(t.Context())
			require.NoError(t, err)
			require.NoError(t, s.conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
			require.NoError(t, s.commit(t.Context()))
			return s, id
		}
		s, first := id()
		pool.put(t.Context(), s)
		s, again := id()
		require.Equal(t, first, again)
		pool.put(t.Context(), s)
		gone := func() bool {
			return count(t, db, "SELECT COUNT(*) FROM information_schema.processlist WHERE id="+strconv.Itoa(first)) == 0
		}
		require.Eventually(t, gone, 30*time.Second, 10*time.Millisecond, "the server does not end it")
		_, other := id()
		require.NotEqual(t, first, other)
	})
}

// What a session reads when the server has ended it while it was used is an outage, not a fault. The
// server ends one that goes silent within LOAD DATA or an answer as soon as one between statements.
func TestEndedByTheServer(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "silent")
		mustExec(t, db, "CREATE TABLE silent.t (id INT PRIMARY KEY)", "SET GLOBAL local_infile=1")
		defer mustExec(t, db, "SET GLOBAL local_infile=0")
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		srv.IdleLimit = 2 * time.Second
		for name, use := range map[string]func(s *session, ended func()) error{
			"between statements": func(s *session, ended func()) error {
				ended()
				return s.commit(t.Context())
			},
			"LOAD DATA": func(s *session, ended func()) error {
				mysql.RegisterReaderHandler("silent", func() io.Reader {
					// More than the server reads at once: it has locked rows before the silence.
					lines := strings.NewReader(strings.Repeat("1\n2\n3\n", 100_000))
					return io.MultiReader(lines, readerFunc(func([]byte) (int, error) {
						ended()
						return 0, io.EOF
					}))
				})
				defer mysql.DeregisterReaderHandler("silent")
				_, err := s.execText(t.Context(), "LOAD DATA LOCAL INFILE 'Reader::silent' INTO TABLE silent.t")
				return err
			},
			"answer": func(s *session, ended func()) error {
				// More than is on its way at once.
				stmt := append(s.statement(), "SELECT REPEAT('x',1000000)"+strings.Repeat(" UNION ALL SELECT REPEAT('x',1000000)", 40)...)
				once := sync.OnceFunc(ended)
				return s.query(t.Context(), stmt, func([]driver.Value) error { once(); return nil })
			},
		} {
			t.Run(name, func(t *testing.T) {
				s, err := openWriter(t.Context(), db, srv)
				require.NoError(t, err)
				defer s.discard()
				var id int
				require.NoError(t, s.conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
				err = use(s, func() {
					require.Eventually(t, func() bool {
						return count(t, db, "SELECT COUNT(*) FROM information_schema.processlist WHERE id="+strconv.Itoa(id)) == 0
					}, 30*time.Second, 10*time.Millisecond)
				})
				require.Error(t, err)
				require.True(t, isOutage(err), "%v", err)
			})
		}
	})
}

// readerFunc is an io.Reader.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Sessions that nobody uses leave half of a bounded pool to everybody else; what finds all of it in
// use is told so, and may wait for it as for a server that is away.
func TestBoundedPoolIsNotKept(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		db.SetMaxOpenConns(3)
		pool := &sessionPool{open: func(ctx context.Context) (*session, error) { return openWriter(ctx, db, srv) }}
		defer pool.close()
		var used []*session
		for range 3 {
			s, err := pool.get(t.Context())
			require.NoError(t, err)
			used = append(used, s)
		}
		_, err = freeConn(t.Context(), db, time.Millisecond)
		require.ErrorContains(t, err, "bounded to 3 (SetMaxOpenConns)")
		require.True(t, isOutage(err))
		require.Contains(t, (&OutageError{Server: "target", Err: err}).Error(), "allow its sql.DB more connections")
		for _, s := range used {
			pool.put(t.Context(), s)
		}
		require.Equal(t, 1, db.Stats().InUse)
		for range 2 { // one has it while another asks
			conn, err := freeConn(t.Context(), db, time.Minute)
			require.NoError(t, err)
			defer conn.Close()
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = freeConn(ended, db, time.Minute)
		require.ErrorIs(t, err, context.Canceled)
	})
}
