package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

const (
	// conflictPatience is how long work that collides with others (deadlocks, lock waits)
	// is repeated at least, however many attempts that takes.
	conflictPatience = 30 * time.Second
	// outagePause bounds the pauses between two attempts during an outage.
	outagePause = 2 * time.Second
	// longestWait is more than an attempt waits for a server or for locks of rows before it
	// fails. What it takes beyond counts as work: an ALTER may break off after hours, and a read
	// waits for that ALTER as long (digestSetup), or for a table that others have locked.
	longestWait = 2 * time.Minute
)

// OutageError says that a server could not be used for as long as Config.MaxOutageSeconds
// allows.
type OutageError struct {
	final
	// Server is "source" or "target".
	Server string
	// Lasted is how long it was tried, without the attempt before and without the time that
	// attempts were at work.
	Lasted time.Duration
	// Err is the last attempt's error.
	Err error
}

// Error names server, reason and remedy.
func (e *OutageError) Error() string {
	return fmt.Sprintf("the %s could not be used for %s: %v: %s; the run can be resumed then", e.Server, e.Lasted.Round(time.Second), e.Err, outageRemedy(e.Err))
}

// Unwrap returns the last attempt's error.
func (e *OutageError) Unwrap() error { return e.Err }

// Resumable is true: nothing is wrong but the server.
func (e *OutageError) Resumable() bool { return true }

// RowsLockedError says that rows could not be read for as long as Config.MaxOutageSeconds
// allows because another transaction keeps them locked. Only MySQL without GTIDs, where
// visibility is known by row locks, reads so that it has to wait for them, and a repair.
type RowsLockedError struct {
	final
	// XIDs are the XA transactions that are prepared there, which may be the ones; as XA
	// COMMIT takes them.
	XIDs []string
	// Lasted is how long the rows were waited for.
	Lasted time.Duration
	// Err is the last attempt's error.
	Err error
}

// Error names the time, prepared transactions and the remedy.
func (e *RowsLockedError) Error() string {
	return fmt.Sprintf("rows were locked by another transaction of the source%s for %s: %v: commit it or roll it back there (information_schema.innodb_trx, XA RECOVER); the run can be resumed then",
		e.prepared(), e.Lasted.Round(time.Second), e.Err)
}

// Unwrap returns the last attempt's error.
func (e *RowsLockedError) Unwrap() error { return e.Err }

// Resumable is true: nothing is wrong but the locks.
func (e *RowsLockedError) Resumable() bool { return true }

func (e *RowsLockedError) setLasted(lasted time.Duration) { e.Lasted = lasted }

func (e *RowsLockedError) waiting() string {
	return "rows of the source are locked by another transaction" + e.prepared() + "; other rows are read meanwhile"
}

func (e *RowsLockedError) prepared() string {
	if len(e.XIDs) == 0 {
		return ""
	}
	return fmt.Sprintf(" (prepared XA transactions: %s)", strings.Join(e.XIDs, "; "))
}

// lockedByOthers is an error about what a transaction of others keeps locked, which is
// waited for as long as an outage.
type lockedByOthers interface {
	error
	setLasted(lasted time.Duration)
	waiting() string // for the log
}

func outageRemedy(err error) string {
	if _, full := errors.AsType[*poolFullError](err); full {
		return "allow its sql.DB more connections, or lower DataIterationConcurrency and BinlogApplyLanes"
	}
	switch mysqlerr.Classify(err) {
	case mysqlerr.ReadOnly:
		return "set super_read_only and read_only to OFF there, or name the server that may be written"
	case mysqlerr.DiskFull:
		return "make room on its disk"
	case mysqlerr.ServerBusy:
		return "raise max_connections there, or lower DataIterationConcurrency and BinlogApplyLanes"
	}
	return "see that the server runs and can be reached"
}

// isOutage reports whether the server as a whole cannot be used at present.
func isOutage(err error) bool {
	if _, full := errors.AsType[*poolFullError](err); full || errors.Is(err, errNotFollowedYet) {
		return true
	}
	switch mysqlerr.Classify(err) {
	case mysqlerr.ConnectionLost, mysqlerr.ServerBusy, mysqlerr.ReadOnly, mysqlerr.DiskFull, mysqlerr.ShuttingDown:
		return Retryable(err)
	}
	return false
}

// patience repeats work against one server while the reason may pass. All who wait for
// the server wait with one message. A nil patience has the defaults and logs nothing.
type patience struct {
	// immutable
	server string // "source" or "target"
	limit  time.Duration
	logger Logger
	// conflicts is for how long collisions are repeated at least; 0 is conflictPatience.
	conflicts time.Duration

	mu struct {
		sync.Mutex
		waiting int       // how many are between two attempts
		since   time.Time // of the outage; zero when there is none
		lost    time.Time // when a connection was last lost
	}
}

// attempts is how often work that collides with others is tried; 0 means without limit.
// f gets the number of the attempt, from 1.
func (p *patience) do(ctx context.Context, attempts int, f func(ctx context.Context, attempt int) error) error {
	return p.doWhile(ctx, attempts, func(err error) bool {
		return Retryable(err) && mysqlerr.Retryable(mysqlerr.Classify(err))
	}, f)
}

// doWhile is do with an own idea of which errors may pass beside an outage.
func (p *patience) doWhile(ctx context.Context, attempts int, passing func(error) bool, f func(ctx context.Context, attempt int) error) error {
	var began, outage time.Time // of the first failure since the last outage, and of the present outage
	collisions := 0             // since began
	told := false               // of locks
	tooLarge := 0               // bytes that statements were to have since the last too large one
	defer func() {
		if !outage.IsZero() {
			p.waitsNoMore()
		}
	}()
	for attempt := 1; ; attempt++ {
		started := time.Now()
		err := f(ctx, attempt)
		if err == nil || ctx.Err() != nil {
			if err == nil && !outage.IsZero() {
				p.usable()
			}
			return err
		}
		if large, ok := errors.AsType[*statementTooLargeError](err); ok {
			if tooLarge > 0 && large.bytes >= tooLarge {
				large.halve()
			}
			tooLarge = large.bytes
			p.halved(err)
			continue // at once: the next statements are smaller
		}
		now := time.Now()
		if worked := now.Sub(started) - longestWait; worked > 0 {
			began, outage = later(began, worked), later(outage, worked)
		}
		if isOutage(err) { // collisions before it say nothing about those after it
			began, collisions = time.Time{}, 0
			p.noteLoss(err)
		}
		if began.IsZero() {
			began = now
		}
		wait := min(20*time.Millisecond<<min(attempt, 8), outagePause)
		locked, isLocked := errors.AsType[lockedByOthers](err)
		switch {
		case isLocked:
			lasted := now.Sub(began)
			if locked.setLasted(lasted); lasted >= p.maximum() {
				return err
			}
			if !told {
				p.blocked(locked)
			}
			told = true
		case isOutage(err):
			if outage.IsZero() {
				outage = now
				p.waits(err)
			}
			if lasted := now.Sub(outage); lasted >= p.maximum() {
				return &OutageError{Server: p.name(), Lasted: lasted, Err: err}
			}
		case !passing(err):
			return err
		case p.lockedByLost(err):
			if !told {
				p.waitsForLost(err)
			}
			told = true
			collisions++
		case attempts > 0 && collisions+1 >= attempts && now.Sub(began) >= p.conflictTime():
			return fmt.Errorf("after %d attempts in %s: %w", attempt, now.Sub(began).Round(time.Second), err)
		default:
			collisions++
			p.collided(attempt, err)
		}
		// Half of the pause is left to chance, so that workers that failed together do not
		// return together.
		end := waitingFor(ctx, p.cause(err))
		waitErr := retry.Sleep(ctx, wait/2+rand.N(wait/2))
		end()
		if waitErr != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// later is a time moved by what does not count; none stays none.
func later(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(by)
}

// cause names what a pause after an error waits for.
func (p *patience) cause(err error) waitCause {
	_, locked := errors.AsType[*RowsLockedError](err)
	switch {
	case locked:
		return waitRowLock
	case !isOutage(err):
		return waitConflict
	}
	return p.outage()
}

// outage names what is waited for while the server cannot be used.
func (p *patience) outage() waitCause {
	if p != nil && p.server == "target" {
		return waitTargetOutage
	}
	return waitSourceOutage
}

// waits notes that somebody waits for the server, and says so once.
func (p *patience) waits(err error) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.waiting++
	if p.mu.since.IsZero() {
		p.mu.since = time.Now()
		p.logger.WithError(err).Warnf("the %s cannot be used; waiting for at most %s: %s", p.server, p.maximum(), outageRemedy(err))
	}
}

// usable says that the outage is over.
func (p *patience) usable() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.since.IsZero() {
		p.logger.Infof("the %s can be used again after %s", p.server, time.Since(p.mu.since).Round(time.Millisecond))
		p.mu.since = time.Time{}
	}
}

func (p *patience) waitsNoMore() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.waiting--; p.mu.waiting == 0 {
		p.mu.since = time.Time{}
	}
}

// noteLoss remembers that a session of the target was lost: by whom does not matter, its locks may be
// in the way of any work.
func (p *patience) noteLoss(err error) {
	if p == nil || p.server != "target" || mysqlerr.Classify(err) != mysqlerr.ConnectionLost {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.lost = time.Now()
}

// lockedByLost reports whether a lock that was not granted may be one of a session of ours that was
// lost: the target need not know of that yet.
func (p *patience) lockedByLost(err error) bool {
	if p == nil || mysqlerr.Classify(err) != mysqlerr.LockWait {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.mu.lost.IsZero() && time.Since(p.mu.lost) < lostSessionLimit
}

// waitsForLost says that a lost session is waited for.
func (p *patience) waitsForLost(err error) {
	p.mu.Lock()
	lost := time.Since(p.mu.lost)
	p.mu.Unlock()
	p.logger.WithError(err).Warnf("rows of the %s are locked, it may be by a session of ours whose connection was lost %s ago: waiting for its end, for at most %s; the %s ends sessions that have been idle for %s",
		p.server, lost.Round(time.Second), (lostSessionLimit - lost).Round(time.Second), p.server, writerIdle)
}

// halved tells of statements that were too large.
func (p *patience) halved(err error) {
	if p != nil {
		p.logger.WithError(err).Info("work is done again with smaller statements")
	}
}

// collided tells of the first collision of a piece of work; the others would say the same.
func (p *patience) collided(attempt int, err error) {
	if p == nil {
		return
	}
	log := p.logger.WithError(err).Debugf
	if attempt == 1 {
		log = p.logger.WithError(err).Warnf
	}
	log("work on the %s collided with others, attempt %d; trying it again", p.server, attempt)
}

// blocked tells of the locks that a piece of work waits for.
func (p *patience) blocked(locked lockedByOthers) {
	if p != nil {
		p.logger.WithError(errors.Unwrap(locked)).Warnf("%s, for at most %s", locked.waiting(), p.maximum())
	}
}

func (p *patience) maximum() time.Duration {
	if p == nil || p.limit <= 0 {
		return defaultMaxOutageSeconds * time.Second
	}
	return p.limit
}

func (p *patience) conflictTime() time.Duration {
	if p == nil || p.conflicts <= 0 {
		return conflictPatience
	}
	return p.conflicts
}

func (p *patience) name() string {
	if p == nil {
		return "server"
	}
	return p.server
}
