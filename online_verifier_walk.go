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
	ended  func() // called once, when every chunk is compared; must not block

	mu struct {
		sync.Mutex
		ranges   []keyRange // not yet given to the planner
		planner  *chunkPlanner
		tails    []keyRange // chunks beyond the source's highest key
		claimed  bool       // every chunk was given out
		inFlight int        // chunks being compared
		over     bool       // ended was called
		located  int        // differing keys found
	}
}

// walkedChunk is a range that one worker compares. planned is the planner's chunk, nil
// for a tail.
type walkedChunk struct {
	keyRange
	planned *chunk
}

// walk compares the ranges of the work; differing keys are added to the touched ones.
// ended is called when a table is done.
func (v *OnlineVerifier) walk(ctx context.Context, work verifyWork, ended func()) error {
	var walks []*tableWalk
	for f, w := range work {
		if len(w.ranges) > 0 {
			walk := &tableWalk{f: f, reader: v.servers.planning, ended: ended}
			walk.mu.ranges = w.ranges
			walks = append(walks, walk)
		}
	}
	if len(walks) == 0 {
		return nil
	}
	// The largest first, so that no worker is left alone with it at the end.
	sort.Slice(walks, func(i, j int) bool { return walks[i].f.table.dataLength > walks[j].f.table.dataLength })
	return v.parallel(ctx, func(ctx context.Context) error {
		for _, w := range walks {
			if err := v.walkTable(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
}

// walkTable compares chunks of one table until none is left to claim.
func (v *OnlineVerifier) walkTable(ctx context.Context, w *tableWalk) error {
	for {
		c, err := w.claim(ctx)
		if err != nil || c == nil {
			return err
		}
		started := time.Now()
		rows, err := v.compareChunk(ctx, w, c.keyRange)
		if err != nil {
			return err
		}
		w.done(c, rows, time.Since(started))
	}
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
			w.mu.inFlight++
			return &walkedChunk{keyRange: c.keyRange, planned: c}, nil
		}
	}
	if len(w.mu.tails) > 0 {
		c := &walkedChunk{keyRange: w.mu.tails[0]}
		w.mu.tails = w.mu.tails[1:]
		w.mu.inFlight++
		return c, nil
	}
	w.mu.claimed = true
	w.endLocked()
	return nil, nil
}

// planLocked bounds the ranges by the source's highest key, for the planner. The target
// may have rows beyond it, or in a table that is empty on the source: they are the
// tails.
func (w *tableWalk) planLocked(ctx context.Context) error {
	var bounded []keyRange
	for _, r := range w.mu.ranges {
		if r.high == nil {
			highest, err := w.reader.edgeKey(ctx, w.f.table, true)
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
	planner, err := newChunkPlanner(w.f.table, w.reader, bounded, 0, w.chunkRows, verifyChunkBytes)
	w.mu.planner = planner
	return err
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
	w.mu.inFlight--
	if c.planned != nil {
		w.mu.planner.done(c.planned, int(rows), 0, took)
	}
	w.endLocked()
}

func (w *tableWalk) endLocked() {
	if w.mu.claimed && w.mu.inFlight == 0 && !w.mu.over {
		w.mu.over = true
		w.ended()
	}
}

// foundKeys counts differing keys and reports whether the walk has found enough.
func (w *tableWalk) foundKeys(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.located += n
	return w.mu.located >= maxLocatedKeys
}

// compareChunk compares the digests of a range, and its rows when they differ. It
// returns how many rows the source has in it.
func (v *OnlineVerifier) compareChunk(ctx context.Context, w *tableWalk, r keyRange) (uint64, error) {
	source, target, err := v.chunkDigests(ctx, w.f, r)
	if err != nil {
		return 0, err
	}
	v.counters.chunks.Add(1)
	v.counters.rows.Add(max(source.rows, target.rows))
	if source.equals(target) {
		return source.rows, nil
	}
	v.counters.differing.Add(1)
	return source.rows, v.locate(ctx, w, r, source.rows, target.rows)
}

func (v *OnlineVerifier) chunkDigests(ctx context.Context, f *fingerprint, r keyRange) (source, target chunkDigest, err error) {
	if source, err = v.servers.source.chunk(ctx, f, r); err != nil {
		return source, target, err
	}
	target, err = v.servers.target.chunk(ctx, f, r)
	return source, target, err
}

// locate finds the differing keys of a range that has about so many rows. A range of
// many rows is split at the keys of the side that has more of them.
func (v *OnlineVerifier) locate(ctx context.Context, w *tableWalk, r keyRange, sourceRows, targetRows uint64) error {
	for max(sourceRows, targetRows) > 2*verifyChunkRows {
		if w.foundKeys(0) {
			v.touched.addRange(w.f, r)
			return nil
		}
		fuller := v.servers.source
		if targetRows > sourceRows {
			fuller = v.servers.target
		}
		middle, err := fuller.keyAt(ctx, w.f, r, verifyChunkRows)
		if err != nil {
			return err
		}
		if middle == nil {
			break // there are fewer rows by now
		}
		left := keyRange{low: r.low, high: middle}
		source, target, err := v.chunkDigests(ctx, w.f, left)
		if err != nil {
			return err
		}
		if !source.equals(target) {
			if err := v.locate(ctx, w, left, source.rows, target.rows); err != nil {
				return err
			}
		}
		sourceRows -= min(sourceRows, source.rows)
		targetRows -= min(targetRows, target.rows)
		r.low = middle
	}
	return v.locateRows(ctx, w, r)
}

// locateRows compares a range row by row.
func (v *OnlineVerifier) locateRows(ctx context.Context, w *tableWalk, r keyRange) error {
	if w.foundKeys(0) {
		v.touched.addRange(w.f, r)
		return nil
	}
	source, err := v.servers.source.rows(ctx, w.f, r)
	if err != nil {
		return err
	}
	target, err := v.servers.target.rows(ctx, w.f, r)
	if err != nil {
		return err
	}
	differing := differingKeys(source, target)
	v.touched.add(w.f, differing...)
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
