package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A row that somebody else writes to the target ends the run at once, with table, key,
// coordinate and the comment of the statement; writes to other tables, and to rows of others,
// do no harm. The target's tables have their columns in another order, and one more.
func TestForeignWritesAreNoticed(t *testing.T) {
	for _, c := range []struct {
		name, statement, change, key, comment string
		filter                                ghostferry.CopyFilter
	}{
		{"insert", "INSERT INTO t (id, v) VALUES (1000, 'x')", "insert", "1000", "", nil},
		{"update", "/*application:shop*/ UPDATE t SET v = 'x' WHERE id = 3", "update", "3", "application:shop", nil},
		{"delete", "DELETE /* not in front */ FROM t WHERE id = 2", "delete", "2", "", nil},
		{"key of bytes", "UPDATE b SET v = 1 WHERE k = x'00ff'", "update", "00ff", "", nil},
		{"part of a row", "SET binlog_row_image='MINIMAL';UPDATE t SET v = 'x' WHERE id = 3", "update", "", "", nil},
		{"row of a tenant", "UPDATE t SET v = 'x' WHERE id = 3", "update", "3", "", &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {7}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
				p.Create(t, "watched", "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), owner INT DEFAULT 7)", "CREATE TABLE b (k VARBINARY(4) PRIMARY KEY, v INT, owner INT DEFAULT 7)")
				p.In(t, p.SourceDB, "watched", "INSERT INTO t (id,v) VALUES (1,'a'),(2,'b'),(3,'c')", "INSERT INTO b (k,v) VALUES (x'00ff', 0)")
				p.In(t, p.TargetDB, "watched", "ALTER TABLE t ADD more VARCHAR(300) DEFAULT 'filled' FIRST, MODIFY owner INT FIRST")
				p.In(t, p.TargetDB, "", "DROP DATABASE IF EXISTS not_moved", "CREATE DATABASE not_moved", "CREATE TABLE not_moved.t (id INT PRIMARY KEY)")
				config := p.Config("watched")
				config.AutomaticCutover, config.CopyFilter = false, c.filter
				f := &ghostferry.Ferry{Config: config}
				require.NoError(t, f.InitializeContext(t.Context()))
				require.NoError(t, f.StartContext(t.Context()))
				copied := make(chan struct{})
				f.DataIterator.AddDoneListener(func() error { close(copied); return nil })
				ran := make(chan error, 1)
				go func() { ran <- f.RunContext(context.Background()) }()
				select {
				case <-copied:
				case err := <-ran:
					require.NoError(t, err)
				}
				harness.Await(t, "the watch has seen a change", func() bool { return f.Progress().TargetBinlogStreamerLag > 0 })
				p.In(t, p.TargetDB, "", "INSERT INTO not_moved.t VALUES (1)")
				if c.filter != nil {
					p.In(t, p.TargetDB, "watched", "INSERT INTO t (id, v, owner) VALUES (7, 'of another', 3)", "UPDATE t SET v='x' WHERE id=7")
				}
				p.In(t, p.TargetDB, "watched", strings.Split(c.statement, ";")...)
				var err error
				select {
				case err = <-ran:
				case <-time.After(10 * time.Second): // the promise is two seconds
					require.Fail(t, "the write was not noticed")
				}
				var foreign *ghostferry.ForeignWriteError
				require.True(t, errors.As(err, &foreign), "%v", err)
				require.Equal(t, c.change, foreign.Change)
				require.Equal(t, c.key, foreign.Key)
				require.Equal(t, c.comment, foreign.Comment)
				require.NotZero(t, foreign.Coordinate.Pos)
				row := "row data"
				if c.key != "" {
					row += " with paginationKey " + c.key
				}
				require.Contains(t, err.Error(), fmt.Sprintf("%s on `watched`.`%s` has been corrupted by a change directly performed in the target at binlog file: binlog.", row, foreign.Table))
				require.False(t, ghostferry.Resumable(err))
				require.NoError(t, f.Close())
			})
		})
	}
}

// A target that logs updates of JSON documents in part does so for ours, too, which nobody reads.
// Such an update by somebody else is noticed.
func TestPartialUpdatesOnTheTarget(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	p.Create(t, "watched", "CREATE TABLE t (id INT PRIMARY KEY, doc JSON)")
	p.In(t, p.SourceDB, "watched", "INSERT INTO t VALUES (1,JSON_OBJECT('a',REPEAT('x',200),'b',1))")
	global(t, p.TargetDB, "binlog_row_value_options", "'PARTIAL_JSON'", "''")
	f := &ghostferry.Ferry{Config: p.Config("watched")}
	err := harness.Move(t.Context(), f, func() error {
		if err := p.TryIn(t.Context(), p.SourceDB, "watched", "UPDATE t SET doc=JSON_SET(doc,'$.b',2)"); err != nil {
			return err
		}
		harness.Await(t, "our update has arrived", func() bool { return harness.Count(t, p.TargetDB, "watched.t WHERE doc->'$.b'=2") == 1 })
		return p.TryIn(t.Context(), p.TargetDB, "watched", "SET binlog_row_value_options='PARTIAL_JSON'", "UPDATE t SET doc=JSON_SET(doc,'$.b',3)")
	})
	require.NoError(t, f.Close())
	foreign, noticed := errors.AsType[*ghostferry.ForeignWriteError](err)
	require.True(t, noticed, "%v", err)
	require.Equal(t, "update", foreign.Change)
	require.Empty(t, foreign.Key)
}

// So does what loses rows, or writes some that are not ours: a table that is dropped, which
// the server logs in its own words, and a trigger, whose rows look like ours.
func TestForeignDefinitionsAreNoticed(t *testing.T) {
	for name, statements := range map[string][]string{
		"dropped":        {"DROP TABLE other", "DROP TABLE t"},
		"dropped beside": {"DROP TABLE IF EXISTS other, t"},
		"trigger":        {"CREATE TRIGGER harmless BEFORE INSERT ON other FOR EACH ROW SET NEW.id=1", "CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW SET @x=1"},
	} {
		t.Run(name, func(t *testing.T) {
			onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
				p.Create(t, "watched", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
				p.In(t, p.SourceDB, "watched", "INSERT INTO t VALUES (1,1)")
				f := &ghostferry.Ferry{Config: p.Config("watched")}
				mustStart(t, t.Context(), f)
				p.In(t, p.TargetDB, "watched", "CREATE TABLE other (id INT PRIMARY KEY)")
				ran := make(chan error, 1)
				go func() { ran <- f.RunContext(t.Context()) }()
				require.NoError(t, f.WaitUntilRowCopyIsCompleteContext(t.Context()))
				p.In(t, p.TargetDB, "watched", statements...)
				select {
				case err := <-ran:
					var unsupported *ghostferry.UnsupportedEventError
					require.ErrorAs(t, err, &unsupported)
					require.Equal(t, "watched.t", unsupported.Table)
				case <-time.After(10 * time.Second):
					require.Fail(t, "it was not noticed")
				}
				require.NoError(t, f.Close())
			})
		})
	}
}

// A write after the run has ended is noticed before the target may be used.
func TestForeignWriteDuringTheCutover(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := p.Shop(t, "watched_late", 1000)
		f := &ghostferry.Ferry{Config: p.Config(o.Database)}
		require.NoError(t, harness.Move(t.Context(), f, func() error {
			return p.TryIn(t.Context(), p.TargetDB, "", "CREATE DATABASE IF NOT EXISTS watched_other")
		}))
		require.NoError(t, f.Close())

		config := p.Config(o.Database)
		config.VerifierType = ghostferry.VerifierTypeNoVerification
		f = &ghostferry.Ferry{Config: config}
		err := harness.Move(t.Context(), f, func() error {
			return p.TryIn(t.Context(), p.TargetDB, o.Database, "UPDATE seats SET price = price + 1 ORDER BY id LIMIT 1")
		})
		var foreign *ghostferry.ForeignWriteError
		require.True(t, errors.As(err, &foreign), "%v", err)
		require.NoError(t, f.Close())
	})
}

// The end of the watch may be asked for again: it says that nobody has written only when that
// was looked for. What was dropped before the run began, when the target's tables were made, is not held against anybody.
func TestEndOfTheWatch(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const ddl = "CREATE TABLE t (id INT PRIMARY KEY, v INT)"
		p.Create(t, "watch_end", ddl)
		p.In(t, p.SourceDB, "watch_end", "INSERT INTO t VALUES (1,1)")
		start := func() *ghostferry.Ferry {
			f := &ghostferry.Ferry{Config: p.Config("watch_end")}
			f.Checkpoint = "off"
			p.In(t, p.TargetDB, "watch_end", "DELETE FROM t")
			mustStart(t, t.Context(), f)
			p.In(t, p.TargetDB, "watch_end", "DROP TABLE t", ddl)
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(t.Context()) }()
			require.NoError(t, f.WaitUntilRowCopyIsCompleteContext(t.Context()))
			require.NoError(t, f.FlushBinlogAndStopStreamingContext(t.Context()))
			require.NoError(t, <-ran)
			require.NoError(t, f.WaitUntilRowCopyIsCompleteContext(t.Context()))
			return f
		}
		f := start()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, f.StopTargetVerifierContext(ended))
		require.NoError(t, f.StopTargetVerifierContext(t.Context()))
		require.NoError(t, f.StopTargetVerifierContext(t.Context()))
		require.NoError(t, f.Close())
		require.NoError(t, f.StopTargetVerifierContext(t.Context()))

		f = start()
		require.Error(t, f.StopTargetVerifierContext(ended))
		p.In(t, p.TargetDB, "watch_end", "UPDATE t SET v=2")
		require.ErrorAs(t, f.StopTargetVerifierContext(t.Context()), new(*ghostferry.ForeignWriteError))
		require.NoError(t, f.Close())

		f = start()
		require.NoError(t, f.Close())
		require.ErrorContains(t, f.StopTargetVerifierContext(t.Context()), "the watch on the target was ended")
	})
}

// The watch goes on only in the log that it has followed. When another server has taken the
// target's place the run ends, and the same command goes on there; when that log, or the one of the
// same server after a reset, does not have what was watched, all is compared anew, so that what
// others wrote meanwhile is found. A run without a verifier is refused. The other log has the same
// file names and is as long.
func TestTargetIsReplacedOrReset(t *testing.T) {
	t.Parallel() // with servers of its own
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	replicated := withReplica(t, harness.Settings[0])
	p := &harness.Pair{Setting: replicated.Setting, Source: replicated.Target, SourceDB: replicated.TargetDB, Target: replicated.Source, TargetDB: replicated.SourceDB}
	p.Create(t, "replaced", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, "replaced", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
	first := &ghostferry.Ferry{Config: p.Config("replaced")}
	first.Config.AutomaticCutover = false
	proxy := behindProxy(t, p.Target, first.Target)
	address := *first.Target
	again := func() *ghostferry.Ferry {
		f := &ghostferry.Ferry{Config: p.Config("replaced")}
		f.Target.Host, f.Target.Port = address.Host, address.Port
		return f
	}
	mustStart(t, ctx, first)
	ran := make(chan error, 1)
	go func() { ran <- first.RunContext(ctx) }()
	harness.Await(t, "the rows are copied", func() bool { return first.OverallState.Load() == ghostferry.StateWaitingForCutover })
	harness.Await(t, "the verifier's progress is saved", func() bool { return harness.Count(t, p.TargetDB, "_ghostferry.verifications") == 1 })
	watched := first.TargetVerifier.BinlogStreamer.GetLastStreamedBinlogPosition()
	replicated.followed(t)
	require.NoError(t, p.Target.Kill())
	replicated.promote(t)
	p.Target, p.TargetDB = replicated.Source, replicated.SourceDB
	proxy.Lead(addressOf(p.Target))
	err := <-ran
	var changed *ghostferry.ServerChangedError
	require.ErrorAs(t, err, &changed)
	require.True(t, changed.Target)
	require.True(t, ghostferry.Resumable(err))
	require.ErrorContains(t, err, "the target's address now leads to another server")
	require.NoError(t, first.Close())

	// longer makes the target's log go beyond the place, in the same file.
	longer := func() {
		t.Helper()
		harness.Await(t, "the log comes to the same place", func() bool {
			var file string
			var pos int64
			require.NoError(t, p.TargetDB.QueryRow("SHOW BINARY LOG STATUS").Scan(&file, &pos, new(sql.NullString), new(sql.NullString), new(sql.NullString)))
			switch {
			case file < watched.Name:
				p.In(t, p.TargetDB, "", "FLUSH BINARY LOGS")
			case file == watched.Name && pos <= int64(watched.Pos):
				p.In(t, p.TargetDB, "", "CREATE SCHEMA IF NOT EXISTS aside", "DROP SCHEMA aside")
			default:
				return true
			}
			return false
		})
	}
	mustFind := func(key string) {
		t.Helper()
		p.In(t, p.TargetDB, "replaced", "UPDATE t SET v=99 WHERE id="+key)
		longer()
		unverified := again()
		unverified.VerifierType = ghostferry.VerifierTypeNoVerification
		require.NoError(t, unverified.InitializeContext(ctx))
		err := unverified.StartContext(ctx)
		var unwatched *ghostferry.UnwatchedError
		require.ErrorAs(t, err, &unwatched)
		require.True(t, ghostferry.Resumable(err))
		require.ErrorContains(t, err, "VerifierType")
		require.NoError(t, unverified.Close())

		f := again()
		mustStart(t, ctx, f)
		require.True(t, f.Resuming())
		err = harness.RunStarted(ctx, f, func() error { return nil })
		require.ErrorContains(t, err, "replaced.t [PKs: "+key, "the row is found by a comparison")
		require.NoError(t, f.Close())
		p.In(t, p.TargetDB, "replaced", "SET sql_log_bin=0", "UPDATE t SET v=id WHERE id="+key)
	}
	mustFind("1")

	f := again()
	f.Config.AutomaticCutover = false
	mustStart(t, ctx, f)
	interrupt(t, ctx, f, func() {
		harness.Await(t, "all is compared", func() bool { return f.OverallState.Load() == ghostferry.StateWaitingForCutover })
	})
	watched = f.TargetVerifier.BinlogStreamer.GetLastStreamedBinlogPosition()
	require.NoError(t, f.Close())
	p.In(t, p.TargetDB, "", "RESET BINARY LOGS AND GTIDS")
	mustFind("2")

	f = again()
	mustStart(t, ctx, f)
	p.In(t, p.SourceDB, "replaced", "UPDATE t SET v=30 WHERE id=3")
	require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
	require.NoError(t, f.Close())
	p.MustEqual(t, "replaced")
}

// A target whose log does not tell who wrote is refused, unless nobody asks.
func TestTargetWithoutStatementsInItsLog(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		name := "binlog_rows_query_log_events"
		if p.IsMariaDB() {
			name = "binlog_annotate_row_events"
		}
		global(t, p.TargetDB, name, "OFF", "ON")
		p.Create(t, "watch_refused", "CREATE TABLE t (id INT PRIMARY KEY)")
		f := &ghostferry.Ferry{Config: p.Config("watch_refused")}
		require.ErrorContains(t, f.InitializeContext(t.Context()), name+" must be ON, not OFF (target)")
		config := p.Config("watch_refused")
		config.SkipTargetVerification = true
		f = &ghostferry.Ferry{Config: config}
		require.NoError(t, f.InitializeContext(t.Context()))
		require.Nil(t, f.TargetVerifier)
		require.NoError(t, f.StopTargetVerifierContext(t.Context()))
		require.NoError(t, f.Close())
	})
}
