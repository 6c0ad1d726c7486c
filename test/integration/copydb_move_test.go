package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// slowly makes a copy of some thousand rows last long enough to be stopped in between.
var slowly = settings{"DataIterationConcurrency": 1, "UpdatableConfig": settings{"DataIterationBatchSize": 40}}

func with(all ...settings) settings {
	merged := settings{}
	for _, s := range all {
		for name, value := range s {
			merged[name] = value
		}
	}
	return merged
}

// The whole way: a shop that is written moves by one command, the hooks stop its
// writers, and what the last line says is true.
func TestCopydbMovesALiveShop(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_shop", 8000)
		writer := p.Write(t, o, 80)
		h := serveHooks(t, func() error { return writer.Pause(context.Background()) })
		status, run := runCopydb(t, "-json", copydbSettings(p, []string{o.Database}, h.settings()).file(t))
		require.Zero(t, status)
		require.Equal(t, []string{"lock", "unlock"}, h.calls())
		p.MustEqual(t, o.Database)

		r := run.result()
		require.Equal(t, copydb.Equal, r.Outcome)
		require.True(t, r.Verified)
		require.Empty(t, r.Error)
		require.Equal(t, 11, r.Tables)
		require.GreaterOrEqual(t, r.RowsCopied, uint64(7000))
		require.GreaterOrEqual(t, r.RowsCompared, r.RowsCopied/2)
		require.Positive(t, r.BinlogRowsApplied)
		require.Positive(t, r.CopySeconds)
		require.Positive(t, r.Seconds)
		require.Positive(t, r.WriteBlockMS)
		require.Contains(t, r.Coordinate, "binlog.")
		require.NotContains(t, run.stderr.String(), "goroutine ", "no panic, no race")
		_, err := writer.Stop()
		require.NoError(t, err)
	})
}

// Nobody stops the writers, but nobody writes either: the last line says both.
func TestCopydbWithoutFence(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_unfenced", 2000)
		status, run := runCopydb(t, copydbSettings(p, []string{o.Database}, nil).file(t))
		require.Zero(t, status)
		require.Regexp(t, `^equal at binlog\.\d+:\d+.*, source not fenced\n$`, run.stdout.String())
		p.MustEqual(t, o.Database)
	})
}

// Without a fence and with a writer that goes on, there is no coordinate at which both
// sides are equal for longer than a moment: that is a failure that names the tables.
func TestCopydbNoticesLateWrites(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_late", 2000)
		writer := p.Write(t, o, -1)
		status, run := runCopydb(t, "-json", copydbSettings(p, []string{o.Database}, nil).file(t))
		require.Equal(t, 2, status)
		r := run.result()
		require.Equal(t, copydb.Failed, r.Outcome)
		require.False(t, r.Verified)
		require.Contains(t, r.Error, "the source was written after the stop position, in copydb_late.")
		_, err := writer.Stop()
		require.NoError(t, err)
	})
}

func TestCopydbWithoutVerification(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_unverified", 2000)
		config := copydbSettings(p, []string{o.Database}, settings{"VerifierType": "NoVerification"}).file(t)
		status, run := runCopydb(t, config)
		require.Zero(t, status)
		require.Equal(t, "done, NOT verified\n", run.stdout.String())
		p.MustEqual(t, o.Database)
	})
}

// The cutover waits for the word.
func TestCopydbWaitsForTheWord(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_word", 2000)
		h := serveHooks(t, func() error { return nil })
		run := startCopydb(t, copydbSettings(p, []string{o.Database}, with(h.settings(), settings{"AutomaticCutover": false})).file(t))
		run.stderr.until(t, `type \"cutover\" and Enter`)
		fmt.Fprintln(run.stdin, "cut over")
		run.stderr.until(t, "means nothing here")
		require.Empty(t, h.calls())
		fmt.Fprintln(run.stdin, "cutover")
		require.Zero(t, run.ended())
		require.Regexp(t, `^equal at binlog\.\d+:\d+`, run.stdout.String())
		require.NotContains(t, run.stdout.String(), "not fenced")
	})
}

// Rows that somebody changes on the target behind copydb's back are found before
// anybody is told that the target may be used.
func TestCopydbFindsDifferences(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_different", 2000)
		h := serveHooks(t, func() error { return nil })
		run := startCopydb(t, "-json", copydbSettings(p, []string{o.Database}, with(h.settings(), settings{"AutomaticCutover": false})).file(t))
		run.stderr.until(t, `type \"cutover\" and Enter`)
		harness.Exec(t, p.TargetDB, "UPDATE copydb_different.seats SET price = price + 1 ORDER BY id LIMIT 1")
		require.Equal(t, 4, run.ended())
		r := run.result()
		require.Equal(t, copydb.Different, r.Outcome)
		require.False(t, r.Verified)
		require.Contains(t, r.Error, "on `copydb_different`.`seats` has been corrupted by a change directly performed in the target")
		require.NotContains(t, h.calls(), "unlock")
	})
}

// A lock that fails leaves the source as it was: the host hears of the end of the
// attempt, and never that the target may be written.
func TestCopydbGivesUpACutover(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_abort", 2000)
		h := serveHooks(t, func() error { return fmt.Errorf("writers do not stop") })
		status, run := runCopydb(t, "-json", copydbSettings(p, []string{o.Database}, h.settings()).file(t))
		require.Equal(t, 2, status)
		require.Equal(t, []string{"lock", "abort"}, h.calls())
		r := run.result()
		require.Contains(t, r.Error, "writers do not stop")
		require.Contains(t, r.Error, "were unblocked by CutoverAbort")
		require.Contains(t, run.stderr.String(), "the same command goes on from here")

		// The same command, with writers that stop, goes on and ends well.
		good := serveHooks(t, func() error { return nil })
		status, _ = runCopydb(t, copydbSettings(p, []string{o.Database}, good.settings()).file(t))
		require.Zero(t, status)
		p.MustEqual(t, o.Database)
	})
}

// Without CutoverAbort nobody is told, and the message says what is still blocked.
func TestCopydbSaysThatWritesStayBlocked(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_blocked", 2000)
		h := serveHooks(t, func() error { return fmt.Errorf("writers do not stop") })
		more := h.settings()
		delete(more, "CutoverAbort")
		status, run := runCopydb(t, "-json", copydbSettings(p, []string{o.Database}, more).file(t))
		require.Equal(t, 2, status)
		require.Equal(t, []string{"lock"}, h.calls())
		require.Contains(t, run.result().Error, "its writes are still blocked by CutoverLock")
	})
}

// SIGTERM ends the program as interrupted; the same command goes on.
func TestCopydbIsInterruptedAndGoesOn(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_interrupted", 12000)
		writer := p.Write(t, o, 60)
		config := copydbSettings(p, []string{o.Database}, with(slowly, settings{"CutoverLock": settings{}})).file(t)
		run := startCopydb(t, "-json", config)
		run.stderr.until(t, "checkpoint is on the target")
		require.NoError(t, run.cmd.Process.Signal(syscall.SIGTERM))
		require.Equal(t, 3, run.ended())
		require.Equal(t, copydb.Interrupted, run.result().Outcome)
		require.Contains(t, run.result().Error, "received terminated")
		require.Contains(t, run.stderr.String(), "the same command goes on from here")

		_, err := writer.Stop()
		require.NoError(t, err)
		status, again := runCopydb(t, config)
		require.Zero(t, status)
		require.Contains(t, again.stderr.String(), "going on with the run")
		p.MustEqual(t, o.Database)
	})
}

// Without a checkpoint the state that an interrupted run prints is what the next one
// goes on from. The host's error callback hears of the interruption.
func TestCopydbGoesOnFromAStateDump(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_state", 12000)
		h := serveHooks(t, func() error { return nil })
		s := copydbSettings(p, []string{o.Database}, with(slowly, settings{
			"Checkpoint": "off", "DumpStateToStdoutOnError": true, "ErrorCallback": settings{"URI": h.URL + "/error"},
		}))
		before := contents(t, p.TargetDB)
		run := startCopydb(t, s.file(t))
		run.stderr.until(t, "copying: ")
		require.NoError(t, run.cmd.Process.Signal(syscall.SIGINT))
		require.Equal(t, 3, run.ended())
		require.Equal(t, []string{"error"}, h.calls())
		require.Contains(t, h.payload("error"), `"ErrFrom": "user_interrupt"`)

		dump, last, _ := strings.Cut(run.stdout.String(), "\n}\n")
		require.Equal(t, "interrupted; the same command goes on from here\n", last)
		state := filepath.Join(t.TempDir(), "state.json")
		require.NoError(t, os.WriteFile(state, []byte(dump+"\n}\n"), 0o600))
		status, _ := runCopydb(t, "-resumestate", state, s.file(t))
		require.Zero(t, status)
		p.MustEqual(t, o.Database)
		for name := range contents(t, p.TargetDB) {
			if _, old := before[name]; !old {
				require.Contains(t, name, o.Database, "a run without a checkpoint leaves nothing else")
			}
		}
	})
}

// The command of a move that is done follows the source again.
func TestCopydbFollowsAgain(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_again", 2000)
		config := copydbSettings(p, []string{o.Database}, nil).file(t)
		status, _ := runCopydb(t, config)
		require.Zero(t, status)
		harness.Exec(t, p.SourceDB, "UPDATE copydb_again.seats SET price = price + 1;\nDELETE FROM copydb_again.stock LIMIT 5")
		status, run := runCopydb(t, "-json", config)
		require.Zero(t, status)
		require.True(t, run.result().Verified)
		require.Positive(t, run.result().BinlogRowsApplied)
		require.Zero(t, run.result().RowsCopied)
		p.MustEqual(t, o.Database)
	})
}

// Killed again and again at random moments, from the first to the last, the same
// command gets there.
func TestCopydbSurvivesKill9(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_killed", 6000)
		writer := p.Write(t, o, 80)
		h := serveHooks(t, func() error { return writer.Pause(context.Background()) })
		config := copydbSettings(p, []string{o.Database}, with(h.settings(), slowly)).file(t)
		random := rand.New(rand.NewPCG(1, uint64(len(p.Name))))
		for range 5 {
			run := startCopydb(t, "-application-on-source", config) // also when it was killed at the unlock
			moment := time.NewTimer(time.Duration(random.IntN(1500)) * time.Millisecond)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = run.cmd.Wait()
			}()
			select {
			case <-moment.C:
				require.NoError(t, run.cmd.Process.Signal(syscall.SIGKILL))
				<-ended
			case <-ended: // it was faster, which is well if it was well
				require.Zero(t, run.cmd.ProcessState.ExitCode(), run.stderr.String())
			}
			writer.Resume()
		}
		status, run := runCopydb(t, "-json", "-application-on-source", config)
		require.Zero(t, status)
		require.Equal(t, copydb.Equal, run.result().Outcome)
		p.MustEqual(t, o.Database)
		_, err := writer.Stop()
		require.NoError(t, err)
	})
}

// A process that dies between the creation of the tables and the library's first write
// leaves tables that the next one knows as its own.
func TestCopydbKnowsItsOwnTables(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_own", 2000)
		s := copydbSettings(p, []string{o.Database}, nil)
		dies := copydb.NewFerry(s.config(t))
		require.NoError(t, dies.InitializeContext(t.Context()))
		require.NoError(t, dies.StartContext(t.Context()))
		require.NoError(t, dies.CreateDatabasesAndTablesContext(t.Context()))
		harness.Exec(t, p.TargetDB, "DROP TABLE copydb_own.tags") // it had not got that far

		status, _ := runCopydb(t, s.file(t))
		require.Zero(t, status)
		p.MustEqual(t, o.Database)
		var notes int
		require.NoError(t, p.TargetDB.QueryRow("SELECT COUNT(*) FROM _ghostferry.copydb_tables WHERE target_schema = 'copydb_own'").Scan(&notes))
		require.Zero(t, notes, "the notes go when the move is done")
	})
}

// Run writes the report as RunContext does.
func TestCopydbRunReports(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_run", 200)
		report := filepath.Join(t.TempDir(), "report.json")
		ferry := copydb.NewFerry(copydbSettings(p, []string{o.Database}, settings{"VerifierType": "Online", "VerificationReport": []string{report}}).config(t))
		defer func() { _ = ferry.Close() }()
		require.NoError(t, created(t.Context(), ferry))
		ferry.Run()
		text, err := os.ReadFile(report)
		require.NoError(t, err)
		require.Contains(t, string(text), `"copydb_run.seats"`)
	})
}

// -restart begins anew, with the tables of the earlier run only.
func TestCopydbRestarts(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_restart", 2000)
		config := copydbSettings(p, []string{o.Database}, nil).file(t)
		status, _ := runCopydb(t, config)
		require.Zero(t, status)
		harness.Exec(t, p.TargetDB, "CREATE TABLE copydb_restart.kept (id INT PRIMARY KEY);\nINSERT INTO copydb_restart.kept VALUES (1);\n"+
			"DELETE FROM copydb_restart.seats LIMIT 3")

		status, run := runCopydb(t, "-restart", config)
		require.Zero(t, status)
		require.Contains(t, run.stderr.String(), "emptied `copydb_restart`.`customers`")
		require.Equal(t, 1, contents(t, p.TargetDB)["copydb_restart.kept"])
		harness.Exec(t, p.TargetDB, "DROP TABLE copydb_restart.kept")
		p.MustEqual(t, o.Database)

		// Where a resumed run is refused, because its table is gone, -restart is the way.
		harness.Exec(t, p.TargetDB, "DROP TABLE copydb_restart.orders")
		status, run = runCopydb(t, config)
		require.Equal(t, 1, status)
		require.Contains(t, run.stderr.String(), "-restart")
		status, _ = runCopydb(t, "-restart", config)
		require.Zero(t, status)
		p.MustEqual(t, o.Database)
	})
}

// A dry run writes nothing and prints what would be done.
func TestCopydbDryRun(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		o := sourceShop(t, p, "copydb_dry", 2000)
		before := contents(t, p.TargetDB)
		status, run := runCopydb(t, "-dryrun", copydbSettings(p, []string{o.Database}, settings{"Tables": settings{"Rewrites": settings{"orders": "purchases"}}}).file(t))
		require.Zero(t, status)
		require.Regexp(t, `copydb_dry\.order_lines +copydb_dry\.order_lines +order_id, line_no +[\d,]+ +[\d.]+ \w+ +\d+ +(LOAD DATA|INSERT) +- +parallel chunks`, run.stdout.String())
		require.Regexp(t, `copydb_dry\.orders +copydb_dry\.purchases +id`, run.stdout.String())
		require.Contains(t, run.stdout.String(), "dry run: 11 tables")
		require.Contains(t, run.stdout.String(), "nothing speaks against it")

		harness.Exec(t, p.SourceDB, "CREATE TABLE copydb_dry.keyless (a INT)")
		status, run = runCopydb(t, "-dryrun", copydbSettings(p, []string{o.Database}, nil).file(t))
		require.Equal(t, 1, status)
		require.Contains(t, run.stdout.String()+run.stderr.String(), "keyless")
		require.Equal(t, before, contents(t, p.TargetDB))
	})
}
