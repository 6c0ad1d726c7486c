package ghostferry

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// changedTable is a table whose changes are written "key=value": "+1=a" is an insert, "-1=a"
// a delete, "1=a>2=b" an update. A key of several columns has its parts joined by colons.
type changedTable struct {
	table  *TableSchema
	layout *tableLayout
}

func newChangedTable(name string, keys ...codec.Column) *changedTable {
	l := &tableLayout{columns: append(keys, codec.Column{Name: "v", Kind: codec.Binary}), keyBytes: true, keyOrdered: true}
	for i := range keys {
		l.keys = append(l.keys, i)
		l.keyBytes = l.keyBytes && keys[i].EqualByBytes()
	}
	l.integerKey = len(keys) == 1 && keys[0].Kind == codec.Int
	return &changedTable{&TableSchema{Table: &schema.Table{Schema: "s", Name: name}}, l}
}

func (c *changedTable) event(text string) *rowEvent {
	ev := &rowEvent{table: c.table, layout: c.layout, rows: codec.NewRows(len(c.layout.columns), 2, 16), old: -1, new: -1}
	image := func(text string) int {
		key, value, _ := strings.Cut(text, "=")
		for _, part := range strings.Split(key, ":") {
			ev.rows.Add([]byte(part))
		}
		ev.rows.Add([]byte(value))
		return ev.rows.Len() - 1
	}
	if text[0] == '+' {
		ev.new = image(text[1:])
		return ev
	}
	if text[0] == '-' && !strings.Contains(text, ">") {
		ev.old = image(text[1:])
		return ev
	}
	before, after, _ := strings.Cut(text, ">")
	ev.old, ev.new = image(before), image(after)
	return ev
}

func (c *changedTable) events(text string) (events []*rowEvent) {
	for _, one := range strings.Fields(text) {
		events = append(events, c.event(one))
	}
	return events
}

// compact returns what is left of the events: "key:before>after", "." where there is no row.
func (c *changedTable) compact(events []*rowEvent) []string {
	t := &tableChanges{writer: &tableWriter{table: c.table, layout: c.layout}, byKey: map[string]*rowChange{}}
	for _, ev := range events {
		t.add(ev)
	}
	t.sort()
	return c.texts(t)
}

func (c *changedTable) texts(t *tableChanges) (left []string) {
	value := func(r rowRef) string {
		if r.rows == nil {
			return "."
		}
		return string(r.rows.Value(r.row, len(c.layout.keys)))
	}
	for _, change := range t.ordered {
		var parts []string
		for _, part := range decodeTuple([]byte(change.key)) {
			parts = append(parts, string(part))
		}
		left = append(left, strings.Join(parts, ":")+":"+value(change.before)+">"+value(change.image))
	}
	return left
}

// Of the changes of a key in a batch the last image is left, and the row that the key had
// before all of them.
func TestCompaction(t *testing.T) {
	c := newChangedTable("t", codec.Column{Name: "id", Kind: codec.Int})
	for events, want := range map[string]string{
		"+1=a":                            "1:.>a",
		"+1=a 1=a>1=b":                    "1:.>b",
		"+1=a 1=a>1=b -1=b":               "1:.>.",
		"+1=a -1=a +1=b":                  "1:.>b",
		"1=a>1=b":                         "1:a>b",
		"1=a>1=b 1=b>1=c":                 "1:a>c",
		"1=a>1=b 1=b>1=a":                 "1:a>a",
		"1=a>1=b -1=b":                    "1:a>.",
		"-1=a":                            "1:a>.",
		"-1=a +1=b":                       "1:a>b",
		"-1=a +1=b 1=b>1=c -1=c":          "1:a>.",
		"1=a>2=a":                         "1:a>. 2:.>a",
		"1=a>2=b 2=b>2=c":                 "1:a>. 2:.>c",
		"1=a>2=a 2=a>3=a":                 "1:a>. 2:.>. 3:.>a",
		"1=a>2=a 2=a>1=b":                 "1:a>b 2:.>.",
		"1=a>2=a -2=a":                    "1:a>. 2:.>.",
		"1=a>2=a +1=c":                    "1:a>c 2:.>a",
		"-2=b 1=a>2=a":                    "1:a>. 2:b>a",
		"+1=a 1=a>2=a":                    "1:.>. 2:.>a",
		"1=a>1=b 1=b>2=b":                 "1:a>. 2:.>b",
		"3=c>4=c 2=b>3=b 1=a>2=a":         "1:a>. 2:b>a 3:c>b 4:.>c",
		"1=a>9=a 2=b>1=b 9=a>2=a":         "1:a>b 2:b>a 9:.>.", // two rows swap their keys
		"1=a>9=a 2=b>1=b 9=a>2=a 2=a>2=c": "1:a>b 2:b>c 9:.>.",
		"+10=a +9=b +-2=c +-10=d +0=e":    "-10:.>d -2:.>c 0:.>e 9:.>b 10:.>a", // as the server orders them
	} {
		require.Equal(t, want, strings.Join(c.compact(c.events(events)), " "), events)
	}
}

// Parts of a key do not run into each other, and keys that only the server can compare are
// not compacted.
func TestCompactionOfOtherKeys(t *testing.T) {
	two := newChangedTable("two", codec.Column{Name: "a", Kind: codec.Int}, codec.Column{Name: "b", Kind: codec.Binary})
	require.Equal(t, []string{"1:23:.>a", "12:3:.>b"}, two.compact(two.events("+12:3=b +1:23=a")))
	require.Equal(t, []string{"1:x:a>.", "1:y:.>b"}, two.compact(two.events("1:x=a>1:y=a 1:y=a>1:y=b")))

	collated := newChangedTable("collated", codec.Column{Name: "a", Kind: codec.Text, Collation: "utf8mb4_general_ci"})
	changes := &tableChanges{writer: &tableWriter{table: collated.table, layout: collated.layout}, byKey: map[string]*rowChange{}}
	events := collated.events("+a=1 a=1>A=2 -A=2 +a=3")
	for _, ev := range events {
		changes.add(ev)
	}
	changes.sort()
	require.Empty(t, changes.ordered)
	require.Equal(t, events, changes.serial)
}

// Whatever happens to rows in a batch, what is left turns the rows before it into those after
// it, one change for each key that was touched.
func TestCompactionOfAnyHistory(t *testing.T) {
	c := newChangedTable("t", codec.Column{Name: "id", Kind: codec.Int})
	random := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		const keys = 6
		before := map[string]string{}
		for key := range keys {
			if random.IntN(2) == 0 {
				before[strconv.Itoa(key)] = "v" + strconv.Itoa(random.IntN(1000))
			}
		}
		now, touched := maps.Clone(before), map[string]bool{}
		var history []string
		for n := range random.IntN(12) {
			key, value := strconv.Itoa(random.IntN(keys)), "w"+strconv.Itoa(n)
			row, there := now[key]
			touched[key] = true
			other := strconv.Itoa(random.IntN(keys))
			_, taken := now[other]
			switch {
			case !there:
				history = append(history, "+"+key+"="+value)
				now[key] = value
			case random.IntN(4) == 0:
				history = append(history, "-"+key+"="+row)
				delete(now, key)
			case taken:
				history = append(history, key+"="+row+">"+key+"="+value)
				now[key] = value
			default:
				history = append(history, key+"="+row+">"+other+"="+value)
				delete(now, key)
				now[other], touched[other] = value, true
			}
		}
		var want []string
		for _, key := range slices.Sorted(maps.Keys(touched)) {
			x, y := ".", "."
			if v, there := before[key]; there {
				x = v
			}
			if v, there := now[key]; there {
				y = v
			}
			want = append(want, key+":"+x+">"+y)
		}
		require.Equal(t, want, c.compact(c.events(strings.Join(history, " "))), "%v", history)
	}
}

// A batch compacts each table for itself, across transactions, and ends where the last of
// them ended.
func TestBatchOfSeveralTables(t *testing.T) {
	a, b := newChangedTable("a", codec.Column{Name: "id", Kind: codec.Int}), newChangedTable("b", codec.Column{Name: "id", Kind: codec.Int})
	w := &BinlogWriter{writers: map[*TableSchema]*tableWriter{}}
	for _, c := range []*changedTable{a, b} {
		w.writers[c.table] = &tableWriter{table: c.table, layout: c.layout}
	}
	end := func(pos uint64) BinlogCoordinate { return BinlogCoordinate{File: "log.000001", Pos: pos} }
	batch, err := w.newBatch([]*queuedEvents{
		{events: append(a.events("+1=x 2=y>3=y"), b.events("+1=z")...), bytes: 3, end: end(100), gtids: []binlog.GTID{{Number: 1}}},
		{events: append(b.events("1=z>1=u"), a.events("-1=x")...), bytes: 2, end: end(200), gtids: []binlog.GTID{{Number: 2}}},
	})
	require.NoError(t, err)
	require.Len(t, batch.tables, 2)
	require.Equal(t, []string{"1:.>.", "2:y>.", "3:.>y"}, a.texts(batch.tables[0]))
	require.Equal(t, []string{"1:.>u"}, b.texts(batch.tables[1]))
	require.Equal(t, 5, batch.changes)
	require.Equal(t, 5, batch.bytes)
	require.Equal(t, uint64(200), batch.position.Pos)
	require.Equal(t, batch.position, batch.intent)

	for lanes := 1; lanes <= 5; lanes++ {
		var all []*rowChange
		for lane := range lanes {
			all = append(all, batch.tables[0].share(lane, lanes)...)
		}
		require.Equal(t, batch.tables[0].ordered, all, "%d lanes write each change once", lanes)
	}
}
