package ghostferry

import (
	"sort"
	"sync"
	"sync/atomic"
)

const (
	// touchedKeysBytes is how much memory the keys that wait for a comparison may take.
	touchedKeysBytes = 16 << 20
	// touchedKeyOverhead is what a key costs in a map beyond its bytes.
	touchedKeyOverhead = 80
	// coalescedRanges is into how many ranges the keys of a table are coalesced, and
	// twice as many is how many ranges a table may have.
	coalescedRanges = 32
)

// touchedKeys holds what still has to be compared: keys by table, and where there are
// too many of them, ranges of keys that contain them. Nothing that was added is lost.
// It is safe for concurrent use.
type touchedKeys struct {
	limit int // bytes, immutable
	// recording is whether changes are of interest yet.
	recording atomic.Bool

	mu struct {
		sync.Mutex
		work  verifyWork
		bytes int // of all keys, with overhead
	}
}

// verifyWork is what has to be compared, by table.
type verifyWork map[*fingerprint]*tableWork

// tableWork is what has to be compared of one table.
type tableWork struct {
	keys   map[string]struct{} // encoded
	ranges []keyRange
}

func newTouchedKeys(limit int) *touchedKeys {
	t := &touchedKeys{limit: limit}
	t.mu.work = verifyWork{}
	return t
}

// add remembers keys.
func (t *touchedKeys) add(f *fingerprint, keys ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(f, keys)
}

// addRange remembers every key of a range.
func (t *touchedKeys) addRange(f *fingerprint, r keyRange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.mu.work.of(f)
	w.ranges = append(w.ranges, r)
	w.boundRanges(f)
}

// take removes and returns everything.
func (t *touchedKeys) take() verifyWork {
	t.mu.Lock()
	defer t.mu.Unlock()
	work := t.mu.work
	t.mu.work, t.mu.bytes = verifyWork{}, 0
	return work
}

// putBack adds what was taken and could not be compared.
func (t *touchedKeys) putBack(work verifyWork) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for f, w := range work {
		kept := t.mu.work.of(f)
		kept.ranges = append(kept.ranges, w.ranges...)
		kept.boundRanges(f)
		for key := range w.keys {
			t.addLocked(f, []string{key})
		}
	}
}

// counts returns how many keys and ranges are held.
func (t *touchedKeys) counts() (keys, ranges int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.work.counts()
}

func (t *touchedKeys) addLocked(f *fingerprint, keys []string) {
	w := t.mu.work.of(f)
	for _, key := range keys {
		if _, known := w.keys[key]; known || w.covers(f, key) {
			continue
		}
		w.keys[key] = struct{}{}
		t.mu.bytes += len(key) + touchedKeyOverhead
	}
	for t.mu.bytes > t.limit && t.coalesceLocked() {
	}
}

// coalesceLocked turns the keys of the table with the most keys into ranges. It
// reports whether that made room.
func (t *touchedKeys) coalesceLocked() bool {
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
		ranges += len(w.ranges)
	}
	return keys, ranges
}

func (w *tableWork) bytes() int {
	n := 0
	for key := range w.keys {
		n += len(key) + touchedKeyOverhead
	}
	return n
}

// covers reports that a key certainly lies in one of the ranges.
func (w *tableWork) covers(f *fingerprint, key string) bool {
	if len(w.ranges) == 0 {
		return false
	}
	if !f.layout.keyOrdered {
		return w.ranges[0].low == nil && w.ranges[0].high == nil
	}
	tuple := f.splitKey(key)
	for _, r := range w.ranges {
		if (r.low == nil || f.layout.compareKeys(tuple, r.low) > 0) && (r.high == nil || f.layout.compareKeys(tuple, r.high) <= 0) {
			return true
		}
	}
	return false
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
