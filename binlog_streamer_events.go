package ghostferry

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// rawEvent is one event of the stream before it is understood.
type rawEvent struct {
	kind   replication.EventType
	flags  uint16
	server uint32
	time   uint32
	end    BinlogCoordinate // zero position inside a compressed transaction's payload
	body   []byte
	whole  *replication.BinlogEvent // for custom handlers
}

// artificialFlag marks events that the server makes up for the connection.
const artificialFlag = 0x20

// handle takes one event: it is applied to the stream's state, proven irrelevant, or an
// error. Nothing moves the position past something that was not understood.
func (s *BinlogStreamer) handle(ev *replication.BinlogEvent) error {
	body := ev.RawData[replication.EventHeaderSize:]
	switch e := ev.Event.(type) { // the body without the checksum
	case *replication.GenericEvent:
		body = e.Data
	case *replication.RotateEvent:
		body = body[:8+len(e.NextLogName)]
	}
	raw := &s.raw
	*raw = rawEvent{
		kind: ev.Header.EventType, flags: ev.Header.Flags, server: ev.Header.ServerID, time: ev.Header.Timestamp,
		body: body, whole: ev,
	}
	s.mu.Lock()
	raw.end = BinlogCoordinate{File: s.file, Pos: s.extendLocked(ev.Header)}
	stop := s.txn == nil && s.checkStopLocked()
	s.mu.Unlock()
	if stop {
		return errStopReached
	}
	if err := s.checkOffset(raw); err != nil {
		return err
	}
	return s.dispatch(raw)
}

func (s *BinlogStreamer) dispatch(ev *rawEvent) error {
	if handler := s.handlers[ev.kind]; handler != nil {
		s.packet = nil // the host may keep it
		query, err := handler(ev.whole, s.query, &BinlogEventState{end: ev.end})
		s.query = query
		return err
	}
	if rowsKind(ev.kind) != notRows {
		return s.rows(ev, ev.body)
	}
	switch ev.kind {
	case replication.TABLE_MAP_EVENT:
		return s.tableMap(ev)
	case replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT, replication.MARIADB_GTID_EVENT:
		return s.gtid(ev)
	case replication.XID_EVENT:
		return s.endTransaction(ev)
	case replication.XA_PREPARE_LOG_EVENT:
		x, err := binlog.ParseXAPrepare(ev.body)
		if err != nil {
			return fmt.Errorf("XA PREPARE at %s: %w", ev.end, err)
		}
		return s.xaPrepared(ev, x)
	case replication.QUERY_EVENT:
		return s.statement(ev, ev.body)
	case replication.MARIADB_QUERY_COMPRESSED_EVENT:
		body, err := binlog.UncompressQuery(ev.body, s.largestEvent())
		if err != nil {
			return s.unsupported(ev, nil, "a compressed statement that cannot be read: "+err.Error(), "set log_bin_compress=OFF on the source")
		}
		return s.statement(ev, body)
	case replication.EXECUTE_LOAD_QUERY_EVENT:
		return s.statement(ev, ev.body)
	case replication.ROWS_QUERY_EVENT:
		s.followStatement(binlog.ParseRowsQuery(ev.body, false))
	case replication.MARIADB_ANNOTATE_ROWS_EVENT:
		s.followStatement(binlog.ParseRowsQuery(ev.body, true))
	case replication.ROTATE_EVENT:
		return s.rotate(ev)
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		s.heartbeat(ev)
	case replication.FORMAT_DESCRIPTION_EVENT, replication.PREVIOUS_GTIDS_EVENT, replication.MARIADB_GTID_LIST_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT:
		s.passed(ev)
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return s.payload(ev)
	default:
		return s.otherEvent(ev)
	}
	return nil
}

// otherEvent handles what is rare: each kind is proven irrelevant here, or refused.
func (s *BinlogStreamer) otherEvent(ev *rawEvent) error {
	switch ev.kind {
	case replication.STOP_EVENT, replication.TRANSACTION_CONTEXT_EVENT, replication.VIEW_CHANGE_EVENT, replication.IGNORABLE_EVENT,
		replication.INTVAR_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT,
		replication.BEGIN_LOAD_QUERY_EVENT, replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT:
		// Group replication's bookkeeping, and context of statements, which are judged themselves.
		return nil
	case replication.INCIDENT_EVENT:
		return s.unsupported(ev, nil, "an incident: the source says that changes are missing from its log; going on", "start again with empty target tables")
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		return s.compressedRows(ev)
	case replication.PARTIAL_UPDATE_ROWS_EVENT:
		t := s.tableOf(ev.body)
		switch {
		case t == nil:
			return s.unsupported(ev, nil, "a row event without its table map", "start again; the log may be damaged")
		case t.table == nil || s.passedOver(t, ev):
			return nil
		}
		if s.own != nil {
			return s.unreadable(ev, t, "a partial JSON update", "set binlog_row_value_options='' for every session of the target and start again")
		}
		return s.unsupported(ev, t.table, "a partial JSON update", "set binlog_row_value_options='' for every session of the source and start again")
	case replication.MARIADB_START_ENCRYPTION_EVENT:
		return nil // the server decrypts what it sends
	}
	if ev.flags&binlog.IgnorableFlag != 0 {
		return nil
	}
	return s.unsupported(ev, nil, fmt.Sprintf("an event of type %s (%d), which is not understood,", ev.kind, ev.kind), "report it; the position has not moved past it")
}

func (s *BinlogStreamer) unsupported(ev *rawEvent, table *TableSchema, what, remedy string) error {
	e := &UnsupportedEventError{Coordinate: ev.end.Position(), End: ev.end, What: what, Remedy: remedy}
	if table != nil {
		e.Table = table.String()
	}
	return e
}

func (s *BinlogStreamer) gtid(ev *rawEvent) error {
	var g binlog.GTID
	var group binlog.MariaDBGroup
	var err error
	switch ev.kind {
	case replication.GTID_EVENT:
		g, err = binlog.ParseGTID(ev.body)
	case replication.GTID_TAGGED_LOG_EVENT:
		g, err = binlog.ParseTaggedGTID(ev.body)
	case replication.MARIADB_GTID_EVENT:
		group, err = binlog.ParseMariaDBGTID(ev.server, ev.body)
		g = group.GTID
	default:
		if s.srv.GTIDMode && !s.srv.IsMariaDB() {
			return s.unsupported(ev, nil, "an anonymous transaction although gtid_mode is ON", "set gtid_mode strictly to ON or OFF on the source and start again")
		}
	}
	if err != nil {
		return fmt.Errorf("transaction id at %s: %w", ev.end, err)
	}
	if err := s.mustHaveEnded(ev); err != nil {
		return err
	}
	s.begin(g)
	s.txn.mark = s.markHere(ev)
	if ev.kind == replication.MARIADB_GTID_EVENT {
		// No BEGIN and no XA START follow: the group ends with COMMIT, XID or XA PREPARE
		// unless it is standalone.
		s.explicit = !group.Standalone
		if group.PreparedXA {
			s.beginXA()
		}
	}
	return nil
}

// mustHaveEnded refuses the beginning of something else inside a transaction whose rows were
// handed out: a server that crashed may leave the beginning of one in its log.
func (s *BinlogStreamer) mustHaveEnded(ev *rawEvent) error {
	if s.txn == nil || !s.handed {
		return nil
	}
	return s.unsupported(ev, nil, "something else where the end of a transaction is missing whose changes were delivered (the source crashed while it wrote its log)",
		"start again with empty target tables")
}

func (s *BinlogStreamer) begin(g binlog.GTID) {
	s.txn, s.explicit, s.rowEvents, s.savepoints, s.query = &sourceTxn{gtid: g}, false, 0, nil, nil
	s.handed = false
	s.dropReadingXA()
	s.mu.Lock()
	s.inTxn = true
	s.mu.Unlock()
}

// endTransaction moves the place to resume from past the transaction.
func (s *BinlogStreamer) endTransaction(ev *rawEvent) error { return s.endOf(ev, transactionEnd{}) }

// endOf is endTransaction for an end of which more is known.
func (s *BinlogStreamer) endOf(ev *rawEvent, e transactionEnd) error {
	if s.held != nil {
		s.held.at, s.held.end = ev, e
		return nil
	}
	if s.txn != nil {
		e.gtid = s.txn.gtid
	}
	s.txn, s.explicit, s.query = nil, false, nil
	s.dropReadingXA()
	mark := s.markHere(ev)
	s.mu.Lock()
	s.inTxn = false
	if !e.undecided || ev.end.CompareFilePos(s.start) >= 0 { // else a PREPARE that is sent once more
		e.at, s.start, e.mark, e.whole = ev.end, ev.end, mark, true
		s.broken = logMark{}
		if !mark.isZero() {
			s.mark = mark
		}
	}
	s.hold = s.xa.hold
	if s.holes() && e.undecided && s.decided == nil {
		s.decided = s.executed.Clone()
	} else if s.decided != nil && !e.undecided {
		s.decided.Add(e.gtid)
		s.decided.Add(e.decides)
	}
	if len(s.xa.prepared) == 0 {
		s.decided = nil
	}
	s.waiting = s.undecided()
	if s.executed != nil {
		s.executed.Add(e.gtid)
	}
	s.mu.Unlock()
	s.tick(ev)
	return s.reached(e)
}

// reached publishes a place outside any transaction.
func (s *BinlogStreamer) reached(e transactionEnd) error {
	if !s.holes() {
		e.hold = s.xa.hold
	}
	for _, f := range s.onEnd {
		f(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.at.File != "" {
		s.streamed = e.at
	}
	s.checkStopLocked()
	return nil
}

// passed notes the end of an event that belongs to no transaction. A stream that begins in the
// middle of a file is sent those at its head, too.
func (s *BinlogStreamer) passed(ev *rawEvent) {
	if s.txn == nil && ev.end.Pos > 0 && ev.flags&artificialFlag == 0 && ev.time != 0 {
		_ = s.cameTo(ev.end)
	}
}

// cameTo publishes a place outside any transaction to which nothing but the log itself has come,
// unless that has been seen before: a shared stream may be behind the place where it is joined.
// In a newer file it is connected again there: nothing is missing of the files before, which the
// server may purge. At the file's head, because of more than that nothing says that it survives a
// crash of the server.
func (s *BinlogStreamer) cameTo(at BinlogCoordinate) error {
	s.mu.Lock()
	seen := at.CompareFilePos(s.start) < 0
	if !seen && at.File != s.start.File {
		s.start = BinlogCoordinate{File: at.File, Pos: fileHeader}
	}
	s.mu.Unlock()
	if seen {
		return nil
	}
	return s.reached(transactionEnd{at: at})
}

// heartbeat: the server has nothing to send; its log ends where the heartbeat says.
func (s *BinlogStreamer) heartbeat(ev *rawEvent) {
	now := s.clock.now()
	s.mu.Lock()
	s.eventAt = now
	s.mu.Unlock()
	s.stamped = 0
	s.tellLag(now)
	if s.txn != nil {
		return
	}
	at := ev.end
	if ev.kind == replication.HEARTBEAT_LOG_EVENT_V2 {
		if file, pos, err := binlog.ParseHeartbeatV2(ev.body); err == nil {
			at = BinlogCoordinate{File: file, Pos: pos}
		}
	}
	if at.Pos > 0 && at.File != "" {
		_ = s.cameTo(at)
	}
}

// tick notes the source's time of an event.
func (s *BinlogStreamer) tick(ev *rawEvent) {
	if ev.time == 0 {
		return
	}
	at := time.Unix(int64(ev.time), 0)
	if ev.time != s.stamped {
		s.stamped = ev.time
		if now := s.clock.now(); at.After(now) {
			at, s.stamped = now, 0 // a session may stamp its events as it likes
		}
		s.mu.Lock()
		s.eventAt = at
		s.mu.Unlock()
	}
	s.tellLag(at)
}

// lagInterval is the least time between two samples of the lag.
const lagInterval = time.Second

// tellLag sends how old the source's last event is, or 0 when the source has nothing new.
func (s *BinlogStreamer) tellLag(at time.Time) {
	m := metricsOrGlobal(s.metrics)
	if s.own != nil || !m.enabled() {
		return
	}
	if now := time.Now(); now.Sub(s.lagTold) >= lagInterval {
		s.lagTold = now
		m.Gauge("BinlogStreamer.Lag", s.clock.age(at).Seconds(), nil, 1)
	}
}

func (s *BinlogStreamer) rotate(ev *rawEvent) error {
	file, pos, err := binlog.ParseRotate(ev.body)
	if err != nil {
		return fmt.Errorf("rotation at %s: %w", ev.end, err)
	}
	if err := s.mustHaveEnded(ev); err != nil { // no transaction goes on in another file
		return err
	}
	s.mu.Lock()
	s.file, s.pos = file, pos
	s.mu.Unlock()
	if ev.time != 0 && ev.flags&artificialFlag == 0 && s.txn == nil {
		failpoint("stream.rotated")
		return s.cameTo(BinlogCoordinate{File: file, Pos: pos})
	}
	return nil
}

// tableMap learns which table a table id stands for; most are repetitions.
func (s *BinlogStreamer) tableMap(ev *rawEvent) error {
	t, err := s.learnTable(ev.body)
	if err != nil {
		return fmt.Errorf("table map at %s: %w", ev.end, err)
	}
	if t.table == nil || s.own != nil { // a target's table is as it may be; its rows are looked at when they are not ours
		return nil
	}
	t.columns, t.mapped.Hidden = t.layout.columns, t.mapped.Columns()-len(t.layout.columns)
	if t.mapped.Hidden != t.table.hiddenColumns() {
		return s.unsupported(ev, t.table, fmt.Sprintf("a row with %d columns where the table had %d", t.mapped.Columns(), len(t.layout.columns)),
			"its definition was changed during the run: start again with an empty target table")
	}
	if i := t.mapped.Differs(t.layout.columns); i >= 0 {
		return s.unsupported(ev, t.table, fmt.Sprintf("a row whose column `%s` has another type than the table had", t.layout.columns[i].Name),
			"its definition was changed during the run, out of the log's sight: start again with an empty target table")
	}
	if i, name := t.mapped.Renamed(t.layout.columns); i >= 0 {
		return s.unsupported(ev, t.table, fmt.Sprintf("a row whose column %d is named %s where the table had %s", i+1, QuoteField(name), QuoteField(t.layout.columns[i].Name)),
			"its definition was changed during the run, out of the log's sight: start again with an empty target table")
	}
	return nil
}

func (s *BinlogStreamer) learnTable(body []byte) (*streamedTable, error) {
	if t := s.tableOf(body); t != nil && bytes.Equal(t.raw, body) {
		return t, nil
	}
	body = bytes.Clone(body)
	mapped, err := codec.ParseTableMap(body)
	if err != nil {
		return nil, err
	}
	t := &streamedTable{raw: body, mapped: mapped, table: s.tableNamed(mapped.Schema, mapped.Table)}
	if t.table != nil {
		if t.layout, err = t.table.layout(); err != nil {
			return nil, err
		}
	}
	s.tableIDs[mapped.TableID] = t
	return t, nil
}

// tableOf returns the table that an event with a table id in front is about.
func (s *BinlogStreamer) tableOf(body []byte) *streamedTable {
	if len(body) < 6 {
		return nil
	}
	id := uint64(body[0]) | uint64(body[1])<<8 | uint64(body[2])<<16 | uint64(body[3])<<24 | uint64(body[4])<<32 | uint64(body[5])<<40
	return s.tableIDs[id]
}

// followStatement notes the statement of the row events that follow. Who wrote them is told by its
// leading comment. The rest may be longer than the rows and wait with each of them, and nobody
// reads it but custom handlers.
func (s *BinlogStreamer) followStatement(text []byte) {
	if len(s.handlers) == 0 {
		text = binlog.LeadingComment(text)
	}
	s.query = bytes.Clone(text)
}

// rows decodes a row event of a known table and hands its rows to the listeners.
func (s *BinlogStreamer) rows(ev *rawEvent, body []byte) error {
	t := s.tableOf(body)
	if t == nil {
		return s.unsupported(ev, nil, "a row event without its table map", "start again; the log may be damaged")
	}
	if t.table == nil {
		return nil
	}
	if s.passedOver(t, ev) {
		return nil
	}
	if s.own != nil {
		if known, err := s.watch(t); err != nil {
			return &replayError{fmt.Errorf("what the columns of %s are on the target, for a row at %s: %w", t.table, ev.end, err)}
		} else if !known {
			return s.unreadable(ev, t, "a row of another definition than the table had", "start again with an empty target table")
		}
	}
	if group := s.xa.reading; group != nil && group.again {
		group.changes(t.table)
		s.rowEvents++
		return nil // it is read again
	}
	kind := rowsKind(ev.kind)
	v2 := ev.kind >= replication.WRITE_ROWS_EVENTv2
	header, err := codec.ParseRowsHeader(body, v2, kind == updateRows)
	if err != nil {
		return fmt.Errorf("row event of %s at %s: %w", t.table, ev.end, err)
	}
	rows, err := s.memo.rows(t.columns, func() (*codec.Rows, error) {
		size := len(header.Body) + len(header.Body)/2
		if len(header.Body) >= largeRow { // mostly few and long values, which take here what they take there
			size = len(header.Body) + len(header.Body)/16
		}
		rows := s.arena.NewRows(len(t.columns), 2, size)
		err := t.mapped.DecodeRows(header, t.columns, rows)
		s.arena.Keep(rows) // others may share them from here on
		return rows, err
	})
	if err != nil {
		var missing *codec.MissingColumnError
		if errors.As(err, &missing) {
			if s.own != nil {
				return s.unreadable(ev, t, "a row image without column `"+missing.Column+"`", "set binlog_row_image=FULL for every session of the target and start again")
			}
			return s.unsupported(ev, t.table, "a row image without column `"+missing.Column+"`", "set binlog_row_image=FULL for every session of the source and start again")
		}
		return fmt.Errorf("row event of %s at %s: %w", t.table, ev.end, err)
	}
	if t.order != nil {
		rows = rows.Pick(t.order)
	}
	if s.held == nil { // else it is one of several in a packet, which is asked for again at their end
		s.dropPacket()
	}
	if s.txn == nil {
		s.begin(binlog.GTID{})
	}
	s.rowEvents++
	part := rowsPart{table: t, rows: rows, kind: kind, query: s.query}
	if len(s.handlers) > 0 {
		part.query = bytes.Clone(binlog.LeadingComment(s.query))
	}
	if s.xa.reading != nil {
		return s.keepXA(part)
	}
	return s.deliverPart(ev, part)
}

// deliverPart makes events of rows, at the place of ev and in the present transaction.
func (s *BinlogStreamer) deliverPart(ev *rawEvent, part rowsPart) error {
	place := rowEvent{
		table: part.table.table, layout: part.table.layout, txn: s.txn, end: ev.end, resumable: s.resumable(),
		query: part.query, timestamp: time.Unix(int64(ev.time), 0),
	}
	s.tick(ev)
	return s.deliver(eventsOfRows(&place, part.rows, part.kind))
}

func (s *BinlogStreamer) resumable() mysql.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		return s.hold.Position()
	}
	return s.start.Position()
}

// deliver hands the applicable events to the listeners, in order.
func (s *BinlogStreamer) deliver(events []DMLEvent) error {
	if s.Filter != nil {
		kept := events[:0]
		for _, ev := range events {
			ev, err := s.applicable(ev)
			if err != nil {
				return err
			}
			if ev != nil {
				kept = append(kept, ev)
			}
		}
		events = kept
	}
	if len(events) == 0 {
		return nil
	}
	s.handed = true
	if s.own == nil {
		metricsOrGlobal(s.metrics).countRows(events[0].TableSchema(), "binlog", len(events))
	}
	for _, listener := range s.listeners {
		if err := safely(func() error { return listener(events) }); err != nil {
			return err
		}
	}
	return nil
}

// applicable returns what a change means for the move, nil for nothing.
func (s *BinlogStreamer) applicable(ev DMLEvent) (DMLEvent, error) {
	l, err := ev.TableSchema().layout()
	if err != nil {
		return nil, err
	}
	if l.scope != nil {
		part, err := l.scope.project(s.ctx, ev)
		if err != nil {
			return nil, fmt.Errorf("the row filter's answer for a change of %s.%s at %s: %w", ev.Database(), ev.Table(), ev.BinlogPosition(), err)
		}
		return part, nil
	}
	applicable, err := s.Filter.ApplicableEvent(ev)
	if err != nil {
		return nil, fmt.Errorf("the copy filter's answer for a change of %s.%s at %s: %w", ev.Database(), ev.Table(), ev.BinlogPosition(), err)
	}
	if !applicable {
		return nil, nil
	}
	return ev, nil
}
