// Package lifecycle runs named goroutines as one group: the first error stops all, its cause is
// what comes back, and nothing is left running.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// ErrStopped is the cause of a context that was ended because its work is no longer needed: by
// Task.Stop, or by Group.Cancel without a cause. A goroutine that returns because of it has not
// failed.
var ErrStopped = errors.New("stopped")

// PanicError is a panic in a goroutine of a group, or in a step of Stop.
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	// Stack is the stack of the panicking goroutine.
	Stack []byte
}

// Error returns the panic's value and its stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack)
}

// Unwrap returns the panic's value when that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Group is a set of named goroutines over one context. New makes it; the zero value is unusable.
//
// Invariants: err is set once, together with the end of ctx; after Wait has returned, every
// goroutine has ended.
type Group struct {
	// immutable
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	outcome struct {
		sync.Mutex
		err error // the first error, with its goroutine's name
	}
}

// New returns a group over a context derived from ctx. The context ends with the first error, with
// Cancel, and at the latest when Wait returns.
func New(ctx context.Context) (*Group, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel}, ctx
}

// Task is one goroutine of a group.
type Task struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// Go runs f in a goroutine. An error of f, a panic included, ends the group's context with that
// error, under the given name, as cause. It may be called from a goroutine of the group; otherwise
// not once Wait was called.
func (g *Group) Go(name string, f func(ctx context.Context) error) *Task {
	ctx, cancel := context.WithCancelCause(g.ctx)
	task := &Task{cancel: cancel, done: make(chan struct{})}
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		defer close(task.done)
		defer cancel(nil)
		returned := false
		defer func() {
			if !returned { // a failed test assertion, say, must not leave the others running
				g.fail(fmt.Errorf("%s: %w", name, errGoexit))
			}
		}()
		err := guard(func() error { return f(ctx) })
		returned = true
		if err != nil && !stopped(ctx, err) {
			g.fail(describe(ctx, name, err))
		}
	}()
	return task
}

// Done is closed when the goroutine has ended.
func (t *Task) Done() <-chan struct{} { return t.done }

// Stop ends the context of this goroutine alone, with ErrStopped as cause, and waits for its end
// or for that of ctx, whose cause it then returns.
func (t *Task) Stop(ctx context.Context) error {
	t.cancel(ErrStopped)
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Cancel ends the group's context. A cause other than nil is the group's error, unless there is
// one already; nil means that the work is no longer needed, and what the goroutines return because
// of it is no error.
func (g *Group) Cancel(cause error) {
	if cause == nil {
		g.cancel(ErrStopped)
		return
	}
	g.fail(cause)
}

// Wait returns when every goroutine has ended, with the first error. The context that the group
// was made from does not interrupt it; it is for the goroutines to obey it.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.cancel(ErrStopped)
	g.outcome.Lock()
	defer g.outcome.Unlock()
	return g.outcome.err
}

func (g *Group) fail(err error) {
	g.outcome.Lock()
	defer g.outcome.Unlock()
	if g.outcome.err == nil {
		g.outcome.err = err
		g.cancel(err)
	}
}

// stopped tells whether err is only the echo of an orderly stop.
func stopped(ctx context.Context, err error) bool {
	return errors.Is(context.Cause(ctx), ErrStopped) && (errors.Is(err, ErrStopped) || errors.Is(err, context.Canceled))
}

// describe adds the goroutine's name and, where err merely says that the context ended, why it did.
func describe(ctx context.Context, name string, err error) error {
	cause := context.Cause(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, cause) {
		return fmt.Errorf("%s: %w: %w", name, err, cause)
	}
	return fmt.Errorf("%s: %w", name, err)
}

var errGoexit = errors.New("goroutine ended by runtime.Goexit")

// guard calls f and turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Step is one named part of an orderly stop.
type Step struct {
	Name string
	Stop func(ctx context.Context) error
}

// Stop runs every step in order, whatever the earlier ones returned, and joins their errors under
// their names.
func Stop(ctx context.Context, steps ...Step) error {
	var errs []error
	for _, step := range steps {
		if err := guard(func() error { return step.Stop(ctx) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Detach returns a context for work that must finish although ctx may have ended: it keeps ctx's
// values, ignores its end, and ends itself after limit.
func Detach(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}
