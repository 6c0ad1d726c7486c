package ghostferry

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// logMark is an event of a source's binary log, by place and content. A server that loses
// the end of its log (a crash without sync_binlog=1, an older copy restored, a log reset)
// gives the same file names, offsets and GTIDs to other transactions: only what an event
// holds tells whether it is still the one that was delivered.
type logMark struct {
	file  string
	start uint64 // where the event begins
	end   uint64
	// sum is what tells the event from another in its place: header (time, type, server,
	// length, end) and the last bytes, which hold its checksum; as many bytes of it as sumSize says.
	sum     [replication.EventHeaderSize + markTail]byte
	sumSize int
}

// place is where the event ends.
func (m logMark) place() BinlogCoordinate { return BinlogCoordinate{File: m.file, Pos: m.end} }

const (
	markTail       = 16
	markHeaderOnly = 9 // of a format description: its flags change when the file is closed
	markTimeout    = 15 * time.Second
)

func markOf(file string, end uint64, raw []byte) logMark {
	m := logMark{file: file, start: end - uint64(len(raw)), end: end}
	if replication.EventType(raw[4]) == replication.FORMAT_DESCRIPTION_EVENT {
		m.sumSize = copy(m.sum[:], raw[:markHeaderOnly])
		return m
	}
	head := copy(m.sum[:], raw[:replication.EventHeaderSize])
	m.sumSize = head + copy(m.sum[head:], raw[max(head, len(raw)-markTail):])
	return m
}

func (m logMark) isZero() bool { return m.file == "" }

// String is the form that a checkpoint has; empty when there is no mark.
func (m logMark) String() string {
	if m.isZero() {
		return ""
	}
	return fmt.Sprintf("%d:%d:%x:%s", m.start, m.end, m.sum[:m.sumSize], m.file)
}

// parseLogMark is the inverse of String.
func parseLogMark(text string) (m logMark, err error) {
	if text == "" {
		return m, nil
	}
	fields := strings.SplitN(text, ":", 4)
	if len(fields) == 4 {
		var sum []byte
		m.start, err = strconv.ParseUint(fields[0], 10, 64)
		if err == nil {
			m.end, err = strconv.ParseUint(fields[1], 10, 64)
		}
		if err == nil {
			sum, err = hex.DecodeString(fields[2])
		}
		if err == nil && fields[3] != "" && len(sum) > 0 && len(sum) <= len(m.sum) {
			m.sumSize, m.file = copy(m.sum[:], sum), fields[3]
			return m, nil
		}
	}
	return logMark{}, fmt.Errorf("%q is not a mark of a binary log's event", text)
}

// holdsMark makes sure that the server's log still has the event of a mark, and returns a
// LostTransactionsError when it has another there, or none. A file that is purged cannot
// be asked: that is for others to judge.
func (s *BinlogStreamer) holdsMark(ctx context.Context, m logMark) error {
	if m.isZero() || m.end > math.MaxUint32 { // the protocol cannot begin there
		return nil
	}
	files, err := s.srv.LogFiles(ctx, s.DB)
	if err != nil {
		return err
	}
	size, known := fileSize(files, m.file)
	if !known {
		return nil
	}
	if size < m.end {
		return &LostTransactionsError{Missing: fmt.Sprintf("%s ends at %d, and was read up to %d", m.file, size, m.end)}
	}
	there, err := s.readMark(ctx, m.file, m.start)
	if err != nil {
		return err
	}
	if there.sum != m.sum || there.sumSize != m.sumSize {
		return &LostTransactionsError{Missing: fmt.Sprintf("%s has something else at %d than what was read there", m.file, m.start)}
	}
	return nil
}

func fileSize(files []server.LogFile, name string) (size uint64, known bool) {
	for _, f := range files {
		if f.Name == name {
			return f.Size, true
		}
	}
	return 0, false
}

// readMark reads one event of the log, over a connection of its own; its mark has no sum
// when none begins there.
func (s *BinlogStreamer) readMark(parent context.Context, file string, start uint64) (m logMark, err error) {
	ctx, cancel := context.WithTimeout(parent, markTimeout)
	defer cancel()
	link := &streamLink{}
	defer link.end()
	defer context.AfterFunc(ctx, link.end)()
	d, err := s.openDump(ctx, link, BinlogCoordinate{File: file, Pos: start})
	for err == nil {
		var ev *replication.BinlogEvent
		if ev, err = d.next(); err == nil && isLogged(ev, start) {
			return markOf(file, start+uint64(len(ev.RawData)), ev.RawData), nil
		}
	}
	if mysqlerr.Number(err) == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG {
		return logMark{file: file}, nil // no event begins there
	}
	if parent.Err() == nil && ctx.Err() != nil { // may be tried again
		err = fmt.Errorf("%w: no answer within %s", mysql.ErrBadConn, markTimeout)
	}
	return m, fmt.Errorf("reading the event at %s:%d again: %w", file, start, cmp.Or(parent.Err(), err))
}

// isLogged reports whether an event is really in the log from start on, and not made up or
// repeated for the connection.
func isLogged(ev *replication.BinlogEvent, start uint64) bool {
	h := ev.Header
	switch h.EventType {
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		return false
	case replication.FORMAT_DESCRIPTION_EVENT:
		if start > fileHeader {
			return false
		}
	}
	return h.LogPos != 0 && h.Flags&artificialFlag == 0
}

// fileHeader is how many bytes a file of the log begins with, before its first event.
const fileHeader = 4

// markHere remembers an event that begins or ends a transaction.
func (s *BinlogStreamer) markHere(ev *rawEvent) logMark {
	raw := ev.whole
	if raw == nil || len(raw.RawData) < replication.EventHeaderSize || ev.end.File == "" || ev.end.Pos < uint64(len(raw.RawData)) ||
		binary.LittleEndian.Uint32(raw.RawData[13:]) == 0 {
		return logMark{}
	}
	return markOf(ev.end.File, ev.end.Pos, raw.RawData)
}
