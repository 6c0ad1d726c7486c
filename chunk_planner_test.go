package ghostferry

import (
	"context"
	"math/rand/v2"
	"sort"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

func integerPlanner(t *testing.T, rows int, ranges ...keyRange) *chunkPlanner {
	t.Helper()
	l := &tableLayout{columns: []codec.Column{{Name: "id", Kind: codec.Int}}, keys: []int{0}, integerKey: true}
	p := &chunkPlanner{layout: l, rows: func() int { return rows }, bytes: func() int { return 1 << 20 }, largeBytes: 1 << 20}
	for _, r := range ranges {
		p.mu.ranges = append(p.mu.ranges, stretch{keyRange: r})
	}
	p.mu.density, p.mu.rowBytes, p.mu.target = 1, 100, float64(rows)
	return p
}

func keyAt(i int) keyTuple { return keyTuple{[]byte(strconv.Itoa(i))} }

func keyNumber(t *testing.T, k keyTuple) int {
	t.Helper()
	n, err := strconv.Atoi(string(k[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whatever the order in which workers claim, cut and finish chunks: together the chunks
// are the whole range, and no two overlap.
func TestChunksOfSeveralWorkersCoverTheRangeOnce(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		low, high := random.IntN(1000)-500, 1000+random.IntN(200000)
		p := integerPlanner(t, 1+random.IntN(300), keyRange{keyAt(low), keyAt(high)})
		workers := 1 + random.IntN(6)
		var copied []*chunk
		for {
			c, err := p.claim(context.Background(), random.IntN(workers+1))
			if err != nil {
				t.Fatal(err)
			}
			if c == nil {
				break
			}
			from, to := keyNumber(t, c.low), keyNumber(t, c.high)
			if random.IntN(10) == 0 && to-from > 1 {
				cut := keyAt(from + 1 + random.IntN(to-from-1))
				p.giveBack(keyRange{cut, c.high}, c.worker, random.IntN(2)*random.IntN(3*largeRow))
				c.high = cut
			}
			p.done(c, random.IntN(to-from+1), 100, random.IntN(2)*random.IntN(3*largeRow), 0)
			copied = append(copied, c)
		}
		sort.Slice(copied, func(i, j int) bool { return keyNumber(t, copied[i].low) < keyNumber(t, copied[j].low) })
		at := low
		for _, c := range copied {
			if keyNumber(t, c.low) != at {
				t.Fatalf("seed %d: a chunk begins at %s, the one before ended at %d", seed, c.low[0], at)
			}
			at = keyNumber(t, c.high)
		}
		if at != high {
			t.Fatalf("seed %d: the chunks end at %d, the range at %d", seed, at, high)
		}
	}
}

// Each worker goes on where its own last chunk ended, until little is left.
func TestWorkersHaveStretchesOfTheirOwn(t *testing.T) {
	const workers, rows = 4, 100
	p := integerPlanner(t, rows, keyRange{keyAt(0), keyAt(100000)})
	ends := map[int]keyTuple{}
	jumps := 0
	for i := 0; ; i++ {
		worker := i%workers + 1
		c, err := p.claim(context.Background(), worker)
		if err != nil {
			t.Fatal(err)
		}
		if c == nil {
			break
		}
		if ends[worker].encode() != c.low.encode() {
			jumps++
		}
		ends[worker] = c.high
		p.done(c, rows, rows*100, 0, 0)
	}
	if jumps > workers*10 {
		t.Errorf("the workers jumped %d times in %d chunks", jumps, 100000/rows)
	}
}

// A worker that comes alone, as after a resume, first finishes the ranges that nobody has.
func TestGapsOfAResumedRunAreSharedOut(t *testing.T) {
	p := integerPlanner(t, 100, keyRange{keyAt(0), keyAt(150)}, keyRange{keyAt(5000), keyAt(5100)})
	var got []string
	for _, worker := range []int{1, 2, 1} {
		c, err := p.claim(context.Background(), worker)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(c.low[0])+"-"+string(c.high[0]))
	}
	want := []string{"0-100", "5000-5100", "100-150"}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("claimed %v, want %v", got, want)
		}
	}
}

// Chunks that took too long stay small while rows are slow, and become larger again when they
// are not.
func TestChunksOfSlowRowsStaySmall(t *testing.T) {
	const wanted, slow = 5000, 1250 // slow: rows a second
	p := integerPlanner(t, wanted, keyRange{keyAt(0), keyAt(10_000_000)})
	p.bytes = func() int { return 100 * wanted }
	chunkOf := func(rate int) int {
		c, err := p.claim(context.Background(), 1)
		if err != nil {
			t.Fatal(err)
		}
		rows := keyNumber(t, c.high) - keyNumber(t, c.low)
		p.done(c, rows, rows*100, 0, time.Duration(rows)*time.Second/time.Duration(rate))
		return rows
	}
	if rows := chunkOf(slow); rows != wanted {
		t.Fatalf("the first chunk has %d rows", rows)
	}
	for range 20 {
		if rows := chunkOf(slow); rows > slow*11/10 || rows < slow/2 {
			t.Fatalf("a chunk has %d rows, of which %d take a second", rows, slow)
		}
	}
	last := 0
	for range 4 {
		last = chunkOf(100 * wanted)
	}
	if last != wanted {
		t.Errorf("after four quick chunks one has %d rows", last)
	}
	if p.done(&chunk{table: p.table, keyRange: keyRange{keyAt(0), keyAt(9)}, held: true}, wanted, 100*wanted, 0, chunkTime); p.mu.target != wanted/2 {
		t.Fatalf("%v rows after a chunk for which changes waited %s, want %d", p.mu.target, chunkTime, wanted/2)
	}
	for range 20 { // whatever a chunk has takes so long
		p.done(&chunk{table: p.table, keyRange: keyRange{keyAt(0), keyAt(9)}, held: true}, 10, 1000, 0, heldChunkTime+1)
	}
	if p.mu.target != wanted/leastHeldChunk {
		t.Errorf("%v rows a chunk where every one takes long and changes wait for it, want %d", p.mu.target, wanted/leastHeldChunk)
	}
	p.mu.target = wanted / 20
	if p.done(&chunk{table: p.table, keyRange: keyRange{keyAt(0), keyAt(9)}, held: true}, wanted/20, 100*wanted/20, 0, 300*time.Millisecond); p.mu.target > wanted/20 {
		t.Errorf("%v rows after a chunk of %d that was late", p.mu.target, wanted/20)
	}
	p.mu.target = wanted
	if p.done(&chunk{table: p.table, keyRange: keyRange{keyAt(0), keyAt(9)}}, 10, 1000, 0, time.Hour); p.mu.target != wanted/leastChunk {
		t.Errorf("after a chunk of an hour the next has %v rows", p.mu.target)
	}
}

// Chunks are larger than by default only when smaller ones were quick, of whichever table.
func TestLargeChunksHaveToBeQuick(t *testing.T) {
	const rowBytes, full = 100, 4 << 20 / 100
	var quick atomic.Int64
	begin := func() *chunkPlanner {
		p := integerPlanner(t, 0, keyRange{keyAt(0), keyAt(10_000_000)})
		p.bytes, p.quick = func() int { return full * rowBytes }, &quick
		p.begin()
		return p
	}
	done := func(p *chunkPlanner, took time.Duration) {
		c, err := p.claim(context.Background(), 1)
		if err != nil {
			t.Fatal(err)
		}
		rows := keyNumber(t, c.high) - keyNumber(t, c.low)
		p.done(c, rows, rows*rowBytes, 0, took)
	}
	p := begin()
	for _, want := range []int{defaultDataIterationChunkBytes / rowBytes, 2 * defaultDataIterationChunkBytes / rowBytes, min(full, maxChunkRows)} {
		if got := int(p.mu.target); got != min(want, maxChunkRows) {
			t.Fatalf("a chunk has %d rows, want %d", got, want)
		}
		done(p, time.Millisecond)
	}
	if got := int(begin().mu.target); got != maxChunkRows {
		t.Errorf("the first chunk of the next table has %d rows, want %d", got, maxChunkRows)
	}
	sized := begin()
	sized.rows = func() int { return maxChunkRows }
	if sized.begin(); sized.mu.target != maxChunkRows {
		t.Errorf("a chunk that the host has sized has %v rows", sized.mu.target)
	}
	for range 4 {
		done(p, 10*chunkTime)
	}
	if got := int(begin().mu.target); got != defaultDataIterationChunkBytes/rowBytes {
		t.Errorf("after slow chunks the first of the next table has %d rows", got)
	}
}

// Where a large row was met, chunks are of one row and within the budget, until one has no
// large row.
func TestChunksOfLargeRowsAreSmall(t *testing.T) {
	p := integerPlanner(t, 100, keyRange{keyAt(0), keyAt(100000)})
	claim := func() *chunk {
		c, err := p.claim(context.Background(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	usual := claim()
	if usual.large != 0 || usual.limit != 200 {
		t.Fatalf("a chunk of %d rows with a row of %d bytes is expected", usual.limit, usual.large)
	}
	p.giveBack(keyRange{keyAt(10), usual.high}, 1, 5<<20)
	p.done(usual, 10, 1000, 0, 0)
	for range 3 {
		c := claim()
		if c.large != 5<<20 || c.limit != 1 {
			t.Fatalf("behind a large row: a chunk of %d rows with a row of %d bytes is expected", c.limit, c.large)
		}
		p.giveBack(keyRange{keyAt(keyNumber(t, c.low) + 1), c.high}, 1, 5<<20)
		p.done(c, 1, 5<<20, 5<<20, 0)
	}
	p.done(claim(), 0, 0, 0, 0)
	if c := claim(); c.large != 5<<20 {
		t.Fatalf("behind a gap: a row of %d bytes is expected", c.large)
	} else {
		p.done(c, 1, 100, 0, 0)
	}
	p.mu.rowBytes = 100
	if c := claim(); c.large != 0 || c.limit == 1 {
		t.Fatalf("behind a small row: a chunk of %d rows with a row of %d bytes is expected", c.limit, c.large)
	}
}
