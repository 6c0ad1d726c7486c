package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// barrierLimit bounds the wait for delivered transactions to become visible. It stays
// below the server's net_write_timeout; a chunk past it is closed unwritten and read again.
const barrierLimit = 30 * time.Second

// readLockWait is for how many seconds a locking read waits for a row before its chunk's
// gate is closed and the read made again: changes of the chunk's other rows are held
// meanwhile, and with them everything behind them.
const readLockWait = "5"

// sourceReader reads from the source so that everything delivered up to a mark is seen.
//
// An event may be delivered before its transaction is visible: the log is flushed
// first. Reading without the barrier would then copy the old row over the new one.
type sourceReader struct {
	db     *sql.DB
	server *server.Server
	gate   *gate
	pool   sessionPool
	// patience is how outages of the source are waited for.
	patience *patience
	// unconfirmed counts what was read; nil: nothing follows the log.
	unconfirmed *unconfirmedReads
	spare       spareRows
}

// spareRows keeps memory of chunks that are done for those to come: new memory has to be
// cleared, and collected, for every row.
type spareRows struct {
	mu    sync.Mutex
	rows  []*codec.Rows // guarded by mu
	bytes int           // of all of them
}

// maxSpareBytes is how much memory is kept: that of all workers' chunks, which are somewhat larger
// than planned.
const maxSpareBytes = maxFoundBytes * 3 / 2

func (s *spareRows) take(cols, rows, size int) *codec.Rows {
	s.mu.Lock()
	var spare *codec.Rows
	if n := len(s.rows); n > 0 {
		spare = s.rows[n-1]
		s.rows = s.rows[:n-1]
		s.bytes -= spare.Memory()
	}
	s.mu.Unlock()
	if spare != nil && spare.Reuse(cols, rows, size) {
		return spare
	}
	return codec.NewRows(cols, rows, size)
}

// drop gives all of it up.
func (s *spareRows) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows, s.bytes = nil, 0
}

// give keeps the memory of a chunk, but not of one that became much larger than planned: it would
// be a worker's until the end.
func (s *spareRows) give(rows *codec.Rows, chunkBytes int) {
	if rows.Memory() > max(3*chunkBytes, loadedChunkBytes) { // short values take more for their ends
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if memory := rows.Memory(); s.bytes+memory <= maxSpareBytes && len(s.rows) < maxFoundWorkers {
		s.rows = append(s.rows, rows)
		s.bytes += memory
	}
}

func newSourceReader(db *sql.DB, srv *server.Server, g *gate) *sourceReader {
	r := &sourceReader{db: db, server: srv, gate: g}
	role := server.Source
	if srv.IsMariaDB() {
		role = server.SourceSnapshot
	}
	var setup []string
	if r.lockingReads() {
		setup = []string{"SET innodb_lock_wait_timeout=" + readLockWait}
	}
	r.pool.open = func(ctx context.Context) (*session, error) {
		s, err := openSession(ctx, db, srv, role, setup...)
		if err != nil {
			return nil, err
		}
		// The address may lead to another server by now, which need not have what is streamed.
		if err := r.mayRead(ctx, s); err != nil {
			s.discard()
			return nil, err
		}
		return s, nil
	}
	return r
}

// mayRead makes sure that a session leads to the very process that the stream follows.
func (r *sourceReader) mayRead(ctx context.Context, s *session) error {
	if err := sameSource(ctx, r.server, s.conn); err != nil || r.unconfirmed == nil {
		return err
	}
	started, err := r.server.StartedAt(ctx, s.conn)
	if err == nil && !r.unconfirmed.mayRead(sourceProcess{r.server.Identity, started}) {
		err = errNotFollowedYet
	}
	return err
}

// barrierError says that delivered transactions did not become visible in time.
type barrierError struct {
	what string
	err  error
}

func (e *barrierError) Error() string {
	return fmt.Sprintf("%s not visible on the source after %s: a commit is stalled there (semi-synchronous replication without a replica?): %v", e.what, barrierLimit, e.err)
}

func (e *barrierError) Unwrap() error { return e.err }

// lockingReads reports whether reads must lock rows because the server offers no other
// way to wait for visibility (MySQL without GTIDs).
func (r *sourceReader) lockingReads() bool { return !r.server.IsMariaDB() && !r.server.GTIDMode }

// read runs f on a session in which everything up to the mark is visible. suffix is
// what a SELECT needs at its end: a lock clause where visibility comes from row locks,
// which are released at the end of each statement. f may be run again on a fresh session:
// outages of the source are waited for.
func (r *sourceReader) read(ctx context.Context, mark deliveredMark, f func(s *session, suffix string) error) error {
	never := func(error) bool { return false }
	return r.patience.doWhile(ctx, 1, never, func(ctx context.Context, _ int) error { return r.readOnce(ctx, mark, f) })
}

// edgeAttempts is how often reads of single rows are tried that collide with others.
const edgeAttempts = 5

// readOnce is read without waiting for outages.
func (r *sourceReader) readOnce(ctx context.Context, mark deliveredMark, f func(s *session, suffix string) error) error {
	s, err := r.pool.get(ctx)
	if err != nil {
		return err
	}
	if err := r.readOn(ctx, s, mark, f); err != nil {
		r.pool.failed(s, err)
		return r.lockedRows(ctx, err)
	}
	if s.spent {
		s.discard()
		return nil
	}
	r.pool.put(ctx, s)
	return nil
}

// lockedRows explains a lock that was not granted.
func (r *sourceReader) lockedRows(ctx context.Context, err error) error {
	if !r.lockingReads() {
		return err
	}
	return r.waitsForRows(ctx, err)
}

// waitsForRows is lockedRows for a read that locks on any server.
func (r *sourceReader) waitsForRows(ctx context.Context, err error) error {
	if mysqlerr.Classify(err) != mysqlerr.LockWait {
		return err
	}
	locked := &RowsLockedError{Err: err}
	if xids, err := r.server.PreparedXA(ctx, r.db); err == nil { // else they are not named
		locked.XIDs = xids
	}
	return locked
}

func (r *sourceReader) readOn(ctx context.Context, s *session, mark deliveredMark, f func(s *session, suffix string) error) error {
	switch {
	case r.lockingReads():
		return f(s, r.server.LockingReadSuffix())
	case !r.server.IsMariaDB():
		if err := r.waitForGTIDs(ctx, s, mark); err != nil {
			return err
		}
		return f(s, "")
	default:
		if err := r.snapshotFrom(ctx, s, mark); err != nil {
			return err
		}
		if err := f(s, ""); err != nil || s.spent {
			return err
		}
		_, err := s.execText(ctx, "COMMIT")
		return err
	}
}

func (r *sourceReader) waitForGTIDs(ctx context.Context, s *session, mark deliveredMark) error {
	set, upTo := r.gate.notYetVisible(mark)
	if set == "" {
		return nil
	}
	end := waitingFor(ctx, waitBarrier)
	err := r.server.WaitForGTIDSet(ctx, s.conn, set, barrierLimit)
	end()
	if err != nil {
		if errors.Is(err, server.ErrBarrierTimeout) {
			return &barrierError{what: "transactions " + set, err: err}
		}
		return err
	}
	r.gate.passed(upTo)
	return nil
}

// snapshotFrom opens snapshots on MariaDB until one stands at or after the mark.
func (r *sourceReader) snapshotFrom(ctx context.Context, s *session, mark deliveredMark) error {
	deadline := time.NewTimer(barrierLimit)
	defer deadline.Stop()
	end := func() {}
	defer func() { end() }()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		at, err := r.server.Snapshot(ctx, s.conn)
		if err != nil {
			return err
		}
		here := BinlogCoordinate{File: at.File, Pos: at.Pos}
		if mark.position.File == "" || here.CompareFilePos(mark.position) >= 0 {
			s.snapshot = here
			return nil
		}
		if wait == time.Millisecond { // the first look was not enough
			end = waitingFor(ctx, waitBarrier)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-deadline.C:
			timer.Stop()
			return &barrierError{what: "transactions up to " + mark.position.String(), err: server.ErrBarrierTimeout}
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (r *sourceReader) close() { r.pool.close() }

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
