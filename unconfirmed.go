package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// unconfirmedReads remembers how far the source's log reached when rows of it had been
// read. A read is confirmed when the stream has come there: until then it may hold
// transactions that the source loses in a crash, or that a promoted replica never had, and
// that no stream will ever correct (docs/algorithm.md).
//
// Reads and the stream of one Ferry share it. Places are compared with those of the same
// server process only: each time the source turns out to have been restarted, its
// generation grows, and a read that began before is not counted but made again.
type unconfirmedReads struct {
	mu struct {
		sync.Mutex
		generation int
		end        BinlogCoordinate // the furthest
		process    sourceProcess    // that the stream follows; zero: it does not yet, or no more
	}
}

// errNotFollowedYet: a new connection leads to another process of the source than the one
// that the stream follows. It will notice, and judge what may be lost, before more is read.
var errNotFollowedYet = errors.New("the source was restarted, and its binary log is not followed again yet")

// follows says which process the stream follows.
func (u *unconfirmedReads) follows(process sourceProcess) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.process = process
}

// mayRead reports whether a connection to a process of the source may be read.
func (u *unconfirmedReads) mayRead(process sourceProcess) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mu.process.started == 0 || u.mu.process.sameAs(process)
}

// errReadAgain: the source was restarted while rows were read.
var errReadAgain = errors.New("the source was restarted during a read")

func (u *unconfirmedReads) generation() int {
	if u == nil {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mu.generation
}

// note counts a read that began in a generation, when the log reached to end after it.
func (u *unconfirmedReads) note(generation int, end BinlogCoordinate) error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mu.generation != generation {
		return errReadAgain
	}
	if u.mu.end.File == "" || u.mu.end.CompareFilePos(end) < 0 {
		u.mu.end = end
	}
	return nil
}

// furthest is how far the log reached after any read.
func (u *unconfirmedReads) furthest() BinlogCoordinate {
	if u == nil {
		return BinlogCoordinate{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mu.end
}

// restarted begins another generation and returns how far the reads of those before went.
func (u *unconfirmedReads) restarted() BinlogCoordinate {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.generation++
	return u.mu.end
}

// UnconfirmedRowsError says that the source was restarted or replaced before its binary log
// had been followed to the end of what had been read of its rows: some of these may have
// been lost there. Those rows are emptied on the target and copied again when the run is
// resumed from its checkpoint.
type UnconfirmedRowsError struct {
	final
	// ReadUpTo is where the log ended after the last read, StreamedUpTo how far it was
	// followed when the source was lost.
	ReadUpTo, StreamedUpTo BinlogCoordinate
	// Forever says why the rows cannot be copied again; empty when they can.
	Forever string
}

// Error names both places and the remedy.
func (e *UnconfirmedRowsError) Error() string {
	remedy := "start the same command again, it copies those rows anew"
	if e.Forever != "" {
		remedy = e.Forever + ": start afresh with empty target tables"
	}
	return fmt.Sprintf("the source was restarted or replaced while rows read up to %s of its log were on the target and its log had been followed up to %s: it may have lost what was read; %s",
		e.ReadUpTo, e.StreamedUpTo, remedy)
}

// Resumable is true when the rows can be copied again.
func (e *UnconfirmedRowsError) Resumable() bool { return e.Forever == "" }

// readEnd is how far the log reaches when a session has read rows: on MariaDB the place of
// its snapshot, elsewhere the log's end.
func (r *sourceReader) readEnd(ctx context.Context, s *session) (BinlogCoordinate, error) {
	if s.snapshot.File != "" {
		return s.snapshot, nil
	}
	if s.spent {
		// Another session: it leads to the process that is followed, or is refused; and one
		// that takes its place from now on counts as a restart. The place of the spent one in
		// the pool is free before another is asked for: the host may have bounded it.
		s.discard()
		var err error
		if s, err = r.pool.get(ctx); err != nil {
			return BinlogCoordinate{}, err
		}
		at, err := r.server.LogEnd(ctx, s.conn)
		if err != nil {
			r.pool.failed(s, err)
			return BinlogCoordinate{}, err
		}
		r.pool.put(ctx, s)
		return BinlogCoordinate{File: at.File, Pos: at.Pos}, nil
	}
	at, err := r.server.LogEnd(ctx, s.conn)
	return BinlogCoordinate{File: at.File, Pos: at.Pos}, err
}

// noted is f with the log's end after it in end. The end is asked for on the session that
// has read: as long as its connection lives, so does the server process. Of one that was
// given up in the middle of its rows a new session asks: its end lies behind the read, too.
func (r *sourceReader) noted(ctx context.Context, end *BinlogCoordinate, f func(s *session, suffix string) error) func(s *session, suffix string) error {
	return func(s *session, suffix string) error {
		generation := r.unconfirmed.generation()
		if err := f(s, suffix); err != nil || r.unconfirmed == nil {
			return err
		}
		at, err := r.readEnd(ctx, s)
		if err != nil {
			return fmt.Errorf("reading the log's end after a read: %w", err)
		}
		*end = at
		return r.unconfirmed.note(generation, at)
	}
}

// sameSource makes sure that a connection leads to the server that is followed.
func sameSource(ctx context.Context, srv *server.Server, q server.Querier) error {
	identity, same, err := srv.SameServer(ctx, q)
	if err != nil || same {
		return err
	}
	return &ServerChangedError{Was: srv.Identity, Is: identity, Follows: srv.GTIDMode && !srv.IsMariaDB()}
}

// logEndOf returns the end of the log of the server that is followed. Another one at the
// address has other places: its end would stop the stream too early, or never.
func logEndOf(ctx context.Context, srv *server.Server, db *sql.DB) (BinlogCoordinate, error) {
	var at server.LogEnd
	err := answered(ctx, func(ctx context.Context) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := sameSource(ctx, srv, conn); err != nil {
			return err
		}
		at, err = srv.LogEnd(ctx, conn)
		return err
	})
	return BinlogCoordinate{File: at.File, Pos: at.Pos}, err
}
