package ghostferry

import (
	"context"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

const (
	// sightings is how often in a row a key must be seen with the same two rows, without
	// a change delivered in between, before its difference counts as real while the
	// source is written; sightingsStill when it is not.
	sightings      = 3
	sightingsStill = 2
	// settlePasses bounds the passes at the cutover; a source that stands still needs
	// four of them at most.
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

// shrink compares touched keys until few are left or they do not get fewer.
func (v *OnlineVerifier) shrink(ctx context.Context) error {
	previous, extra := int(^uint(0)>>1), 0
	for range maxVerifyPasses {
		if err := v.pass(ctx, false); err != nil {
			return err
		}
		keys, ranges := v.touched.counts()
		undecided := v.countSuspects()
		left := keys + undecided
		v.log().Debugf("%d keys and %d key ranges to compare again", left, ranges)
		if few := left <= fewKeys && ranges == 0; few || left >= previous {
			// A few more passes tell differing rows from changing ones.
			if undecided == 0 || extra == sightings {
				return nil
			}
			extra++
		}
		previous = left
	}
	return nil
}

// settle compares everything that is left, while the source stands still.
func (v *OnlineVerifier) settle(ctx context.Context) error {
	for range settlePasses {
		if err := v.pass(ctx, true); err != nil {
			return err
		}
		if keys, ranges := v.touched.counts(); keys+ranges+v.countSuspects() == 0 {
			return nil
		}
	}
	if len(v.Mismatches()) > 0 {
		return nil // what is left cannot change the verdict
	}
	return &LateWriteError{Tables: v.unsettledTables()}
}

func (v *OnlineVerifier) countSuspects() int { return int(v.counters.suspects.Load()) }

// unsettledTables returns the tables of which something is left to compare.
func (v *OnlineVerifier) unsettledTables() []string {
	work := v.touched.take()
	defer v.touched.putBack(work)
	names := map[string]struct{}{}
	for f := range work {
		names[f.table.String()] = struct{}{}
	}
	for f := range v.suspects {
		names[f.table.String()] = struct{}{}
	}
	return sortedNames(names)
}

// pass compares once everything that was touched, and the keys that differed in the
// last pass. Every change taken is on the target before that is read, so that a
// change under way explains a difference only if it is delivered later.
func (v *OnlineVerifier) pass(ctx context.Context, still bool) (err error) {
	work := v.touched.take()
	previous := v.suspects
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
		if v.differs(f) {
			w.ranges = nil // the table's verdict is known
		}
	}
	v.suspects = nil
	v.counters.suspects.Store(0)
	defer func() {
		if err != nil {
			v.touched.putBack(work)
		}
	}()
	if keys, ranges := work.counts(); keys+ranges == 0 {
		return nil
	}
	v.counters.passes.Add(1)
	if !still {
		if err := v.waitUntilApplied(ctx); err != nil {
			return err
		}
	}
	if err := v.walk(ctx, work, func() {}); err != nil {
		return err
	}
	differing, err := v.compareKeys(ctx, work)
	if err != nil {
		return err
	}
	v.judge(differing, previous, still)
	return nil
}

// judge decides which differing keys are differing rows; the others are suspects.
func (v *OnlineVerifier) judge(differing, previous map[*fingerprint]map[string]observation, still bool) {
	enough := sightings
	if still {
		enough = sightingsStill
	}
	// Without a word on what the target has, only a still source proves a difference.
	decidable := still || v.applied != nil && v.logEnd != nil
	v.suspects = map[*fingerprint]map[string]observation{}
	for f, keys := range differing {
		for key, now := range keys {
			before := previous[f][key]
			now.seen = 1
			if before.source == now.source && before.target == now.target {
				now.seen += before.seen
			}
			if decidable && now.seen >= enough {
				v.keep(f, now)
				continue
			}
			if v.suspects[f] == nil {
				v.suspects[f] = map[string]observation{}
			}
			v.suspects[f][key] = now
			v.counters.suspects.Add(1)
		}
	}
}

// keep records a differing row for good.
func (v *OnlineVerifier) keep(f *fingerprint, seen observation) {
	v.found.Lock()
	defer v.found.Unlock()
	if v.found.known == nil {
		v.found.known = map[*fingerprint]map[string]struct{}{}
	}
	known := v.found.known[f]
	if known == nil {
		known = map[string]struct{}{}
		v.found.known[f] = known
	}
	if _, again := known[seen.key]; again || len(known) >= maxMismatches {
		return
	}
	known[seen.key] = struct{}{}
	v.found.mismatches = append(v.found.mismatches, newMismatch(f, seen.key, seen))
}

// differs reports that a row of the table was found to differ.
func (v *OnlineVerifier) differs(f *fingerprint) bool {
	v.found.Lock()
	defer v.found.Unlock()
	return len(v.found.known[f]) > 0
}

// keyBatch is what one statement looks up.
type keyBatch struct {
	f    *fingerprint
	keys []string
}

// compareKeys compares the keys of the work on all workers and returns those that
// differ.
func (v *OnlineVerifier) compareKeys(ctx context.Context, work verifyWork) (map[*fingerprint]map[string]observation, error) {
	batches := work.batches()
	if len(batches) == 0 {
		return nil, nil
	}
	var next atomic.Int64
	var result struct {
		sync.Mutex
		differing map[*fingerprint]map[string]observation
	}
	result.differing = map[*fingerprint]map[string]observation{}
	err := v.parallel(ctx, func(ctx context.Context) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(batches) {
				return nil
			}
			b := batches[i]
			found, err := v.compareBatch(ctx, b)
			if err != nil {
				return err
			}
			v.counters.rechecks.Add(uint64(len(b.keys)))
			result.Lock()
			if result.differing[b.f] == nil {
				result.differing[b.f] = map[string]observation{}
			}
			maps.Copy(result.differing[b.f], found)
			result.Unlock()
		}
	})
	return result.differing, err
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
func (v *OnlineVerifier) compareBatch(ctx context.Context, b keyBatch) (map[string]observation, error) {
	source, err := v.servers.source.keys(ctx, b.f, b.keys)
	if err != nil {
		return nil, err
	}
	target, err := v.servers.target.keys(ctx, b.f, b.keys)
	if err != nil {
		return nil, err
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
		return found, nil
	}
	// Rows whose keys are equal for the server may have different bytes on the two
	// sides: only a key looked up alone tells which rows belong together.
	if len(b.keys) == 1 {
		return map[string]observation{b.keys[0]: observationOf(b.keys[0], source, target)}, nil
	}
	half := len(b.keys) / 2
	found, err := v.compareBatch(ctx, keyBatch{b.f, b.keys[:half]})
	if err != nil {
		return nil, err
	}
	rest, err := v.compareBatch(ctx, keyBatch{b.f, b.keys[half:]})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return rest, nil
	}
	maps.Copy(found, rest)
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
