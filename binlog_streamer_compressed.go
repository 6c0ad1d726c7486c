package ghostferry

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// largestEvent is how many bytes of one compressed event are held in memory: twice what
// an update of the largest row has that two statements can write.
func (s *BinlogStreamer) largestEvent() int {
	const least = 64 << 20 // the usual packet, whatever the source's is now
	return int(min(4*max(least, s.srv.MaxAllowedPacket), binlog.MaxEvent))
}

// heldEnd is the end of a transaction whose payload is still being read.
type heldEnd struct {
	at  *rawEvent
	end transactionEnd
}

// payload unwraps a compressed transaction; its events stand at the payload's place. The
// transaction ends when the payload has been read whole: were it damaged behind an inner
// end, a later process would begin behind rows that nobody has read.
func (s *BinlogStreamer) payload(ev *rawEvent) error {
	held := &heldEnd{}
	s.held = held
	s.memo = nil // it keeps the rows of one row event, and these are several
	var handling error
	err := binlog.EachPayloadEvent(ev.body, s.largestEvent(), func(h binlog.InnerEvent) error {
		inner := &rawEvent{
			kind: replication.EventType(h.Type), flags: h.Flags, server: h.ServerID, time: h.Timestamp, end: ev.end, body: h.Body, whole: ev.whole,
		}
		switch {
		case held.at != nil:
			handling = s.unsupported(ev, nil, "a compressed transaction that goes on after its end", "start again; the log may be damaged")
		case standsOutside(inner.kind):
			handling = s.unsupported(ev, nil, fmt.Sprintf("an event of type %s inside a compressed transaction", inner.kind), "start again; the log may be damaged")
		default:
			handling = s.dispatch(inner)
		}
		return handling
	})
	s.held = nil
	switch {
	case err == nil && held.at != nil:
		return s.endOf(held.at, held.end)
	case err == nil:
		return nil
	case handling != nil:
		return handling
	}
	return s.unsupported(ev, nil, "a compressed transaction that cannot be read: "+err.Error(), "set binlog_transaction_compression=OFF for every session of the source, and start again with empty target tables")
}

// standsOutside tells the kinds of events that are no part of any transaction, or begin one.
func standsOutside(kind replication.EventType) bool {
	switch kind {
	case replication.TRANSACTION_PAYLOAD_EVENT, replication.ROTATE_EVENT, replication.STOP_EVENT,
		replication.FORMAT_DESCRIPTION_EVENT, replication.PREVIOUS_GTIDS_EVENT, replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2,
		replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT,
		replication.MARIADB_GTID_EVENT, replication.MARIADB_GTID_LIST_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT:
		return true
	}
	return false
}

// compressedRows unwraps MariaDB's compressed row events.
func (s *BinlogStreamer) compressedRows(ev *rawEvent) error {
	t := s.tableOf(ev.body)
	if t != nil && t.table == nil {
		return nil
	}
	body, err := binlog.UncompressRows(ev.body, ev.kind == replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, s.largestEvent())
	if err != nil {
		return s.unsupported(ev, nil, "a compressed row event that cannot be read: "+err.Error(), "set log_bin_compress=OFF on the source")
	}
	plain := *ev
	plain.kind = map[replication.EventType]replication.EventType{
		replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:  replication.WRITE_ROWS_EVENTv1,
		replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1: replication.UPDATE_ROWS_EVENTv1,
		replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1: replication.DELETE_ROWS_EVENTv1,
	}[ev.kind]
	return s.rows(&plain, body)
}
