package ghostferry

import (
	"context"
	"sort"
	"sync"
	"time"
)

// maxLocatedKeys is how many differing keys of a table one walk looks for. What lies
// beyond them waits as a key range for the next walk, which need not come when some of
// these turn out to differ for good.
const maxLocatedKeys = 2000

// tableWalk cuts the ranges of one table into chunks, for several workers.
type tableWalk struct {
	// immutable
	f      *fingerprint
	reader *sourceReader
	first  bool   // the rows are compared for the first time
	enough int    // differing keys to look for
	ended  func() // called once, when every chunk is compared; must not block

	mu struct {
		sync.Mutex
		ranges   []keyRange // not yet given to the planner
		planner  *chunkPlanner
		tails    []keyRange                // chunks beyond the source's highest key
		claimed  bool                      // every chunk was given out
		inFlight map[*walkedChunk]struct{} // chunks being compared
		over     bool                      // ended was called
		located  int                       // differing keys found
	}
}

// walkedChunk is a range that one worker compares. planned is the planner's chunk, nil
// for a tail.
type walkedChunk struct {
	keyRange
	planned *chunk
}

// newWalks makes the walks of the ranges of the work, the largest tables first, so that
// no worker is left alone with one at the end.
func (c *comparer) newWalks(work verifyWork) []*tableWalk {
	var walks []*tableWalk
	add := func(f *fingerprint, ranges []keyRange, first bool) {
		if len(ranges) == 0 {
			return
		}
		walk := &tableWalk{f: f, reader: c.servers.planning, first: first, enough: c.locatedKeys, ended: func() {}}
		if first {
			walk.ended = func() { c.counters.tablesDone.Add(1) }
		}
		walk.mu.ranges, walk.mu.inFlight = ranges, map[*walkedChunk]struct{}{}
		walks = append(walks, walk)
	}
	for f, w := range work {
		add(f, w.first, true)
		add(f, w.ranges, false)
		w.first, w.ranges = nil, nil // the walks know what is left of them
	}
	sort.SliceStable(walks, func(i, j int) bool { return walks[i].f.table.dataLength > walks[j].f.table.dataLength })
	return walks
}

// walk compares the chunks of all walks; differing keys are added to the queue.
func (c *comparer) walk(ctx context.Context, walks []*tableWalk, still bool) (took time.Duration, err error) {
	if len(walks) == 0 {
		return 0, nil
	}
	return c.parallel(ctx, still, func(ctx context.Context, worker *passWorker) error {
		for _, w := range walks {
			if err := c.walkTable(ctx, w, worker); err != nil {
				return err
			}
		}
		return nil
	})
}

// left returns the ranges that are not compared yet, those being compared included.
func (w *tableWalk) left() []keyRange {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := append([]keyRange(nil), w.mu.ranges...)
	left = append(left, w.mu.tails...)
	for c := range w.mu.inFlight {
		left = append(left, c.keyRange)
	}
	if w.mu.planner != nil {
		left = append(left, w.mu.planner.left()...)
	}
	return left
}

// walkTable compares chunks of one table until none is left to claim.
func (c *comparer) walkTable(ctx context.Context, w *tableWalk, worker *passWorker) error {
	if c.filterOf(w.f) != nil {
		return c.walkFiltered(ctx, w, worker)
	}
	for {
		if c.repairer != nil && w.foundKeys(0) {
			return nil // they are repaired first, and what is left is not compared twice
		}
		if err := worker.throttle(ctx); err != nil {
			return err
		}
		chunk, err := w.claim(ctx)
		if err != nil || chunk == nil {
			return err
		}
		started := time.Now()
		rows, err := c.compareChunk(ctx, w, chunk.keyRange)
		if err != nil {
			return err
		}
		took := time.Since(started)
		c.tookTime(w.f, took)
		w.done(chunk, rows, took)
	}
}

func (c *comparer) tookTime(f *fingerprint, took time.Duration) {
	c.stats.Lock()
	defer c.stats.Unlock()
	c.stats.tables[f].took += took
}

// claim returns the next chunk, nil when all are claimed.
func (w *tableWalk) claim(ctx context.Context) (*walkedChunk, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.ranges) > 0 {
		if err := w.planLocked(ctx); err != nil {
			return nil, err
		}
	}
	if w.mu.planner != nil {
		c, err := w.mu.planner.claim(ctx, 0)
		if err != nil {
			return nil, err
		}
		if c != nil {
			return w.claimedLocked(&walkedChunk{keyRange: c.keyRange, planned: c}), nil
		}
	}
	if len(w.mu.tails) > 0 {
		c := &walkedChunk{keyRange: w.mu.tails[0]}
		w.mu.tails = w.mu.tails[1:]
		return w.claimedLocked(c), nil
	}
	w.mu.claimed = true
	w.endLocked()
	return nil, nil
}

func (w *tableWalk) claimedLocked(c *walkedChunk) *walkedChunk {
	w.mu.inFlight[c] = struct{}{}
	return c
}

// planLocked bounds the ranges by the source's highest key, for the planner. The target
// may have rows beyond it, or in a table that is empty on the source: they are the
// tails.
func (w *tableWalk) planLocked(ctx context.Context) error {
	var bounded []keyRange
	for _, r := range w.mu.ranges {
		if r.high == nil {
			highest, _, err := w.reader.edgeKey(ctx, w.f.table, true)
			if err != nil {
				return &TableError{Schema: w.f.table.Schema, Table: w.f.table.Name, Err: err}
			}
			if highest == nil {
				w.mu.tails = append(w.mu.tails, r)
				continue
			}
			w.mu.tails = append(w.mu.tails, keyRange{low: highest})
			r.high = highest
		}
		bounded = append(bounded, r)
	}
	w.mu.ranges = nil
	planner, err := newChunkPlanner(w.f.table, w.reader, bounded, 0, w.chunkRows, func() int { return verifyChunkBytes })
	if err != nil {
		return err
	}
	planner.unlimited = true
	planner.begin()
	w.mu.planner = planner
	return nil
}

// chunkRows is how many rows a chunk should have.
func (w *tableWalk) chunkRows() int {
	t := w.f.table
	if t.approxRows == 0 || t.dataLength == 0 {
		return verifyChunkRows
	}
	return int(max(1, min(verifyChunkRows, verifyChunkBytes*t.approxRows/t.dataLength)))
}

// done reports a compared chunk.
func (w *tableWalk) done(c *walkedChunk, rows uint64, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.inFlight, c)
	if c.planned != nil {
		w.mu.planner.done(c.planned, int(rows), 0, 0, took)
	}
	w.endLocked()
}

func (w *tableWalk) endLocked() {
	if w.mu.claimed && len(w.mu.inFlight) == 0 && !w.mu.over {
		w.mu.over = true
		w.ended()
	}
}

// foundKeys counts differing keys and reports whether the walk has found enough.
func (w *tableWalk) foundKeys(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.located += n
	return w.mu.located >= w.enough
}

// compareChunk compares the digests of a range, and its rows when they differ. It
// returns how many rows the source has in it.
func (c *comparer) compareChunk(ctx context.Context, w *tableWalk, r keyRange) (uint64, error) {
	source, target, err := c.chunkDigests(ctx, w.f, r)
	if err != nil {
		return 0, err
	}
	equal := source.equals(target)
	c.count(w, source, target, equal)
	if equal {
		return source.rows, nil
	}
	return source.rows, c.locate(ctx, w, r, source.rows, target.rows)
}

// count takes a compared chunk into the numbers.
func (c *comparer) count(w *tableWalk, source, target chunkDigest, equal bool) {
	c.counters.chunks.Add(1)
	c.counters.rows.Add(max(source.rows, target.rows))
	c.metrics.compared(w.f.table, int(max(source.rows, target.rows)), 0)
	c.stats.Lock()
	defer c.stats.Unlock()
	t := c.stats.tables[w.f]
	t.chunks++
	t.seen = t.seen || source.rows+target.rows > 0
	if w.first {
		t.rows += source.rows
		t.sum.add(&source.total)
	}
	if !equal {
		c.counters.differing.Add(1)
		t.differing++
	}
}

func (c *comparer) chunkDigests(ctx context.Context, f *fingerprint, r keyRange) (source, target chunkDigest, err error) {
	if source, err = c.servers.source.chunk(ctx, f, r); err != nil {
		return source, target, err
	}
	target, err = c.servers.target.chunk(ctx, f, r)
	return source, target, err
}

// locate finds the differing keys of a range that has about so many rows. A range of
// many rows is split at the keys of the side that has more of them.
func (c *comparer) locate(ctx context.Context, w *tableWalk, r keyRange, sourceRows, targetRows uint64) error {
	for max(sourceRows, targetRows) > 2*verifyChunkRows {
		if w.foundKeys(0) {
			c.queue.addRange(w.f, r)
			return nil
		}
		fuller := c.servers.source
		if targetRows > sourceRows {
			fuller = c.servers.target
		}
		middle, err := fuller.keyAt(ctx, w.f, r, verifyChunkRows)
		if err != nil {
			return err
		}
		if middle == nil {
			break // there are fewer rows by now
		}
		left := keyRange{low: r.low, high: middle}
		source, target, err := c.chunkDigests(ctx, w.f, left)
		if err != nil {
			return err
		}
		if !source.equals(target) {
			if err := c.locate(ctx, w, left, source.rows, target.rows); err != nil {
				return err
			}
		}
		sourceRows -= min(sourceRows, source.rows)
		targetRows -= min(targetRows, target.rows)
		r.low = middle
	}
	return c.locateRows(ctx, w, r)
}

// locateRows compares a range row by row.
func (c *comparer) locateRows(ctx context.Context, w *tableWalk, r keyRange) error {
	if w.foundKeys(0) {
		c.queue.addRange(w.f, r)
		return nil
	}
	source, err := c.servers.source.rows(ctx, w.f, r)
	if err != nil {
		return err
	}
	target, err := c.servers.target.rows(ctx, w.f, r)
	if err != nil {
		return err
	}
	differing := differingKeys(source, target)
	c.queue.add(w.f, differing...)
	w.foundKeys(len(differing))
	return nil
}

// differingKeys returns the keys whose digests differ or that only one side has.
func differingKeys(source, target map[string]string) []string {
	var keys []string
	for key, digest := range source {
		if target[key] != digest {
			keys = append(keys, key)
		}
	}
	for key := range target {
		if _, both := source[key]; !both {
			keys = append(keys, key)
		}
	}
	return keys
}
