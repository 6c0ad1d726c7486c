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
	raw := &rawEvent{
		kind: ev.Header.EventType, flags: ev.Header.Flags, server: ev.Header.ServerID, time: ev.Header.Timestamp,
		body: body, whole: ev,
	}
	s.mu.Lock()
	raw.end = BinlogCoordinate{File: s.file, Pos: uint64(ev.Header.LogPos)}
	stop := s.txn == nil && s.checkStopLocked()
	s.mu.Unlock()
	if stop {
		return errStopReached
	}
	return s.dispatch(raw)
}

func (s *BinlogStreamer) dispatch(ev *rawEvent) error {
	if handler := s.handlers[ev.kind]; handler != nil {
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
		return s.endTransaction(ev) // its rows were refused when they came
	case replication.QUERY_EVENT:
		return s.statement(ev, ev.body)
	case replication.MARIADB_QUERY_COMPRESSED_EVENT:
		body, err := binlog.UncompressQuery(ev.body)
		if err != nil {
			return s.unsupported(ev, nil, "a compressed statement that cannot be read: "+err.Error(), "set log_bin_compress=OFF on the source")
		}
		return s.statement(ev, body)
	case replication.ROWS_QUERY_EVENT:
		s.query = binlog.ParseRowsQuery(ev.body, false)
	case replication.MARIADB_ANNOTATE_ROWS_EVENT:
		s.query = binlog.ParseRowsQuery(ev.body, true)
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
		replication.INTVAR_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT:
		// Group replication's bookkeeping, and context of statements, which are judged themselves.
		return nil
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		return s.compressedRows(ev)
	case replication.PARTIAL_UPDATE_ROWS_EVENT:
		t := s.tableOf(ev.body)
		if t == nil || t.table == nil {
			return nil
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
	e := &UnsupportedEventError{Coordinate: ev.end.Position(), What: what, Remedy: remedy}
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
	s.begin(g)
	if ev.kind == replication.MARIADB_GTID_EVENT {
		// No BEGIN and no XA START follow: the group ends with COMMIT, XID or XA PREPARE
		// unless it is standalone.
		s.explicit, s.xa = !group.Standalone, group.PreparedXA
	}
	return nil
}

func (s *BinlogStreamer) begin(g binlog.GTID) {
	s.txn, s.explicit, s.xa, s.hadRows, s.query = &sourceTxn{gtid: g}, false, false, false, nil
	s.mu.Lock()
	s.inTxn = true
	s.mu.Unlock()
}

// endTransaction moves the place to resume from past the transaction.
func (s *BinlogStreamer) endTransaction(ev *rawEvent) error {
	var g binlog.GTID
	if s.txn != nil {
		g = s.txn.gtid
	}
	s.txn, s.explicit, s.xa, s.query = nil, false, false, nil
	s.mu.Lock()
	s.inTxn = false
	s.start = BinlogCoordinate{File: ev.end.File, Pos: ev.end.Pos}
	if s.executed != nil {
		s.executed.Add(g)
	}
	s.mu.Unlock()
	s.tick(ev)
	return s.reached(g, s.start)
}

// reached publishes a place outside any transaction.
func (s *BinlogStreamer) reached(g binlog.GTID, at BinlogCoordinate) error {
	for _, f := range s.onEnd {
		f(g, at)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamed = at
	s.checkStopLocked()
	return nil
}

// passed notes the end of an event that belongs to no transaction. Those at the head of a
// file, which a stream that begins in its middle is sent, too, lie before its start.
func (s *BinlogStreamer) passed(ev *rawEvent) {
	if s.txn == nil && ev.end.Pos > 0 && ev.flags&artificialFlag == 0 && ev.time != 0 && ev.end.CompareFilePos(s.resumeFrom()) >= 0 {
		_ = s.reached(binlog.GTID{}, ev.end)
	}
}

// heartbeat: the server has nothing to send; its log ends where the heartbeat says.
func (s *BinlogStreamer) heartbeat(ev *rawEvent) {
	s.mu.Lock()
	s.eventAt = time.Now()
	s.mu.Unlock()
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
		_ = s.reached(binlog.GTID{}, at)
	}
}

// tick notes the source's time of an event.
func (s *BinlogStreamer) tick(ev *rawEvent) {
	if ev.time == 0 {
		return
	}
	s.mu.Lock()
	s.eventAt = time.Unix(int64(ev.time), 0)
	s.mu.Unlock()
}

func (s *BinlogStreamer) rotate(ev *rawEvent) error {
	file, pos, err := binlog.ParseRotate(ev.body)
	if err != nil {
		return fmt.Errorf("rotation at %s: %w", ev.end, err)
	}
	s.mu.Lock()
	s.file = file
	s.mu.Unlock()
	if ev.time != 0 && ev.flags&artificialFlag == 0 && s.txn == nil {
		failpoint("stream.rotated")
		return s.reached(binlog.GTID{}, BinlogCoordinate{File: file, Pos: pos})
	}
	return nil
}

// statement judges a statement in the log: it begins or ends a transaction, or it may
// have changed a moved table without row events.
func (s *BinlogStreamer) statement(ev *rawEvent, body []byte) error {
	q, err := binlog.ParseQuery(body)
	if err != nil {
		return fmt.Errorf("statement at %s: %w", ev.end, err)
	}
	if q.Text == "BEGIN" { // by far the most frequent
		s.openExplicitly()
		return nil
	}
	st := binlog.ScanStatement(q)
	switch st.Kind {
	case binlog.Begin:
		s.openExplicitly()
		return nil
	case binlog.Commit:
		return s.endTransaction(ev)
	case binlog.Rollback:
		if s.hadRows {
			return s.unsupported(ev, nil, "a rollback after row changes in the log (tables of several storage engines in one transaction)", "move InnoDB tables only, and start again")
		}
		return s.endTransaction(ev)
	case binlog.Savepoint:
		return nil
	case binlog.XA:
		return s.xaStatement(ev, q)
	case binlog.DDL, binlog.DML:
		if err := s.judge(ev, q, &st); err != nil {
			return err
		}
	}
	if s.explicit {
		return nil
	}
	return s.endTransaction(ev)
}

func (s *BinlogStreamer) openExplicitly() {
	if s.txn == nil {
		s.begin(binlog.GTID{})
	}
	s.explicit = true
}

func (s *BinlogStreamer) xaStatement(ev *rawEvent, q binlog.Query) error {
	switch binlog.XAVerb(q.Text) {
	case "START", "BEGIN":
		s.openExplicitly()
		s.xa = true
		return nil
	case "END", "PREPARE":
		return nil
	}
	return s.endTransaction(ev) // COMMIT and ROLLBACK of what had no rows of ours
}

// judge refuses statements that change a moved table without row events: definitions,
// and rows changed by statement. A statement that changes rows need not name the table,
// which may be behind a view, a trigger or a function: the schema is enough.
func (s *BinlogStreamer) judge(ev *rawEvent, q binlog.Query, st *binlog.Statement) error {
	if s.own != nil && s.own([]byte(q.Text)) {
		return nil
	}
	if st.Kind == binlog.DDL && !st.DropsSchema() && !st.ChangesTables() {
		return nil
	}
	var statement error
	for _, table := range s.TableSchema {
		schema, name := s.streamedName(table)
		if s.exempt != nil && s.exempt(table, ev.end) {
			continue
		}
		named := st.MentionsTable(schema, name, q.Schema)
		switch {
		case st.Kind == binlog.DML && named:
			return s.byStatement(ev, table, st)
		case st.Kind == binlog.DML:
			if q.Schema == schema || st.Mentions(schema) {
				statement = s.byStatement(ev, nil, st)
			}
		case named && !st.DropsSchema(), st.DropsSchema() && st.Mentions(schema):
			return s.unsupported(ev, table, "a change of the table's definition ("+st.Verb+")", "wait until schema changes are over, and start again with empty target tables")
		}
	}
	return statement
}

func (s *BinlogStreamer) byStatement(ev *rawEvent, table *TableSchema, st *binlog.Statement) error {
	return s.unsupported(ev, table, "a change by statement ("+st.Verb+")", "set binlog_format=ROW for every session of the source and start again")
}

// streamedName returns the name of a known table as the streamed server has it.
func (s *BinlogStreamer) streamedName(table *TableSchema) (schema, name string) {
	schema, name = table.Schema, table.Name
	for streamed, known := range s.DatabaseRewrites {
		if known == table.Schema {
			schema = streamed
		}
	}
	for streamed, known := range s.TableRewrites {
		if known == table.Name {
			name = streamed
		}
	}
	return schema, name
}

// tableMap learns which table a table id stands for; most are repetitions.
func (s *BinlogStreamer) tableMap(ev *rawEvent) error {
	t, err := s.learnTable(ev.body)
	if err != nil {
		return fmt.Errorf("table map at %s: %w", ev.end, err)
	}
	if t.table != nil && t.mapped.Columns() != len(t.layout.columns) {
		return s.unsupported(ev, t.table, fmt.Sprintf("a row with %d columns where the table had %d", t.mapped.Columns(), len(t.layout.columns)),
			"its definition was changed during the run: start again with an empty target table")
	}
	return nil
}

func (s *BinlogStreamer) learnTable(body []byte) (*streamedTable, error) {
	if t := s.tableOf(body); t != nil && bytes.Equal(t.raw, body) {
		return t, nil
	}
	mapped, err := codec.ParseTableMap(body)
	if err != nil {
		return nil, err
	}
	schema, name := mapped.Schema, mapped.Table
	if known, ok := s.DatabaseRewrites[schema]; ok {
		schema = known
	}
	if known, ok := s.TableRewrites[name]; ok {
		name = known
	}
	t := &streamedTable{raw: bytes.Clone(body), mapped: mapped, table: s.TableSchema.Get(schema, name)}
	if t.table != nil {
		if schema, name := s.streamedName(t.table); schema != mapped.Schema || name != mapped.Table {
			t.table = nil // a namesake: ours has another name on this server
		}
	}
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

// rows decodes a row event of a known table and hands its rows to the listeners.
func (s *BinlogStreamer) rows(ev *rawEvent, body []byte) error {
	t := s.tableOf(body)
	if t == nil {
		return s.unsupported(ev, nil, "a row event without its table map", "start again; the log may be damaged")
	}
	if t.table == nil {
		return nil
	}
	if s.xa {
		return s.unsupported(ev, t.table, "a change by an XA transaction", "run the move while no XA transactions write to the moved tables")
	}
	if s.own != nil && s.query != nil && s.own(s.query) || s.exempt != nil && s.exempt(t.table, ev.end) {
		return nil
	}
	kind := rowsKind(ev.kind)
	v2 := ev.kind >= replication.WRITE_ROWS_EVENTv2
	header, err := codec.ParseRowsHeader(body, v2, kind == updateRows)
	if err != nil {
		return fmt.Errorf("row event of %s at %s: %w", t.table, ev.end, err)
	}
	rows := codec.NewRows(len(t.layout.columns), 2, len(header.Body)+len(header.Body)/2)
	if err := t.mapped.DecodeRows(header, t.layout.columns, rows); err != nil {
		var missing *codec.MissingColumnError
		if errors.As(err, &missing) {
			return s.unsupported(ev, t.table, "a row image without column `"+missing.Column+"`", "set binlog_row_image=FULL for every session of the source and start again")
		}
		return fmt.Errorf("row event of %s at %s: %w", t.table, ev.end, err)
	}
	if s.txn == nil {
		s.begin(binlog.GTID{})
	}
	s.hadRows = true
	place := rowEvent{
		table: t.table, layout: t.layout, txn: s.txn, end: ev.end, resumable: s.resumable(),
		query: s.query, timestamp: time.Unix(int64(ev.time), 0),
	}
	s.tick(ev)
	return s.deliver(eventsOfRows(&place, rows, kind))
}

func (s *BinlogStreamer) resumable() mysql.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start.Position()
}

// deliver hands the applicable events to the listeners, in order.
func (s *BinlogStreamer) deliver(events []DMLEvent) error {
	if s.Filter != nil {
		kept := events[:0]
		for _, ev := range events {
			applicable, err := s.Filter.ApplicableEvent(ev)
			if err != nil {
				return fmt.Errorf("the copy filter's answer for a change of %s.%s at %s: %w", ev.Database(), ev.Table(), ev.BinlogPosition(), err)
			}
			if applicable {
				kept = append(kept, ev)
			}
		}
		events = kept
	}
	if len(events) == 0 {
		return nil
	}
	for _, listener := range s.listeners {
		if err := safely(func() error { return listener(events) }); err != nil {
			return err
		}
	}
	return nil
}

// payload unwraps a compressed transaction; its events stand at the payload's place.
func (s *BinlogStreamer) payload(ev *rawEvent) error {
	err := binlog.EachPayloadEvent(ev.body, func(h binlog.InnerEvent) error {
		inner := &rawEvent{
			kind: replication.EventType(h.Type), flags: h.Flags, server: h.ServerID, time: h.Timestamp, end: ev.end, body: h.Body, whole: ev.whole,
		}
		if rowsKind(inner.kind) != notRows {
			inner.body = bytes.Clone(h.Body) // the buffer is used again
		}
		return s.dispatch(inner)
	})
	if err != nil {
		return fmt.Errorf("compressed transaction at %s: %w", ev.end, err)
	}
	return nil
}

// compressedRows unwraps MariaDB's compressed row events.
func (s *BinlogStreamer) compressedRows(ev *rawEvent) error {
	t := s.tableOf(ev.body)
	if t != nil && t.table == nil {
		return nil
	}
	body, err := binlog.UncompressRows(ev.body, ev.kind == replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1)
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
