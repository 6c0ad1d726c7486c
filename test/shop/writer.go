package shop

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// Defaults of WriterConfig.
const (
	DefaultConnections = 8
	DefaultRate        = 500
)

// WriterConfig says who writes how much where. Zero values mean the defaults.
type WriterConfig struct {
	// DB is the server to write to. Its connections must not be in autocommit-off
	// mode; interpolateParams saves a round trip a statement.
	DB *sql.DB
	// Shop are the options with which the database was seeded.
	Shop Options
	// Connections is the number of concurrent clients. Default: DefaultConnections.
	Connections int
	// Rate is the number of transactions a second that all connections together
	// aim at. Default: DefaultRate; negative: as many as the server takes.
	Rate int
	// Seed is the origin of every choice. Each connection draws its own sequence;
	// how the connections interleave is up to the machine.
	Seed uint64
}

// Writer is the application: some connections that each make one transaction
// after the other. Create it with NewWriter, then Start, and in the end Stop.
//
// Being refused because the server became read-only is no error: the connection
// is fenced and waits for SwitchTo. After deadlocks, lock timeouts and killed
// statements it rolls back, counts, and goes on. Any other error ends the writer; Stop returns it.
type Writer struct {
	// immutable
	config WriterConfig
	shape  Shape

	cancel  context.CancelFunc
	workers *errgroup.Group
	keys    keys

	state struct {
		sync.Mutex
		// changed is closed and replaced whenever one of the following changes.
		changed chan struct{}
		// server numbers the servers written to so far; a connection fenced off
		// server n waits until this is larger than n.
		server   int
		db       *sql.DB
		work     Work // nil: the shop's own mix
		paused   bool
		stopping bool
		running  int // transactions in flight
		fenced   int // connections waiting for SwitchTo
		stats    Stats
		err      error // what ended the writer
	}
}

// Work is one transaction, between its BEGIN and its COMMIT. The number is that
// of the connection.
type Work func(ctx context.Context, tx *sql.Tx, connection int) error

// NewWriter returns a writer that has not started.
func NewWriter(c WriterConfig) *Writer {
	c.Shop = c.Shop.withDefaults()
	if c.Connections == 0 {
		c.Connections = DefaultConnections
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	w := &Writer{config: c, shape: ShapeOf(c.Shop.Rows)}
	w.state.db = c.DB
	w.state.changed = make(chan struct{})
	w.state.stats.Kinds = map[string]int{}
	return w
}

// Start reads which keys are taken and starts the connections. Cancelling ctx
// cuts their transactions off; Stop lets them end.
func (w *Writer) Start(ctx context.Context) error {
	taken, err := readKeys(ctx, w.config.DB, w.config.Shop.Database)
	if err != nil {
		return fmt.Errorf("starting the writer: %w", err)
	}
	w.keys = taken
	ctx, w.cancel = context.WithCancel(ctx)
	w.workers, ctx = errgroup.WithContext(ctx)

	w.state.Lock()
	w.state.stats.begin(time.Now())
	w.state.Unlock()
	for i := range w.config.Connections {
		c := newConnection(w, i)
		w.workers.Go(func() error {
			defer c.disconnect()
			err := c.run(ctx)
			if err != nil {
				w.change(func() { w.state.err = cmp.Or(w.state.err, err) })
			}
			return err
		})
	}
	return nil
}

// Stop waits until every transaction in flight has ended and returns the final
// counts, and the error that ended the writer early, if one did.
func (w *Writer) Stop() (Stats, error) {
	w.change(func() { w.state.stopping = true })
	err := w.workers.Wait()
	w.cancel()
	return w.Stats(), err
}

// Pause returns when no transaction is in flight and none begins until Resume.
func (w *Writer) Pause(ctx context.Context) error {
	w.change(func() { w.state.paused = true })
	return w.until(ctx, func() bool { return w.state.running == 0 })
}

// Resume lets a paused writer go on.
func (w *Writer) Resume() { w.change(func() { w.state.paused = false }) }

// SwitchTo makes every connection, fenced or not, go on with the given server
// after its present transaction. With work set the connections do that instead
// of the shop's mix. The time from the last commit before to the first commit
// after becomes Stats.SwitchGap.
func (w *Writer) SwitchTo(db *sql.DB, work Work) {
	w.change(func() {
		w.state.db, w.state.work = db, work
		w.state.server++
		w.state.fenced = 0
		w.state.stats.switched()
	})
}

// UntilFenced returns when every connection has been refused by a read-only
// server: from then on nobody writes until SwitchTo.
func (w *Writer) UntilFenced(ctx context.Context) error {
	return w.until(ctx, func() bool { return w.state.fenced == w.config.Connections })
}

// UntilCommitted returns when the counts satisfy the condition.
func (w *Writer) UntilCommitted(ctx context.Context, enough func(Stats) bool) error {
	return w.until(ctx, func() bool { return enough(w.state.stats) })
}

// Stats returns the counts so far.
func (w *Writer) Stats() Stats {
	w.state.Lock()
	defer w.state.Unlock()
	return w.state.stats.clone()
}

// until waits for a condition on the state, or for the writer to fail.
func (w *Writer) until(ctx context.Context, holds func() bool) error {
	for {
		w.state.Lock()
		done, err, changed := holds(), w.state.err, w.state.changed
		w.state.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *Writer) change(set func()) {
	w.state.Lock()
	defer w.state.Unlock()
	set()
	close(w.state.changed)
	w.state.changed = make(chan struct{})
}

// admission is the permission to run one transaction.
type admission struct {
	server int
	db     *sql.DB
	work   Work
}

// admit waits until a transaction may begin on a server newer than fenced. It
// returns false when the writer is stopping.
func (w *Writer) admit(ctx context.Context, fenced int) (admission, bool) {
	for {
		w.state.Lock()
		if w.state.stopping {
			w.state.Unlock()
			return admission{}, false
		}
		if !w.state.paused && w.state.server > fenced {
			w.state.running++
			a := admission{w.state.server, w.state.db, w.state.work}
			w.state.Unlock()
			return a, true
		}
		changed := w.state.changed
		w.state.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return admission{}, false
		}
	}
}

// finished gives the admission back and counts the outcome.
func (w *Writer) finished(a admission, o outcome, kind string, begun, ended time.Time) {
	w.change(func() {
		w.state.running--
		w.state.stats.count(o, kind, begun, ended)
		if o == fencedOff && a.server == w.state.server {
			w.state.fenced++
		}
	})
}

// connection is one client. It belongs to its goroutine.
type connection struct {
	w      *Writer
	number int
	rng    *rand.Rand
	conn   *sql.Conn
	server int // the server that conn leads to
	own    ownKeys
	// afterCommit holds what the running transaction wants remembered once it
	// is known to be committed.
	afterCommit []func()
}

// newConnection draws from the seed, the number and the keys that are taken: a
// second writer with the same seed must not make the first one's random keys.
func newConnection(w *Writer, number int) *connection {
	source := rand.NewPCG(w.config.Seed, scramble(uint64(w.keys.order))+uint64(number))
	return &connection{w: w, number: number, rng: rand.New(source)}
}

// disconnect hangs up, rather than giving the connection back to its pool: nothing
// of it shall stay on a server that was left.
func (c *connection) disconnect() {
	if c.conn != nil {
		_ = c.conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = c.conn.Close() // is closed already
		c.conn = nil
	}
}

// run makes transactions at the connection's share of the rate until the writer
// stops or fails.
func (c *connection) run(ctx context.Context) error {
	pace := newPace(c.w.config)
	fenced := -1
	for pace.wait(ctx) {
		admitted, ok := c.w.admit(ctx, fenced)
		if !ok {
			return nil
		}
		kind, work := c.choose(admitted.work)
		begun := time.Now()
		outcome, err := c.transact(ctx, admitted, work)
		c.w.finished(admitted, outcome, kind, begun, time.Now())
		switch {
		case outcome == fencedOff:
			fenced = admitted.server
			c.disconnect()
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("the writer's connection %d, transaction %q: %w", c.number, kind, err)
		}
	}
	return nil
}

// transact runs one transaction. The error is nil unless the outcome is failed.
func (c *connection) transact(ctx context.Context, a admission, work Work) (outcome, error) {
	c.afterCommit = c.afterCommit[:0]
	err := c.attempt(ctx, a, work)
	var refused *mysql.MySQLError
	switch {
	case err == nil:
		for _, remember := range c.afterCommit {
			remember()
		}
		return committed, nil
	case errors.Is(err, errChangedMind):
		return rolledBack, nil
	case !errors.As(err, &refused):
		return failed, err
	case refused.Number == errOptionPreventsStatement, refused.Number == errReadOnlyMode:
		return fencedOff, nil
	case refused.Number == errDeadlock, refused.Number == errLockWaitTimeout, refused.Number == errQueryInterrupted:
		return lockConflict, nil
	}
	return failed, err
}

// Server errors that an application under a mover has to live with.
const (
	errLockWaitTimeout         = 1205
	errDeadlock                = 1213
	errQueryInterrupted        = 1317 // KILL QUERY
	errOptionPreventsStatement = 1290 // read_only, super_read_only
	errReadOnlyMode            = 1836
)

// errChangedMind is what a transaction returns to be rolled back on purpose.
var errChangedMind = errors.New("rolled back on purpose")

func (c *connection) attempt(ctx context.Context, a admission, work Work) error {
	if c.conn != nil && c.server != a.server {
		c.disconnect()
	}
	if c.conn == nil {
		conn, err := a.db.Conn(ctx)
		if err != nil {
			return err
		}
		c.conn, c.server = conn, a.server
	}
	tx, err := c.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(ctx, tx, c.number); err != nil {
		// Without effect if the server rolled back by itself, as for a deadlock.
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		// A commit refused by a read-only server leaves the transaction open, and
		// database/sql sends no rollback after it.
		_, rollbackErr := c.conn.ExecContext(ctx, "ROLLBACK")
		return errors.Join(err, rollbackErr)
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// pace spreads transactions evenly over time. A connection that was held up
// catches up, but for no more than a second's worth: an application's users do
// not all come back at once.
type pace struct {
	interval time.Duration
	next     time.Time
}

func newPace(c WriterConfig) *pace {
	if c.Rate < 0 {
		return &pace{}
	}
	return &pace{interval: time.Second * time.Duration(c.Connections) / time.Duration(c.Rate), next: time.Now()}
}

// wait returns false when ctx ended.
func (p *pace) wait(ctx context.Context) bool {
	if p.interval == 0 {
		return ctx.Err() == nil
	}
	p.next = p.next.Add(p.interval)
	ahead := time.Until(p.next)
	if ahead < -time.Second {
		p.next = p.next.Add(-ahead - time.Second)
	}
	if ahead <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
