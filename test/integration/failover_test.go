package integration

import (
	"context"
	"database/sql"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// failover is a source with a replica, which can be promoted.
type failover struct {
	*harness.Pair
	replica   *servers.Server
	replicaDB *sql.DB
}

func withReplica(t *testing.T, s harness.Setting) *failover {
	t.Helper()
	f := &failover{Pair: harness.New(t, s)}
	var err error
	f.replica, err = servers.Start(t.Context(), servers.Options{Flavour: s.Flavour, Name: "replica", GTID: true, Flags: []string{"--log-slave-updates"}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.replica.Stop() })
	f.replicaDB, err = f.replica.DB(t.Context())
	require.NoError(t, err)
	f.Pair.Replicate(t, f.replicaDB)
	return f
}

// followed waits until the replica has executed everything that the source has.
func (f *failover) followed(t *testing.T) {
	t.Helper()
	if f.IsMariaDB() {
		var at string
		require.NoError(t, f.SourceDB.QueryRow("SELECT @@GLOBAL.gtid_binlog_pos").Scan(&at))
		_, err := f.replicaDB.Exec("SELECT MASTER_GTID_WAIT(?, 60)", at)
		require.NoError(t, err)
		return
	}
	var executed string
	require.NoError(t, f.SourceDB.QueryRow("SELECT @@GLOBAL.gtid_executed").Scan(&executed))
	var late int
	require.NoError(t, f.replicaDB.QueryRow("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", executed).Scan(&late))
	require.Zero(t, late)
}

// promote makes the replica the source: the pair's, and at the address of its database
// configuration.
func (f *failover) promote(t *testing.T) {
	t.Helper()
	if f.IsMariaDB() {
		harness.Exec(t, f.replicaDB, "STOP SLAVE;\nRESET SLAVE ALL;\nSET GLOBAL read_only = OFF")
	} else {
		harness.Exec(t, f.replicaDB, "STOP REPLICA;\nRESET REPLICA ALL;\nSET GLOBAL super_read_only = OFF;\nSET GLOBAL read_only = OFF")
	}
	f.Source, f.replica = f.replica, f.Source
	f.SourceDB, f.replicaDB = f.replicaDB, f.SourceDB
}

func addressOf(s *servers.Server) string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// The source's address is moved to a promoted replica that has everything: the run ends,
// and the same command goes on there, in the copy as well as later, and arrives.
func TestFailoverToAPromotedReplica(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, when := range []string{"copy", "follow"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			p := withReplica(t, harness.Settings[0])
			o := p.Shop(t, "failover", 2000)
			writer := p.Write(t, o, 60)
			first := shopFerry(p.Pair, "failover", 100)
			first.Config.AutomaticCutover = false
			proxy := behindProxy(t, p.Source, first.Source)
			mustStart(t, ctx, first)
			reached := make(chan struct{}, 10000)
			first.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
				reached <- struct{}{}
				return nil
			})
			ran := make(chan error, 1)
			go func() { ran <- first.RunContext(ctx) }()
			if when == "copy" {
				for range 8 {
					<-reached
				}
			} else {
				harness.Await(t, "the rows are copied", func() bool { return first.OverallState.Load() == ghostferry.StateWaitingForCutover })
			}
			_, err := writer.Stop()
			require.NoError(t, err)
			p.followed(t)
			require.NoError(t, p.Source.Kill())
			p.promote(t)
			proxy.Lead(addressOf(p.Source))
			err = <-ran
			var changed *ghostferry.ServerChangedError
			require.ErrorAs(t, err, &changed)
			require.True(t, changed.Follows)
			require.True(t, ghostferry.Resumable(err))
			require.NoError(t, first.Close())

			// The run is found at the promoted server as often as it is started there.
			writer = p.Write(t, o, 60)
			again := func() *ghostferry.Ferry {
				f := shopFerry(p.Pair, "failover", 100)
				f.Source.Host, f.Source.Port = first.Source.Host, first.Source.Port
				mustStart(t, ctx, f)
				require.True(t, f.Resuming())
				return f
			}
			second := again()
			interrupt(t, ctx, second, func() {
				harness.Await(t, "the second process follows", func() bool { return second.Progress().BinlogRowsApplied > 0 })
			})
			require.NoError(t, second.Close())

			third := again()
			require.NoError(t, harness.RunStarted(ctx, third, harness.StopWriter(writer)))
			require.NoError(t, third.Close())
			p.MustEqual(t, "failover")
			require.NoError(t, again().Close(), "a finished run is found, too")
		})
	}
}

// A run that has failed over goes on as often as it is started, whatever the processes before
// have written: places of the first source's log, which all lanes of the checkpoint have, are not
// looked for in the second one's.
func TestFailoverTwice(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, applied := range []string{"nothing", "one lane's"} {
		t.Run(applied, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p := withReplica(t, harness.Settings[0])
			cutRun(t, ctx, p.Pair, "twice")
			goOn(t, ctx, p.Pair, "twice", "INSERT INTO t WITH RECURSIVE n AS (SELECT 100 AS i UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT i, i FROM n")
			require.Greater(t, harness.Count(t, p.TargetDB, "_ghostferry.lanes WHERE intent_mark <> ''"), 1, "lanes that know the first source's log")
			p.followed(t)
			require.NoError(t, p.Source.Kill())
			p.promote(t)
			for range 12 { // so that it has files of the same names
				harness.Exec(t, p.SourceDB, "FLUSH BINARY LOGS")
			}

			if applied == "nothing" {
				takeOver(t, ctx, p.Pair, "twice")
			} else {
				goOn(t, ctx, p.Pair, "twice", "INSERT INTO t VALUES (5000,1)")
			}
			require.Zero(t, harness.Count(t, p.TargetDB, "_ghostferry.lanes WHERE lane > 0 AND (intent_file <> '' OR intent_mark <> '')"))
			p.In(t, p.SourceDB, "twice", "INSERT INTO t VALUES (5001,1)", "DELETE FROM t WHERE id=100")
			third := shopFerry(p.Pair, "twice", 2)
			require.NoError(t, harness.Move(ctx, third, func() error { return nil }))
			require.True(t, third.Resuming())
			require.NoError(t, third.Close())
			p.MustEqual(t, "twice")
		})
	}
}

// takeOver runs until the run is recorded as one of the new source, and is interrupted.
func takeOver(t *testing.T, ctx context.Context, p *harness.Pair, schema string) {
	t.Helper()
	f := shopFerry(p, schema, 2)
	f.Config.AutomaticCutover = false
	mustStart(t, ctx, f)
	interrupt(t, ctx, f, func() {
		harness.Await(t, "the run is taken over", func() bool { return harness.Count(t, p.TargetDB, "_ghostferry.origins") == 1 })
	})
	require.NoError(t, f.Close())
}

// cutRun moves two tables until everything is copied and the last change is applied, and
// is interrupted. It returns the configuration to go on with.
func cutRun(t *testing.T, ctx context.Context, p *harness.Pair, schema string) {
	t.Helper()
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, v INT UNIQUE)")
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4)", "INSERT INTO u VALUES (1,1),(2,2)")
	goOn(t, ctx, p, schema, "INSERT INTO t VALUES (10,10)", "INSERT INTO t VALUES (11,11)")
}

// goOn runs until the changes are applied, and is interrupted.
func goOn(t *testing.T, ctx context.Context, p *harness.Pair, schema string, changes ...string) {
	t.Helper()
	f := shopFerry(p, schema, 2)
	f.Config.AutomaticCutover = false
	mustStart(t, ctx, f)
	interrupt(t, ctx, f, func() {
		p.In(t, p.SourceDB, schema, changes...)
		want := harness.Count(t, p.SourceDB, schema+".t")
		awaitRows(t, p.TargetDB, schema+".t", want, f)
	})
}

// refused starts the run again, which must be refused before anything is written.
func refused(t *testing.T, ctx context.Context, p *harness.Pair, schema string) error {
	t.Helper()
	before := targetAsItIs(t, p, schema)
	err := harness.Move(ctx, shopFerry(p, schema, 2), func() error { return nil })
	require.Error(t, err)
	require.Equal(t, before, targetAsItIs(t, p, schema), "the target was written although the run was refused: %v", err)
	return err
}

// targetAsItIs is everything that a run could have changed on the target.
func targetAsItIs(t *testing.T, p *harness.Pair, schema string) string {
	t.Helper()
	var text string
	require.NoError(t, p.TargetDB.QueryRow("SELECT CONCAT_WS('|', (SELECT GROUP_CONCAT(CONCAT(id, ':', v) ORDER BY id) FROM "+schema+".t),"+
		" (SELECT GROUP_CONCAT(CONCAT(id, ':', v) ORDER BY id) FROM "+schema+".u),"+
		" (SELECT GROUP_CONCAT(CONCAT(epoch, ':', source) ORDER BY run_id) FROM _ghostferry.runs),"+
		" (SELECT GROUP_CONCAT(CONCAT(lane, ':', pos, ':', intent_pos, ':', batch) ORDER BY lane) FROM _ghostferry.lanes))").Scan(&text))
	return text
}

// A promoted replica that lacks what is on the target is refused, naming the GTIDs; so is,
// in place of its master, any other MariaDB, whose GTIDs do not tell.
func TestFailoverToALaggingReplica(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneFlavour(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p := withReplica(t, s)
			cutRun(t, ctx, p.Pair, "lagging")
			p.followed(t)
			stopReplication(t, p)
			goOn(t, ctx, p.Pair, "lagging", "INSERT INTO t VALUES (12,12)")
			require.NoError(t, p.Source.Kill())
			p.promote(t)
			err := refused(t, ctx, p.Pair, "lagging")
			require.True(t, ghostferry.Resumable(err))
			if p.IsMariaDB() {
				// It is a run of another source altogether, for which the target is not empty.
				require.ErrorContains(t, err, "another")
				return
			}
			var lacks *ghostferry.SourceLacksError
			require.ErrorAs(t, err, &lacks)
			require.NotEmpty(t, lacks.Missing)
		})
	}
}

// A promoted replica that lacks a transaction of which a part is on the target is refused by a
// state, too: by one of a run that had ended, which tells of the part, as by one that does not.
func TestFailoverLosesAPartOfAState(t *testing.T) {
	t.Parallel() // with servers of its own
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := withReplica(t, harness.Settings[0])
	const schema = "state_part"
	p.Create(t, schema, "CREATE TABLE s (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)")
	store := ghostferry.FileCheckpointStore{Directory: t.TempDir()}
	states := func(c *ghostferry.Config) {
		c.Checkpoint, c.CheckpointStore, c.RunID, c.VerifierType = "off", store, "part", ghostferry.VerifierTypeNoVerification
	}
	p.followed(t)
	stopReplication(t, p)
	run, stop := context.WithCancel(ctx)
	defer stop()
	f, _, silence, ran := followed(t, run, p.Pair, schema, states)
	silent := silence(13)
	transactionOfChanges(t, ctx, p.Pair, schema, 0, 20, nil)
	await(t, silent.Fired(), ran)
	awaitRows(t, p.TargetDB, schema+".other", partBatch, f)
	overtaken, err := f.SerializeStateToJSON()
	require.NoError(t, err)
	stop()
	mustBeInterrupted(t, <-ran)
	require.NoError(t, f.Close())
	last, err := store.LoadState(ctx, "part")
	require.NoError(t, err)
	require.True(t, last.Final)

	// Who goes on from a state of a process that may have executed more does not know better.
	f = stateFerry(t, p.Pair, schema, overtaken)
	f.Config.AutomaticCutover, f.Config.VerifierType = false, ghostferry.VerifierTypeNoVerification
	require.False(t, f.StateToResumeFrom.Final)
	require.NoError(t, f.InitializeContext(ctx))
	run, stop = context.WithCancel(ctx)
	defer stop()
	f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error {
		stop()
		return run.Err()
	})
	require.NoError(t, f.StartContext(ctx))
	mustBeInterrupted(t, f.RunContext(run))
	overtaken, err = f.SerializeStateToJSON()
	require.NoError(t, err)
	require.NoError(t, f.Close())

	require.NoError(t, p.Source.Kill())
	p.promote(t)
	again := &ghostferry.Ferry{Config: p.Config(schema)}
	states(again.Config)
	err = harness.Move(ctx, again, func() error { return nil })
	var lacks *ghostferry.SourceLacksError
	require.ErrorAs(t, err, &lacks, "a part of a transaction is on the target: %d rows", harness.Count(t, p.TargetDB, schema+".other"))
	again = stateFerry(t, p.Pair, schema, overtaken)
	again.Config.VerifierType = ghostferry.VerifierTypeNoVerification
	err = harness.Move(ctx, again, func() error { return nil })
	var unknown *ghostferry.OvertakenStateError
	require.ErrorAs(t, err, &unknown)
	require.True(t, ghostferry.Resumable(err), "the server before may come back")
}

func stopReplication(t *testing.T, p *failover) {
	t.Helper()
	if p.IsMariaDB() {
		harness.Exec(t, p.replicaDB, "STOP SLAVE")
	} else {
		harness.Exec(t, p.replicaDB, "STOP REPLICA")
	}
}

// readAhead copies rows that hold transactions which the stream does not deliver, and is
// interrupted, after some batches or when everything is copied (0): a row changed, one
// deleted, one inserted below the highest key.
func readAhead(t *testing.T, ctx context.Context, p *harness.Pair, schema string, batches int) {
	t.Helper()
	f := shopFerry(p, schema, 2)
	f.Config.AutomaticCutover = false
	require.NoError(t, f.InitializeContext(ctx))
	run, stop := context.WithCancel(ctx)
	defer stop()
	f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error { // before the Ferry's own
		<-run.Done()
		return run.Err()
	})
	require.NoError(t, f.StartContext(ctx))
	p.In(t, p.SourceDB, schema, "UPDATE t SET v=99 WHERE id=7", "DELETE FROM t WHERE id=6", "INSERT INTO t VALUES (5,55)",
		"UPDATE u SET v=NULL WHERE id=1", "UPDATE u SET v=1 WHERE id=2")
	f.DataIterator.Concurrency = 1
	if batches > 0 {
		f.DataIterator.AddBatchListener((&copies{}).listener(func(n int) {
			if n == batches {
				stop()
			}
		}))
	}
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(run) }()
	if batches == 0 {
		harness.Await(t, "the rows are copied", func() bool { return f.OverallState.Load() == ghostferry.StateWaitingForCutover })
		stop()
	}
	mustBeInterrupted(t, <-ran)
	require.Equal(t, 1, harness.Count(t, p.TargetDB, schema+".t WHERE v=99"))
}

func createReadAhead(t *testing.T, p *harness.Pair, schema string) {
	t.Helper()
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, v INT UNIQUE)", "CREATE TABLE w (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(6,6),(7,7),(8,8),(9,9)", "INSERT INTO u VALUES (1,1),(2,2),(3,3)", "INSERT INTO w VALUES (1,1),(2,2)")
}

// Rows that were read and whose transactions a promoted replica never had are copied anew,
// and no others of their table. (TestLostReadsAreRepaired has tables that were complete.)
func TestFailoverRepairsUnconfirmedRows(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := withReplica(t, harness.Settings[0])
	p.Create(t, "ahead", "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, "ahead", "INSERT INTO t VALUES (1,1),(2,2),(6,6),(7,7),(8,8),(9,9)", "INSERT INTO u VALUES (1,1),(2,2),(3,3)",
		"INSERT INTO t WITH RECURSIVE n AS (SELECT 20 AS i UNION ALL SELECT i+1 FROM n WHERE i < 60) SELECT i, i FROM n")
	p.followed(t)
	stopReplication(t, p)
	readAhead(t, ctx, p.Pair, "ahead", 5)
	require.NoError(t, p.Source.Kill())
	p.promote(t)

	p.In(t, p.SourceDB, "ahead", "INSERT INTO t VALUES (200,200)")
	f := shopFerry(p.Pair, "ahead", 2)
	require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
	require.NoError(t, f.Close())
	p.MustEqual(t, "ahead")
	require.Zero(t, harness.Count(t, p.TargetDB, "ahead.t WHERE v=99 OR id=5"))
	require.Equal(t, 1, harness.Count(t, p.TargetDB, "ahead.t WHERE id=6"))
}

// awaitAge waits until the source cannot have started just now: processes are told apart by the
// second of their start, and log files by theirs.
func awaitAge(t *testing.T, p *harness.Pair) {
	t.Helper()
	harness.Await(t, "the source has run for some seconds", func() bool {
		var name string
		var seconds int
		require.NoError(t, p.SourceDB.QueryRow("SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &seconds))
		return seconds > 3
	})
}

// older keeps the data directory of the source as it is, and restore puts it back: a crash
// that loses the end of the log. The file of that name is written anew, with the same GTIDs.
func older(t *testing.T, p *harness.Pair) (restore func()) {
	t.Helper()
	require.NoError(t, p.Source.Kill())
	kept := t.TempDir() + "/data"
	copyDirectory(t, p.Source.DataDir, kept)
	require.NoError(t, p.Source.Restart(t.Context()))
	return func() {
		awaitAge(t, p)
		require.NoError(t, p.Source.Kill())
		require.NoError(t, os.RemoveAll(p.Source.DataDir))
		copyDirectory(t, kept, p.Source.DataDir)
		require.NoError(t, p.Source.Restart(t.Context()))
	}
}

// A source that has lost the end of its log and given the same numbers and offsets to other
// transactions: what was executed is recognised by its content, and the run refused.
func TestReusedNumbersAreRefused(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneSetting(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p := harness.New(t, s)
			p.Create(t, "reused", "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, v INT UNIQUE)")
			p.In(t, p.SourceDB, "reused", "INSERT INTO t VALUES (1,1),(2,2),(3,3)", "INSERT INTO u VALUES (1,1)")
			restore := older(t, p)
			goOn(t, ctx, p, "reused", "INSERT INTO t VALUES (10,10)", "INSERT INTO t VALUES (11,11)")
			restore()
			for i := range 20 { // more than there were before
				p.In(t, p.SourceDB, "reused", "INSERT INTO t VALUES ("+strconv.Itoa(100+i)+",1)")
			}
			err := refused(t, ctx, p, "reused")
			var lost *ghostferry.LostTransactionsError
			require.ErrorAs(t, err, &lost)
			require.False(t, ghostferry.Resumable(err))
		})
	}
}

// Rows that were read and lost by the source with the end of its log are copied anew when
// what was executed is still there, whoever has their numbers now.
func TestLostReadsAreRepaired(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneSetting(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p := harness.New(t, s)
			createReadAhead(t, p, "lost_read")
			restore := older(t, p)
			// Something to know the log by, and to be executed.
			readAhead(t, ctx, p, "lost_read", 0)
			restore()
			for i := range 20 {
				p.In(t, p.SourceDB, "lost_read", "INSERT INTO t VALUES ("+strconv.Itoa(100+i)+",1)")
			}
			f := shopFerry(p, "lost_read", 2)
			err := harness.Move(ctx, f, func() error { return nil })
			var lost *ghostferry.LostTransactionsError
			if s.Flavour == servers.MariaDB || !s.GTID {
				// The file itself is another, and with it the place to begin at.
				require.ErrorAs(t, err, &lost)
				return
			}
			require.NoError(t, err)
			require.NoError(t, f.Close())
			p.MustEqual(t, "lost_read")
			require.Zero(t, harness.Count(t, p.TargetDB, "lost_read.t WHERE v=99 OR id=5"))
		})
	}
}

// A source that is killed and comes back with everything, in the middle of the copy: the
// same process goes on, and nothing is read again but what was under way.
func TestRestartedSourceIsFollowed(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneSetting(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p := harness.New(t, s)
			p.Create(t, "restarted", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
			p.In(t, p.SourceDB, "restarted", "INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT i, i FROM n")
			f := shopFerry(p, "restarted", 10)
			mustStart(t, ctx, f)
			batches := 0
			f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { // behind the Ferry's own
				if batches++; batches == 20 {
					require.NoError(t, p.Source.Kill())
					require.NoError(t, p.Source.Restart(ctx))
				}
				return nil
			})
			f.DataIterator.Concurrency = 1
			require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
			require.NoError(t, f.Close())
			p.MustEqual(t, "restarted")
			require.Equal(t, uint64(900), f.Progress().RowsCopied)
		})
	}
}
