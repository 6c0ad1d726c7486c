package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/sqlwrapper"
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
			purge(t, p, file)
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

// purge removes the source's log files before one, which may be in use for a moment.
func purge(t *testing.T, p *harness.Pair, to string) {
	t.Helper()
	harness.Await(t, "the logs are purged", func() bool {
		p.In(t, p.SourceDB, "", "PURGE BINARY LOGS TO '"+to+"'")
		files := 0
		rows, err := p.SourceDB.Query("SHOW BINARY LOGS")
		require.NoError(t, err)
		for rows.Next() {
			files++
		}
		require.NoError(t, rows.Close())
		return files == 1
	})
}

// A place by file and offset is as good as one with GTIDs. A stream that was idle while the source
// began new files and purged the others has missed nothing, when its connection breaks; and of a
// state without GTIDs, as Shopify's Ghostferry writes them, the run knows all that was before.
func TestPlacesByFileAndOffset(t *testing.T) {
	t.Parallel() // with a server of its own
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := harness.New(t, harness.Settings[0])
	const schema = "offsets"
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2)")
	file, pos, err := p.SourceLogEnd(ctx)
	require.NoError(t, err)

	source := &sqlwrapper.DB{DB: p.SourceDB}
	tables, err := ghostferry.LoadTables(source, harness.Schemas{schema}, nil, nil, nil, nil)
	require.NoError(t, err)
	s := &ghostferry.BinlogStreamer{DB: source, DBConfig: p.Config(schema).Source, TableSchema: tables, HeartbeatPeriod: time.Second}
	_, err = s.ConnectBinlogStreamerToMysqlFrom(mysql.Position{Name: file, Pos: uint32(pos)})
	require.NoError(t, err)
	var changes atomic.Int32
	s.AddEventListener(func(evs []ghostferry.DMLEvent) error { changes.Add(int32(len(evs))); return nil })
	streamed := make(chan error, 1)
	go func() { streamed <- s.RunContext(ctx) }()
	p.In(t, p.SourceDB, "", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
	file, _, err = p.SourceLogEnd(ctx)
	require.NoError(t, err)
	harness.Await(t, "the stream has come to the last file", func() bool { return s.GetLastStreamedBinlogPosition().Name == file })
	purge(t, p, file)
	var dump int
	require.NoError(t, p.SourceDB.QueryRow("SELECT MAX(ID) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'").Scan(&dump))
	p.In(t, p.SourceDB, "", fmt.Sprintf("KILL %d", dump))
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (3,3)")
	s.FlushAndStop()
	require.NoError(t, <-streamed)
	require.EqualValues(t, 1, changes.Load())

	// Of the purged transactions there is no trace but the set of GTIDs.
	var state string
	for n := range 3 {
		if n == 1 {
			p.In(t, p.SourceDB, schema, "UPDATE t SET v=v+1", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (10,10)")
			all := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(state), &all))
			delete(all, "LastWrittenGTIDSet")
			text, err := json.Marshal(all)
			require.NoError(t, err)
			state = string(text)
		}
		f := stateFerry(t, p, schema, state)
		f.Config.VerifierType = ghostferry.VerifierTypeNoVerification
		f.Config.AutomaticCutover = n == 2
		mustStart(t, ctx, f)
		require.Equal(t, n > 0, f.Resuming())
		if n == 2 {
			require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
			require.NoError(t, f.Close())
			p.MustEqual(t, schema)
			break
		}
		interrupt(t, ctx, f, func() {
			p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO t VALUES (%d,0)", 20+n))
			awaitRows(t, p.TargetDB, schema+".t", harness.Count(t, p.SourceDB, schema+".t"), f)
		})
		state, err = f.SerializeStateToJSON()
		require.NoError(t, err)
		known := &ghostferry.SerializableState{}
		require.NoError(t, json.Unmarshal([]byte(state), known))
		require.Regexp(t, "^[0-9a-f-]{36}:1-[0-9]+$", known.LastWrittenGTIDSet, "from the first transaction on")
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

// A move begins on a server that has executed nothing with GTIDs yet while its first transaction
// is in the log and not committed: that belongs to the move, and to the set that is recorded.
func TestFirstTransactionOfTheLogIsCommitting(t *testing.T) {
	t.Parallel() // with servers of its own
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := harness.New(t, harness.Settings[0])
	p.Create(t, "fresh_log", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, "fresh_log", "INSERT INTO t VALUES (1,1),(2,2)")
	stall := p.Stall(t, "fresh_log", "ROLLBACK", "RESET BINARY LOGS AND GTIDS", "BEGIN", "UPDATE t SET v=7 WHERE id=1")
	harness.Await(t, "the transaction is in the new log", func() bool {
		return strings.Contains(strings.Join(harness.Rows(t, p.SourceDB, "SHOW BINLOG EVENTS"), "\n"), "Xid")
	})
	require.Equal(t, 1, harness.Count(t, p.SourceDB, "DUAL WHERE @@GLOBAL.gtid_executed=''"))
	f := shopFerry(p, "fresh_log", 10)
	f.Config.VerifierType = ghostferry.VerifierTypeNoVerification
	require.NoError(t, f.InitializeContext(ctx))
	var read atomic.Bool
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { read.Store(true); return nil })
	ran := move(ctx, f)
	harness.Await(t, "rows are read, or wait for the transaction", func() bool {
		list, err := harness.Processes(ctx, p.SourceDB)
		require.NoError(t, err)
		return read.Load() || slices.ContainsFunc(list, func(one harness.Process) bool { return strings.Contains(one.Info, "WAIT_FOR_EXECUTED_GTID_SET") })
	})
	require.NoError(t, stall.Release())
	require.NoError(t, <-ran)
	require.Regexp(t, ":1$", f.StateTracker.Serialize(nil, nil).LastWrittenGTIDSet)
	require.NoError(t, f.Close())
	mustHaveEqualRows(t, p, "fresh_log.t")
}
