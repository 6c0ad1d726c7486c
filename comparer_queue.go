package ghostferry

import (
	"slices"
	"sort"
	"sync"
)

const (
	// recheckQueueBytes is how much memory the keys that wait for a comparison may take.
	recheckQueueBytes = 16 << 20
	// queuedKeyOverhead is what a key costs in a map beyond its bytes.
	queuedKeyOverhead = 80
	// coalescedRanges is into how many ranges the keys of a table are coalesced, and
	// twice as many is how many ranges a table may have.
	coalescedRanges = 32
)

// recheckQueue holds what still has to be compared: keys by table, and ranges of keys:
// whole tables before the first comparison, what is left of them after an interruption,
// and where there are too many keys, ranges that contain them. Nothing that was added is
// lost, and memory is bounded however long the run. It is safe for concurrent use.
type recheckQueue struct {
	limit int // bytes, immutable

	mu struct {
		sync.Mutex
		work  verifyWork
		bytes int // of all keys, with overhead

		counted      bool // since the last change
		keys, ranges int
	}
}

// verifyWork is what has to be compared, by table.
type verifyWork map[*fingerprint]*tableWork

// tableWork is what has to be compared of one table.
type tableWork struct {
	keys   map[string]struct{} // encoded
	ranges []keyRange          // contain keys that were queued
	first  []keyRange          // were never compared
}

func newRecheckQueue(limit int) *recheckQueue {
	t := &recheckQueue{limit: limit}
	t.mu.work = verifyWork{}
	return t
}

// add remembers keys.
func (t *recheckQueue) add(f *fingerprint, keys ...string) {
	t.lockToChange()
	defer t.mu.Unlock()
	t.addLocked(f, keys)
}

// addRange remembers every key of a range.
func (t *recheckQueue) addRange(f *fingerprint, r keyRange) {
	t.lockToChange()
	defer t.mu.Unlock()
	w := t.mu.work.of(f)
	w.ranges = append(w.ranges, r)
	w.boundRanges(f)
}

// holdsWhole reports that the whole table waits anyway, so that single keys of it need
// not be added.
func (t *recheckQueue) holdsWhole(f *fingerprint) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.mu.work[f]
	return w != nil && (holdsWhole(w.first) || holdsWhole(w.ranges))
}

func holdsWhole(ranges []keyRange) bool {
	return len(ranges) > 0 && ranges[0].low == nil && ranges[0].high == nil
}

// copyTo adds everything that is held to other work, and keeps it.
func (t *recheckQueue) copyTo(work verifyWork) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for f, w := range t.mu.work {
		work.of(f).merge(w)
	}
}

// addFirst remembers a range that was never compared.
func (t *recheckQueue) addFirst(f *fingerprint, r keyRange) {
	t.lockToChange()
	defer t.mu.Unlock()
	w := t.mu.work.of(f)
	w.first = append(w.first, r)
}

// setFirst makes ranges those of a table that were never compared.
func (t *recheckQueue) setFirst(f *fingerprint, ranges []keyRange) {
	t.lockToChange()
	defer t.mu.Unlock()
	t.mu.work.of(f).first = ranges
}

// take removes and returns everything.
func (t *recheckQueue) take() verifyWork {
	t.lockToChange()
	defer t.mu.Unlock()
	work := t.mu.work
	t.mu.work, t.mu.bytes = verifyWork{}, 0
	return work
}

// replace makes a table's work what it is given.
func (t *recheckQueue) replace(f *fingerprint, w *tableWork) {
	t.lockToChange()
	defer t.mu.Unlock()
	if old := t.mu.work[f]; old != nil {
		t.mu.bytes -= old.bytes()
	}
	t.mu.work[f] = w
	t.mu.bytes += w.bytes()
}

// putBack adds what was taken and could not be compared.
func (t *recheckQueue) putBack(work verifyWork) {
	t.lockToChange()
	defer t.mu.Unlock()
	for f, w := range work {
		kept := t.mu.work.of(f)
		kept.ranges = append(kept.ranges, w.ranges...)
		kept.first = append(kept.first, w.first...)
		kept.boundRanges(f)
		for key := range w.keys {
			t.addLocked(f, []string{key})
		}
	}
}

// counts returns how many keys and ranges are held.
func (t *recheckQueue) counts() (keys, ranges int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.counted { // there may be work of very many tables, and everybody asks
		t.mu.keys, t.mu.ranges = t.mu.work.counts()
		t.mu.counted = true
	}
	return t.mu.keys, t.mu.ranges
}

func (t *recheckQueue) lockToChange() {
	t.mu.Lock()
	t.mu.counted = false
}

func (t *recheckQueue) addLocked(f *fingerprint, keys []string) {
	w := t.mu.work.of(f)
	for _, key := range keys {
		if _, known := w.keys[key]; known || w.covers(f, key) {
			continue
		}
		w.keys[key] = struct{}{}
		t.mu.bytes += len(key) + queuedKeyOverhead
	}
	for gained := true; gained && t.mu.bytes > t.limit; {
		gained = t.coalesceLocked()
	}
}

// coalesceLocked turns the keys of the table with the most keys into ranges. It
// reports whether that made room.
func (t *recheckQueue) coalesceLocked() bool {
	var largest *fingerprint
	for f, w := range t.mu.work {
		if largest == nil || len(w.keys) > len(t.mu.work[largest].keys) {
			largest = f
		}
	}
	before := t.mu.work[largest].bytes()
	t.mu.work[largest].coalesce(largest)
	gained := before - t.mu.work[largest].bytes()
	t.mu.bytes -= gained
	return gained > 0
}

func (work verifyWork) of(f *fingerprint) *tableWork {
	w := work[f]
	if w == nil {
		w = &tableWork{keys: map[string]struct{}{}}
		work[f] = w
	}
	return w
}

func (work verifyWork) counts() (keys, ranges int) {
	for _, w := range work {
		keys += len(w.keys)
		ranges += len(w.ranges) + len(w.first)
	}
	return keys, ranges
}

// merge adds what other work holds.
func (w *tableWork) merge(other *tableWork) {
	for key := range other.keys {
		w.keys[key] = struct{}{}
	}
	w.ranges = append(w.ranges, other.ranges...)
	w.first = append(w.first, other.first...)
}

func (w *tableWork) bytes() int {
	n := 0
	for key := range w.keys {
		n += len(key) + queuedKeyOverhead
	}
	return n
}

// covers reports that a key certainly lies in one of the ranges.
func (w *tableWork) covers(f *fingerprint, key string) bool {
	switch {
	case len(w.ranges)+len(w.first) == 0:
		return false
	case holdsWhole(w.ranges) || holdsWhole(w.first):
		return true
	case !f.layout.keyOrdered:
		return false
	}
	tuple := f.splitKey(key)
	inside := func(r keyRange) bool {
		return (r.low == nil || f.layout.compareKeys(tuple, r.low) > 0) && (r.high == nil || f.layout.compareKeys(tuple, r.high) <= 0)
	}
	return slices.ContainsFunc(w.ranges, inside) || slices.ContainsFunc(w.first, inside)
}

// coalesce replaces the keys by ranges that contain them. Keys that Go cannot order
// become the whole table; others become ranges between neighbours, whose first keys,
// which a range does not contain, are kept.
func (w *tableWork) coalesce(f *fingerprint) {
	if !f.layout.keyOrdered {
		w.keys, w.ranges = map[string]struct{}{}, []keyRange{{}}
		return
	}
	sorted := make([]keyTuple, 0, len(w.keys))
	for key := range w.keys {
		sorted = append(sorted, f.splitKey(key))
	}
	sort.Slice(sorted, func(i, j int) bool { return f.layout.compareKeys(sorted[i], sorted[j]) < 0 })
	w.keys = map[string]struct{}{}
	size := (len(sorted) + coalescedRanges - 1) / coalescedRanges
	for start := 0; start < len(sorted); start += size {
		first, last := sorted[start], sorted[min(start+size, len(sorted))-1]
		w.keys[f.encodeKey(first)] = struct{}{}
		w.ranges = append(w.ranges, keyRange{low: first, high: last})
	}
	w.boundRanges(f)
}

// boundRanges joins the ranges into one when there are too many, or when one is the
// whole table.
func (w *tableWork) boundRanges(f *fingerprint) {
	for _, r := range w.ranges {
		if r.low == nil && r.high == nil {
			w.ranges = []keyRange{{}}
			return
		}
	}
	if len(w.ranges) <= 2*coalescedRanges {
		return
	}
	hull := w.ranges[0]
	if !f.layout.keyOrdered {
		hull = keyRange{}
	}
	for _, r := range w.ranges {
		if hull.low != nil && (r.low == nil || f.layout.compareKeys(r.low, hull.low) < 0) {
			hull.low = r.low
		}
		if hull.high != nil && (r.high == nil || f.layout.compareKeys(r.high, hull.high) > 0) {
			hull.high = r.high
		}
	}
	w.ranges = []keyRange{hull}
}
