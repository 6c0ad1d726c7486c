package ghostferry

import (
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// The statements of events are upstream's, in texts that the server takes.
func TestSQLOfEvents(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "events_sql")
		mustExec(t, db, `CREATE TABLE events_sql.t (id BIGINT UNSIGNED PRIMARY KEY, i INT, f FLOAT, d DECIMAL(20,5), s VARCHAR(30),
			b BINARY(4), v VARBINARY(8), x BLOB, j JSON, e ENUM('one','two'), st SET('a','b','c'), bits BIT(9), y YEAR, at DATETIME(3))`)
		tables, err := LoadTables(db, &namedTables{schemas: []string{"events_sql"}}, nil, nil, nil, nil)
		require.NoError(t, err)
		table := tables.Get("events_sql", "t")
		row := []any{
			uint64(1<<63 + 1), int32(-7), float32(1.1), decimal.RequireFromString("12345.60000"), "it's\\", "ab", "ab", []byte{0, '\'', 0xff},
			[]byte(`{"k": [1, null]}`), int64(2), int64(5), int64(257), 2001, "2024-02-03 04:05:06.789",
		}
		nulls := []any{uint64(2), nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
		base := NewDMLEventBase(table, mysql.Position{Name: "b.1", Pos: 8}, mysql.Position{Name: "b.1", Pos: 4}, []byte("/*app*/ INSERT"), time.Unix(7, 0))
		rows := func(rows ...[]any) *replication.RowsEvent { return &replication.RowsEvent{Rows: rows} }
		inserts, err := NewBinlogInsertEvents(base, rows(row, nulls))
		require.NoError(t, err)
		updates, err := NewBinlogUpdateEvents(base, rows(nulls, row, row, nulls))
		require.NoError(t, err)
		deletes, err := NewBinlogDeleteEvents(base, rows(row))
		require.NoError(t, err)
		require.Len(t, updates, 2)

		text := func(event DMLEvent) string {
			t.Helper()
			statement, err := event.AsSQLString("events_sql", "t")
			require.NoError(t, err)
			return statement
		}
		require.Regexp(t, "^INSERT IGNORE INTO `events_sql`.`t` \\(`id`,`i`,.*`at`\\) VALUES \\(9223372036854775809,-7,", text(inserts[0]))
		require.Contains(t, text(inserts[1]), "(2,NULL,NULL,")
		require.Contains(t, text(updates[0]), "UPDATE `events_sql`.`t` SET `id`=9223372036854775809,`i`=-7,")
		require.Contains(t, text(updates[0]), " WHERE `id`=2 AND `i` IS NULL AND ")
		require.Contains(t, text(deletes[0]), "DELETE FROM `events_sql`.`t` WHERE `id`=9223372036854775809 AND `i`=-7 AND ")

		values := func(id string) (out [13]*string) {
			t.Helper()
			require.NoError(t, db.QueryRow(`SELECT i, f+0e0, d, s, HEX(b), HEX(v), HEX(x), JSON_EXTRACT(j,'$.k[0]'), e, st, bits+0, y, at
				FROM events_sql.t WHERE id = `+id).Scan(&out[0], &out[1], &out[2], &out[3], &out[4], &out[5], &out[6], &out[7], &out[8], &out[9], &out[10], &out[11], &out[12]))
			return out
		}
		mustExec(t, db, text(inserts[0]), text(inserts[1]), text(inserts[0])) // the last one is ignored
		var written []string
		for _, value := range values("9223372036854775809") {
			require.NotNil(t, value)
			written = append(written, *value)
		}
		written[1] = "" // a FLOAT in double precision
		require.Equal(t, []string{
			"-7", "", "12345.60000", `it's\`, "61620000", "6162", "0027FF", "1", "two", "a,c", "257", "2001", "2024-02-03 04:05:06.789",
		}, written)
		require.Equal(t, [13]*string{}, values("2"))

		for _, event := range []DMLEvent{inserts[0], updates[0], deletes[0]} {
			require.Equal(t, mysql.Position{Name: "b.1", Pos: 8}, event.BinlogPosition())
			require.Equal(t, mysql.Position{Name: "b.1", Pos: 4}, event.ResumableBinlogPosition())
			require.Equal(t, time.Unix(7, 0), event.Timestamp())
			annotation, err := event.Annotation()
			require.NoError(t, err)
			require.Equal(t, "app", annotation)
			key, err := event.PaginationKey()
			require.NoError(t, err)
			require.Equal(t, "9223372036854775809", key)
		}
		_, err = NewBinlogInsertEvents(base, rows([]any{uint64(1), int32(1)}))
		require.EqualError(t, err, "table events_sql.t has 14 columns but event has 2 columns instead")
		_, err = NewBinlogInsertEvents(base, rows(append([]any{uint64(1), struct{}{}}, nulls[2:]...)))
		require.Error(t, err, "a value of no known type")
		_, err = NewBinlogDMLEvents(table, &replication.BinlogEvent{Header: &replication.EventHeader{EventType: replication.XID_EVENT}, Event: &replication.XIDEvent{}}, mysql.Position{}, mysql.Position{}, nil)
		require.EqualError(t, err, "unrecognized rows event: XIDEvent")
	})
}
