package integration

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// hooked is a move whose cutover is driven by hooks around a shop's writer.
type hooked struct {
	*harness.Pair
	ferry  *ghostferry.Ferry
	writer *shop.Writer
	shop   shop.Options
	hooks  ghostferry.CutoverHooks

	ran   chan error
	end   context.CancelFunc // of the run
	calls struct {
		sync.Mutex
		names []string
	}
}

// newHooked starts a run; the hooks pause and resume the writer, and note their calls.
func newHooked(t *testing.T, p *harness.Pair, database string, adjust func(*ghostferry.Ferry)) *hooked {
	t.Helper()
	o := p.Shop(t, database, 400)
	h := &hooked{Pair: p, shop: o, writer: p.Write(t, o, 60), ran: make(chan error, 1)}
	h.ferry = &ghostferry.Ferry{Config: p.Config(o.Database)}
	h.ferry.TailGuardSeconds = -1
	if adjust != nil {
		adjust(h.ferry)
	}
	h.hooks = ghostferry.CutoverHooks{
		Fence:   func(ctx context.Context) error { h.called("fence"); return h.writer.Pause(ctx) },
		Unfence: func(context.Context) error { h.called("unfence"); h.writer.Resume(); return nil },
		Fenced:  func(context.Context) error { h.called("fenced"); return nil },
		Switch:  func(context.Context) error { h.called("switch"); return nil },
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	h.end = cancel
	require.NoError(t, h.ferry.InitializeContext(ctx))
	require.NoError(t, h.ferry.StartContext(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ran <- h.ferry.RunContext(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		require.NoError(t, h.ferry.Close())
	})
	return h
}

func (h *hooked) called(name string) {
	h.calls.Lock()
	defer h.calls.Unlock()
	h.calls.names = append(h.calls.names, name)
}

func (h *hooked) allCalls() []string {
	h.calls.Lock()
	defer h.calls.Unlock()
	return slices.Clone(h.calls.names)
}

func cutoverContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// One call switches over: fence, drain, verify, commit; then both sides are equal.
func TestCutoverByHooks(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		h := newHooked(t, p, "cutover_hooks", nil)
		require.Equal(t, ghostferry.PhaseNone, h.ferry.Phase())
		phases := map[string]ghostferry.CutoverPhase{}
		fence, swtch := h.hooks.Fence, h.hooks.Switch
		h.hooks.Fence = func(ctx context.Context) error { phases["fence"] = h.ferry.Phase(); return fence(ctx) }
		h.hooks.Switch = func(ctx context.Context) error { phases["switch"] = h.ferry.Phase(); return swtch(ctx) }
		report, err := h.ferry.Cutover(cutoverContext(t), h.hooks)
		require.NoError(t, err)
		require.NoError(t, <-h.ran)
		require.Equal(t, []string{"fence", "fenced", "fenced", "switch"}, h.allCalls())
		require.Equal(t, map[string]ghostferry.CutoverPhase{"fence": ghostferry.PhaseFence, "switch": ghostferry.PhaseCommit}, phases)
		require.Equal(t, ghostferry.PhaseDone, h.ferry.Phase())
		require.Equal(t, ghostferry.StateDone, h.ferry.OverallState.Load())
		require.True(t, report.Verdict.DataCorrect)
		require.Equal(t, 1, report.Attempts)
		require.Positive(t, report.WriteBlock)
		require.Equal(t, h.ferry.StopCoordinate(), report.Coordinate)
		status := h.ferry.Progress()
		require.Equal(t, ghostferry.PhaseDone, status.CutoverPhase)
		require.Equal(t, 1, status.Cutover.Attempts)
		p.MustEqual(t, h.shop.Database)
	})
}

// A drain that takes longer than the budget is given up: the writers go on, the run
// follows them, and the next attempt switches over with nothing lost.
func TestCutoverGivesUpInTimeAndTriesAgain(t *testing.T) {
	for _, verifier := range []string{ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeInline} {
		t.Run(verifier, func(t *testing.T) {
			p := harness.Shared(t, harness.Settings[0])
			h := newHooked(t, p, "cutover_retry", func(f *ghostferry.Ferry) {
				f.UpdatableConfig.MaxWriteBlock = ghostferry.Duration(300 * time.Millisecond)
				f.VerifierType = verifier
			})
			ctx := cutoverContext(t)
			// While it holds this lock nothing is applied: the drain cannot end.
			lock, err := p.TargetDB.Conn(ctx)
			require.NoError(t, err)
			defer lock.Close()
			fence, unfence := h.hooks.Fence, h.hooks.Unfence
			attempts := 0
			h.hooks.Fence = func(ctx context.Context) error {
				if attempts++; attempts == 1 {
					if _, err := lock.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK"); err != nil {
						return err
					}
					_, err := p.SourceDB.ExecContext(ctx, "UPDATE `"+h.shop.Database+"`.customers SET email = CONCAT(email, '.x') LIMIT 1")
					if err != nil {
						return err
					}
				} else {
					h.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: ghostferry.Duration(time.Minute)})
				}
				return fence(ctx)
			}
			var resumed shop.Stats
			h.hooks.Unfence = func(ctx context.Context) error {
				if _, err := lock.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
					return err
				}
				resumed = h.writer.Stats()
				h.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: -1})
				return unfence(ctx)
			}
			report, err := h.ferry.Cutover(ctx, h.hooks)
			require.NoError(t, err)
			require.NoError(t, <-h.ran)
			require.Equal(t, 2, report.Attempts)
			require.Equal(t, []string{"fence", "unfence", "fence", "fenced", "fenced", "switch"}, h.allCalls())
			require.Greater(t, h.writer.Stats().Committed, resumed.Committed, "the writers did not go on")
			status := h.ferry.Progress().Cutover
			require.Equal(t, 1, status.Aborts)
			require.Contains(t, status.LastError, "MaxWriteBlock")
			p.MustEqual(t, h.shop.Database)
		})
	}
}

// A comparison that takes longer than the budget is given up as well, under load: the writers
// go on, what they write is compared later, and the next attempt switches over.
func TestCutoverGivesUpAComparisonAndTriesAgain(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		h := newHooked(t, p, "cutover_compare", func(f *ghostferry.Ferry) {
			f.UpdatableConfig.MaxWriteBlock = ghostferry.Duration(2 * time.Second)
		})
		ctx := cutoverContext(t)
		// While it holds this lock the table cannot be read on the target.
		lock, err := p.TargetDB.Conn(ctx)
		require.NoError(t, err)
		defer lock.Close()
		exec := func(ctx context.Context, statement string) error {
			_, err := lock.ExecContext(ctx, statement)
			return err
		}
		fence, unfence := h.hooks.Fence, h.hooks.Unfence
		attempts := 0
		h.hooks.Fence = func(ctx context.Context) error {
			if attempts++; attempts > 1 {
				h.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: ghostferry.Duration(time.Minute)})
			}
			if err := fence(ctx); err != nil {
				return err
			}
			_, err := p.SourceDB.ExecContext(ctx, "UPDATE `"+h.shop.Database+"`.customers SET email = CONCAT(email, '.y') LIMIT 1")
			return err
		}
		h.hooks.Fenced = func(ctx context.Context) error { // drained, and not compared yet
			if h.called("fenced"); attempts > 1 {
				return nil
			}
			return exec(ctx, "LOCK TABLES `"+h.shop.Database+"`.customers WRITE")
		}
		var failed ghostferry.CutoverPhase
		h.hooks.Unfence = func(ctx context.Context) error {
			if err := exec(ctx, "UNLOCK TABLES"); err != nil {
				return err
			}
			before := h.writer.Stats().Committed
			if err := unfence(ctx); err != nil {
				return err
			}
			failed = h.ferry.Phase()
			return h.writer.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed > before })
		}
		report, err := h.ferry.Cutover(ctx, h.hooks)
		require.NoError(t, err)
		require.NoError(t, <-h.ran)
		require.Equal(t, ghostferry.PhaseAbort, failed)
		require.Equal(t, 2, report.Attempts)
		require.Equal(t, []string{"fence", "fenced", "unfence", "fence", "fenced", "fenced", "switch"}, h.allCalls())
		require.True(t, report.Verdict.DataCorrect)
		status := h.ferry.Progress().Cutover
		require.Equal(t, 1, status.Aborts)
		require.Contains(t, status.LastError, "the verify was not over within MaxWriteBlock=2s")
		p.MustEqual(t, h.shop.Database)
	})
}

// Whatever fails after the fence, the writers are let go on, and the error says who owns
// the traffic.
func TestCutoverFailures(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	refused := errors.New("no")
	for name, test := range map[string]struct {
		spoil    func(h *hooked, interrupt func())
		phase    ghostferry.CutoverPhase
		traffic  ghostferry.TrafficOwner
		complete bool
		follows  bool
		calls    []string
	}{
		"fence": {
			func(h *hooked, _ func()) {
				h.hooks.Fence = func(context.Context) error { h.called("fence"); return refused }
			},
			ghostferry.PhaseFence, ghostferry.TrafficOnSource, false, true, []string{"fence", "unfence"},
		},
		"fenced": {
			func(h *hooked, _ func()) {
				h.hooks.Fenced = func(context.Context) error { h.called("fenced"); return refused }
			},
			ghostferry.PhaseDrain, ghostferry.TrafficOnSource, true, true, []string{"fence", "fenced", "unfence"},
		},
		"switch": {
			func(h *hooked, _ func()) {
				h.hooks.Switch = func(context.Context) error { h.called("switch"); return refused }
			},
			ghostferry.PhaseCommit, ghostferry.TrafficOnSource, true, false, []string{"fence", "fenced", "fenced", "switch", "unfence"},
		},
		"switch unknown": {
			func(h *hooked, _ func()) {
				h.hooks.Switch = func(context.Context) error {
					h.called("switch")
					return errors.Join(refused, ghostferry.ErrTrafficUnknown)
				}
			},
			ghostferry.PhaseCommit, ghostferry.TrafficUnknown, true, false, []string{"fence", "fenced", "fenced", "switch"},
		},
		"switch, interrupted": {
			func(h *hooked, interrupt func()) {
				h.hooks.Switch = func(context.Context) error { h.called("switch"); interrupt(); return refused }
			},
			ghostferry.PhaseCommit, ghostferry.TrafficOnSource, true, false, []string{"fence", "fenced", "fenced", "switch", "unfence"},
		},
		"switch unknown, interrupted": {
			func(h *hooked, interrupt func()) {
				h.hooks.Switch = func(context.Context) error {
					h.called("switch")
					interrupt()
					return errors.Join(refused, ghostferry.ErrTrafficUnknown)
				}
			},
			ghostferry.PhaseCommit, ghostferry.TrafficUnknown, true, false, []string{"fence", "fenced", "fenced", "switch"},
		},
		"panic": {
			func(h *hooked, _ func()) {
				h.hooks.Fenced = func(context.Context) error { h.called("fenced"); panic(refused) }
			},
			ghostferry.PhaseDrain, ghostferry.TrafficOnSource, true, true, []string{"fence", "fenced", "unfence"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHooked(t, p, "cutover_failures", nil)
			h.hooks.RecordTraffic = true
			ctx, interrupt := context.WithCancel(cutoverContext(t))
			defer interrupt()
			test.spoil(h, interrupt)
			_, err := h.ferry.Cutover(ctx, h.hooks)
			failure, ok := errors.AsType[*ghostferry.CutoverError](err)
			require.True(t, ok, "%v", err)
			require.Contains(t, err.Error(), refused.Error())
			require.Equal(t, test.phase, failure.Phase)
			require.Equal(t, test.traffic, failure.Traffic)
			require.Equal(t, test.complete, failure.Complete)
			require.Equal(t, test.follows, failure.Following)
			require.Equal(t, test.traffic == ghostferry.TrafficUnknown, failure.Blocked)
			require.Equal(t, test.calls, h.allCalls())
			if test.follows {
				return
			}
			require.NoError(t, <-h.ran)
			next := &ghostferry.Ferry{Config: p.Config(h.shop.Database)}
			require.NoError(t, next.InitializeContext(cutoverContext(t)))
			require.Equal(t, test.traffic, next.RecordedTraffic())
			require.NoError(t, next.Close())
		})
	}
}

// A write that the fence has let through gives the cutover up, with its key; one that
// comes after the switch is an alarm.
func TestCutoverNoticesLateWrites(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	late := func(ctx context.Context, h *hooked) error {
		_, err := h.SourceDB.ExecContext(ctx, "INSERT INTO `"+h.shop.Database+"`.events_empty (id, happened_at) VALUES (424242, NOW(6))")
		return err
	}
	t.Run("before the switch", func(t *testing.T) {
		h := newHooked(t, p, "cutover_late", nil)
		h.hooks.Fenced = func(ctx context.Context) error { return late(ctx, h) }
		_, err := h.ferry.Cutover(cutoverContext(t), h.hooks)
		found, ok := errors.AsType[*ghostferry.LateWriteError](err)
		require.True(t, ok, "%v", err)
		require.False(t, found.Switched)
		require.Equal(t, "424242", found.Writes[0].Key)
		require.Contains(t, h.allCalls(), "unfence")
		require.NotContains(t, h.allCalls(), "switch")
	})
	t.Run("after the switch", func(t *testing.T) {
		rollbackPrepared(t, p)
		p.Create(t, "cutover_aside", "CREATE TABLE t (id INT PRIMARY KEY)")
		aside, err := p.SourceDB.Conn(t.Context())
		require.NoError(t, err)
		defer aside.Close()
		h := newHooked(t, p, "cutover_later", func(f *ghostferry.Ferry) { f.TailGuardSeconds = 20 })
		// A transaction of a table that is not moved is decided behind the stop position: who
		// reads the log there twice meets it twice.
		fence := h.hooks.Fence
		h.hooks.Fence = func(ctx context.Context) error {
			for _, statement := range xaGroup("'aside'", "INSERT INTO cutover_aside.t VALUES (1)") {
				if _, err := aside.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			return fence(ctx)
		}
		h.hooks.Fenced = func(ctx context.Context) error {
			if h.ferry.Phase() != ghostferry.PhaseCommit {
				return nil
			}
			_, err := aside.ExecContext(ctx, "XA COMMIT 'aside'")
			return err
		}
		h.hooks.Switch = func(ctx context.Context) error { return late(ctx, h) }
		var alarm *ghostferry.LateWriteError
		h.hooks.LateWrite = func(e *ghostferry.LateWriteError) { alarm = e }
		_, err = h.ferry.Cutover(cutoverContext(t), h.hooks)
		found, ok := errors.AsType[*ghostferry.LateWriteError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, found, alarm)
		require.True(t, found.Switched)
		require.Equal(t, []string{h.shop.Database + ".events_empty"}, found.Tables)
		require.Equal(t, "424242", found.Writes[0].Key)
		require.Equal(t, ghostferry.PhaseDone, h.ferry.Phase())
	})
}

// Who is asked for the permission sees how long the writers would wait.
func TestWriteBlockIsPredictedBeforeThePermission(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		h := newHooked(t, p, "cutover_predicted", func(f *ghostferry.Ferry) { f.Config.AutomaticCutover = false })
		ended := make(chan error, 1)
		go func() {
			_, err := h.ferry.Cutover(cutoverContext(t), h.hooks) // as copydb does, long before
			ended <- err
		}()
		harness.Await(t, "a write block is predicted", func() bool { return h.ferry.Progress().Cutover.PredictedWriteBlock > 0 })
		require.Empty(t, h.allCalls())
		h.ferry.AllowCutover()
		require.NoError(t, <-ended)
		require.NoError(t, <-h.ran)
		p.MustEqual(t, h.shop.Database)
	})
}

// A rehearsal predicts the write block without stopping anybody; a drill measures it and
// lets the writers go on; and then the cutover itself follows.
func TestCutoverRehearsalAndDrill(t *testing.T) {
	p := harness.Shared(t, harness.Settings[2])
	h := newHooked(t, p, "cutover_drill", nil)
	ctx := cutoverContext(t)
	rehearsal, err := h.ferry.RehearseCutover(ctx)
	require.NoError(t, err)
	require.Empty(t, h.allCalls())
	require.Positive(t, rehearsal.Predicted)
	require.InDelta(t, rehearsal.Predicted.Seconds(), h.ferry.Progress().Cutover.PredictedWriteBlock, 1e-6)
	before := h.writer.Stats().Committed
	for range 2 {
		report, err := h.ferry.DrillCutover(ctx, h.hooks)
		require.NoError(t, err)
		require.True(t, report.Verdict.DataCorrect)
		require.Equal(t, ghostferry.PhaseUnfenced, h.ferry.Phase())
		require.NoError(t, h.writer.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed > before }))
		before = h.writer.Stats().Committed
	}
	require.Equal(t, []string{"fence", "fenced", "unfence", "fence", "fenced", "unfence"}, h.allCalls())
	drilled := h.ferry.Progress().Cutover
	require.Equal(t, 2, drilled.Attempts)
	require.Zero(t, drilled.Aborts, "nothing was given up")
	require.Empty(t, drilled.LastError)
	_, err = h.ferry.Cutover(ctx, h.hooks)
	require.NoError(t, err)
	require.NoError(t, <-h.ran)
	p.MustEqual(t, h.shop.Database)
}

// While changes take longer to arrive than the writers may be kept waiting, the writers are
// not stopped at all.
func TestCutoverWaitsForADrainThatFits(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	h := newHooked(t, p, "cutover_small", func(f *ghostferry.Ferry) { f.UpdatableConfig.MaxWriteBlock = 1 })
	ended := make(chan error, 1)
	go func() {
		_, err := h.ferry.Cutover(cutoverContext(t), h.hooks)
		ended <- err
	}()
	harness.Await(t, "the cutover waits", func() bool {
		return slices.ContainsFunc(h.ferry.Progress().Waits, func(w ghostferry.WaitStats) bool { return w.Cause == "next_cutover" && w.Count > 1 })
	})
	require.Empty(t, h.allCalls())
	require.Zero(t, h.ferry.Progress().Cutover.Attempts)
	h.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: -1})
	require.NoError(t, <-ended)
	require.NoError(t, <-h.ran)
	p.MustEqual(t, h.shop.Database)
}

// A target that is far away takes every change later than an idle one nearby: the cutover begins
// all the same, under writes, when there is no more to wait for.
func TestCutoverOverALongPath(t *testing.T) {
	t.Parallel() // it waits most of the time
	const schema = "cutover_far"
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL UNIQUE)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(5,5)")
		link, err := faultproxy.StartLink(net.JoinHostPort(p.Target.Host, strconv.Itoa(p.Target.Port)), 1_000_000_000, 60*time.Millisecond)
		require.NoError(t, err)
		defer func() { require.NoError(t, link.Close()) }()
		f := &ghostferry.Ferry{Config: p.Config(schema)}
		f.TailGuardSeconds = -1
		f.Target.Host, f.Target.Port = splitAddr(t, link.Addr())
		ctx := minute(t)
		mustStart(t, ctx, f)
		ran := make(chan error, 1)
		go func() { ran <- f.RunContext(ctx) }()

		writing, stop := context.WithCancel(ctx)
		defer stop()
		wrote := make(chan error, 1)
		go func() { wrote <- writeSteadily(writing, p, schema, 30) }()
		_, err = f.Cutover(ctx, ghostferry.CutoverHooks{
			Fence:   func(context.Context) error { stop(); return <-wrote },
			Unfence: func(context.Context) error { return errors.New("nobody writes any more") },
		})
		require.NoError(t, err)
		require.NoError(t, <-ran)
		require.NoError(t, f.Close())
		p.MustEqual(t, schema)
	})
}

// writeSteadily changes unique values until ctx ends, so many a second.
func writeSteadily(ctx context.Context, p *harness.Pair, schema string, rate int) error {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for v := 100; ; v++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := p.SourceDB.Exec("UPDATE "+schema+".t SET v=? WHERE id=?", v, v%5+1); err != nil {
			return err
		}
	}
}

// Whoever is told to end once the traffic is on the target does not go on guarding: the move
// is done.
func TestInterruptedAfterTheSwitch(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	h := newHooked(t, p, "cutover_guarded", func(f *ghostferry.Ferry) { f.TailGuardSeconds = 600 })
	ctx, interrupt := context.WithCancel(cutoverContext(t))
	h.hooks.Switch = func(context.Context) error { interrupt(); return nil }
	_, err := h.ferry.Cutover(ctx, h.hooks)
	require.NoError(t, err)
	require.NoError(t, <-h.ran)
	require.Equal(t, ghostferry.PhaseDone, h.ferry.Phase())
	p.MustEqual(t, h.shop.Database)
}

// onLine does something when a line is logged, before its writer goes on.
type onLine struct {
	line string
	do   func() error
}

// Levels are all.
func (l *onLine) Levels() []logrus.Level { return logrus.AllLevels }

// Fire is called by whoever logs.
func (l *onLine) Fire(line *logrus.Entry) error {
	if line.Message != l.line {
		return nil
	}
	return l.do()
}

// A run that fails behind the fence leaves Unfence its half minute, also where its error ends the
// caller's context, as an errgroup's does; an interruption does not.
func TestUnfenceHasItsTime(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	for name, test := range map[string]struct {
		ends  func(h *hooked, cancel context.CancelCauseFunc)
		hasty bool
	}{
		"the run":              {func(h *hooked, _ context.CancelCauseFunc) { h.end() }, false},
		"the run, in a group":  {func(h *hooked, cancel context.CancelCauseFunc) { h.end(); cancel(<-h.ran) }, false},
		"the caller's context": {func(_ *hooked, cancel context.CancelCauseFunc) { cancel(nil) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHooked(t, p, "cutover_unfence", nil)
			ctx, cancel := context.WithCancelCause(cutoverContext(t))
			defer cancel(nil)
			h.hooks.Fenced = func(ctx context.Context) error {
				test.ends(h, cancel)
				<-ctx.Done()
				return ctx.Err()
			}
			unfence := h.hooks.Unfence
			var given time.Duration
			h.hooks.Unfence = func(ctx context.Context) error {
				until, _ := ctx.Deadline()
				given = time.Until(until)
				return unfence(ctx)
			}
			_, err := h.ferry.Cutover(ctx, h.hooks)
			failure, ok := errors.AsType[*ghostferry.CutoverError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, ghostferry.TrafficOnSource, failure.Traffic)
			require.False(t, failure.Blocked)
			require.Equal(t, test.hasty, given < 4*time.Second, "%s", given)
		})
	}
}
