package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// CutoverHooks are what a cutover needs of the host. Each is idempotent: it may be called
// again after an error, or when it is not known what an earlier call did. Their context
// ends with the cutover's budget, Unfence's and Switch's after half a minute; Unfence's after
// three seconds when Cutover's own has ended for another reason than that the run has failed.
//
// A hook that is nil is replaced by what the configuration has: the ready-made CutoverFence
// for Fence, Unfence and Fenced; or callbacks: CutoverLock for Fence, CutoverAbort for Unfence, CutoverUnlock for Switch, of which only status 200
// counts, and whose failure to answer means to Switch that the traffic is unknown. Where
// that has no URI there is no hook. Without Fence the source is not fenced: a change after
// the stop position is noticed and refused.
type CutoverHooks struct {
	// Fence stops the writers: when it returns nil, no change of a moved table can be
	// committed on the source any more. After an error the writers may be stopped or not;
	// Unfence is called.
	Fence func(ctx context.Context) error
	// Unfence lets the writers go on, on the source. It is called when a cutover is given
	// up, also when Fence has failed.
	Unfence func(ctx context.Context) error
	// Fenced reports, while the writers are stopped, that they still are: an error gives the
	// cutover up. It is called after the drain and before Switch; nil is never asked.
	Fenced func(ctx context.Context) error
	// Switch sends the application to the target, which is complete and equal. An error
	// says that the application still is on the source, unless it wraps ErrTrafficUnknown.
	// After a panic, or an error when its context has ended, the traffic is unknown as well.
	Switch func(ctx context.Context) error
	// LateWrite is called, once, when the tail guard has found a change that came after the
	// fence and after the switch. The same is logged, and returned by Cutover.
	LateWrite func(*LateWriteError)
	// RecordTraffic keeps in the checkpoint, as Ferry.RecordTraffic does, that the traffic is
	// unknown before Switch is called, and who owns it after. When the first cannot be kept
	// the cutover is given up. Such a host asks RecordedTraffic before Start.
	RecordTraffic bool

	names     struct{ unfence, blocked, lasts string } // for messages
	switching func(ctx context.Context) error          // of a ready-made fence; nil: none
}

// hookTimeout bounds Unfence and Switch, which go on when the cutover's context has ended;
// hastyTimeout bounds Unfence when the caller's has, because the process has to end then. recordTimeout
// bounds a record of who owns the traffic: the writers wait for it.
const (
	hookTimeout   = 30 * time.Second
	hastyTimeout  = 3 * time.Second
	recordTimeout = 10 * time.Second
)

// allHooks completes the hooks by what is configured. Call done when the cutover is over.
func (f *Ferry) allHooks(h CutoverHooks) (complete CutoverHooks, done func(), err error) {
	done = func() {}
	if h.Fence == nil && f.CutoverFence != nil {
		fence, err := f.NewFence(f.CutoverFence)
		if err != nil {
			return h, done, err
		}
		ready := FenceHooks(fence)
		h.Fence, h.Unfence, h.Fenced, h.switching = ready.Fence, ready.Unfence, ready.Fenced, ready.switching
		if _, ok := fence.(*tableFence); ok {
			h.names.lasts = "; its table locks last until this process ends or closes the Ferry"
		}
		done = func() {
			ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
			defer cancel()
			if err := fence.Close(ctx); err != nil {
				f.logger.WithError(err).Warn("closing the fence's connections")
			}
		}
	}
	return h.orCallbacks(f), done, nil
}

// orCallbacks replaces what is nil by the configured callbacks.
func (h CutoverHooks) orCallbacks(f *Ferry) CutoverHooks {
	post := func(what string, callback HTTPCallback) func(ctx context.Context) error {
		if callback.URI == "" {
			return nil
		}
		return func(ctx context.Context) error {
			start := time.Now()
			failpoint("cutover." + what)
			err := f.post(ctx, callback)
			failpoint("cutover." + what + "ed")
			metricsOrGlobal(f.Metrics).Timer(metricOfCallback[what], time.Since(start), nil, 1)
			if err != nil {
				return fmt.Errorf("the cutover %s callback failed: %w", what, err)
			}
			return nil
		}
	}
	h.names.unfence, h.names.blocked = "Unfence", "are still blocked by Fence, because there is no Unfence: unblock them"
	if h.Fence == nil {
		h.Fence = post("lock", f.CutoverLock)
		if h.Unfence == nil {
			h.Unfence = post("abort", f.CutoverAbort)
			h.names.unfence, h.names.blocked = "CutoverAbort", "are still blocked by CutoverLock, because no CutoverAbort is configured: unblock them"
		}
	}
	if h.Switch == nil {
		if unlock := post("unlock", f.CutoverUnlock); unlock != nil {
			h.Switch = func(ctx context.Context) error {
				if err := unlock(ctx); err != nil {
					return fmt.Errorf("%w: %w", ErrTrafficUnknown, err)
				}
				return nil
			}
		}
	}
	return h
}

var metricOfCallback = map[string]string{"lock": "CutoverLock", "unlock": "CutoverUnlock", "abort": "CutoverAbort"}

// callHook calls a hook, MaxCutoverRetries times at most.
func (f *Ferry) callHook(ctx context.Context, name string, hook func(ctx context.Context) error) error {
	wait := time.Duration(f.CutoverRetryWaitSeconds) * time.Second
	policy := retry.Policy{Attempts: f.MaxCutoverRetries, First: wait, Max: wait}
	err := retry.Do(ctx, policy, func(error) bool { return ctx.Err() == nil }, func(n int, _ time.Duration, err error) {
		f.logger.WithError(err).Warnf("cutover: %s failed, attempt %d", name, n)
	}, func(ctx context.Context) error { return safely(func() error { return hook(ctx) }) })
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
