package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

var writtenTables = []string{
	"CREATE TABLE a (id BIGINT PRIMARY KEY, v VARCHAR(20))", "CREATE TABLE b (id BIGINT PRIMARY KEY, v VARCHAR(20))",
	"CREATE TABLE u (id BIGINT PRIMARY KEY, w INT NOT NULL, UNIQUE KEY (w))",
}

func (c *parts) targetHas(t *testing.T, table string, want ...string) {
	t.Helper()
	mustBe(t, "rows of "+table+" on the target", harness.Rows(t, c.TargetDB, "SELECT * FROM "+table+" ORDER BY 1"), want)
}

// rowsOf are values for batches and events, as a host has them.
func rowsOf(pairs ...any) (rows []ghostferry.RowData) {
	for i := 0; i < len(pairs); i += 2 {
		rows = append(rows, ghostferry.RowData{pairs[i], pairs[i+1]})
	}
	return rows
}

// Rows that are there are kept, the others are written; progress counts both; names are
// rewritten, also two names into each other.
func TestBatchWriterAlone(t *testing.T) {
	onEachMaking(t, writtenTables, func(t *testing.T, c *parts) {
		c.In(t, c.TargetDB, aloneSchema, "INSERT INTO a VALUES (2,'kept')", "INSERT INTO u VALUES (7,70)")
		tracker := ghostferry.NewStateTracker(10)
		_, w := c.tracked(tracker)
		defer func() { _ = w.Close() }()
		write := func(table string, rows []ghostferry.RowData) error {
			return w.WriteRowBatch(ghostferry.NewRowBatch(c.table(table), rows, 0))
		}
		if err := errors.Join(write("a", nil), write("a", rowsOf(int64(1), "x", int64(2), "y", int64(3), nil)), write("a", rowsOf(int64(9), []byte("z")))); err != nil {
			t.Fatal(err)
		}
		c.targetHas(t, "alone.a", `"1"|"x"|`, `"2"|"kept"|`, `"3"|NULL|`, `"9"|"z"|`)
		if key := tracker.LastSuccessfulPaginationKey("alone.a", c.table("a")); key.String() != "9" {
			t.Errorf("a is copied up to %s", key)
		}
		if stats := tracker.RowStatsWrittenPerTable()["alone.a"]; stats.NumRows != 4 || stats.NumBytes == 0 {
			t.Errorf("progress: %+v", stats)
		}

		// A row of somebody else holds the unique value.
		err := write("u", rowsOf(int64(1), int64(70)))
		var conflict *ghostferry.TargetConflictError
		if c.ferry == nil && !errors.As(err, &conflict) {
			t.Errorf("a row that was kept out: %v", err)
		}
		c.targetHas(t, "alone.u", `"7"|"70"|`)

		if err := write("a", rowsOf(int64(1), "a text that is longer than twenty characters")); err == nil {
			t.Error("a value that does not fit was written")
		}
		w = c.batchWriter()
		defer func() { _ = w.Close() }()
		w.TableRewrites = map[string]string{"a": "b", "b": "a"}
		if err := write("b", rowsOf(int64(20), "was of b")); err != nil {
			t.Fatal(err)
		}
		if err := write("a", rowsOf(int64(21), "was of a")); err != nil {
			t.Fatal(err)
		}
		c.targetHas(t, "alone.b", `"21"|"was of a"|`)
		c.targetHas(t, "alone.a WHERE id=20", `"20"|"was of b"|`)
	})
}

// hostsEvents are changes as a host makes them from what it has read.
func hostsEvents(t *testing.T, table *ghostferry.TableSchema, at mysql.Position, rows ...[]any) []ghostferry.DMLEvent {
	t.Helper()
	base := ghostferry.NewDMLEventBase(table, at, at, nil, time.Now())
	events, err := ghostferry.NewBinlogInsertEvents(base, &replication.RowsEvent{Table: &replication.TableMapEvent{Schema: []byte(table.Schema), Table: []byte(table.Name)}, Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// Changes made by a host are written when Stop is called at the latest, and their
// position is recorded. A write that fails is told to the handler, and to whoever brings
// further changes.
func TestBinlogWriterAlone(t *testing.T) {
	onEachMaking(t, writtenTables, func(t *testing.T, c *parts) {
		w := c.binlogWriter()
		w.StateTracker = ghostferry.NewStateTracker(0)
		w.Initialize()
		ran := inBackground(w.Run)
		last := mysql.Position{Name: "binlog.000007", Pos: 4321}
		for i := range int64(500) {
			at := last
			at.Pos -= uint32(499 - i)
			if err := w.BufferBinlogEvents(hostsEvents(t, c.table("a"), at, []any{i, fmt.Sprint(i)})); err != nil {
				t.Fatal(err)
			}
		}
		w.Stop()
		ends(t, "the writer", ran)
		c.failed.none(t)
		if n := harness.Count(t, c.TargetDB, "alone.a WHERE v=id"); n != 500 {
			t.Errorf("%d rows were written", n)
		}
		if got := w.StateTracker.Serialize(nil, nil).LastWrittenBinlogPosition; got != last {
			t.Errorf("the position is %s", got)
		}
		if err := w.BufferBinlogEvents(hostsEvents(t, c.table("a"), last, []any{int64(1), "x"})); err == nil {
			t.Error("a writer that has stopped takes changes")
		}

		w = c.binlogWriter()
		w.WriteRetries = 2
		ran = inBackground(w.Run)
		if err := w.BufferBinlogEvents(hostsEvents(t, c.table("a"), last, []any{int64(1), "a text that is longer than twenty characters"})); err != nil {
			t.Fatal(err)
		}
		ends(t, "the writer", ran)
		if err := c.failed.one(t, "binlog_writer"); !strings.Contains(err.Error(), "`alone`.`a`") {
			t.Error(err)
		}
		if err := w.BufferBinlogEvents(hostsEvents(t, c.table("a"), last, []any{int64(1), "x"})); err == nil {
			t.Error("a writer that has failed takes changes")
		}
	})
}

// A copy put together of components follows a source that is written all the time, goes
// on from its state in the middle, and ends equal.
func TestComponentsTogether(t *testing.T) {
	onEachMaking(t, writtenTables[:2], func(t *testing.T, c *parts) {
		c.onSource(t, "INSERT INTO a WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT i, 'seed' FROM n")
		churn := c.Churn(t, harness.ChurnOptions{Every: time.Millisecond},
			on2("UPDATE alone.a SET v=CONCAT('u',?) WHERE id=?", 1000, 900), on2("REPLACE INTO alone.b VALUES (?,'r')", 300),
			on2("DELETE FROM alone.a WHERE id=?", 1000), on2("UPDATE IGNORE alone.a SET id=? WHERE id=?", 1200, 900))
		state := c.together(t, ghostferry.NewStateTracker(10), mysql.Position{}, 5, nil)
		text, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		var again ghostferry.SerializableState
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if len(again.LastSuccessfulPaginationKeys) == 0 || again.LastWrittenBinlogPosition.Name == "" {
			t.Fatalf("the state is %s", text)
		}
		tracker := ghostferry.NewStateTrackerFromSerializedState(10, &again)
		c.together(t, tracker, again.MinSourceBinlogPosition(), 0, churn)
		v := c.verifier()
		defer func() { _ = v.Close() }()
		if err := v.VerifyBeforeCutover(); err != nil {
			t.Error(err)
		}
		result, err := v.VerifyDuringCutover()
		if err != nil || !result.DataCorrect {
			t.Errorf("%+v, error %v", result, err)
		}
		c.MustEqual(t, aloneSchema)
	})
}

// on2 is a change of one statement with random numbers below the limits.
func on2(query string, limits ...int) harness.Change {
	return func(_ context.Context, tx *harness.Tx) error {
		args := make([]any, len(limits))
		for i, n := range limits {
			args[i] = tx.Rand.IntN(n)
		}
		return tx.Exec(query, args...)
	}
}

// together copies and follows until everything is there, or a listener gives up after
// some batches. It returns the state then.
func (c *parts) together(t *testing.T, tracker *ghostferry.StateTracker, from mysql.Position, batches int, churn *harness.Churn) *ghostferry.SerializableState {
	t.Helper()
	s, w := c.streamer(t), c.binlogWriter()
	d, b := c.tracked(tracker)
	defer func() { _ = b.Close() }()
	w.StateTracker = tracker
	size := uint64(40)
	d.CursorConfig.BatchSize = &size
	s.AddEventListener(w.BufferBinlogEvents)
	d.AddBatchListener(b.WriteRowBatch)
	if batches > 0 {
		left := int64(batches)
		d.AddBatchListener(func(*ghostferry.RowBatch) error {
			if atomic.AddInt64(&left, -1) <= 0 {
				return errors.New("given up")
			}
			return nil
		})
	}
	var err error
	if from.Name == "" {
		from, err = s.ConnectBinlogStreamerToMysql()
	} else {
		_, err = s.ConnectBinlogStreamerToMysqlFrom(from)
	}
	if err != nil {
		t.Fatal(err)
	}
	tracker.UpdateLastResumableSourceBinlogPosition(from)
	streamed, written := inBackground(s.Run), inBackground(w.Run)
	d.Run(c.tables.AsSlice())
	if churn != nil {
		if err := churn.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	s.FlushAndStop()
	ends(t, "the stream", streamed)
	w.Stop()
	ends(t, "the writer", written)
	if batches > 0 {
		c.failed.allOf(t, "data_iterator", "given up")
	}
	c.failed.none(t)
	return tracker.Serialize(c.tables, nil)
}

// The verifier alone compares two servers that nobody writes, and names what differs.
func TestVerifierAlone(t *testing.T) {
	onEachMaking(t, writtenTables, func(t *testing.T, c *parts) {
		if _, err := c.verifier().VerifyDuringCutover(); !errors.As(err, &ghostferry.IncompleteVerificationError{}) {
			t.Errorf("two empty servers: %v", err)
		}
		c.onSource(t, "INSERT INTO a VALUES (1,'x'),(2,'y')", "INSERT INTO u VALUES (1,1)")
		c.In(t, c.TargetDB, aloneSchema, "INSERT INTO a VALUES (1,'x'),(2,'y')", "INSERT INTO u VALUES (1,1)")
		v := c.verifier()
		if err := v.StartInBackground(); err != nil {
			t.Fatal(err)
		}
		v.Wait()
		if result, err := v.Result(); err != nil || !result.DataCorrect || !result.IsDone() {
			t.Errorf("equal servers: %+v, error %v", result, err)
		}
		c.In(t, c.TargetDB, aloneSchema, "UPDATE a SET v='Y' WHERE id=2", "DELETE FROM u")
		result, err := c.verifier().VerifyDuringCutover()
		if err != nil || result.DataCorrect {
			t.Errorf("%+v, error %v", result, err)
		}
		mustBe(t, "incorrect tables", result.IncorrectTables, []string{"alone.a", "alone.u"})
	})
}

// targetVerifier watches the target's log from its present end: made by NewTargetVerifier on
// the Ferry's stream, or as a literal on a stream that is one.
func (c *parts) targetVerifier(t *testing.T, tracker *ghostferry.StateTracker) (s *ghostferry.BinlogStreamer, from mysql.Position) {
	t.Helper()
	var err error
	if c.ferry != nil {
		if s, err = c.ferry.NewTargetBinlogStreamer(); err != nil {
			t.Fatal(err)
		}
		if _, err = ghostferry.NewTargetVerifier(c.target, tracker, s); err != nil {
			t.Fatal(err)
		}
	} else {
		s = &ghostferry.BinlogStreamer{DB: c.target, DBConfig: c.config.Target, ErrorHandler: c.failed, TableSchema: c.literalTables(t)}
		v := &ghostferry.TargetVerifier{DB: c.target, BinlogStreamer: s, StateTracker: tracker}
		s.AddEventListener(v.BinlogEventListener)
	}
	if from, err = s.ConnectBinlogStreamerToMysql(); err != nil {
		t.Fatal(err)
	}
	return s, from
}

// The watch over the target alone: what its own pool writes passes, and so do tables that do not
// move; the first row that somebody else writes ends it, with its table and coordinate.
func TestTargetVerifierAlone(t *testing.T) {
	onEachMaking(t, writtenTables, func(t *testing.T, c *parts) {
		own := func(statements ...string) {
			t.Helper()
			for _, statement := range statements {
				if _, err := c.target.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
		}
		tracker := ghostferry.NewStateTracker(0)
		s, _ := c.targetVerifier(t, tracker)
		ran := inBackground(s.Run)
		own("INSERT INTO alone.a VALUES (1,'x'),(2,'y')", "UPDATE alone.a SET v='z' WHERE id=2", "DELETE FROM alone.a WHERE id=1")
		c.In(t, c.TargetDB, aloneSchema, "CREATE TABLE other (id INT PRIMARY KEY)", "INSERT INTO other VALUES (1)")
		s.FlushAndStop()
		ends(t, "the watch", ran)
		c.failed.none(t)
		watched := tracker.Serialize(nil, nil).LastStoredBinlogPositionForTargetVerifier
		if c.ferry != nil && watched != s.GetLastStreamedBinlogPosition() {
			t.Errorf("watched up to %s, streamed up to %s", watched, s.GetLastStreamedBinlogPosition())
		}

		s, from := c.targetVerifier(t, tracker)
		ran = inBackground(s.Run)
		own("UPDATE alone.a SET v='ours' WHERE id=2", "INSERT INTO alone.b VALUES (7,'ours')")
		c.In(t, c.TargetDB, aloneSchema, "/*application:shop*/ UPDATE b SET v='theirs' WHERE id=7")
		_, end := c.targetVerifier(t, tracker)
		ends(t, "the watch", ran)
		err := c.failed.one(t, "binlog_streamer")
		var foreign *ghostferry.ForeignWriteError
		if !errors.As(err, &foreign) {
			t.Fatal(err)
		}
		if foreign.Schema != aloneSchema || foreign.Table != "b" || foreign.Key != "7" || foreign.Change != "update" || foreign.Comment != "application:shop" {
			t.Errorf("%+v", foreign)
		}
		if at := foreign.Coordinate; at.Name != end.Name || at.Compare(from) <= 0 || at.Compare(end) > 0 {
			t.Errorf("it is at %s, between %s and %s", at, from, end)
		}
		for _, part := range []string{"`alone`.`b`", fmt.Sprintf("binlog file: %s and position: %d", foreign.Coordinate.Name, foreign.Coordinate.Pos)} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not name %s", err, part)
			}
		}
	})
}
