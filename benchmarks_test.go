package ghostferry

import (
	"context"
	"fmt"
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

// BenchmarkCodecTuples renders 1,000 rows as the VALUES of a statement.
func BenchmarkCodecTuples(b *testing.B) {
	rows := benchRows(1000)
	all := []int{0, 1, 2, 3}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = dst[:0]
		for r := range rows.Len() {
			dst = rows.AppendTuple(dst, r, benchColumns, all)
		}
	}
	b.SetBytes(int64(len(dst)))
}

// BenchmarkChunking plans one million integer keys in chunks of 5,000 by four workers.
func BenchmarkChunking(b *testing.B) {
	l := &tableLayout{columns: benchColumns[:1], keys: []int{0}, integerKey: true, keyOrdered: true}
	b.ReportAllocs()
	for b.Loop() {
		p := &chunkPlanner{layout: l, rows: func() int { return 5000 }, bytes: 1 << 20}
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
	b.ReportAllocs()
	for b.Loop() {
		t := &tableChanges{writer: writer, byKey: map[string]*rowChange{}}
		for _, ev := range events {
			t.add(ev)
		}
		t.sort()
		if len(t.ordered) != rows.Len() {
			b.Fatalf("%d changes are left", len(t.ordered))
		}
	}
}
