package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	sq "github.com/Masterminds/squirrel"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry"
)

var streamedTables = []string{
	"CREATE TABLE a (id BIGINT PRIMARY KEY, v VARCHAR(20))", "CREATE TABLE b (id BIGINT PRIMARY KEY, v VARCHAR(20))",
}

// told renders an event in a line.
func told(t *testing.T, ev ghostferry.DMLEvent) string {
	t.Helper()
	key, err := ev.PaginationKey()
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%s.%s %s: %v > %v", ev.Database(), ev.Table(), key, ev.OldValues(), ev.NewValues())
}

// A stream tells the changes since it was connected, in order, to its listeners in the
// order of their registration, and ends where the log ended when it was asked to.
func TestStreamerAlone(t *testing.T) {
	onEachMaking(t, streamedTables, func(t *testing.T, c *parts) {
		c.onSource(t, "INSERT INTO a VALUES (1,'before')")
		s := c.streamer(t)
		if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		if s.MyServerId == 0 {
			t.Error("it has no replica id")
		}
		var events []ghostferry.DMLEvent
		order := &listed{}
		s.AddEventListener(func(evs []ghostferry.DMLEvent) error {
			order.say("first")
			events = append(events, evs...)
			return nil
		})
		s.AddEventListener(func(evs []ghostferry.DMLEvent) error {
			order.say("second")
			return nil
		})
		ran := inBackground(s.Run)
		c.onSource(t, "INSERT INTO a VALUES (2,'x'),(3,NULL)", "BEGIN", "UPDATE a SET v='y' WHERE id=2", "INSERT INTO b VALUES (9,'z')", "COMMIT",
			"CREATE TABLE other (id INT PRIMARY KEY)", "INSERT INTO other VALUES (1)", "DELETE FROM a WHERE id=1")
		s.FlushAndStop()
		c.onSource(t, "INSERT INTO a VALUES (4,'after')")
		ends(t, "the stream", ran)
		c.failed.none(t)

		var got []string
		for _, ev := range events {
			got = append(got, told(t, ev))
		}
		want := []string{
			"alone.a 2: [] > [2 x]", "alone.a 3: [] > [3 <nil>]", "alone.a 2: [2 x] > [2 y]", "alone.b 9: [] > [9 z]", "alone.a 1: [1 before] > []",
		}
		mustBe(t, "events", got, want)
		mustBe(t, "listeners", order.all(), strings.Fields("first second first second first second first second"))
		if s.GetLastStreamedBinlogPosition().Compare(events[4].BinlogPosition()) < 0 {
			t.Errorf("the last position is %s, that of the last event %s", s.GetLastStreamedBinlogPosition(), events[4].BinlogPosition())
		}
		if !s.IsAlmostCaughtUp() {
			t.Error("it has not caught up")
		}
		c.streamsFrom(t, events[3].ResumableBinlogPosition(), want[2], want[3], want[4], "alone.a 4: [] > [4 after]")
	})
}

// streamsFrom follows the log from a place to its end.
func (c *parts) streamsFrom(t *testing.T, at mysql.Position, want ...string) {
	t.Helper()
	s := c.streamer(t)
	from, err := s.ConnectBinlogStreamerToMysqlFrom(at)
	if err != nil {
		t.Fatal(err)
	}
	if from != at || s.GetLastStreamedBinlogPosition() != at {
		t.Errorf("it is connected at %s and streamed %s instead of %s", from, s.GetLastStreamedBinlogPosition(), at)
	}
	got := &listed{}
	s.AddEventListener(func(evs []ghostferry.DMLEvent) error {
		for _, ev := range evs {
			got.say("%s", told(t, ev))
		}
		return nil
	})
	s.FlushAndStop() // before it runs
	ends(t, "the stream", inBackground(s.Run))
	c.failed.none(t)
	mustBe(t, "events from the position", got.all(), want)
}

// Nothing happens on the source, and the stream ends all the same; or it is stopped by a
// listener.
func TestStreamerStops(t *testing.T) {
	onEachMaking(t, streamedTables, func(t *testing.T, c *parts) {
		idle := c.streamer(t)
		if _, err := idle.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		ran := inBackground(idle.Run)
		idle.FlushAndStop()
		ends(t, "the idle stream", ran)

		s := c.streamer(t)
		if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		s.AddEventListener(func(evs []ghostferry.DMLEvent) error {
			if evs[0].NewValues()[0] == int64(2) {
				s.FlushAndStop()
			}
			return nil
		})
		ran = inBackground(s.Run)
		c.onSource(t, "INSERT INTO a VALUES (1,'')", "INSERT INTO a VALUES (2,'')")
		ends(t, "the stream stopped by its listener", ran)
		c.failed.none(t)

		ctx, cancel := context.WithCancelCause(t.Context())
		s = c.streamer(t)
		reason := errors.New("no longer wanted")
		s.AddEventListener(func([]ghostferry.DMLEvent) error {
			cancel(reason)
			return nil
		})
		result := make(chan error, 1)
		if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		go func() { result <- s.RunContext(ctx) }()
		c.onSource(t, "INSERT INTO a VALUES (3,'')")
		if err := <-result; !errors.Is(err, reason) {
			t.Errorf("a cancelled stream ended with %v", err)
		}
	})
}

// byOdd is a CopyFilter of the rows with odd keys.
type byOdd struct {
	err error
}

func (f byOdd) BuildSelect(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
	if f.err != nil {
		return sq.SelectBuilder{}, f.err
	}
	return ghostferry.DefaultBuildSelect(columns, table, last, size).Where("MOD(id,2)<>0"), nil
}

func (f byOdd) ApplicableEvent(ev ghostferry.DMLEvent) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	row := ev.NewValues()
	if row == nil {
		row = ev.OldValues()
	}
	id, ok := ghostferry.Int64Value(row[0])
	return ok && id%2 != 0, nil
}

// What a listener, the filter or a handler of the host fails with ends the stream, under
// its name; nobody behind a failed listener hears of the event.
func TestStreamerFails(t *testing.T) {
	onEachMaking(t, streamedTables, func(t *testing.T, c *parts) {
		broken := errors.New("broken")
		for name, breaks := range map[string]func(s *ghostferry.BinlogStreamer){
			"listener": func(s *ghostferry.BinlogStreamer) {
				s.AddEventListener(func([]ghostferry.DMLEvent) error { return broken })
			},
			"filter": func(s *ghostferry.BinlogStreamer) { s.Filter = byOdd{err: broken} },
			"handler": func(s *ghostferry.BinlogStreamer) {
				err := s.AddBinlogEventHandler(replication.TABLE_MAP_EVENT, func(*replication.BinlogEvent, []byte, *ghostferry.BinlogEventState) ([]byte, error) {
					return nil, broken
				})
				if err != nil {
					t.Error(err)
				}
			},
		} {
			s := c.streamer(t)
			breaks(s)
			s.AddEventListener(func([]ghostferry.DMLEvent) error {
				t.Errorf("%s: a listener behind was called", name)
				return nil
			})
			if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
				t.Fatal(err)
			}
			ran := inBackground(s.Run)
			c.onSource(t, "REPLACE INTO a VALUES (1,RAND())")
			ends(t, "the stream", ran)
			if err := c.failed.one(t, "binlog_streamer"); !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
			*c.failed = failures{}
		}
	})
}

// A stream filters rows, and gives tables the names that its own names stand for, names
// that are swapped among them. Changes of a table's namesakes are not the table's.
func TestStreamerFiltersAndRenames(t *testing.T) {
	onEachMaking(t, []string{
		"CREATE TABLE a (id BIGINT PRIMARY KEY, v VARCHAR(20))", "CREATE TABLE b (id BIGINT PRIMARY KEY, w INT)",
	}, func(t *testing.T, c *parts) {
		s := c.streamer(t)
		known := s.TableSchema
		c.onSource(t, "RENAME TABLE a TO c, b TO a, c TO b", "CREATE TABLE elsewhere LIKE a")
		s.Filter = byOdd{}
		s.TableRewrites = map[string]string{"a": "b", "b": "a"}
		got := &listed{}
		s.AddEventListener(func(evs []ghostferry.DMLEvent) error {
			for _, ev := range evs {
				got.say("%s", told(t, ev))
			}
			return nil
		})
		if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		ran := inBackground(s.Run)
		c.onSource(t, "INSERT INTO a VALUES (1,1),(2,2),(3,3)", "INSERT INTO b VALUES (1,'x'),(2,'y')", "INSERT INTO elsewhere VALUES (1,1)",
			"DELETE FROM a WHERE id IN (2,3)")
		s.FlushAndStop()
		ends(t, "the stream", ran)
		c.failed.none(t)
		mustBe(t, "events", got.all(), []string{"alone.b 1: [] > [1 1]", "alone.b 3: [] > [3 3]", "alone.a 1: [] > [1 x]", "alone.b 3: [3 3] > []"})

		// The table known as `a` has its rows in `away`: `a` itself is somebody else's, and
		// its definition may change.
		s = c.streamer(t)
		s.TableSchema, s.TableRewrites = known, map[string]string{"away": "b"}
		s.AddEventListener(func(evs []ghostferry.DMLEvent) error {
			t.Errorf("an event of a namesake: %s", told(t, evs[0]))
			return nil
		})
		if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		ran = inBackground(s.Run)
		c.onSource(t, "INSERT INTO b VALUES (5,'namesake')", "ALTER TABLE b ADD COLUMN more INT")
		s.FlushAndStop()
		ends(t, "the stream", ran)
		c.failed.none(t)

		s = c.streamer(t)
		s.TableSchema, s.TableRewrites = known, map[string]string{"a": "b", "b": "a"}
		if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		ran = inBackground(s.Run)
		c.onSource(t, "ALTER TABLE a ADD COLUMN more INT")
		ends(t, "the stream", ran)
		var refused *ghostferry.UnsupportedEventError
		if err := c.failed.one(t, "binlog_streamer"); !errors.As(err, &refused) || refused.Table != "alone.b" {
			t.Errorf("a changed definition of what is known as b ended the stream with %v", err)
		}
	})
}
