package ghostferry

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// craftedEvent is an event that ends at a place, of which the header has 32 bits, and
// claims a size without having it.
func craftedEvent(kind replication.EventType, end uint64, size uint32, body []byte) *replication.BinlogEvent {
	raw := make([]byte, replication.EventHeaderSize, replication.EventHeaderSize+len(body))
	binary.LittleEndian.PutUint32(raw, 1700000000)
	raw[4] = byte(kind)
	binary.LittleEndian.PutUint32(raw[5:], 1)
	binary.LittleEndian.PutUint32(raw[9:], size)
	binary.LittleEndian.PutUint32(raw[13:], uint32(end))
	return recordedEvent(append(raw, body...))
}

// craftedGTID begins the transaction of a number on MySQL.
func craftedGTID(number byte) []byte {
	body := make([]byte, 25)
	body[17] = number
	return body
}

// craftedTableMap is that of a table with the columns of recordedTable, under an id.
func craftedTableMap(id byte, schema, table string, mariaDB bool) []byte {
	document := byte(245)
	if mariaDB {
		document = 252 // a LONGTEXT
	}
	name := func(text string) []byte { return append(append([]byte{byte(len(text))}, text...), 0) }
	return slices.Concat([]byte{id, 0, 0, 0, 0, 0, 1, 0}, name(schema), name(table),
		[]byte{8, 3, 15, document, 246, 17, 16, 254, 252}, []byte{12, 80, 0, 4, 10, 3, 3, 5, 0, 247, 1, 4}, []byte{0xfe})
}

// The header has 32 bits for an event's end, and one transaction can make a file longer.
func TestPositionsBeyond4GiB(t *testing.T) {
	const gib = 1 << 30
	long := func(r *recordedStream) (err error) {
		at := uint64(4)
		step := func(kind replication.EventType, size uint32, body []byte) {
			if at += uint64(size); err == nil {
				err = r.handle(craftedEvent(kind, at, size, body))
			}
		}
		for n := byte(1); n <= 3; n++ {
			step(replication.GTID_EVENT, 60, craftedGTID(n))
			for range 2 * int(n) { // rows of a table that is not ours: their content does not matter
				step(replication.IGNORABLE_EVENT, gib, nil)
			}
			step(replication.XID_EVENT, 31, make([]byte, 8))
		}
		return err
	}

	t.Run("with GTIDs the stream goes on", func(t *testing.T) {
		r := newRecordedStream(t, false)
		r.executed = &binlog.GTIDSet{}
		require.NoError(t, long(r))
		require.Len(t, r.ends, 3)
		require.Equal(t, []uint64{4 + 2*gib + 91, 4 + 6*gib + 182, 4 + 12*gib + 273}, []uint64{r.ends[0].Pos, r.ends[1].Pos, r.ends[2].Pos})
		require.Equal(t, "00000000-0000-0000-0000-000000000000:1-3", r.resumeFrom().GTIDSet)
	})

	t.Run("without it ends before what it could not come back to", func(t *testing.T) {
		r := newRecordedStream(t, false)
		r.srv.GTIDMode = false
		var refused *UnsupportedEventError
		require.ErrorAs(t, long(r), &refused)
		require.Equal(t, uint64(4+4*gib+2*60+31), refused.End.Pos)       // inside the second transaction
		require.Equal(t, uint32(math.MaxUint32), refused.Coordinate.Pos) // as far as its form goes
		require.NotEmpty(t, refused.Remedy)
		require.Equal(t, []BinlogCoordinate{{File: "log.000001", Pos: 4 + 2*gib + 91}}, r.ends)
		require.Equal(t, r.ends[0], r.resumeFrom())
	})

	t.Run("a heartbeat has the place of the last event", func(t *testing.T) {
		r := newRecordedStream(t, false)
		r.executed = &binlog.GTIDSet{}
		require.NoError(t, long(r))
		end := r.ends[2]
		require.NoError(t, r.handle(craftedEvent(replication.HEARTBEAT_EVENT, end.Pos, 39, []byte(end.File))))
		require.Equal(t, end, r.ends[len(r.ends)-1])
	})

	t.Run("a new file begins anew", func(t *testing.T) {
		r := newRecordedStream(t, false)
		r.executed = &binlog.GTIDSet{}
		require.NoError(t, long(r))
		require.NoError(t, r.handle(craftedEvent(replication.ROTATE_EVENT, r.ends[2].Pos+40, 40, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, "log.000002"...))))
		require.NoError(t, r.handle(craftedEvent(replication.FORMAT_DESCRIPTION_EVENT, 126, 122, nil)))
		require.NoError(t, r.handle(craftedEvent(replication.GTID_EVENT, 186, 60, craftedGTID(4))))
		require.NoError(t, r.handle(craftedEvent(replication.XID_EVENT, 217, 31, make([]byte, 8))))
		require.Equal(t, BinlogCoordinate{File: "log.000002", Pos: 217}, r.ends[len(r.ends)-1])
	})
}

// MariaDB leaves out where the events inside a transaction end: their sizes tell it.
func TestEventsWithoutAPosition(t *testing.T) {
	r := newRecordedStream(t, true)
	gtid := append([]byte{7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}, 0, 0)
	require.NoError(t, r.handle(craftedEvent(replication.MARIADB_GTID_EVENT, 100, 96, gtid)))
	require.NoError(t, r.handle(craftedEvent(replication.MARIADB_ANNOTATE_ROWS_EVENT, 0, 50, []byte("INSERT"))))
	require.NoError(t, r.handle(craftedEvent(replication.IGNORABLE_EVENT, 0, 1000, nil)))
	require.NoError(t, r.handle(craftedEvent(replication.XID_EVENT, 1181, 31, make([]byte, 8))))
	require.Equal(t, []BinlogCoordinate{{File: "log.000001", Pos: 1181}}, r.ends)

	require.NoError(t, r.handle(craftedEvent(replication.MARIADB_GTID_EVENT, 1281, 100, gtid)))
	require.NoError(t, r.handle(craftedEvent(replication.XID_EVENT, 0, 31, make([]byte, 8))))
	require.Equal(t, uint64(1312), r.ends[1].Pos)
}

// The list of events that are understood is a list: every other number ends the stream,
// unless its author says that it may be skipped. What damages a transaction does, too.
func TestUnknownEventsEndTheStream(t *testing.T) {
	understood := map[replication.EventType]bool{}
	for _, kind := range []replication.EventType{
		replication.QUERY_EVENT, replication.STOP_EVENT, replication.ROTATE_EVENT, replication.INTVAR_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT,
		replication.FORMAT_DESCRIPTION_EVENT, replication.XID_EVENT, replication.BEGIN_LOAD_QUERY_EVENT, replication.EXECUTE_LOAD_QUERY_EVENT,
		replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT, replication.TABLE_MAP_EVENT, replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2, replication.IGNORABLE_EVENT,
		replication.ROWS_QUERY_EVENT, replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.PREVIOUS_GTIDS_EVENT, replication.GTID_TAGGED_LOG_EVENT,
		replication.TRANSACTION_CONTEXT_EVENT, replication.VIEW_CHANGE_EVENT, replication.XA_PREPARE_LOG_EVENT, replication.TRANSACTION_PAYLOAD_EVENT,
		replication.MARIADB_ANNOTATE_ROWS_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT, replication.MARIADB_GTID_EVENT, replication.MARIADB_GTID_LIST_EVENT,
		replication.MARIADB_START_ENCRYPTION_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT,
	} {
		understood[kind] = true
	}
	for kind := range 256 {
		kind := replication.EventType(kind)
		for _, ignorable := range []bool{false, true} {
			r := newRecordedStream(t, false)
			ev := craftedEvent(kind, 60, 56, make([]byte, 30))
			if ignorable {
				ev.Header.Flags = binlog.IgnorableFlag
			}
			err := r.handle(ev)
			var refused *UnsupportedEventError
			switch {
			case understood[kind]:
			case ignorable && rowsKind(kind) == notRows && err == nil:
			default:
				require.ErrorAs(t, err, &refused, "event type %d", kind)
				require.Equal(t, uint64(60), refused.End.Pos)
				require.NotEmpty(t, refused.Remedy)
				require.Empty(t, r.ends)
				require.Equal(t, uint64(4), r.resumeFrom().Pos)
			}
		}
	}
}

// An event that says that the source's own log has a gap ends the stream, and so do
// rows without their table and a transaction without an id where all have one.
func TestDamagedTransactionsEndTheStream(t *testing.T) {
	for what, ev := range map[string]*replication.BinlogEvent{
		"incident":            craftedEvent(replication.INCIDENT_EVENT, 60, 56, []byte{1, 0, 0}),
		"rows without a map":  craftedEvent(replication.WRITE_ROWS_EVENTv2, 60, 56, make([]byte, 30)),
		"partial rows":        craftedEvent(replication.PARTIAL_UPDATE_ROWS_EVENT, 60, 56, make([]byte, 30)),
		"anonymous":           craftedEvent(replication.ANONYMOUS_GTID_EVENT, 60, 56, make([]byte, 30)),
		"damaged payload":     craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, 60, 56, []byte{2, 1, 0, 0, 1, 2, 3}),
		"payload in itself":   craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, 60, 56, append([]byte{2, 3, 0xfc, 255, 0, 0}, craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, 0, 21, []byte{0, 0}).RawData...)),
		"no XA to be decided": craftedEvent(replication.XA_PREPARE_LOG_EVENT, 60, 56, []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'x'}),
	} {
		r := newRecordedStream(t, false)
		var refused *UnsupportedEventError
		require.ErrorAs(t, r.handle(ev), &refused, what)
		require.NotEmpty(t, refused.Remedy, what)
		require.Equal(t, uint64(60), refused.End.Pos, what)
		require.Empty(t, r.ends, what)
	}
}

// A compressed transaction ends when its payload has been read whole: what is damaged or
// goes on behind an inner end leaves the place to begin again in front of all of it.
func TestACompressedTransactionEndsWithItsPayload(t *testing.T) {
	uncompressed := []byte{2, 3, 0xfc, 255, 0, 0}
	inner := func(kind replication.EventType) []byte {
		return craftedEvent(kind, 0, replication.EventHeaderSize+8, make([]byte, 8)).RawData
	}
	end := inner(replication.XID_EVENT)
	for what, c := range map[string]struct {
		payload []byte
		refused bool
	}{
		"whole":                 {end, false},
		"torn behind its end":   {append(slices.Clone(end), end[:10]...), true},
		"two ends":              {slices.Concat(end, end), true},
		"a heartbeat inside":    {slices.Concat(inner(replication.HEARTBEAT_EVENT), end), true},
		"another file inside":   {slices.Concat(inner(replication.ROTATE_EVENT), end), true},
		"another id inside":     {slices.Concat(inner(replication.GTID_EVENT), end), true},
		"a file's head inside":  {slices.Concat(inner(replication.FORMAT_DESCRIPTION_EVENT), end), true},
		"a compressed one more": {slices.Concat(inner(replication.TRANSACTION_PAYLOAD_EVENT), end), true},
	} {
		r := newRecordedStream(t, false)
		require.NoError(t, r.handle(craftedEvent(replication.GTID_EVENT, 60, 56, craftedGTID(1))), what)
		body := append(slices.Clone(uncompressed), c.payload...)
		err := r.handle(craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, 160, 100, body))
		if !c.refused {
			require.NoError(t, err, what)
			require.Equal(t, []BinlogCoordinate{{File: "log.000001", Pos: 160}}, r.ends, what)
			continue
		}
		var refused *UnsupportedEventError
		require.ErrorAs(t, err, &refused, what)
		require.Empty(t, r.ends, what)
		require.Equal(t, uint64(4), r.resumeFrom().Pos, what)
	}
}

// A large compressed transaction is asked for its mark at its end, when its rows are decoded.
func TestALargeCompressedTransactionHasAMark(t *testing.T) {
	r := newRecordedStream(t, false)
	tableMap := craftedTableMap(1, "fuzz", "t", false)
	value := make([]byte, largeRowsBytes)
	row := slices.Concat([]byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0xff, 0x7e, 7, 0, 0, 0}, binary.LittleEndian.AppendUint32(nil, uint32(len(value))), value)
	inner := func(kind replication.EventType, body []byte) []byte {
		return craftedEvent(kind, 0, uint32(replication.EventHeaderSize+len(body)), body).RawData
	}
	events := slices.Concat(inner(replication.TABLE_MAP_EVENT, tableMap), inner(replication.WRITE_ROWS_EVENTv2, row), inner(replication.XID_EVENT, make([]byte, 8)))
	payload := append([]byte{2, 3, 0xfc, 255, 0, 0}, events...)
	size := uint32(replication.EventHeaderSize + len(payload))
	ev := craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, uint64(60+size), size, payload)
	raw := slices.Clone(ev.RawData)
	var mark logMark
	r.onEnd = append(r.onEnd, func(e transactionEnd) { mark = e.mark })
	require.NoError(t, r.handleStreamed(t.Context(), craftedEvent(replication.GTID_EVENT, 60, 56, craftedGTID(1))))
	require.NoError(t, r.handleStreamed(t.Context(), ev))
	require.Len(t, r.events, 1)
	require.Equal(t, markOf("log.000001", uint64(60+size), raw), mark)
	require.Empty(t, ev.RawData)
}

// A compressed transaction has several row events, which are unwrapped into the same memory one after
// the other: whoever shares it gets the rows of each, and keeps none for others.
func TestASharedCompressedTransactionHasItsOwnRows(t *testing.T) {
	inner := func(kind replication.EventType, body []byte) []byte {
		return craftedEvent(kind, 0, uint32(replication.EventHeaderSize+len(body)), body).RawData
	}
	insert := func(id byte) []byte { // all other columns are NULL
		return inner(replication.WRITE_ROWS_EVENTv2, []byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0xff, 0xfe, id, 0, 0, 0})
	}
	events := slices.Concat(inner(replication.TABLE_MAP_EVENT, craftedTableMap(1, "fuzz", "t", false)), insert(101), insert(102), inner(replication.XID_EVENT, make([]byte, 8)))
	shared := &sharedRows{decoded: new(atomic.Uint64)}
	for range 2 { // subscribers
		r := newRecordedStream(t, false)
		require.NoError(t, r.handle(craftedEvent(replication.GTID_EVENT, 60, 56, craftedGTID(1))))
		r.memo = shared
		require.NoError(t, r.handle(craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, 1000, 940, append([]byte{2, 3, 0xfc, 255, 0, 0}, events...))))
		require.Len(t, r.events, 2)
		for i, ev := range r.events {
			require.EqualValues(t, 101+i, ev.NewValues()[0])
		}
		require.Empty(t, shared.mu.done)
	}
}

// Of a statement in the log its rows keep the comment, which tells who wrote them: the text can be
// longer than they are, and waits with each. Custom handlers are given all of it.
func TestRowsKeepTheCommentOfTheirStatement(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for text, want := range map[string]string{
		"/*app:shop*/ INSERT INTO t VALUES ('" + long + "')": "/*app:shop*/",
		"INSERT INTO t VALUES ('" + long + "') /*behind*/":   "",
		"/*/ INSERT INTO t VALUES ('" + long + "')":          "",
	} {
		for _, handled := range []bool{false, true} {
			r := newRecordedStream(t, false)
			var given string
			if handled {
				require.NoError(t, r.AddBinlogEventHandler(replication.INTVAR_EVENT, func(_ *replication.BinlogEvent, statement []byte, _ *BinlogEventState) ([]byte, error) {
					given = string(statement)
					return statement, nil
				}))
			}
			row := []byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0xff, 0xfe, 7, 0, 0, 0}
			for _, ev := range []*replication.BinlogEvent{
				craftedEvent(replication.GTID_EVENT, 60, 56, craftedGTID(1)),
				craftedEvent(replication.ROWS_QUERY_EVENT, 100, 40, append([]byte{0}, text...)),
				craftedEvent(replication.INTVAR_EVENT, 120, 20, make([]byte, 9)),
				craftedEvent(replication.TABLE_MAP_EVENT, 200, 80, craftedTableMap(1, "fuzz", "t", false)),
				craftedEvent(replication.WRITE_ROWS_EVENTv2, 300, 100, row),
			} {
				require.NoError(t, r.handle(ev))
			}
			require.Len(t, r.events, 1)
			kept, err := rowEventOf(r.events[0])
			require.NoError(t, err)
			require.NotNil(t, kept.query)
			require.Equal(t, want, string(kept.query))
			require.Less(t, cap(kept.query), 100)
			require.Equal(t, eventOverhead+kept.rows.RowBytes(kept.new)+len(want), kept.size())
			comment, err := r.events[0].Annotation()
			require.NoError(t, err)
			require.Equal(t, strings.Trim(want, "/*"), comment)
			if handled {
				require.Equal(t, text, given)
			}
		}
	}
}

// Only rows of tables that are moved are decoded: what nobody could decode ends the stream
// where such a table has it, and goes by where another one has it.
func TestOnlyMovedTablesAreDecoded(t *testing.T) {
	const moved, namesake, other = 1, 2, 3
	garbage := map[string][]byte{
		"nothing":              {},
		"noise":                slices.Repeat([]byte{0xa7, 0x3d, 0xff, 0x01}, 50),
		"too many columns":     {1, 0, 2, 0, 0xfc, 0xff, 0xff, 1},
		"a cut image":          {1, 0, 2, 0, 8, 0xff, 0xff, 0, 7, 0},
		"a document of no end": {1, 0, 2, 0, 8, 0xff, 0xff, 0, 7, 0, 0, 0, 1, 'v', 0xff, 0xff, 0xff, 0x7f, 1},
	}
	kinds := map[bool][]replication.EventType{
		false: {
			replication.WRITE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv1,
			replication.WRITE_ROWS_EVENTv2, replication.UPDATE_ROWS_EVENTv2, replication.DELETE_ROWS_EVENTv2, replication.PARTIAL_UPDATE_ROWS_EVENT,
		},
		true: {
			replication.WRITE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv1, replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1,
			replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1,
		},
	}
	// transaction is one of maps of three tables and rows of one of them.
	transaction := func(r *recordedStream, mariaDB, packed bool, kind replication.EventType, id byte, rows []byte) (err error) {
		at := uint64(4)
		var inner []byte
		step := func(kind replication.EventType, body []byte) {
			size := uint32(replication.EventHeaderSize + len(body))
			if packed {
				inner = append(inner, craftedEvent(kind, 0, size, body).RawData...)
				return
			}
			if at += uint64(size); err == nil {
				err = r.handle(craftedEvent(kind, at, size, body))
			}
		}
		if mariaDB {
			err = r.handle(craftedEvent(replication.MARIADB_GTID_EVENT, 60, 56, append([]byte{7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}, 0, 0)))
		} else {
			err = r.handle(craftedEvent(replication.GTID_EVENT, 60, 56, craftedGTID(1)))
		}
		at = 60
		step(replication.TABLE_MAP_EVENT, craftedTableMap(moved, "fuzz", "t", mariaDB))
		step(replication.TABLE_MAP_EVENT, craftedTableMap(namesake, "elsewhere", "t", mariaDB))
		step(replication.TABLE_MAP_EVENT, craftedTableMap(other, "fuzz", "other", mariaDB))
		step(kind, append([]byte{id, 0, 0, 0, 0, 0}, rows...))
		step(replication.XID_EVENT, make([]byte, 8))
		if packed && err == nil {
			err = r.handle(craftedEvent(replication.TRANSACTION_PAYLOAD_EVENT, 1000, 940, append([]byte{2, 3, 0xfc, 255, 0, 0}, inner...)))
		}
		return err
	}
	for mariaDB, kinds := range kinds {
		for _, kind := range kinds {
			for what, rows := range garbage {
				for _, packed := range []bool{false, true} {
					if packed && mariaDB {
						continue // it compresses events, not transactions
					}
					for _, id := range []byte{namesake, other} {
						r := newRecordedStream(t, mariaDB)
						require.NoError(t, transaction(r, mariaDB, packed, kind, id, rows), "%s in %s of table %d", what, kind, id)
						require.Empty(t, r.events)
						require.Len(t, r.ends, 1)
						require.Equal(t, r.ends[0].Pos, r.resumeFrom().Pos)
					}
					r := newRecordedStream(t, mariaDB)
					err := transaction(r, mariaDB, packed, kind, moved, rows)
					require.Error(t, err, "%s in %s", what, kind)
					require.NotContains(t, err.Error(), "without its table map", "%s in %s", what, kind)
					require.Empty(t, r.events)
					require.Empty(t, r.ends)
					require.Equal(t, uint64(4), r.resumeFrom().Pos)
				}
			}
		}
	}
}

// craftedTransaction is one of nothing, of the first 100 numbers, that ends at a place.
func craftedTransaction(tb testing.TB, r *recordedStream, number byte, end uint64) {
	tb.Helper()
	require.NoError(tb, r.handle(craftedEvent(replication.GTID_EVENT, end-31, 60, craftedGTID(number))))
	require.NoError(tb, r.handle(craftedEvent(replication.XID_EVENT, end, 31, make([]byte, 8))))
}

// craftedRotation goes on at the head of a file: at the end of the one before, or made up for a
// connection.
func craftedRotation(end uint64, file string) *replication.BinlogEvent {
	ev := craftedEvent(replication.ROTATE_EVENT, end, 40, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, file...))
	if end == 0 {
		ev.Header.Timestamp, ev.Header.Flags = 0, artificialFlag
	}
	return ev
}

// A stream that has seen nothing but new files since its last transaction is connected again in the
// newest of them: the others may be purged.
func TestIdleStreamFollowsTheFiles(t *testing.T) {
	at := func(file string, pos uint64) BinlogCoordinate { return BinlogCoordinate{File: file, Pos: pos} }
	r := newRecordedStream(t, false)
	r.srv.GTIDMode = false
	craftedTransaction(t, r, 1, 200)
	require.NoError(t, r.handle(craftedEvent(replication.HEARTBEAT_EVENT, 200, 39, []byte("log.000001"))))
	require.Equal(t, at("log.000001", 200), r.resumeFrom())
	require.NoError(t, r.handle(craftedRotation(240, "log.000002")))
	require.Equal(t, at("log.000002", fileHeader), r.resumeFrom())
	require.Equal(t, r.resumeFrom(), r.laterFrom())

	// A server that was restarted has closed its file without a word.
	require.NoError(t, r.handle(craftedRotation(0, "log.000003")))
	require.NoError(t, r.handle(craftedEvent(replication.FORMAT_DESCRIPTION_EVENT, 126, 122, nil)))
	require.Equal(t, at("log.000003", fileHeader), r.resumeFrom())

	// A shared stream may be behind.
	require.NoError(t, r.handle(craftedRotation(0, "log.000002")))
	require.NoError(t, r.handle(craftedEvent(replication.FORMAT_DESCRIPTION_EVENT, 126, 122, nil)))
	require.NoError(t, r.handle(craftedRotation(240, "log.000003")))
	require.Equal(t, at("log.000003", fileHeader), r.resumeFrom())

	craftedTransaction(t, r, 2, 300)
	require.Equal(t, at("log.000003", 300), r.resumeFrom())
	require.NoError(t, r.handle(craftedEvent(replication.GTID_EVENT, 360, 60, craftedGTID(3))))
	require.NoError(t, r.handle(craftedRotation(400, "log.000004"))) // of a server that died in the transaction
	require.Equal(t, at("log.000003", 300), r.resumeFrom())
}

// What the target's watch reads of before its beginning, which is when XA transactions that were
// prepared had been decided, takes the place of a later process not back to before their decisions.
func TestWatchIsNotBehindItsBeginning(t *testing.T) {
	r := newRecordedStream(t, false)
	tracker := NewStateTracker(0)
	_, err := NewTargetVerifier(r.DB, tracker, r.BinlogStreamer)
	require.NoError(t, err)
	place := func() uint32 { return tracker.Serialize(nil, nil).LastStoredBinlogPositionForTargetVerifier.Pos }
	tracker.watchBegins(watchedPlace{at: BinlogCoordinate{File: "log.000001", Pos: 500}, server: "target"})
	craftedTransaction(t, r, 1, 300)
	require.EqualValues(t, 500, place())
	require.Empty(t, tracker.Serialize(nil, nil).LastWatchedTargetLogMark)
	craftedTransaction(t, r, 2, 700)
	require.EqualValues(t, 700, place())
}
