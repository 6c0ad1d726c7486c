package ghostferry

import (
	"context"
	"sync"
	"time"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// clockInterval is how often a run asks for the source's clock, clockTimeout how long it
	// waits for the answer.
	clockInterval = 10 * time.Second
	clockTimeout  = 5 * time.Second
)

// serverClock is a server's clock as it was when it was last asked for, carried on by our own
// monotonic one: the age of an event is told by the clock that has stamped it. Neither a
// difference between both hosts nor a step of ours is taken for lag, or for none, and a step
// of the server's not for longer than an interval. Until it was asked it is our own.
type serverClock struct {
	mu struct {
		sync.Mutex
		asked time.Time // by our clock, with its monotonic reading
		there time.Time
	}
}

func (c *serverClock) set(there time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.asked, c.mu.there = time.Now(), there
}

func (c *serverClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.asked.IsZero() {
		return time.Now()
	}
	return c.mu.there.Add(time.Since(c.mu.asked))
}

// age is how long ago something happened there, never less than 0.
func (c *serverClock) age(at time.Time) time.Duration { return max(0, c.now().Sub(at)) }

// ask asks the server. One that does not answer leaves the clock as it is.
func (c *serverClock) ask(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	var seconds float64
	if err := db.QueryRowContext(ctx, "SELECT UNIX_TIMESTAMP(NOW(6))").Scan(&seconds); err != nil {
		return err
	}
	c.set(time.UnixMicro(int64(seconds * 1e6)))
	return nil
}

// askClock asks for the server's clock.
func (s *BinlogStreamer) askClock(ctx context.Context) {
	if s.DB == nil {
		return
	}
	if err := s.clock.ask(ctx, s.DB); err != nil && ctx.Err() == nil {
		s.logger.WithError(err).Debug("the server did not tell its clock")
	}
}
