package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// sharedQueueBytes bounds what waits for one subscriber.
	sharedQueueBytes = 32 << 20
	// sharedCredit is how long one subscriber may keep the others waiting, and sharedRefill
	// the part of the time that passes which it gets back.
	sharedCredit, sharedRefill = 2 * time.Second, 20
	// rejoinPause is how long a stream of its own goes on at least before it tries to share.
	rejoinPause = time.Second
	// sharedHeartbeat is short, because a subscriber has to know a place to begin at.
	sharedHeartbeat = 2 * time.Second
)

// SharedStreamer reads a server's binary log over one connection for several Ferries of
// that source, as their Config.SharedStreamer: the server then has one replica to serve
// instead of one a move, and row events are decoded once.
//
// Each Ferry still has its own position, filter, listeners and checkpoint, stops and goes
// on by itself. What one could lose by sharing, it gets by a connection of its own: a move
// that goes on from an earlier position begins with one and joins when it has caught up;
// one that cannot keep up (its queue of 32 MiB is full while others wait for more) leaves,
// goes on where it was, and joins again later. When the shared stream ends, all leave. A
// subscriber can keep the others waiting for two seconds and 5 % of the time, no longer.
//
// A row of a shared table that changes from one moving tenant to another may meet the other
// move's not yet deleted row on the target: it waits for that, in this move and in a process
// that resumes it, as long as both have their checkpoints in one schema of the target.
type SharedStreamer struct {
	// Source is the server. Required; the Ferries' Source has to be the same server.
	Source *DatabaseConfig
	// Logger is told what happens; nil is the library's.
	Logger Logger

	// set by Start
	db    *sql.DB
	core  *BinlogStreamer
	group *lifecycle.Group
	ended chan struct{} // closed when the stream has ended

	decoded, left atomic.Uint64

	mu struct {
		sync.Mutex
		seats   map[*sharedSeat]struct{} // those that are told everything
		waiting map[*sharedSeat]struct{} // they join at the end of the transaction
		closed  bool
	}
}

// SharedStreamerStats is what a shared stream has done so far.
type SharedStreamerStats struct {
	// Subscribers are the moves that follow it now.
	Subscribers int
	// Left counts how often one went on with a connection of its own.
	Left uint64
	// RowEventsDecoded counts row events; one counts once, however many moves get it, as
	// long as the table has the same columns for them. Those of transactions that the log
	// holds compressed (MySQL) are decoded by each move, and not counted.
	RowEventsDecoded uint64
}

// Start connects and follows the log from what is committed now until Close, or until the
// context ends.
func (s *SharedStreamer) Start(ctx context.Context) error {
	logger := taggedLogger(s.Logger, "shared_streamer")
	config := *s.Source
	if err := config.Validate(); err != nil {
		return err
	}
	db, err := config.SqlDB(logger)
	if err != nil {
		return err
	}
	s.db, s.ended = db, make(chan struct{})
	s.mu.seats, s.mu.waiting = map[*sharedSeat]struct{}{}, map[*sharedSeat]struct{}{}
	s.core = &BinlogStreamer{
		DB: db, DBConfig: &config, LogTag: "shared_streamer", HeartbeatPeriod: sharedHeartbeat,
		TableSchema: TableSchemaCache{}, logger: logger, tap: s, patience: &patience{server: "source", logger: logger},
	}
	if _, err := s.core.connect(ctx, BinlogCoordinate{}); err != nil {
		return errors.Join(err, db.Close())
	}
	s.group, _ = lifecycle.New(ctx)
	s.group.Go("shared_streamer", func(ctx context.Context) error {
		defer close(s.ended)
		err := s.core.RunContext(ctx)
		s.end(err)
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	return nil
}

// Close ends the stream. Moves that still follow it go on with connections of their own.
// It returns what the stream had ended with before, if it had.
func (s *SharedStreamer) Close() error {
	if s.group == nil {
		return nil
	}
	s.group.Cancel(nil)
	return errors.Join(s.group.Wait(), s.db.Close())
}

// Stats tells what was done so far.
func (s *SharedStreamer) Stats() SharedStreamerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SharedStreamerStats{Subscribers: len(s.mu.seats), Left: s.left.Load(), RowEventsDecoded: s.decoded.Load()}
}

func (s *SharedStreamer) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	if err == nil {
		err = errors.New("it was closed")
	}
	for _, seats := range []map[*sharedSeat]struct{}{s.mu.seats, s.mu.waiting} {
		for seat := range seats {
			seat.leave(fmt.Errorf("the shared stream has ended: %w", err))
			delete(seats, seat)
		}
	}
}

// join asks for a seat, which is taken at the next place outside of a transaction.
func (s *SharedStreamer) join() *sharedSeat {
	seat := &sharedSeat{stream: s, taken: make(chan struct{}), more: make(chan struct{}, 1), room: make(chan struct{}, 1), credit: sharedCredit}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		seat.leave(errors.New("the shared stream has ended"))
		return seat
	}
	s.mu.waiting[seat] = struct{}{}
	return seat
}

// errSeatReleased is why a seat is over that its move has given back.
var errSeatReleased = errors.New("the move has given its seat back")

// release takes a seat back: what waits in its queue is dropped, and nobody waits for it.
func (s *SharedStreamer) release(seat *sharedSeat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.seats, seat)
	delete(s.mu.waiting, seat)
	seat.leave(errSeatReleased)
	notify(seat.room) // whoever waits for it
}

// begins is called at the beginning of a connection: what came of a transaction that the
// last one did not end comes again.
func (s *SharedStreamer) begins() { s.toAll(&sharedEvent{begins: true}) }

// before is called with every event before the shared stream takes it.
func (s *SharedStreamer) before(ev *replication.BinlogEvent) {
	s.toAll(&sharedEvent{ev: ev, memo: &sharedRows{decoded: &s.decoded}, bytes: len(ev.RawData) + eventOverhead})
}

// after is called when the shared stream has taken an event. Between two transactions
// those who wait join.
func (s *SharedStreamer) after() {
	if s.core.txn != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.waiting) == 0 {
		return
	}
	at, place := s.core.sharedPlace()
	if at.File == "" {
		return // no place is known yet
	}
	for seat := range s.mu.waiting {
		seat.at, seat.place = at, place
		close(seat.taken)
		s.mu.seats[seat] = struct{}{}
		delete(s.mu.waiting, seat)
	}
}

// sharedPlace returns the place that the stream has reached outside of a transaction, and
// where the next event begins.
func (s *BinlogStreamer) sharedPlace() (at, place BinlogCoordinate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = s.streamed
	at.GTIDSet = s.executed.String()
	return at, BinlogCoordinate{File: s.file, Pos: s.pos}
}

func (s *SharedStreamer) toAll(item *sharedEvent) {
	s.mu.Lock()
	seats := make([]*sharedSeat, 0, len(s.mu.seats))
	for seat := range s.mu.seats {
		seats = append(seats, seat)
	}
	s.mu.Unlock()
	for _, seat := range seats {
		if seat.push(item) {
			continue
		}
		if err := s.waitFor(seat, seats, item); err != nil {
			seat.leave(err)
			s.release(seat)
			s.left.Add(1)
		}
	}
}

// waitFor waits until a full queue has room. That is for free while the others have enough
// to do; otherwise it costs the subscriber's credit.
func (s *SharedStreamer) waitFor(seat *sharedSeat, all []*sharedSeat, item *sharedEvent) error {
	const step = 20 * time.Millisecond
	seat.credit = min(sharedCredit, seat.credit+time.Since(seat.waited)/sharedRefill)
	defer func() { seat.waited = time.Now() }()
	timer := time.NewTimer(step)
	defer timer.Stop()
	for {
		timer.Reset(step)
		select {
		case <-seat.room:
		case <-s.core.ctx.Done():
			return nil // the stream ends, or begins again
		case <-timer.C:
			for _, other := range all {
				if other != seat && other.starves() {
					seat.credit -= step
					break
				}
			}
		}
		switch {
		case seat.push(item):
			return nil
		case seat.credit <= 0:
			return fmt.Errorf("the move does not keep up: %d MiB wait for it while others want more", sharedQueueBytes>>20)
		}
	}
}

// begin returns where a new subscriber's move can begin: everything before is visible on
// the source, everything after comes to the seat. A nil seat means that it is better to
// begin with a connection of one's own.
func (s *SharedStreamer) begin(ctx context.Context, own *BinlogStreamer) (*sharedSeat, error) {
	if own.srv.Identity != s.core.srv.Identity {
		return nil, &ConfigError{Field: "SharedStreamer", Problem: fmt.Sprintf("SharedStreamer follows %s, another server than Source (%s)", s.core.srv, own.srv), Remedy: "give each source a SharedStreamer of its own"}
	}
	seat := s.join()
	wait, cancel := context.WithTimeout(ctx, 3*sharedHeartbeat)
	defer cancel()
	select {
	case <-seat.taken:
	case <-s.ended:
	case <-wait.Done(): // a long transaction, or an outage
	}
	if ctx.Err() != nil || !seat.usable() {
		s.release(seat)
		return nil, ctx.Err()
	}
	if err := own.awaitVisible(ctx, seat.at); err != nil {
		s.release(seat)
		return nil, err
	}
	return seat, nil
}

// awaitVisible returns when everything up to a place of the log is visible to reads. On
// MySQL without GTIDs reads see to it themselves, by locks.
func (s *BinlogStreamer) awaitVisible(ctx context.Context, at BinlogCoordinate) error {
	switch {
	case s.srv.IsMariaDB():
		reader := newSourceReader(s.DB, s.srv, newGate())
		defer reader.close()
		return reader.read(ctx, deliveredMark{position: BinlogCoordinate{File: at.File, Pos: at.Pos}}, func(*session, string) error { return nil })
	case s.srv.GTIDMode:
		return s.srv.WaitForGTIDSet(ctx, s.DB, at.GTIDSet, barrierLimit)
	}
	return nil
}

// leftSharedError ends the part of a stream that it shared; it goes on by itself.
type leftSharedError struct{ err error }

func (e *leftSharedError) Error() string { return "the shared stream was left: " + e.err.Error() }
func (e *leftSharedError) Unwrap() error { return e.err }

// errJoinsShared ends a connection whose stream goes on with the shared one.
var errJoinsShared = errors.New("the stream goes on with the shared one")

// followShared takes events from a seat instead of a connection, until the stop position.
func (s *BinlogStreamer) followShared(ctx context.Context, seat *sharedSeat) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer seat.stream.release(seat)
	s.ctx = ctx
	s.forgetTransaction()
	skip := s.resumeFrom() // events up to here have been seen already
	s.mu.Lock()
	s.file, s.pos = seat.place.File, seat.place.Pos
	s.mu.Unlock()
	if err := s.cameTo(BinlogCoordinate{File: seat.at.File, Pos: seat.at.Pos}); err != nil {
		return &streamError{err}
	}
	for {
		item, err := seat.next(ctx, s.stopped)
		switch {
		case err != nil:
			return err
		case item == nil:
			return nil // stopped
		case item.begins:
			s.forgetTransaction()
			// What this move has read and been sent is its own to look after: the shared
			// stream knows only what it has delivered itself.
			if err := s.checkServer(ctx); err != nil {
				return err
			}
			continue
		}
		s.memo = item.memo
		err = s.handleShared(item.ev, skip)
		s.memo = nil
		switch {
		case errors.Is(err, errStopReached):
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return s.handlingError(err)
		}
	}
}

// handleShared is handle for events some of which may have been seen on an own connection.
func (s *BinlogStreamer) handleShared(ev *replication.BinlogEvent, skip BinlogCoordinate) error {
	switch ev.Header.EventType {
	case replication.ROTATE_EVENT, replication.FORMAT_DESCRIPTION_EVENT:
		return s.handle(ev) // it tells which file the others are of
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		return s.handle(ev) // it tells that nothing else comes
	}
	s.mu.Lock()
	file, pos := s.file, s.pos
	end := BinlogCoordinate{File: file, Pos: s.extendLocked(ev.Header)}
	seen := end.Pos > 0 && end.CompareFilePos(BinlogCoordinate{File: skip.File, Pos: skip.Pos}) <= 0
	if !seen {
		s.pos = pos // handle does it
	}
	s.mu.Unlock()
	if seen {
		return nil
	}
	return s.handle(ev)
}

// forgetTransaction is done where a connection begins: its first transaction comes whole.
func (s *BinlogStreamer) forgetTransaction() {
	if s.txn != nil && s.handed {
		s.mu.Lock()
		s.broken = s.txn.mark
		s.mu.Unlock()
		for _, f := range s.onEnd {
			f(transactionEnd{broken: true})
		}
	}
	s.txn, s.explicit, s.failure = nil, false, nil
	s.dropReadingXA()
	clear(s.tableIDs)
}

// wantsToShare reports, at the end of an event of an own connection, whether the shared
// stream is where this one is: then the connection is given up for it.
func (s *BinlogStreamer) wantsToShare() bool {
	if s.shared == nil || s.txn != nil || s.xa.replay != nil {
		return false
	}
	if other := s.shared.core.srv; other == nil || s.srv.Identity != other.Identity {
		return false // its places are of another log: after a failover of one of the two
	}
	if s.seat == nil {
		if now := time.Now(); s.lag() < caughtUpLag && now.Sub(s.joined) > rejoinPause {
			s.seat, s.joined = s.shared.join(), now
		}
		return false
	}
	if s.seat.over() {
		s.seat = nil
		return false
	}
	if !s.seat.usable() {
		return false
	}
	here := s.lastStreamed()
	return here.File != "" && here.CompareFilePos(s.seat.at) >= 0
}

// takeSeat returns the seat that the stream goes on with, nil for a connection of its own.
func (s *BinlogStreamer) takeSeat() *sharedSeat {
	seat := s.seat
	s.seat = nil
	if seat == nil {
		return nil
	}
	if seat.usable() && (seat.first || s.lastStreamed().CompareFilePos(seat.at) >= 0) {
		return seat
	}
	seat.stream.release(seat)
	return nil
}

// releaseSeat gives a seat back that the stream has not begun to use, when it never will.
func (s *BinlogStreamer) releaseSeat() {
	if s == nil || s.seat == nil {
		return
	}
	s.seat.stream.release(s.seat)
	s.seat = nil
}
