package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// abort lets the writers go on and describes the failure.
func (a *cutoverAttempt) abort(ctx context.Context, err error) error {
	f := a.f
	e := &CutoverError{
		Phase: a.phase, Traffic: TrafficOnSource, Fenced: a.report.Fenced, Coordinate: a.report.Coordinate, Complete: a.complete, Err: err,
	}
	if errors.Is(err, ErrTrafficUnknown) {
		e.Traffic, e.Blocked, e.WriteBlock = TrafficUnknown, a.report.Fenced, time.Since(a.began)
		e.lasts = a.hooks.names.lasts
		f.cutoverFailed(err)
		f.endedBy(e)
		return e
	}
	a.enter(PhaseAbort)
	e.Blocked, e.UnfenceErr = a.unfence(ctx, err)
	a.report.WriteBlock = time.Since(a.began)
	e.WriteBlock = a.report.WriteBlock
	if !errors.Is(err, errDrill) {
		f.cutoverFailed(err)
		f.countAbort()
	}
	if !e.Blocked {
		a.unfenced, e.UnfencedBy = true, a.hooks.names.unfence
		f.enterPhase(PhaseUnfenced)
	}
	a.recordOwner(ctx, TrafficOnSource) // the writers no longer wait for it
	select {
	case <-f.runEnded:
	default:
		e.Following = f.BinlogStreamer.goOn()
	}
	if _, late := errors.AsType[*WriteBlockBudgetError](err); late || e.UnfenceErr != nil {
		e.Silent = f.silentServers(ctx) // now that the writers go on
	}
	f.endedBy(e)
	return e
}

// silencePatience is how long a server has to answer before it is called silent.
const silencePatience = time.Second

// silentServers names the servers that do not answer now.
func (f *Ferry) silentServers(ctx context.Context) []string {
	ctx, cancel := lifecycle.Detach(ctx, silencePatience)
	defer cancel()
	type server struct {
		name string
		db   *sql.DB
	}
	servers := []server{{"source " + hostPort(f.Source), f.SourceDB}, {"target " + hostPort(f.Target), f.TargetDB}}
	answers := make([]chan error, len(servers))
	for i, s := range servers {
		answers[i] = make(chan error, 1)
		go func() {
			_, err := s.db.ExecContext(ctx, "DO 0")
			answers[i] <- err
		}()
	}
	var silent []string
	for i, s := range servers {
		if err := <-answers[i]; err != nil && ctx.Err() != nil {
			silent = append(silent, s.name)
		}
	}
	return silent
}

// endedBy notes a failure after which the run does not go on.
func (f *Ferry) endedBy(e *CutoverError) {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	if !e.Following {
		f.cut.mu.failed = e
	}
}

// unfence reports whether the writers may still be blocked, and why. Another process that
// has taken the run over decides about them itself.
func (a *cutoverAttempt) unfence(ctx context.Context, reason error) (blocked bool, err error) {
	var fenced *FencedError
	switch {
	case a.hooks.Fence == nil:
		return false, nil
	case errors.As(reason, &fenced) || a.takenOver(ctx):
		return true, errors.New("are for the process to decide about that has taken the run over")
	case a.hooks.Unfence == nil:
		return true, errors.New(a.hooks.names.blocked)
	}
	limit := hookTimeout
	if a.interrupted() {
		limit = hastyTimeout
	}
	ctx, cancel := lifecycle.Detach(ctx, limit)
	defer cancel()
	if err := a.f.callHook(ctx, "unfence", a.hooks.Unfence); err != nil {
		return true, fmt.Errorf("may still be blocked, because %s failed: unblock them: %w", a.hooks.names.unfence, err)
	}
	return false, nil
}

// interrupted reports whether the caller's context has ended, which means that the process has to
// end. One that has ended because the run failed, as an errgroup's does, does not say that.
func (a *cutoverAttempt) interrupted() bool {
	cause := context.Cause(a.host)
	return cause != nil && !(a.f.runFailed() && errors.Is(cause, a.f.runErr))
}

// takenOver reports whether another process has the run by now, whatever this attempt was given
// up for: a process that has stood still does not know. A target that is silent is not waited
// for as long as one that is to be switched to, because the writers wait for this, too.
func (a *cutoverAttempt) takenOver(ctx context.Context) bool {
	ctx, cancel := lifecycle.Detach(ctx, silencePatience)
	defer cancel()
	return a.f.notTakenOver(ctx) != nil
}
