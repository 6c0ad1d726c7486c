package integration

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const signalSchema = "signalled"

// interruption is a phase of a move that is held until a signal has come.
type interruption struct {
	t *testing.T
	p *harness.Pair
	// run is the process that is to get the signal.
	run            *copydbProcess
	source, target *faultproxy.Proxy
	// locked gets a token when the writers are stopped, and inLock is what happens then; mu
	// guards it, for the program calls back whenever it likes.
	locked chan struct{}
	mu     sync.Mutex
	inLock func()
	// release ends what holds the phase.
	release func()
}

// hold begins a transaction, or whatever the statements do, on the target; release ends it.
func (i *interruption) hold(statements ...string) {
	i.t.Helper()
	conn, err := i.p.TargetDB.Conn(context.Background())
	require.NoError(i.t, err)
	for _, stmt := range statements {
		_, err := conn.ExecContext(context.Background(), stmt)
		require.NoError(i.t, err, stmt)
	}
	before := i.release
	i.release = func() {
		before()
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
		_, _ = conn.ExecContext(context.Background(), "UNLOCK TABLES")
		if !i.p.IsMariaDB() {
			_, _ = conn.ExecContext(context.Background(), "UNLOCK INSTANCE")
		}
		_ = conn.Close()
	}
}

// whenLocked has f done when the writers are stopped.
func (i *interruption) whenLocked(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.inLock = f
}

// lock does what is to be done when the writers are stopped, the first time.
func (i *interruption) lock() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.inLock()
	i.inLock = func() {}
	i.locked <- struct{}{}
}

// says types a word.
func (i *interruption) says(word string) {
	i.t.Helper()
	_, err := fmt.Fprintln(i.run.stdin, word)
	require.NoError(i.t, err)
}

// works waits until the target is at a statement of the mover.
func (i *interruption) works(pattern string) {
	i.t.Helper()
	matches := regexp.MustCompile(pattern).MatchString
	harness.Await(i.t, "the target is at "+pattern, func() bool {
		list, err := harness.Processes(context.Background(), i.p.TargetDB)
		require.NoError(i.t, err)
		return slices.ContainsFunc(list, func(one harness.Process) bool { return matches(one.Info) })
	})
}

// holdCopy keeps the copy from ending: a row that it is to insert is locked.
func (i *interruption) holdCopy() {
	i.p.In(i.t, i.p.TargetDB, "", "CREATE DATABASE "+signalSchema, "CREATE TABLE "+signalSchema+".t (id INT NOT NULL PRIMARY KEY, v INT, KEY by_v (v))")
	i.hold("BEGIN", "INSERT INTO "+signalSchema+".t VALUES (150, 0)")
}

// goesAway makes a server unreachable while the mover follows the source.
func (i *interruption) goesAway(proxy *faultproxy.Proxy, says string) {
	i.run.stderr.until(i.t, `type \"cutover\" and Enter`)
	proxy.Refuse(true)
	proxy.ResetAll()
	i.release = func() { proxy.Refuse(false) }
	i.p.In(i.t, i.p.SourceDB, signalSchema, "UPDATE t SET v=v+1 WHERE id<5")
	i.run.stderr.until(i.t, says)
}

// interruptions are the phases. prepare is called before the program is started, reach
// returns when it is in the phase.
var interruptions = []struct {
	phase          string
	settings       settings
	prepare, reach func(i *interruption)
	aborts         bool // a cutover, which then is given up
}{
	{phase: "creating tables",
		prepare: func(i *interruption) {
			if i.p.IsMariaDB() {
				i.hold("FLUSH TABLES WITH READ LOCK")
			} else {
				i.hold("LOCK INSTANCE FOR BACKUP")
			}
		},
		reach: func(i *interruption) { i.works("CREATE ") }},
	{phase: "copying", settings: settings{"AllowExistingTargetTable": true}, prepare: (*interruption).holdCopy,
		reach: func(i *interruption) {
			i.run.stderr.until(i.t, "checkpoint is on the target")
			i.works("(?s)INTO.*`" + signalSchema + "`.`t`")
		}},
	{phase: "creating indexes", settings: settings{"DeferSecondaryIndexes": ghostferry.DeferIndexesAll, "DeferSecondaryIndexesMinBytes": 1},
		reach: func(i *interruption) {
			i.says("pause") // before the first row
			i.run.stderr.until(i.t, "paused")
			i.run.stderr.until(i.t, "checkpoint is on the target") // the index is dropped
			i.hold("BEGIN", "SELECT COUNT(*) FROM "+signalSchema+".t")
			i.says("resume")
			i.works("(?s)ALTER TABLE.*by_v")
		}},
	{phase: "waiting for the cutover", reach: func(i *interruption) { i.run.stderr.until(i.t, `type \"cutover\" and Enter`) }},
	{phase: "waiting for the target", reach: func(i *interruption) { i.goesAway(i.target, "the target cannot be used") }},
	{phase: "waiting for the source", reach: func(i *interruption) { i.goesAway(i.source, "the binary log stream broke") }},
	{phase: "draining", settings: settings{"AutomaticCutover": true}, aborts: true,
		prepare: func(i *interruption) {
			i.whenLocked(func() {
				i.hold("BEGIN", "SELECT * FROM "+signalSchema+".t WHERE id=7 FOR UPDATE")
				i.p.In(i.t, i.p.SourceDB, signalSchema, "UPDATE t SET v=v+1 WHERE id=7")
			})
		},
		reach: func(i *interruption) {
			<-i.locked
			i.works("`" + signalSchema + "`.`t`")
		}},
	{phase: "comparing", settings: settings{"AutomaticCutover": true, "VerifierType": ghostferry.VerifierTypeChecksumTable}, aborts: true,
		prepare: func(i *interruption) {
			i.whenLocked(func() { i.hold("LOCK TABLES " + signalSchema + ".t WRITE") })
		},
		reach: func(i *interruption) {
			<-i.locked
			i.works("`" + signalSchema + "`.`t`")
		}},
}

// SIGTERM or SIGINT ends copydb in every phase, also where it waits for something that does
// not happen: as interrupted, and the same command goes on and arrives. In the cutover the
// writers are let go on before.
func TestCopydbIsInterruptedInEveryPhase(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for n, phase := range interruptions {
			t.Run(phase.phase, func(t *testing.T) {
				freshSchemas(t, p, signalSchema)
				p.In(t, p.SourceDB, "", "CREATE DATABASE "+signalSchema, "USE "+signalSchema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v INT, KEY by_v (v))",
					"INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<200) SELECT id, id FROM n")
				i := &interruption{t: t, p: p, locked: make(chan struct{}, 10), inLock: func() {}, release: func() {}}
				defer func() { i.release() }()
				i.source, i.target = behindProxy(t, p.Source, &ghostferry.DatabaseConfig{}), behindProxy(t, p.Target, &ghostferry.DatabaseConfig{})
				h := serveHooks(t, func() error {
					i.lock()
					return nil
				})
				file := copydbSettings(p, []string{signalSchema}, with(settings{"AutomaticCutover": false, "DataIterationConcurrency": 1}, h.settings(), phase.settings, settings{
					"Source": settings{"Host": "127.0.0.1", "Port": i.source.Port(), "User": p.Source.User(), "Pass": p.Source.Password()},
					"Target": settings{"Host": "127.0.0.1", "Port": i.target.Port(), "User": p.Target.User(), "Pass": p.Target.Password()},
				})).file(t)
				if phase.prepare != nil {
					phase.prepare(i)
				}
				i.run = startCopydb(t, "-json", file)
				phase.reach(i)
				began := time.Now()
				require.NoError(t, i.run.cmd.Process.Signal([]os.Signal{syscall.SIGTERM, os.Interrupt}[n%2]))
				require.Equal(t, 3, i.run.ended())
				t.Logf("interrupted while %s: ended after %.2f s", phase.phase, time.Since(began).Seconds())
				require.Equal(t, copydb.Interrupted, i.run.result().Outcome)
				require.Contains(t, i.run.result().Error, "interrupted; the run can be resumed")
				if phase.aborts {
					require.Equal(t, []string{"lock", "abort"}, h.calls())
				}

				i.release()
				i.release = func() {}
				again := startCopydb(t, "-json", file)
				_, err := fmt.Fprintln(again.stdin, "cutover")
				require.NoError(t, err)
				require.Zero(t, again.ended())
				require.True(t, again.result().Verified)
				if phase.phase != "creating tables" {
					require.Contains(t, again.stderr.String(), "going on with the run")
				}
				p.MustEqual(t, signalSchema)
			})
		}
	})
}

// A signal that comes when the application was sent to the target ends copydb as done: the same
// command would not go on, and nothing is left to be done.
func TestCopydbIsInterruptedAfterTheSwitch(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	freshSchemas(t, p, signalSchema)
	p.In(t, p.SourceDB, "", "CREATE DATABASE "+signalSchema, "CREATE TABLE "+signalSchema+".t (id INT NOT NULL PRIMARY KEY)", "INSERT INTO "+signalSchema+".t VALUES (1),(2)")
	h := serveHooks(t, func() error { return nil })
	run := startCopydb(t, "-json", copydbSettings(p, []string{signalSchema}, with(h.settings(), settings{"TailGuardSeconds": 600})).file(t))
	harness.Await(t, "the traffic is switched", func() bool { return slices.Contains(h.calls(), "unlock") })
	require.NoError(t, run.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, run.ended())
	require.Equal(t, copydb.Equal, run.result().Outcome)
	require.Equal(t, []string{"lock", "unlock"}, h.calls())
	p.MustEqual(t, signalSchema)
}

// A host that leaves signals to the library gets its run back as interrupted, with the
// state taken: while rows are copied, while it waits for the cutover, and while it waits
// for a server. Nothing of the process but the run ends.
func TestRunIsInterruptedBySignals(t *testing.T) {
	received := make(chan os.Signal, 10) // so that no signal ends the test
	signal.Notify(received, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(received)
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		for _, phase := range []string{"copying", "waiting for the cutover", "waiting for the target", "about to cut over"} {
			t.Run(phase, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				p.Create(t, signalSchema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v INT)")
				p.In(t, p.SourceDB, signalSchema, "INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<200) SELECT id, id FROM n")
				log := &recordingLogger{}
				f := shopFerry(p, signalSchema, 20)
				f.Config.AutomaticCutover, f.Config.DumpStateOnSignal, f.Config.Logger = false, true, log.logger()
				proxy := behindProxy(t, p.Target, f.Target)
				mustStart(t, ctx, f)
				var lock *sql.Tx
				if phase == "copying" {
					var err error
					lock, err = p.TargetDB.BeginTx(ctx, nil)
					require.NoError(t, err)
					_, err = lock.Exec("INSERT INTO " + signalSchema + ".t VALUES (150, 0)")
					require.NoError(t, err)
				}
				ran := make(chan error, 1)
				go func() { ran <- f.RunContext(ctx) }()
				if lock != nil {
					harness.Await(t, "rows are copied", func() bool { return harness.Count(t, p.TargetDB, signalSchema+".t") > 0 })
				} else {
					awaitRows(t, p.TargetDB, signalSchema+".t", 200, f)
				}
				cutover := make(chan error, 1)
				switch phase {
				case "waiting for the target":
					proxy.Refuse(true)
					proxy.ResetAll()
					p.In(t, p.SourceDB, signalSchema, "UPDATE t SET v=v+1")
					harness.Await(t, "the run waits", func() bool {
						select {
						case err := <-ran:
							t.Fatalf("the run ended: %v", err)
						default:
						}
						return log.count("cannot be used") > 0
					})
				case "about to cut over":
					f.Throttler.SetPaused(true)
					f.AllowCutover()
					go func() {
						_, err := f.Cutover(ctx, ghostferry.CutoverHooks{})
						cutover <- err
					}()
					harness.Await(t, "the cutover is to begin", func() bool { return f.OverallState.Load() == ghostferry.StateVerifyBeforeCutover })
				}
				began := time.Now()
				require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
				err := <-ran
				t.Logf("interrupted while %s: ended after %.2f s", phase, time.Since(began).Seconds())
				require.ErrorIs(t, err, ghostferry.ErrInterrupted)
				require.True(t, ghostferry.Resumable(err))
				if phase == "about to cut over" {
					require.ErrorIs(t, <-cutover, ghostferry.ErrInterrupted)
				}
				state, err := f.SerializeStateToJSON()
				require.NoError(t, err)
				require.Contains(t, state, "LastWrittenBinlogPosition")
				require.NoError(t, f.Close())

				if lock != nil {
					require.NoError(t, lock.Rollback())
				}
				proxy.Refuse(false)
				next := shopFerry(p, signalSchema, 20)
				mustStart(t, ctx, next)
				require.True(t, next.Resuming())
				require.NoError(t, harness.RunStarted(ctx, next, func() error { return nil }))
				require.NoError(t, next.Close())
				p.MustEqual(t, signalSchema)
			})
		}
	})
}
