package ghostferry

import (
	"math"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// transactionEnd is what the stream tells of a place outside any transaction.
type transactionEnd struct {
	at BinlogCoordinate
	// mark is of the event that ends the transaction there, zero when none did.
	mark logMark
	// gtid is of the transaction that ended there, zero when none did.
	gtid binlog.GTID
	// undecided: that was the PREPARE of an XA transaction, which does not count as
	// executed; decides is the PREPARE that was committed or rolled back here.
	undecided bool
	decides   binlog.GTID
	// hold is where a later process has to begin because XA transactions are prepared;
	// nil when that is here, or when the GTID set says it (MySQL).
	hold *BinlogCoordinate
	// whole: a transaction ended there, and not only an event outside of any.
	whole bool
	// broken: nothing ended, the connection has. What it was bringing comes again from its
	// beginning; nothing else is set.
	broken bool
}

// extendLocked returns where an event ends. The header has 32 bits for that, and a single
// transaction can make a file longer; MariaDB leaves them zero inside a transaction. The
// event's size and the place of the one before tell the rest.
func (s *BinlogStreamer) extendLocked(h *replication.EventHeader) uint64 {
	low := uint64(h.LogPos)
	if h.Flags&artificialFlag != 0 || h.EventType == replication.FORMAT_DESCRIPTION_EVENT || h.EventType == replication.ROTATE_EVENT {
		return low // of the connection, or at the beginning of a file
	}
	heartbeat := h.EventType == replication.HEARTBEAT_EVENT || h.EventType == replication.HEARTBEAT_LOG_EVENT_V2
	next := s.pos
	if !heartbeat {
		next += uint64(h.EventSize)
	}
	switch {
	case low == 0 && heartbeat:
		return 0
	case low == 0 || uint32(next) == h.LogPos:
		s.pos = next
		return next
	}
	at := s.pos&^math.MaxUint32 | low
	if at+1<<31 < s.pos { // far behind: the header's number has begun again
		at += 1 << 32
	}
	s.pos = max(s.pos, at)
	return at
}

// checkOffset refuses what a stream by file and offset cannot come back to: the protocol
// has 32 bits for the offset.
func (s *BinlogStreamer) checkOffset(ev *rawEvent) error {
	if s.executed != nil || ev.end.Pos <= math.MaxUint32 {
		return nil
	}
	return s.unsupported(ev, nil, "an event beyond 4 GiB in one file, followed without GTIDs,",
		"turn on gtid_mode on the source, or change less in one transaction (it makes the file longer than max_binlog_size), and start again with empty target tables")
}
