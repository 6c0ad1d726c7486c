// Package retry repeats work that failed for a passing reason, with exponential backoff. What a
// passing reason is, the caller says.
package retry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Policy says how often and how patiently. The zero value means: until the context ends, starting
// at 100 ms, at most 10 s apart.
type Policy struct {
	// Attempts is the largest number of calls of f; 0 means until the context ends.
	Attempts int
	// First is the nominal wait after the first failure; it doubles with every further one.
	// 0 means 100 ms.
	First time.Duration
	// Max bounds the nominal wait; 0 means 10 s.
	Max time.Duration
	// Sleep waits for d or until ctx ends, and then returns ctx's error. nil means a real timer;
	// tests replace it.
	Sleep func(ctx context.Context, d time.Duration) error
}

const (
	defaultFirst = 100 * time.Millisecond
	defaultMax   = 10 * time.Second
)

// Error is returned after more than one attempt. It unwraps to the last error of f and, when the
// context ended while waiting, to the context's cause.
type Error struct {
	// Attempts is the number of calls of f.
	Attempts int
	// Last is the error of the last call.
	Last error
	// Cause is why the context ended, nil when the attempts were used up or Last is not retryable.
	Cause error
}

// Error names the number of attempts, the last error and what ended the retries.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%v after %d attempts, last error: %v", e.Cause, e.Attempts, e.Last)
	}
	return fmt.Sprintf("after %d attempts: %v", e.Attempts, e.Last)
}

// Unwrap returns the last error and, if there is one, the context's cause.
func (e *Error) Unwrap() []error {
	if e.Cause != nil {
		return []error{e.Last, e.Cause}
	}
	return []error{e.Last}
}

// Do calls f until it succeeds, until its error is not retryable, until p.Attempts calls were
// made, or until ctx ends. The real waits lie between half the nominal wait and all of it, so that
// workers that failed together do not return together.
//
// onRetry, when not nil, is called before each wait with the number of calls made so far. An error
// of the only call is returned as it is; after more calls it is an *Error.
func Do(ctx context.Context, p Policy, retryable func(error) bool,
	onRetry func(attempt int, wait time.Duration, err error), f func(ctx context.Context) error) error {
	p = p.withDefaults()
	wait := p.First
	for attempt := 1; ; attempt++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if !retryable(err) || attempt == p.Attempts || ctx.Err() != nil {
			return wrap(attempt, err, context.Cause(ctx))
		}
		jittered := wait/2 + rand.N(wait/2+1)
		if onRetry != nil {
			onRetry(attempt, jittered, err)
		}
		if p.Sleep(ctx, jittered) != nil {
			return &Error{Attempts: attempt, Last: err, Cause: context.Cause(ctx)}
		}
		wait = min(2*wait, p.Max)
	}
}

func (p Policy) withDefaults() Policy {
	if p.First <= 0 {
		p.First = defaultFirst
	}
	if p.Max <= 0 {
		p.Max = defaultMax
	}
	p.First = min(p.First, p.Max)
	if p.Sleep == nil {
		p.Sleep = Sleep
	}
	return p
}

func wrap(attempts int, err, cause error) error {
	if attempts == 1 {
		return err
	}
	return &Error{Attempts: attempts, Last: err, Cause: cause}
}

// Sleep waits for d, or until ctx ends and then returns ctx's error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
