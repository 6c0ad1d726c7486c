package ghostferry

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// session is one connection set up for a role. Its transaction state is ours alone, so
// it never goes back to the pool: it is discarded when anything about it is in doubt.
// It is used by one goroutine at a time.
type session struct {
	db     *sql.DB // where conn is from
	conn   *sql.Conn
	prefix string // the comment in front of every statement
	buf    []byte // statement being built, kept for its memory
	data   []byte // memory for pieces of LOAD DATA's lines, likewise

	snapshot BinlogCoordinate // where the consistent snapshot of the transaction stands (MariaDB)

	// spent: its connection was closed in the middle of a result.
	spent bool

	idle      time.Duration // after how long without a statement the server ends it; 0 when that is not known
	idleSince time.Time     // when the pool got it back

	warnings int // how many warnings of a statement the server keeps; set where LOAD DATA is used
}

// writerIdle is after how long without a word the server ends a session that writes: between
// statements (wait_timeout), and within LOAD DATA or an answer (net_read_timeout, net_write_timeout),
// whose rows are in memory on our side and wait for nothing there. Of a process whose machine or
// network is gone the server learns nothing: it would keep transaction and locks for wait_timeout
// (eight hours) or as long as the kernel keeps the connection (two). Inside a transaction none of
// ours waits for anything but the target, except for an answer of the source that says that it
// still has its locks: if that takes as long, the work is done again.
const writerIdle = 2 * time.Minute

// lostSessionLimit is how long the locks of a session that writes are waited for whose connection was
// lost: the server ends it writerIdle after it has executed, or read, what it was sent last.
const lostSessionLimit = 2 * writerIdle

// lockWait is a writing session's limit, in seconds.
const lockWait = "innodb_lock_wait_timeout=5"

// openSession takes a connection from db and prepares it. setup are SET statements.
func openSession(ctx context.Context, db *sql.DB, srv *server.Server, role server.Role, setup ...string) (*session, error) {
	return openSessionWithin(ctx, poolWait, db, srv, role, setup...)
}

// openSessionWithin is openSession with a limit of its own for the wait for a connection of a bounded pool.
func openSessionWithin(ctx context.Context, wait time.Duration, db *sql.DB, srv *server.Server, role server.Role, setup ...string) (*session, error) {
	conn, err := freeConn(ctx, db, wait)
	if err != nil {
		return nil, err
	}
	s := &session{db: db, conn: conn, prefix: sql.AnnotateStmt("", db.Marginalia)}
	for _, stmt := range append(srv.SessionSetup(role), setup...) {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			s.discard()
			return nil, fmt.Errorf("setting up a session: %s: %w", stmt, err)
		}
	}
	return s, nil
}

// poolWait is how long a session waits for a connection of a pool that the host has bounded: longer
// than a server that does not answer takes to fail (a connection, a login).
const poolWait = 3 * dialTimeout

// poolFullError says that a pool that the host has bounded had no free connection. It is waited
// for as an outage is: those that have the connections may give them back.
type poolFullError struct {
	bound  int
	waited time.Duration
}

func (e *poolFullError) Error() string {
	return fmt.Sprintf("no connection became free for %s: the sql.DB is bounded to %d (SetMaxOpenConns), and all are in use", e.waited, e.bound)
}

// freeConn takes a connection from db. Of a bounded pool one may never become free, while the
// chunk that it is for holds changes back: it waits for so long only.
func freeConn(ctx context.Context, db *sql.DB, wait time.Duration) (*sql.Conn, error) {
	bound := db.Stats().MaxOpenConnections
	if bound <= 0 {
		return db.Conn(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := db.Conn(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return nil, &poolFullError{bound, wait}
	}
	return conn, err
}

// mayRest reports whether the session may be kept while nobody uses it. Of a bounded pool half is
// left alone: a query that finds all connections taken waits for one to be given back, which
// those that rest are not.
func (s *session) mayRest() bool {
	pool := s.db.Stats()
	return pool.MaxOpenConnections <= 0 || 2*pool.InUse <= pool.MaxOpenConnections
}

// openWriter opens a session that writes to the target: with explicit transactions, lock waits short
// enough that a conflict is soon retried whole, and no rest longer than writerIdle.
func openWriter(ctx context.Context, db *sql.DB, srv *server.Server, setup ...string) (*session, error) {
	setup = append([]string{"SET autocommit=0, " + writerLimits(srv)}, setup...)
	s, err := openSession(ctx, db, srv, server.Target, setup...)
	if err == nil {
		s.idle = idleLimit(srv)
	}
	return s, err
}

// idleLimit is writerIdle, but in tests.
func idleLimit(srv *server.Server) time.Duration { return cmp.Or(srv.IdleLimit, writerIdle) }

// writerLimits bound how long a session that writes waits for locks, and how long it keeps its own
// when nothing comes from it.
func writerLimits(srv *server.Server) string {
	return fmt.Sprintf("%s, wait_timeout=%[2]d, net_read_timeout=%[2]d, net_write_timeout=%[2]d", lockWait, int(idleLimit(srv).Seconds()))
}

// rested reports whether the server may have ended the session while the pool had it: long before
// it does, so that nobody finds out by a statement that fails.
func (s *session) rested() bool { return s.idle > 0 && time.Since(s.idleSince) > s.idle/2 }

// commit ends the session's transaction, in a packet of its own.
func (s *session) commit(ctx context.Context) error {
	traceSend(s)
	_, err := s.execText(ctx, "COMMIT")
	traceSent(s, err)
	return err
}

// discard closes the connection for good: with it go its transaction and its locks.
func (s *session) discard() {
	traceDiscard(s)
	// Reporting the connection as bad keeps the pool from handing it out again.
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
}

// statement starts a statement in the session's buffer.
func (s *session) statement() []byte {
	return append(s.buf[:0], s.prefix...)
}

// exec sends a statement built on statement and returns the rows affected.
func (s *session) exec(ctx context.Context, stmt []byte) (int64, error) {
	s.buf = stmt
	var affected int64
	err := s.conn.Raw(func(dc any) error {
		execer, ok := dc.(driver.ExecerContext)
		if !ok {
			return errors.New("the SQL driver cannot execute text statements")
		}
		// The driver copies the text into its packet before it returns.
		res, err := execer.ExecContext(ctx, unsafe.String(unsafe.SliceData(stmt), len(stmt)), nil)
		if err != nil {
			return err
		}
		affected, err = res.RowsAffected()
		return err
	})
	return affected, mysqlerr.Redacted(err) // the host is given it: without what it quotes of the rows
}

// execText is exec for a short statement.
func (s *session) execText(ctx context.Context, stmt string) (int64, error) {
	return s.exec(ctx, append(s.statement(), stmt...))
}

// errEnough from the row's function of a query ends the query at once. The rest of the rows
// would have to be read to keep the connection, so that is closed instead.
var errEnough = errors.New("no more rows are wanted")

// query sends a statement built on statement and calls row for each row; values are
// valid during the call only.
func (s *session) query(ctx context.Context, stmt []byte, row func(values []driver.Value) error) error {
	s.buf = stmt
	return mysqlerr.Redacted(s.conn.Raw(func(dc any) (err error) {
		queryer, ok := dc.(driver.QueryerContext)
		if !ok {
			return errors.New("the SQL driver cannot query by text")
		}
		rows, err := queryer.QueryContext(ctx, string(stmt), nil)
		if err != nil {
			return err
		}
		defer func() {
			if closed := rows.Close(); !s.spent {
				err = errors.Join(err, closed)
			}
		}()
		values := make([]driver.Value, len(rows.Columns()))
		for {
			if err := rows.Next(values); err != nil {
				if isEOF(err) {
					return nil
				}
				return err
			}
			if err := row(values); err != nil {
				if !errors.Is(err, errEnough) {
					return err
				}
				s.spent = true
				if conn, ok := dc.(driver.Conn); ok {
					_ = conn.Close() // before the rows are, which otherwise reads what is left
				}
				if err == errEnough { //nolint:errorlint // what wraps it is an error
					return nil
				}
				return err
			}
		}
	}))
}

// keptBuffer is how much memory for statements a session keeps while nobody uses it.
const keptBuffer = 4 << 20

// cutResult ends a result of the session's connection, and with it the connection.
func (s *session) cutResult() {
	s.spent = true
	_ = s.conn.Raw(func(dc any) error {
		if conn, ok := dc.(driver.Conn); ok {
			_ = conn.Close() // before the rows are, which otherwise reads what is left
		}
		return nil
	})
}

// shrink gives the memory back that very large rows needed.
func (s *session) shrink() {
	if cap(s.buf) > keptBuffer {
		s.buf = nil
	}
	if cap(s.data) > keptBuffer {
		s.data = nil
	}
}

// sessionPool keeps sessions of one role for reuse by several goroutines.
type sessionPool struct {
	open func(ctx context.Context) (*session, error)

	mu struct {
		sync.Mutex
		idle   []*session
		closed bool
	}
}

func (p *sessionPool) get(ctx context.Context) (*session, error) {
	for s := p.take(); s != nil; s = p.take() {
		if !s.rested() {
			return s, nil
		}
		s.discard()
	}
	return p.open(ctx)
}

// take returns the idle session that was used last, nil when there is none.
func (p *sessionPool) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.mu.idle)
	if n == 0 {
		return nil
	}
	s := p.mu.idle[n-1]
	p.mu.idle = p.mu.idle[:n-1]
	return s
}

// put takes back a session that is in no transaction, after the context it was used
// with: where that has ended, the driver may have closed the connection.
func (p *sessionPool) put(ctx context.Context, s *session) {
	s.shrink()
	s.idleSince = time.Now()
	p.mu.Lock()
	if !p.mu.closed && ctx.Err() == nil && s.mayRest() {
		p.mu.idle = append(p.mu.idle, s)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	s.discard()
}

// failed takes back a session that is in doubt. When the server is gone, so are the idle
// ones: each of them would cost the next attempt.
func (p *sessionPool) failed(s *session, err error) {
	s.discard()
	switch mysqlerr.Classify(err) {
	case mysqlerr.ConnectionLost, mysqlerr.ShuttingDown:
		p.drop()
	}
}

// drop discards the idle sessions.
func (p *sessionPool) drop() {
	p.mu.Lock()
	idle := p.mu.idle
	p.mu.idle = nil
	p.mu.Unlock()
	for _, s := range idle {
		s.discard()
	}
}

// transaction runs do in a transaction of one of the pool's sessions, which write.
func (p *sessionPool) transaction(ctx context.Context, do func(ctx context.Context, tx *sql.Tx) error) error {
	s, tx, err := p.begin(ctx)
	if err != nil {
		return err
	}
	committed := false
	defer func() {
		if committed {
			p.put(ctx, s)
			return
		}
		_ = tx.Rollback() // also when do has panicked
		p.failed(s, err)
	}()
	if err = do(ctx, tx); err == nil {
		err = tx.Commit()
	}
	committed = err == nil
	return err
}

// begin begins a transaction. That a session was lost while nobody used it is no outage.
func (p *sessionPool) begin(ctx context.Context) (*session, *sql.Tx, error) {
	for {
		s, err := p.get(ctx)
		if err != nil {
			return nil, nil, err
		}
		tx, err := s.conn.BeginTx(ctx, nil)
		if err == nil {
			return s, tx, nil
		}
		rested := !s.idleSince.IsZero()
		p.failed(s, err)
		if !rested || mysqlerr.Classify(err) != mysqlerr.ConnectionLost {
			return nil, nil, err
		}
	}
}

// close discards the idle sessions, and those put back later.
func (p *sessionPool) close() {
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	p.drop()
}
