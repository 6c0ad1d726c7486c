package ghostferry

import (
	"errors"
	"sync"
	"time"
)

// backgroundRun is a verification on a goroutine of its own, one at a time. Every
// verifier has one.
type backgroundRun struct {
	mu struct {
		sync.Mutex
		status VerificationResultAndStatus
		err    error
		done   chan struct{} // closed at the end of the run; nil before the first
	}
}

// start runs f, which ends the goroutine; it fails while one is running.
func (b *backgroundRun) start(f func() (VerificationResult, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.done != nil && !b.mu.status.IsDone() {
		return errors.New("verification is on going")
	}
	b.mu.status, b.mu.err = VerificationResultAndStatus{StartTime: time.Now()}, nil
	done := make(chan struct{})
	b.mu.done = done
	go func() {
		defer close(done)
		result, err := f()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.mu.status.VerificationResult, b.mu.err, b.mu.status.DoneTime = result, err, time.Now()
	}()
	return nil
}

// startOnce is start that fails when there was a run before.
func (b *backgroundRun) startOnce(f func() (VerificationResult, error)) error {
	if b.started() {
		return errors.New("verification was started before")
	}
	return b.start(f)
}

func (b *backgroundRun) started() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.done != nil
}

// wait waits for the run, if there is one.
func (b *backgroundRun) wait() {
	b.mu.Lock()
	done := b.mu.done
	b.mu.Unlock()
	if done != nil {
		<-done
	}
}

// result is the outcome so far.
func (b *backgroundRun) result() (VerificationResultAndStatus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.status, b.mu.err
}

// lastComparison keeps the comparer of a verifier that makes a new one each time.
type lastComparison struct {
	mu sync.Mutex
	c  *comparer
}

func (l *lastComparison) set(c *comparer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c = c
}

func (l *lastComparison) get() *comparer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c
}

func (l *lastComparison) mismatches() []OnlineVerifierMismatch {
	if c := l.get(); c != nil {
		return c.mismatches()
	}
	return nil
}

// tableOfError returns the source's name of the table that an error is about.
func tableOfError(err error) string {
	if e, ok := errors.AsType[*TableError](err); ok {
		return e.Schema + "." + e.Table
	}
	return "?"
}
