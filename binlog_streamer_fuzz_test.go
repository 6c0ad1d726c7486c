package ghostferry

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// recordedTable is the table fuzz.t of the logs in testdata/binlog.
func recordedTable(mariaDB bool) *TableSchema {
	t := &schema.Table{Schema: "fuzz", Name: "t", PKColumns: []int{0}}
	document := "json"
	if mariaDB {
		document = "longtext"
	}
	for _, c := range []struct {
		name, raw string
		typ       int
	}{
		{"id", "int", schema.TYPE_NUMBER}, {"v", "varchar(20)", schema.TYPE_STRING}, {"j", document, schema.TYPE_JSON}, {"d", "decimal(10,3)", schema.TYPE_DECIMAL},
		{"ts", "timestamp(3)", schema.TYPE_TIMESTAMP}, {"b", "bit(5)", schema.TYPE_BIT}, {"e", "enum('a','b')", schema.TYPE_ENUM}, {"x", "blob", schema.TYPE_BINARY},
	} {
		t.Columns = append(t.Columns, schema.TableColumn{Name: c.name, RawType: c.raw, Type: c.typ})
	}
	return &TableSchema{Table: t, PaginationKeyColumn: &t.Columns[0]}
}

// unreachable is a server that nobody can connect to.
type unreachable struct{}

var errUnreachable = errors.New("there is no server")

func (unreachable) Connect(context.Context) (driver.Conn, error) { return nil, errUnreachable }
func (unreachable) Driver() driver.Driver                        { return nil }

// recordedStream is a stream of events from memory; events counts the rows delivered.
type recordedStream struct {
	*BinlogStreamer
	ends   []BinlogCoordinate
	events []DMLEvent
}

func newRecordedStream(tb testing.TB, mariaDB bool) *recordedStream {
	tb.Helper()
	quiet := logrus.New()
	quiet.SetLevel(logrus.PanicLevel)
	db := sql.OpenDB(unreachable{}, "")
	tb.Cleanup(func() { _ = db.Close() })
	table := recordedTable(mariaDB)
	r := &recordedStream{BinlogStreamer: &BinlogStreamer{
		DB: db, DBConfig: &DatabaseConfig{}, TableSchema: TableSchemaCache{table.String(): table}, logger: quiet,
		srv: &server.Server{GTIDMode: true, Flavour: server.MySQL}, ctx: tb.Context(), start: BinlogCoordinate{File: "log.000001", Pos: 4}, file: "log.000001", pos: 4,
		reach: statementReach{asked: true, complete: true}, // there are no views, triggers and routines
	}}
	if mariaDB {
		r.srv.Flavour = server.MariaDB
	}
	r.initialize()
	r.onEnd = append(r.onEnd, func(e transactionEnd) { r.ends = append(r.ends, e.at) })
	r.AddEventListener(func(events []DMLEvent) error {
		r.events = append(r.events, events...)
		return nil
	})
	return r
}

// event is an event of a log: its header, a body without checksum.
func recordedEvent(raw []byte) *replication.BinlogEvent {
	h := &replication.EventHeader{
		Timestamp: binary.LittleEndian.Uint32(raw), EventType: replication.EventType(raw[4]), ServerID: binary.LittleEndian.Uint32(raw[5:]),
		EventSize: binary.LittleEndian.Uint32(raw[9:]), LogPos: binary.LittleEndian.Uint32(raw[13:]), Flags: binary.LittleEndian.Uint16(raw[17:]),
	}
	return &replication.BinlogEvent{RawData: raw, Header: h, Event: &replication.GenericEvent{Data: raw[replication.EventHeaderSize:]}}
}

// eachRecorded calls f with the events of a log, until it returns an error. Each has a
// checksum of four bytes at its end.
func eachRecorded(log []byte, f func(*replication.BinlogEvent) error) error {
	const checksum = 4
	for len(log) >= replication.EventHeaderSize+checksum {
		size := int64(binary.LittleEndian.Uint32(log[9:]))
		if size < replication.EventHeaderSize+checksum || size > int64(len(log)) {
			return nil
		}
		if err := f(recordedEvent(log[:size-checksum])); err != nil {
			return err
		}
		log = log[size:]
	}
	return nil
}

func recordedLog(tb testing.TB, name string) []byte {
	tb.Helper()
	log, err := os.ReadFile("testdata/binlog/" + name + ".bin")
	require.NoError(tb, err)
	return log
}

// A real log is read up to the event that cannot be applied: a statement would lose what
// a partial image (MariaDB: a minimal one) does not say.
func TestRecordedLogs(t *testing.T) {
	for _, name := range []string{"mysql", "mariadb"} {
		t.Run(name, func(t *testing.T) {
			r := newRecordedStream(t, name == "mariadb")
			failed := eachRecorded(recordedLog(t, name), r.handle)
			var refused *UnsupportedEventError
			require.ErrorAs(t, failed, &refused)
			require.Equal(t, "fuzz.t", refused.Table)
			var got []string
			for _, ev := range r.events {
				got = append(got, strings.ReplaceAll(imagesOf(t, ev), strings.Repeat("x", 3000), "x 3000 times"))
			}
			golden, err := os.ReadFile("testdata/binlog/" + name + ".txt")
			require.NoError(t, err)
			require.Equal(t, strings.TrimSpace(string(golden)), strings.Join(got, "\n"))
		})
	}
}

// imagesOf are the canonical values of an event's images.
func imagesOf(t *testing.T, ev DMLEvent) string {
	t.Helper()
	r, err := rowEventOf(ev)
	require.NoError(t, err)
	text := strings.TrimPrefix(fmt.Sprintf("%T", ev), "*ghostferry.Binlog")
	for _, image := range []int{r.old, r.new} {
		if image < 0 {
			continue
		}
		text += " ("
		for i := range r.layout.columns {
			value := "NULL"
			if v := r.rows.Value(image, i); v != nil {
				value = string(v)
			}
			text += " " + value
		}
		text += " )"
	}
	return text
}

// Whatever a log holds, it is handled or refused; the place to begin again never moves
// past what was refused.
func FuzzStreamedEvents(f *testing.F) {
	f.Add(recordedLog(f, "mysql"), false)
	f.Add(recordedLog(f, "mariadb"), true)
	f.Fuzz(func(t *testing.T, log []byte, mariaDB bool) {
		r := newRecordedStream(t, mariaDB)
		var failedAt BinlogCoordinate
		err := eachRecorded(log, func(ev *replication.BinlogEvent) error {
			before, ends := r.resumeFrom(), len(r.ends)
			err := r.handle(ev)
			if err != nil {
				failedAt = before
				require.Len(t, r.ends, ends, "an event that was refused ended a transaction")
			}
			return err
		})
		if err != nil {
			require.Equal(t, failedAt, r.resumeFrom())
		}
		for _, ev := range r.events {
			ev.NewValues()
			ev.OldValues()
			_, _ = ev.PaginationKey()
			_, err := ev.AsSQLString("fuzz", "t")
			require.NoError(t, err)
		}
	})
}
