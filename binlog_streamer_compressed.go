package ghostferry

import (
	"bytes"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// largestEvent is how many bytes of one compressed event are held in memory: twice what
// an update of the largest row has that two statements can write.
func (s *BinlogStreamer) largestEvent() int {
	const least = 64 << 20 // the usual packet, whatever the source's is now
	return int(min(4*max(least, s.srv.MaxAllowedPacket), binlog.MaxEvent))
}

// payload unwraps a compressed transaction; its events stand at the payload's place.
func (s *BinlogStreamer) payload(ev *rawEvent) error {
	var handling error
	err := binlog.EachPayloadEvent(ev.body, s.largestEvent(), func(h binlog.InnerEvent) error {
		inner := &rawEvent{
			kind: replication.EventType(h.Type), flags: h.Flags, server: h.ServerID, time: h.Timestamp, end: ev.end, body: h.Body, whole: ev.whole,
		}
		switch inner.kind {
		case replication.ROWS_QUERY_EVENT:
			inner.body = bytes.Clone(h.Body) // the text is kept, the buffer used again
		case replication.TRANSACTION_PAYLOAD_EVENT:
			handling = s.unsupported(ev, nil, "a compressed transaction inside a compressed transaction", "start again; the log may be damaged")
			return handling
		}
		handling = s.dispatch(inner)
		return handling
	})
	switch {
	case err == nil:
		return nil
	case handling != nil:
		return handling
	}
	return s.unsupported(ev, nil, "a compressed transaction that cannot be read: "+err.Error(), "set binlog_transaction_compression=OFF for every session of the source, and start again with empty target tables")
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
