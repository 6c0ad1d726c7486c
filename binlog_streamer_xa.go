package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// The rows of an XA transaction stand in the log at its PREPARE and count from its
// COMMIT, which carries none, or not at all. In between they are locked on the source
// and no read sees them. So they are kept and delivered when the COMMIT comes, as rows of
// its transaction: the log then reads as if they stood there.
//
// What is prepared is in memory only. A later process finds it in the log again, because
// the place that it begins at is before each PREPARE that was undecided: on MySQL with
// GTIDs these PREPAREs are left out of the executed set, and the server sends just them
// once more; elsewhere the place is held back (transactionEnd.hold).

const (
	// preparedBytes bounds the rows kept of transactions that are prepared or being read;
	// those of larger ones are read from the log again at their COMMIT.
	preparedBytes = 8 << 20
	// preparedOverhead is about what a transaction costs beside its rows.
	preparedOverhead = 1 << 10
)

// rowsPart are the rows of one event, decoded.
type rowsPart struct {
	table *streamedTable
	rows  *codec.Rows
	kind  rowsEventKind
	query []byte
}

// preparedXA is an XA transaction that is being read or waits for its decision.
type preparedXA struct {
	gtid   binlog.GTID      // of the group with the rows
	from   BinlogCoordinate // the end of the transaction before it
	parts  []rowsPart
	bytes  int
	again  bool     // its rows are too many to keep: they are read again
	tables []string // moved tables that it changed
}

// xaState is what the stream knows of XA transactions; owned by the goroutine that
// handles events.
type xaState struct {
	reading  *preparedXA            // between XA START and its PREPARE
	prepared map[string]*preparedXA // by xid
	bytes    int                    // of all parts
	hold     *BinlogCoordinate      // the end before the first of prepared; nil: there are none

	// settled is how far an earlier process has executed everything, where this one begins
	// before that because something was prepared.
	settled BinlogCoordinate
	// unread records a transaction whose rows lie before the start, unless rows of the
	// source have been read since; nil: there were such reads.
	unread func(gtid binlog.GTID, at BinlogCoordinate) bool
	// replay makes a stream read one group again: it hands its rows over at once and ends.
	replay *xaReplay
}

type xaReplay struct {
	gtid    binlog.GTID
	xid     string
	deliver func(rowsPart) error
}

func (s *BinlogStreamer) beginXA() {
	s.xa.reading = &preparedXA{gtid: s.txn.gtid, from: s.resumeFrom(), bytes: preparedOverhead}
	s.xa.bytes += preparedOverhead
}

// dropReadingXA forgets a group whose end the connection did not reach.
func (s *BinlogStreamer) dropReadingXA() {
	if s.xa.reading != nil {
		s.xa.bytes -= s.xa.reading.bytes
		s.xa.reading = nil
	}
}

// keepXA keeps the rows of the transaction that is being read.
func (s *BinlogStreamer) keepXA(part rowsPart) error {
	group := s.xa.reading
	if r := s.xa.replay; r != nil {
		if group.gtid == r.gtid {
			return r.deliver(part)
		}
		return nil
	}
	group.changes(part.table.table)
	size := preparedOverhead + part.rows.Bytes() + len(part.query)
	group.parts, group.bytes = append(group.parts, part), group.bytes+size
	s.xa.bytes += size
	if s.xa.bytes > preparedBytes {
		s.xa.bytes -= group.bytes - preparedOverhead
		group.parts, group.bytes, group.again = nil, preparedOverhead, true
	}
	return nil
}

func (p *preparedXA) changes(table *TableSchema) {
	if name := table.String(); !slices.Contains(p.tables, name) {
		p.tables = append(p.tables, name)
	}
}

// xaPrepared handles the event at the end of a group: PREPARE, or COMMIT ONE PHASE.
func (s *BinlogStreamer) xaPrepared(ev *rawEvent, x binlog.XAStatement) error {
	group := s.xa.reading
	if group == nil {
		return s.unsupported(ev, nil, "an XA PREPARE without its XA START", "start again; the log may be damaged")
	}
	if r := s.xa.replay; r != nil {
		if group.gtid == r.gtid {
			if x.XID != r.xid {
				return s.unsupported(ev, nil, "the XA transaction "+x.XID+" in place of "+r.xid, "start again; the log was replaced")
			}
			return errStopReached
		}
		s.dropReadingXA()
		return s.endTransaction(ev)
	}
	if x.OnePhase {
		err := s.deliverXA(ev, group, x.XID)
		s.dropReadingXA()
		if err != nil {
			return err
		}
		return s.endTransaction(ev)
	}
	if s.xa.prepared == nil {
		s.xa.prepared = map[string]*preparedXA{}
	}
	if before := s.xa.prepared[x.XID]; before != nil {
		s.xa.bytes -= before.bytes
	}
	s.xa.prepared[x.XID], s.xa.reading = group, nil
	s.setHold()
	return s.endOf(ev, transactionEnd{undecided: true})
}

// setHold finds the earliest place that a later process has to begin at.
func (s *BinlogStreamer) setHold() {
	s.xa.hold = nil
	for _, p := range s.xa.prepared {
		if s.xa.hold == nil || p.from.CompareFilePos(*s.xa.hold) < 0 {
			s.xa.hold = &p.from
		}
	}
}

// xaDecided handles XA COMMIT and XA ROLLBACK.
func (s *BinlogStreamer) xaDecided(ev *rawEvent, x binlog.XAStatement) error {
	group := s.xa.prepared[x.XID]
	if x.Verb == "COMMIT" && s.xa.replay == nil {
		var err error
		switch {
		case group == nil:
			err = s.unknownCommit(ev, x.XID)
		case len(group.tables) > 0:
			if err = s.waitUntilDecided(x.XID); err == nil {
				err = s.deliverXA(ev, group, x.XID)
			}
		}
		if err != nil {
			return err
		}
	}
	if group == nil {
		return s.endTransaction(ev)
	}
	s.xa.bytes -= group.bytes
	delete(s.xa.prepared, x.XID)
	s.setHold()
	return s.endOf(ev, transactionEnd{decides: group.gtid})
}

// deliverXA hands the rows of a transaction over as rows of the present one.
func (s *BinlogStreamer) deliverXA(ev *rawEvent, group *preparedXA, xid string) error {
	if s.txn == nil {
		s.begin(binlog.GTID{})
	}
	deliver := func(part rowsPart) error {
		if s.exempted(part.table.table, ev) {
			return nil
		}
		return s.deliverPart(ev, part)
	}
	if group.again {
		return s.replayXA(group, xid, deliver)
	}
	for _, part := range group.parts {
		if err := deliver(part); err != nil {
			return err
		}
	}
	return nil
}

// replayXA reads a group from the log again, over a connection of its own.
func (s *BinlogStreamer) replayXA(group *preparedXA, xid string, deliver func(rowsPart) error) error {
	again := &BinlogStreamer{
		DB: s.DB, DBConfig: s.DBConfig, TableSchema: s.TableSchema, LogTag: s.LogTag + "_xa",
		DatabaseRewrites: s.DatabaseRewrites, TableRewrites: s.TableRewrites,
		own: s.own, logger: s.logger, srv: s.srv,
	}
	again.xa.replay = &xaReplay{gtid: group.gtid, xid: xid, deliver: deliver}
	_, err := again.connect(s.ctx, group.from)
	if err == nil {
		// One attempt, because rows may have been delivered. When the connection breaks the
		// main stream is made anew as well, and comes to the COMMIT again.
		err = again.stream(s.ctx)
	}
	if err != nil {
		return &replayError{fmt.Errorf("reading the changes of XA transaction %s again from %s: %w", xid, group.from, err)}
	}
	return nil
}

// replayError is a failure to ask a server for more than the log says. Nothing of the event was
// delivered, so that the stream may come to it again by another connection.
type replayError struct{ err error }

func (e *replayError) Error() string { return e.err.Error() }
func (e *replayError) Unwrap() error { return e.err }

// waitUntilDecided returns when the source has done what its log says already. MariaDB
// needs it: the COMMIT of a transaction that another session prepared reaches the storage
// engine after the log, and a snapshot in between stands behind it without its rows.
func (s *BinlogStreamer) waitUntilDecided(xid string) error {
	if !s.srv.IsMariaDB() {
		return nil // by its GTID, or by row locks
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, barrierLimit, errUndecided)
	defer cancel()
	defer waitingFor(ctx, waitBarrier)()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		xids, err := s.srv.PreparedXA(ctx, s.DB)
		if err == nil && !slices.Contains(xids, xid) {
			return nil
		}
		if err == nil {
			err = retry.Sleep(ctx, wait)
		}
		if err != nil {
			return fmt.Errorf("waiting for the commit of XA transaction %s: %w", xid, errors.Join(context.Cause(ctx), err))
		}
	}
}

var errUndecided = fmt.Errorf("it is in the binary log and still not done after %s: a commit is stalled there", barrierLimit)

// unknownCommit handles the COMMIT of a transaction whose rows lie before the start. That
// does no harm when an earlier process has executed them, or when every read of rows comes
// after the COMMIT: the reads then hold its changes.
func (s *BinlogStreamer) unknownCommit(ev *rawEvent, xid string) error {
	if s.xa.settled.File != "" && ev.end.CompareFilePos(s.xa.settled) <= 0 {
		return nil
	}
	if s.xa.unread != nil {
		if err := s.waitUntilDecided(xid); err != nil {
			return err
		}
		var gtid binlog.GTID
		if s.txn != nil {
			gtid = s.txn.gtid
		}
		if s.xa.unread(gtid, ev.end) {
			return nil
		}
	}
	what, where := "the commit of XA transaction "+xid+", which was prepared before the stream's start,", "source"
	if s.own != nil {
		what, where = what+" and may have changed moved rows on the target,", "target"
	}
	return s.unsupported(ev, nil, what, "start again with empty target tables while no XA transaction is prepared on the "+where)
}

// undecidedError is what a stream ends with when transactions that changed moved tables
// are prepared at its stop position, nil when there are none.
func (s *BinlogStreamer) undecidedError() error {
	e := s.undecided()
	if e == nil {
		return nil
	}
	e.Coordinate = s.stopCoordinate()
	return e
}

// undecidedNow is undecidedError for a place that the stream has passed; any goroutine may
// ask.
func (s *BinlogStreamer) undecidedNow(at BinlogCoordinate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		return nil
	}
	e := *s.waiting
	e.Coordinate = at
	return &e
}

// undecided lists the prepared transactions that changed moved tables; nil when there are
// none.
func (s *BinlogStreamer) undecided() *PreparedTransactionsError {
	if len(s.xa.prepared) == 0 {
		return nil
	}
	e := &PreparedTransactionsError{Target: s.own != nil}
	for xid, p := range s.xa.prepared {
		if len(p.tables) == 0 {
			continue
		}
		e.XIDs = append(e.XIDs, xid)
		for _, t := range p.tables {
			if !slices.Contains(e.Tables, t) {
				e.Tables = append(e.Tables, t)
			}
		}
	}
	if len(e.XIDs) == 0 {
		return nil
	}
	slices.Sort(e.XIDs)
	slices.Sort(e.Tables)
	return e
}
