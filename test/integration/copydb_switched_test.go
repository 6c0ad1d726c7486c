package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const switchedSchema = "copydb_switched"

// switchedWorld is a table to move, and a row that the application writes to the target when it
// was sent there.
func switchedWorld(t *testing.T, p *harness.Pair) (writeOnTarget func()) {
	t.Helper()
	freshSchemas(t, p, switchedSchema)
	p.In(t, p.SourceDB, "", "CREATE DATABASE "+switchedSchema, "CREATE TABLE "+switchedSchema+".t (id INT NOT NULL PRIMARY KEY)", "INSERT INTO "+switchedSchema+".t VALUES (1),(2)")
	return func() {
		t.Helper()
		p.In(t, p.TargetDB, switchedSchema, "INSERT INTO t VALUES (1000)")
	}
}

// Once the application was sent to the target, nothing that copydb is told removes or overwrites
// what it writes there: neither the same command, nor with -repair or -restart, nor when the
// checkpoint is damaged. Who knows that the application is on the source says so.
func TestCopydbLeavesASwitchedTargetAlone(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		writeOnTarget := switchedWorld(t, p)
		h := serveHooks(t, func() error { return nil })
		config := copydbSettings(p, []string{switchedSchema}, h.settings()).file(t)
		status, _ := runCopydb(t, config)
		require.Zero(t, status)
		called := []string{"lock", "unlock"}
		require.Equal(t, called, h.calls())

		writeOnTarget()
		before := contents(t, p.TargetDB)
		mustBeLeft := func(orders ...[]string) {
			t.Helper()
			for _, order := range orders {
				status, run := runCopydb(t, append(order, config)...)
				require.Equal(t, 1, status, order)
				said := run.stderr.String() + run.stdout.String()
				require.Contains(t, said, "an earlier run of this move has switched over", order)
				require.Contains(t, said, "-application-on-source", order)
				require.Equal(t, before, contents(t, p.TargetDB), order)
				require.Equal(t, called, h.calls(), order)
			}
		}
		mustBeLeft(nil, []string{"-repair"}, []string{"-restart"}, []string{"-dryrun"})
		p.In(t, p.TargetDB, "_ghostferry", "UPDATE lanes SET pos=pos+1")
		mustBeLeft(nil, []string{"-restart"})
		p.In(t, p.TargetDB, "_ghostferry", "UPDATE lanes SET pos=pos-1")

		p.In(t, p.TargetDB, switchedSchema, "DELETE FROM t WHERE id=1000")
		p.In(t, p.SourceDB, switchedSchema, "INSERT INTO t VALUES (3)")
		for _, order := range [][]string{nil, {"-restart"}} {
			if order != nil { // a record that is none does not keep it from being forgotten
				p.In(t, p.TargetDB, "_ghostferry", "UPDATE traffic SET owner='nobody'")
			}
			status, _ = runCopydb(t, append(order, "-application-on-source", config)...)
			require.Zero(t, status, order)
			p.MustEqual(t, switchedSchema)
			status, _ = runCopydb(t, config)
			require.Equal(t, 1, status, "it has switched over again")
		}
	})
}

// Where CutoverUnlock got no answer, nobody is told to begin anew.
func TestCopydbDoesNotKnowWhetherItSwitched(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		writeOnTarget := switchedWorld(t, p)
		h := serveAllHooks(t, map[string]func() error{"unlock": func() error { return errors.New("no word") }})
		config := copydbSettings(p, []string{switchedSchema}, h.settings()).file(t)
		status, run := runCopydb(t, config)
		require.Equal(t, 2, status)
		require.Contains(t, run.stderr.String(), "look where the application writes. Before that is known do not run this again, nor with -restart")
		require.NotContains(t, run.stderr.String(), "begin anew")

		writeOnTarget()
		before := contents(t, p.TargetDB)
		for _, order := range [][]string{nil, {"-restart"}} {
			status, run := runCopydb(t, append(order, config)...)
			require.Equal(t, 1, status, order)
			require.Contains(t, run.stderr.String(), "may have posted CutoverUnlock, and no answer is known", order)
			require.Contains(t, run.stderr.String(), "where the rows of an earlier run still are", order)
			require.Equal(t, before, contents(t, p.TargetDB), order)
		}
		require.Equal(t, []string{"lock", "unlock"}, h.calls())
	})
}

// A process that has stood still while another one took the move over and ended it tells nobody to
// empty the tables.
func TestCopydbThatWasTakenOverSaysSo(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		switchedWorld(t, p)
		first := startCopydb(t, copydbSettings(p, []string{switchedSchema}, settings{"AutomaticCutover": false}).file(t))
		first.stderr.until(t, "the rows are copied")
		require.NoError(t, first.cmd.Process.Signal(syscall.SIGSTOP))
		status, _ := runCopydb(t, copydbSettings(p, []string{switchedSchema}, nil).file(t))
		require.Zero(t, status)
		p.In(t, p.SourceDB, switchedSchema, "INSERT INTO t VALUES (3)")
		require.NoError(t, first.cmd.Process.Signal(syscall.SIGCONT))
		require.Equal(t, 2, first.ended())
		require.Contains(t, first.stderr.String(), "another process makes this move now")
		require.NotContains(t, first.stderr.String(), "begin anew")
		require.Equal(t, 2, harness.Count(t, p.TargetDB, switchedSchema+".t"))
	})
}

// -restart removes nothing of a move that another process has switched over since it looked.
func TestCopydbRestartsNothingThatSwitchedMeanwhile(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		writeOnTarget := switchedWorld(t, p)
		h := serveHooks(t, func() error { return nil })
		s := copydbSettings(p, []string{switchedSchema}, h.settings())
		s["AutomaticCutover"] = false
		other := startCopydb(t, s.file(t))
		other.stderr.until(t, "the rows are copied")
		ferry := copydb.NewFerry(s.config(t))
		defer func() { _ = ferry.Close() }()
		require.NoError(t, ferry.InitializeContext(t.Context()))
		_, err := fmt.Fprintln(other.stdin, "cutover")
		require.NoError(t, err)
		require.Zero(t, other.ended())
		require.Equal(t, []string{"lock", "unlock"}, h.calls())

		writeOnTarget()
		before := contents(t, p.TargetDB)
		err = ferry.RestartContext(t.Context())
		require.ErrorIs(t, err, ghostferry.ErrTrafficUnknown)
		require.ErrorAs(t, err, new(*copydb.RefusedError))
		require.ErrorIs(t, ferry.Ferry.ForgetCheckpoint(t.Context()), ghostferry.ErrTrafficUnknown)
		require.Equal(t, before, contents(t, p.TargetDB))
		status, _ := runCopydb(t, "-restart", s.file(t))
		require.Equal(t, 1, status, "it is known now")
		require.Equal(t, before, contents(t, p.TargetDB))
	})
}

// A switch that has not happened leaves no record: the same command goes on.
func TestCutoverRecordsTheTraffic(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	for n, c := range []struct {
		name  string
		says  error
		after ghostferry.TrafficOwner
	}{
		{"not yet", errors.New("not yet"), ghostferry.TrafficOnSource},
		{"unknown", ghostferry.ErrTrafficUnknown, ghostferry.TrafficUnknown},
		{"switched", nil, ghostferry.TrafficOnTarget},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHooked(t, p, fmt.Sprintf("cutover_recorded_%d", n), nil)
			recorded := func() ghostferry.TrafficOwner {
				f := &ghostferry.Ferry{Config: p.Config(h.shop.Database)}
				defer func() { require.NoError(t, f.Close()) }()
				require.NoError(t, f.InitializeContext(t.Context()))
				return f.RecordedTraffic()
			}
			h.hooks.RecordTraffic = true
			var during ghostferry.TrafficOwner
			h.hooks.Switch = func(ctx context.Context) error {
				during = recorded()
				return c.says
			}
			_, err := h.ferry.Cutover(cutoverContext(t), h.hooks)
			require.ErrorIs(t, err, c.says)
			require.Equal(t, ghostferry.TrafficUnknown, during)
			require.Equal(t, c.after, recorded())
		})
	}
}

// onceCalled is an answer of a hook: it says that it was called, and waits.
type onceCalled struct {
	sync.Once
	called, answer chan struct{}
}

func newOnceCalled() *onceCalled {
	return &onceCalled{called: make(chan struct{}), answer: make(chan struct{})}
}

func (o *onceCalled) wait() error {
	o.Do(func() { close(o.called) })
	<-o.answer
	return nil
}

// Signals while the application is being sent to the target are not obeyed before it is known
// where it writes: nobody is told that the same command goes on.
func TestCopydbIsInterruptedDuringTheSwitch(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		switchedWorld(t, p)
		unlock := newOnceCalled()
		h := serveAllHooks(t, map[string]func() error{"unlock": unlock.wait})
		answer := sync.OnceFunc(func() { close(unlock.answer) })
		t.Cleanup(answer)
		run := startCopydb(t, copydbSettings(p, []string{switchedSchema}, h.settings()).file(t))
		<-unlock.called
		signal := func(s os.Signal) { require.NoError(t, run.cmd.Process.Signal(s)) }
		signal(syscall.SIGTERM)
		run.stderr.until(t, "stopping; once more ends the process at once")
		signal(syscall.SIGTERM)
		run.stderr.until(t, "the application is being sent to the target")
		answer()
		require.Zero(t, run.ended())
		require.Contains(t, run.stdout.String(), "equal at ")
		require.Equal(t, []string{"lock", "unlock"}, h.calls())
	})
}

// An interruption behind the lock says in its last line what became of the writers: that they
// go on, or, when nobody knows, that they may be stopped.
func TestCopydbSaysWhatBecomesOfTheWriters(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, c := range []struct {
			name   string
			aborts bool // CutoverAbort answers
			says   string
		}{
			{"let go on", true, "and its writes were unblocked by CutoverAbort"},
			{"ended at once", false, "the source's writers may still be stopped"},
		} {
			t.Run(c.name, func(t *testing.T) {
				switchedWorld(t, p)
				lock, abort := newOnceCalled(), newOnceCalled()
				h := serveAllHooks(t, map[string]func() error{"lock": lock.wait, "abort": abort.wait})
				t.Cleanup(func() { close(lock.answer) })
				if c.aborts {
					close(abort.answer)
				} else {
					t.Cleanup(func() { close(abort.answer) })
				}
				run := startCopydb(t, copydbSettings(p, []string{switchedSchema}, h.settings()).file(t))
				<-lock.called
				require.NoError(t, run.cmd.Process.Signal(syscall.SIGTERM))
				if !c.aborts {
					<-abort.called
					require.NoError(t, run.cmd.Process.Signal(syscall.SIGTERM))
				}
				require.Equal(t, copydb.Interrupted.ExitStatus(), run.ended())
				require.Contains(t, run.stdout.String(), c.says)
				require.Contains(t, run.stdout.String(), "the same command goes on from here")
				require.False(t, slices.Contains(h.calls(), "unlock"))
			})
		}
	})
}
