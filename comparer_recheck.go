package ghostferry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sightings is how often in a row a key must be seen with the same two rows, without
	// a change delivered in between, before its difference counts as real while the
	// source is written; sightingsStill when it is not.
	sightings      = 3
	sightingsStill = 2
	// settlePasses bounds the passes at the cutover in which no row is repaired, one after the
	// other; a source that stands still needs four of them at most.
	settlePasses = 10
	// maxMismatches is how many differing rows of a table are kept.
	maxMismatches = 1000
)

// observation is how a key differed when it was last compared.
type observation struct {
	source, target string // digests, empty where there is no row
	key            string // the encoded key of the row itself, the source's if there is one
	seen           int    // how often in a row it was just so
}

// shrink compares what is queued until little is left or it does not get less.
func (c *comparer) shrink(ctx context.Context) error {
	previous, extra := int(^uint(0)>>1), 0
	var took time.Duration
	for passes := 0; passes < maxVerifyPasses; passes++ {
		passed, err := c.pass(ctx, false)
		if err != nil {
			return err
		}
		took = passed.took
		if passed.repaired || passed.cutShort {
			passes = 0 // what is left of the first walk is less by what it has compared
		}
		if passed.walked {
			continue // what it found is queued
		}
		keys, ranges := c.queue.counts()
		undecided := c.countSuspects()
		left := keys + undecided
		c.log().Debugf("%d keys and %d key ranges to compare again", left, ranges)
		if few := left <= fewKeys && ranges == 0; few || left >= previous {
			// A few more passes tell differing rows from changing ones.
			if undecided == 0 || extra == sightings {
				break
			}
			extra++
		}
		previous = left
	}
	if c.maxDowntime > 0 && took > c.maxDowntime {
		return fmt.Errorf("cutover stage verification will not complete within max downtime duration (took %s): raise MaxExpectedDowntime, or try again when the source is written less", took)
	}
	return nil
}

// settle compares everything that is left, while the source stands still.
func (c *comparer) settle(ctx context.Context) error {
	for passes := 0; passes < settlePasses; passes++ {
		passed, err := c.pass(ctx, true)
		if err != nil {
			return err
		}
		if passed.repaired {
			passes = 0 // however many there are: no row is repaired more than maxRepairs times
		}
		if keys, ranges := c.queue.counts(); keys+ranges+c.countSuspects() == 0 {
			return nil
		}
	}
	if len(c.mismatches()) > 0 {
		return nil // what is left cannot change the verdict
	}
	return &LateWriteError{Tables: c.unsettledTables()}
}

func (c *comparer) countSuspects() int { return int(c.counters.suspects.Load()) }

// unsettledTables returns the tables of which something is left to compare.
func (c *comparer) unsettledTables() []string {
	names := map[string]struct{}{}
	for f := range c.unfinished() {
		names[f.table.String()] = struct{}{}
	}
	return sortedNames(names)
}

// unfinished returns everything that is still to be compared, that which is being
// compared included. Nothing goes from the queue to a pass meanwhile. The other way no lock is
// in the way of workers: what they find is queued before it leaves their work. So the queue is
// read last.
func (c *comparer) unfinished() verifyWork {
	work := verifyWork{}
	c.taken.Lock()
	defer c.taken.Unlock()
	for f, keys := range c.taken.suspects {
		for key := range keys {
			work.of(f).keys[key] = struct{}{}
		}
	}
	for f, w := range c.taken.work {
		work.of(f).merge(w)
	}
	for _, walk := range c.taken.walks {
		walk.returnTo(work)
	}
	c.queue.copyTo(work)
	for f, w := range work {
		if len(w.keys)+len(w.ranges)+len(w.first) == 0 {
			delete(work, f)
		}
	}
	return work
}

// returnTo adds the ranges that were not compared.
func (w *tableWalk) returnTo(work verifyWork) {
	t := work.of(w.f)
	if w.first {
		t.first = append(t.first, w.left()...)
	} else {
		t.ranges = append(t.ranges, w.left()...)
	}
}

// begin takes everything out of the queue, with the keys that differed when they were
// last compared; those that changed since count as new.
func (c *comparer) begin() (work verifyWork, previous map[*fingerprint]map[string]observation) {
	c.taken.Lock()
	defer c.taken.Unlock()
	work, previous = c.queue.take(), c.taken.suspects
	for f, keys := range previous {
		w := work.of(f)
		for key := range keys {
			if _, again := w.keys[key]; again || w.covers(f, key) {
				delete(keys, key)
			}
			w.keys[key] = struct{}{}
		}
	}
	for f, w := range work {
		if c.repairer == nil && c.differs(f) {
			w.ranges = nil // the table's verdict is known
		}
	}
	c.taken.work, c.taken.suspects = work, nil
	c.counters.suspects.Store(0)
	return work, previous
}

// judged lets go of what was compared, and keeps the suspects.
func (c *comparer) judged(work verifyWork, suspects map[*fingerprint]map[string]observation) {
	c.taken.Lock()
	defer c.taken.Unlock()
	clear(work)
	c.taken.suspects = suspects
}

// end puts back what was not compared.
func (c *comparer) end() {
	c.taken.Lock()
	defer c.taken.Unlock()
	for _, walk := range c.taken.walks {
		walk.returnTo(c.taken.work)
	}
	c.queue.putBack(c.taken.work)
	c.taken.work, c.taken.walks = nil, nil
}

// passed is what a pass was.
type passed struct {
	walked   bool          // ranges were compared; keys of them that differ are queued
	cutShort bool          // perhaps not all rows yet: the first walk, which repairs, had found enough
	repaired bool          // rows were: they are queued
	took     time.Duration // to compare: the cutover's pass waits for no throttler, nor for changes under way
}

// pass compares once everything that is queued, and the keys that differed in the last
// pass. Every change taken is on the target before that is read, so that a change under
// way explains a difference only if it is delivered later.
func (c *comparer) pass(ctx context.Context, still bool) (p passed, err error) {
	waiting := c.collisions.snapshot() // before anything is read
	work, previous := c.begin()
	defer c.end()
	if keys, ranges := work.counts(); keys+ranges == 0 {
		return p, nil
	}
	c.counters.passes.Add(1)
	if !still {
		if err := c.waitUntilApplied(ctx); err != nil {
			return p, err
		}
	}
	c.taken.Lock()
	walks := c.newWalks(work)
	c.taken.walks = walks
	c.taken.Unlock()
	p.walked = len(walks) > 0
	walking, err := c.walk(ctx, walks, still)
	if err != nil {
		return p, err
	}
	p.cutShort = c.repairer != nil && slices.ContainsFunc(walks, func(w *tableWalk) bool { return w.first && w.foundKeys(0) })
	differing, comparing, err := c.compareKeys(ctx, work, still)
	if err != nil {
		return p, err
	}
	p.took = walking + comparing
	repaired := c.countRepaired()
	suspects, err := c.judge(ctx, differing, previous, waiting, still)
	if err != nil {
		return p, err
	}
	p.repaired = c.countRepaired() > repaired
	c.judged(work, suspects)
	return p, nil
}

// judge decides which differing keys are differing rows; the others are suspects.
func (c *comparer) judge(ctx context.Context, differing, previous map[*fingerprint]map[string]observation, waiting map[*TableSchema]map[string]uint64, still bool) (map[*fingerprint]map[string]observation, error) {
	enough := sightings
	if still {
		enough = sightingsStill
	}
	// Without a word on what the target has, only a still source proves a difference.
	decidable := still || c.early && c.applied != nil && c.logEnd != nil
	suspects := map[*fingerprint]map[string]observation{}
	for f, keys := range differing {
		for key, now := range keys {
			before := previous[f][key]
			now.seen = 1
			if before.source == now.source && before.target == now.target {
				now.seen += before.seen
			}
			if _, waits := waiting[f.table][now.key]; waits || !f.layout.keyBytes && len(waiting[f.table]) > 0 {
				now.seen = 0
			}
			if decidable && now.seen >= enough {
				if err := c.keep(ctx, f, now); err != nil {
					return nil, err
				}
				continue
			}
			if suspects[f] == nil {
				suspects[f] = map[string]observation{}
			}
			suspects[f][key] = now
			c.counters.suspects.Add(1)
		}
	}
	return suspects, c.repairer.repair(ctx)
}

// keep records a differing row for good.
func (c *comparer) keep(ctx context.Context, f *fingerprint, seen observation) error {
	c.found.Lock()
	if c.found.known == nil {
		c.found.known = map[*fingerprint]map[string]struct{}{}
	}
	known := c.found.known[f]
	if known == nil {
		known = map[string]struct{}{}
		c.found.known[f] = known
	}
	_, again := known[seen.key]
	full := len(known) >= maxMismatches
	c.found.Unlock()
	if again || full {
		return nil
	}
	m := newMismatch(f, seen.key, seen)
	if err := c.explain(ctx, f, seen.key, &m); err != nil {
		return err
	}
	if c.repairer.take(f, seen.key, m) {
		return nil
	}
	c.found.Lock()
	defer c.found.Unlock()
	known[seen.key] = struct{}{}
	c.found.mismatches = append(c.found.mismatches, m)
	return nil
}

// explain finds out which columns of a row differ.
func (c *comparer) explain(ctx context.Context, f *fingerprint, key string, m *OnlineVerifierMismatch) error {
	if m.Kind != MismatchRowChecksumDifference {
		return nil
	}
	source, err := c.servers.source.columns(ctx, f, key)
	if err != nil {
		return err
	}
	target, err := c.servers.target.columns(ctx, f, key)
	if err != nil {
		return err
	}
	m.differIn(f, source, target)
	return nil
}

// differs reports that a row of the table was found to differ.
func (c *comparer) differs(f *fingerprint) bool {
	c.found.Lock()
	defer c.found.Unlock()
	return len(c.found.known[f]) > 0
}

// keyBatch is what one statement looks up.
type keyBatch struct {
	f    *fingerprint
	keys []string
}

// compareKeys compares the keys of the work on all workers and returns those that
// differ.
func (c *comparer) compareKeys(ctx context.Context, work verifyWork, still bool) (differing map[*fingerprint]map[string]observation, took time.Duration, err error) {
	batches := work.batches()
	if len(batches) == 0 {
		return nil, 0, nil
	}
	var next atomic.Int64
	var result struct {
		sync.Mutex
		differing map[*fingerprint]map[string]observation
	}
	result.differing = map[*fingerprint]map[string]observation{}
	took, err = c.parallel(ctx, still, func(ctx context.Context, worker *passWorker) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(batches) {
				return nil
			}
			b := batches[i]
			if err := worker.throttle(ctx); err != nil {
				return err
			}
			started := time.Now()
			found, err := c.compareBatch(ctx, b)
			if err != nil {
				return err
			}
			c.countRechecked(b, time.Since(started))
			result.Lock()
			if result.differing[b.f] == nil {
				result.differing[b.f] = map[string]observation{}
			}
			maps.Copy(result.differing[b.f], found)
			result.Unlock()
		}
	})
	return result.differing, took, err
}

func (c *comparer) countRechecked(b keyBatch, took time.Duration) {
	c.counters.rechecks.Add(uint64(len(b.keys)))
	c.metrics.compared(b.f.table, len(b.keys), c.counters.passes.Load())
	c.counters.recheckTime.Add(int64(took))
	c.stats.Lock()
	defer c.stats.Unlock()
	t := c.stats.tables[b.f]
	t.rechecks += uint64(len(b.keys))
	t.took += took
}

func (c *comparer) sawRowOf(f *fingerprint) {
	c.stats.Lock()
	defer c.stats.Unlock()
	c.stats.tables[f].seen = true
}

// batches splits the keys into statements, in the order of their bytes so that the
// servers read neighbours together.
func (work verifyWork) batches() []keyBatch {
	var batches []keyBatch
	for f, w := range work {
		keys := slices.Sorted(maps.Keys(w.keys))
		start, size := 0, 0
		for i, key := range keys {
			if i-start == keysPerRead || i > start && size+len(key) > keyBytesPerRead {
				batches = append(batches, keyBatch{f, keys[start:i]})
				start, size = i, 0
			}
			size += len(key)
		}
		if start < len(keys) {
			batches = append(batches, keyBatch{f, keys[start:]})
		}
	}
	sort.Slice(batches, func(i, j int) bool { return len(batches[i].keys) > len(batches[j].keys) })
	return batches
}

// compareBatch compares the rows of the keys on both sides and returns how they differ,
// by the key to look up again.
func (c *comparer) compareBatch(ctx context.Context, b keyBatch) (map[string]observation, error) {
	source, err := c.servers.source.keys(ctx, b.f, b.keys)
	if err != nil {
		return nil, err
	}
	target, err := c.servers.target.keys(ctx, b.f, b.keys)
	if err != nil {
		return nil, err
	}
	if len(source)+len(target) > 0 {
		c.sawRowOf(b.f)
	}
	differing := differingKeys(source, target)
	if len(differing) == 0 {
		return nil, nil
	}
	if b.f.layout.keyBytes {
		found := make(map[string]observation, len(differing))
		for _, key := range differing {
			found[key] = observation{source: source[key], target: target[key], key: key}
		}
		return c.scoped(ctx, b.f, found)
	}
	// Rows whose keys are equal for the server may have different bytes on the two
	// sides: only a key looked up alone tells which rows belong together.
	if len(b.keys) == 1 {
		return c.scoped(ctx, b.f, map[string]observation{b.keys[0]: observationOf(b.keys[0], source, target)})
	}
	half := len(b.keys) / 2
	found, err := c.compareBatch(ctx, keyBatch{b.f, b.keys[:half]})
	if err != nil {
		return nil, err
	}
	rest, err := c.compareBatch(ctx, keyBatch{b.f, b.keys[half:]})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return rest, nil
	}
	maps.Copy(found, rest)
	return found, nil
}

// scoped takes away what is not part of the move, and what then does not differ.
func (c *comparer) scoped(ctx context.Context, f *fingerprint, found map[string]observation) (map[string]observation, error) {
	if c.filterOf(f) == nil {
		return found, nil
	}
	for key, seen := range found {
		seen, err := c.inScope(ctx, f, seen)
		if err != nil {
			return nil, err
		}
		if seen.source == seen.target {
			delete(found, key)
			continue
		}
		found[key] = seen
	}
	return found, nil
}

// observationOf describes the rows of one key, of which a side has at most one.
func observationOf(key string, source, target map[string]string) observation {
	seen := observation{key: key}
	for own, digest := range target {
		seen.key, seen.target = own, digest
	}
	for own, digest := range source {
		seen.key, seen.source = own, digest
	}
	return seen
}
