package ghostferry

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// The micro-benchmarks are of rows like sysbench's: an integer key, an integer, two texts.

var benchColumns = []codec.Column{
	{Name: "id", Kind: codec.Int}, {Name: "k", Kind: codec.Int}, {Name: "c", Kind: codec.Binary}, {Name: "pad", Kind: codec.Binary},
}

func benchRows(n int) *codec.Rows {
	rows := codec.NewRows(len(benchColumns), n, 200*n)
	text := []byte(fmt.Sprintf("%0120d", 7))
	for i := range n {
		rows.Add([]byte(strconv.Itoa(i + 1)))
		rows.Add([]byte(strconv.Itoa(i % 1000)))
		rows.Add(text)
		rows.Add(text[:60])
	}
	return rows
}

// benchRow measures f, which is about so many rows, and reports the time and the allocations
// of one. Memory that f keeps has grown to its size before.
func benchRow(b *testing.B, rows int, f func()) {
	b.Helper()
	f()
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		f()
	}
	runtime.ReadMemStats(&after)
	all := float64(b.N) * float64(rows)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/all, "ns/row")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/all, "allocs/row")
}

// BenchmarkCodecTuples renders 1,000 rows as the VALUES of a statement.
func BenchmarkCodecTuples(b *testing.B) {
	rows := benchRows(1000)
	all := []int{0, 1, 2, 3}
	var dst []byte
	benchRow(b, rows.Len(), func() {
		dst = dst[:0]
		for r := range rows.Len() {
			dst = rows.AppendTuple(dst, r, benchColumns, all)
		}
	})
	b.SetBytes(int64(len(dst)))
}

// BenchmarkCodecLines makes the lines of 1,000 rows for LOAD DATA, read as the driver reads them.
func BenchmarkCodecLines(b *testing.B) {
	rows := benchRows(1000)
	all := []int{0, 1, 2, 3}
	packet := make([]byte, 16<<10)
	var memory []byte
	size := 0
	benchRow(b, rows.Len(), func() {
		lines := codec.NewBulkReader(rows, 0, rows.Len(), all, memory)
		size = 0
		for {
			n, err := lines.Read(packet)
			size += n
			if err == io.EOF {
				break
			}
		}
		memory = lines.Memory()
	})
	b.SetBytes(int64(size))
}

// BenchmarkCodecDriverValues reads 1,000 rows from what the driver returns: numbers as they
// are, the rest as bytes.
func BenchmarkCodecDriverValues(b *testing.B) {
	rows := benchRows(1000)
	values := []any{int64(123456), int64(789), rows.Value(0, 2), rows.Value(0, 3)}
	size := 0
	benchRow(b, rows.Len(), func() {
		read := codec.NewRows(len(benchColumns), rows.Len(), 200*rows.Len())
		for range rows.Len() {
			for i, v := range values {
				if err := read.AddDriver(&benchColumns[i], v); err != nil {
					b.Fatal(err)
				}
			}
		}
		size = read.Bytes()
	})
	b.SetBytes(int64(size))
}

// benchUpdates is what the log has of updates of so many rows in one event: the body of the
// table map and that of the event. k changes, as sysbench's indexed updates do it.
func benchUpdates(rows int) (tableMap, event []byte) {
	const long, char, varying = 3, 254, 4 // INT, CHAR, bytes of metadata
	tableMap = slices.Concat([]byte{1, 0, 0, 0, 0, 0, 1, 0}, []byte("\x05bench\x00\x06sbtest\x00"),
		[]byte{4, long, long, char, char}, []byte{varying, 0xee, 480 & 0xff, 0xfe, 240}, []byte{0}) // 480 bytes at most: its ninth bit is in the type
	texts := benchRows(1)
	c, pad := texts.Value(0, 2), texts.Value(0, 3)
	event = []byte{1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0xff, 0xff}
	for id := range rows {
		for k := range 2 {
			event = binary.LittleEndian.AppendUint32(append(event, 0xf0), uint32(id))
			event = binary.LittleEndian.AppendUint32(event, uint32(id%1000+k))
			event = append(append(event, byte(len(c)), byte(len(c)>>8)), c...)
			event = append(append(event, byte(len(pad))), pad...)
		}
	}
	return tableMap, event
}

// BenchmarkCodecRowsEvent decodes updates of 1,000 rows: all in one event, and each in an
// event of its own, which is how most applications change rows.
func BenchmarkCodecRowsEvent(b *testing.B) {
	for _, at := range []int{1000, 1} {
		b.Run("rows="+strconv.Itoa(at), func(b *testing.B) {
			tableMap, event := benchUpdates(at)
			table, err := codec.ParseTableMap(tableMap)
			if err != nil {
				b.Fatal(err)
			}
			var arena codec.Arena
			benchRow(b, 1000, func() {
				for range 1000 / at {
					header, err := codec.ParseRowsHeader(event, true, true)
					if err != nil {
						b.Fatal(err)
					}
					rows := arena.NewRows(len(benchColumns), 2, len(header.Body)+len(header.Body)/2)
					if err := table.DecodeRows(header, benchColumns, rows); err != nil {
						b.Fatal(err)
					}
					if arena.Keep(rows); rows.Len() != 2*at {
						b.Fatalf("%d images are decoded", rows.Len())
					}
				}
			})
			b.SetBytes(int64(1000 / at * len(event)))
		})
	}
}

// BenchmarkChunking plans one million integer keys in chunks of 5,000 by four workers.
func BenchmarkChunking(b *testing.B) {
	l := &tableLayout{columns: benchColumns[:1], keys: []int{0}, integerKey: true, keyOrdered: true}
	b.ReportAllocs()
	for b.Loop() {
		p := &chunkPlanner{layout: l, rows: func() int { return 5000 }, bytes: func() int { return 1 << 20 }}
		p.mu.ranges = []stretch{{keyRange: keyRange{keyTuple{[]byte("0")}, keyTuple{[]byte("1000000")}}}}
		p.mu.density, p.mu.rowBytes, p.mu.target = 1, 200, 5000
		for worker := 1; ; worker = worker%4 + 1 {
			c, err := p.claim(context.Background(), worker)
			if err != nil {
				b.Fatal(err)
			}
			if c == nil {
				break
			}
			p.done(c, 5000, 1<<20, 0, 0)
		}
	}
}

// BenchmarkApplyCompaction compacts 10,000 updates of 5,000 rows, two each, to a batch.
func BenchmarkApplyCompaction(b *testing.B) {
	l := &tableLayout{columns: benchColumns, keys: []int{0}, keyBytes: true, keyOrdered: true, integerKey: true, all: []int{0, 1, 2, 3}}
	table := &TableSchema{}
	rows := benchRows(5000)
	writer := &tableWriter{table: table, layout: l}
	var events []*rowEvent
	for i := range 2 * rows.Len() {
		events = append(events, &rowEvent{table: table, layout: l, rows: rows, old: i % rows.Len(), new: i % rows.Len()})
	}
	benchRow(b, len(events), func() {
		t := &tableChanges{writer: writer, byKey: map[string]*rowChange{}}
		for _, ev := range events {
			t.add(ev)
		}
		t.sort()
		if len(t.ordered) != rows.Len() {
			b.Fatalf("%d changes are left", len(t.ordered))
		}
	})
}

// benchChanges are updates of 1,000 rows in the order of their keys, of which some columns
// have changed.
func benchChanges(columns ...int) []*rowChange {
	before := benchRows(1000)
	after := codec.NewRows(len(benchColumns), before.Len(), 200*before.Len())
	var changes []*rowChange
	for row := range before.Len() {
		for c := range benchColumns {
			v := slices.Clone(before.Value(row, c))
			if slices.Contains(columns, c) {
				v[len(v)-1] = '0' + (v[len(v)-1]-'0'+1)%10
			}
			after.Add(v)
		}
		changes = append(changes, &rowChange{key: string(before.AppendKey(nil, row, []int{0})), before: rowRef{before, row}, image: rowRef{after, row}})
	}
	return changes
}

// BenchmarkApplyStatements makes the statements of 1,000 changed rows: updates in place of
// one and of two columns with the choice of what is updated, upserts of whole rows, and
// the list of the keys of deleted ones.
func BenchmarkApplyStatements(b *testing.B) {
	w := benchWriter(b, "bench", "sbtest", true, 0)
	update := func(columns ...int) func(b *testing.B) {
		return func(b *testing.B) {
			b.Helper()
			t := &tableChanges{writer: w, ordered: benchChanges(columns...), inPlace: true}
			var stmt []byte
			benchRow(b, len(t.ordered), func() {
				whole, updates := t.splitUpdates(t.ordered)
				if len(whole) > 0 || len(updates) != 1 {
					b.Fatalf("%d rows are written whole, %d sets of columns", len(whole), len(updates))
				}
				for set, rows := range updates {
					var n int
					if stmt, n = w.appendUpdate(stmt[:0], set, rows); n != len(t.ordered) {
						b.Fatalf("%d rows are in the first statement", n)
					}
				}
			})
			b.SetBytes(int64(len(stmt)))
		}
	}
	b.Run("update-1", update(1))
	b.Run("update-2", update(1, 2))
	for _, kind := range []struct{ name, tail string }{{"upsert", w.overwrite}, {"insert", w.absent}} {
		b.Run(kind.name, func(b *testing.B) {
			rows := allRows(benchRows(1000))
			var stmt []byte
			benchRow(b, len(rows), func() {
				var n int
				if stmt, n = w.appendInsert(stmt[:0], rows, w.layout.writable, kind.tail); n != len(rows) {
					b.Fatalf("%d rows are in the first statement", n)
				}
			})
			b.SetBytes(int64(len(stmt)))
		})
	}
	b.Run("keys", func(b *testing.B) {
		changes := benchChanges()
		var stmt []byte
		benchRow(b, len(changes), func() {
			keys := keysOf(changes, false)
			stmt, _ = w.layout.appendKeyList(stmt[:0], len(keys), w.maxBytes(), func(i int) keyTuple { return keys[i] })
		})
		b.SetBytes(int64(len(stmt)))
	})
}

// benchWriter writes sysbench's rows to a table.
func benchWriter(b *testing.B, schemaName, table string, rowAlias bool, maxPacket uint64) *tableWriter {
	b.Helper()
	l := &tableLayout{keys: []int{0}, keyBytes: true, keyOrdered: true, integerKey: true, writable: []int{0, 1, 2, 3}, all: []int{0, 1, 2, 3}, columnNames: "`id`,`k`,`c`,`pad`"}
	l.columns = []codec.Column{{Name: "id", Kind: codec.Int}, {Name: "k", Kind: codec.Int}, {Name: "c", Kind: codec.Text, Charset: "utf8mb4"}, {Name: "pad", Kind: codec.Text, Charset: "utf8mb4"}}
	l.updatable = l.settable()
	written := &TableSchema{}
	written.cachedLayout.Store(l)
	w, err := newTableWriter(written, schemaName, table, rowAlias, maxPacket)
	if err != nil {
		b.Fatal(err)
	}
	return w
}
