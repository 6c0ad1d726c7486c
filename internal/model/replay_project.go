package model

import (
	"cmp"
	"slices"
)

// Projection is a part of a trace that the model can hold: two keys of a table.
type Projection struct {
	Table string
	Keys  [2]string
}

// projected is a projection's configuration and what the trace says of it beforehand.
type projected struct {
	Projection
	cfg     *Config
	log     []event
	names   []string         // of the images of log
	before  [2]string        // names of the keys' first images
	entries map[string][]int // name of a change to entries of log that it delivers
	batches map[int]uint8    // step of a batch to where it ends in log
	copies  [2]map[int]bool  // chunks that copy a key
	ends    []int            // per entry: the change by which it is in a position
	index   map[string]int   // name of a change to the position after it
}

// Projections chooses up to n pairs of keys with few enough changes: those that were left
// out, moved, or handed a unique value on first.
func Projections(trace []Step, n int) []Projection {
	phases, changes := map[string]int{}, map[tableKey]int{}
	owners, partners := map[tableKey][]string{}, map[Projection]int{}
	known, left := map[string]bool{}, map[tableKey]bool{}
	pair := func(table, a, b string, score int) {
		if a != b && phases[table] > 0 {
			p := Projection{table, [2]string{min(a, b), max(a, b)}}
			partners[p] = max(partners[p], score)
		}
	}
	own := func(table, key string, x Image) {
		for _, u := range x.Unique {
			if k := (tableKey{table, u}); !slices.Contains(owners[k], key) {
				owners[k] = append(owners[k], key)
			}
		}
	}
	last := map[string]string{}
	opened := map[int]string{}
	for _, s := range trace {
		switch s.Kind {
		case "table":
			phases[s.Table] = s.Phases
		case "open":
			opened[s.Chunk] = s.Table
		case "copy", "write":
			for _, key := range append(slices.Clone(s.Skipped), s.Keys...) {
				if s.Kind == "copy" {
					left[tableKey{opened[s.Chunk], key}] = true
				} else if slices.Contains(s.Skipped, key) {
					left[tableKey{s.Table, key}] = true
				}
			}
		case "deliver":
			if known[s.At] {
				continue
			}
			known[s.At] = true
			for _, key := range []string{s.Old, s.New} {
				if key != "" {
					changes[tableKey{s.Table, key}]++
				}
			}
			own(s.Table, s.Old, s.Was)
			own(s.Table, s.New, s.Is)
			switch {
			case s.Old != "" && s.New != "" && s.Old != s.New:
				pair(s.Table, s.Old, s.New, 50)
			case s.New != "" && last[s.Table] != "":
				pair(s.Table, s.New, last[s.Table], 1)
			}
			last[s.Table] = s.New
		}
	}
	for u, keys := range owners {
		for i, a := range keys {
			for _, b := range keys[:i] {
				score := 10
				if left[tableKey{u.table, a}] || left[tableKey{u.table, b}] {
					score = 100
				}
				pair(u.table, a, b, score)
			}
		}
	}
	var list []Projection
	for p := range partners {
		if a, b := changes[tableKey{p.Table, p.Keys[0]}], changes[tableKey{p.Table, p.Keys[1]}]; a+b <= maxLog {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(p, q Projection) int {
		weight := func(p Projection) int {
			return partners[p] + changes[tableKey{p.Table, p.Keys[0]}] + changes[tableKey{p.Table, p.Keys[1]}]
		}
		return cmp.Or(cmp.Compare(weight(q), weight(p)), cmp.Compare(p.Table+p.Keys[0]+p.Keys[1], q.Table+q.Keys[0]+q.Keys[1]))
	})
	return spread(list, n)
}

// spread takes n of a list: the first half of them from its head, the others from all of it.
func spread(list []Projection, n int) []Projection {
	if len(list) <= n {
		return list
	}
	out := slices.Clone(list[:n/2])
	rest := list[n/2:]
	for i := range n - n/2 {
		out = append(out, rest[i*len(rest)/(n-n/2)])
	}
	return out
}

// key is the number of a key in the projection, noKey when it is not in it.
func (p *Projection) key(table, key string) uint8 {
	for k, name := range p.Keys {
		if table == p.Table && key == name {
			return uint8(k)
		}
	}
	return noKey
}

// newReplay prepares a projection; void says that the model is too small for it.
func newReplay(trace []Step, p Projection, locking bool) (r *replay, void bool) {
	r = &replay{projected: projected{Projection: p, entries: map[string][]int{}, batches: map[int]uint8{}, index: map[string]int{"": 0}}}
	phases := 2
	for _, s := range trace {
		if s.Kind == "table" && s.Table == p.Table {
			phases = s.Phases
		}
	}
	c := Config{
		Keys: 2, Values: 3, Events: maxLog, TxnMax: maxLog, Txns: 1, Chunks: []uint8{1, 2}, Workers: 2, Lanes: 2,
		Crashes: 200, Features: []Feature{Parts, Cutover},
	}
	if phases == 1 {
		c.Features = append(c.Features, OnePhase)
	}
	if locking {
		c.Features = append(c.Features, LockingRead)
	}
	r.cfg = c.prepared()
	s := state{up: 1, epoch: 1, planMax: 2, app: 1, src: srcStarted | srcPlanned}
	if phases != 1 {
		s.index = indexPresent
	}
	if r.readLog(trace, &s) {
		return nil, true
	}
	r.readBatches(trace)
	r.readChunks(trace)
	for k := range r.Keys {
		if len(r.copies[k]) == 0 {
			s.marks |= 1 << k // beyond the end of the plan
		}
	}
	r.ways = map[way]struct{}{{s: s}: {}}
	return r, r.unseen() != ""
}

// change is a change of the trace as far as it concerns the projection.
type projectedChange struct {
	step     Step
	position int
	old, new uint8
}

// readLog makes the log of the projection; void says that the model cannot hold it.
func (r *replay) readLog(trace []Step, s *state) (void bool) {
	changes := r.changes(trace)
	letters, ok := r.letters(trace, changes)
	split := r.split(trace, changes)
	if !ok || len(changes)+len(split) > maxLog {
		return true
	}
	image := func(x Image, stamp int) img {
		u := uint8(0)
		for _, value := range x.Unique {
			u = letters[value]
		}
		return newImg(u, uint8(stamp))
	}
	for k, key := range r.Keys {
		x := r.initial(trace, changes, uint8(k), key)
		if r.before[k] = x.Name; !x.absent() {
			s.init[k] = image(x, stampInitial)
		}
	}
	for i, ch := range changes {
		e := newEvent(ch.old, ch.new, 0)
		if ch.new != noKey {
			e.x = image(ch.step.Is, stampLog+len(r.log))
		}
		end := r.txnEnd(trace, ch.position)
		lastOf := i+1 == len(changes) || r.txnEnd(trace, changes[i+1].position) != end
		marked := slices.Contains(split, end)
		if lastOf && !marked {
			e.a |= evEnd
		}
		r.entries[ch.step.At] = append(r.entries[ch.step.At], len(r.log))
		r.log, r.names, r.ends = append(r.log, e), append(r.names, ch.step.Is.Name), append(r.ends, ch.position)
		if !marked {
			r.ends[len(r.ends)-1] = ch.position
		}
		if lastOf && marked {
			at := r.nameOf(end)
			r.entries[at] = append(r.entries[at], len(r.log))
			r.log = append(r.log, event{noKey | noKey<<2 | evEnd, markRollback})
			r.names, r.ends = append(r.names, ""), append(r.ends, end)
		}
	}
	return false
}

// changes are those of the projection's keys, in the order of the log.
func (r *replay) changes(trace []Step) (out []projectedChange) {
	for _, s := range trace {
		if s.Kind != "deliver" {
			continue
		}
		if _, known := r.index[s.At]; known {
			continue
		}
		r.index[s.At] = len(r.index)
		if old, to := r.key(s.Table, s.Old), r.key(s.Table, s.New); old != noKey || to != noKey {
			out = append(out, projectedChange{s, r.index[s.At], old, to})
		}
	}
	return out
}

// txnEnd is the position after the transaction of the change before a position.
func (r *replay) txnEnd(trace []Step, position int) int {
	end := len(r.index) - 1
	for _, s := range trace {
		if s.Kind == "deliver" && s.End && r.index[s.At] >= position {
			end = min(end, r.index[s.At])
		}
	}
	return end
}

func (r *replay) nameOf(position int) string {
	for name, at := range r.index {
		if at == position {
			return name
		}
	}
	return ""
}

// letters gives the unique values that both keys hold at some time a letter each; the
// others are as good as NULL. The model has three letters.
func (r *replay) letters(trace []Step, changes []projectedChange) (map[string]uint8, bool) {
	held := map[string]uint8{}
	fits := true
	hold := func(k uint8, x Image) {
		fits = fits && len(x.Unique) <= 1
		for _, u := range x.Unique {
			held[u] |= 1 << k
		}
	}
	for _, ch := range changes {
		if ch.old != noKey {
			hold(ch.old, ch.step.Was)
		}
		if ch.new != noKey {
			hold(ch.new, ch.step.Is)
		}
	}
	for k, key := range r.Keys {
		hold(uint8(k), r.initial(trace, changes, uint8(k), key))
	}
	letters := map[string]uint8{}
	var shared []string
	for u, keys := range held {
		if keys == 3 {
			shared = append(shared, u)
		}
	}
	slices.Sort(shared)
	for i, u := range shared {
		letters[u] = uint8(i) + 1
	}
	return letters, fits && len(shared) <= 3
}

// initial is a key's first image: before its first change, or as it was read.
func (r *replay) initial(trace []Step, changes []projectedChange, k uint8, key string) Image {
	for _, ch := range changes {
		switch k {
		case ch.old:
			return ch.step.Was
		case ch.new:
			return Image{}
		}
	}
	opened := map[int]string{}
	for _, s := range trace {
		switch s.Kind {
		case "open":
			opened[s.Chunk] = s.Table
		case "read":
			if x, ok := s.Rows[key]; ok && opened[s.Chunk] == r.Table {
				return x
			}
		}
	}
	return Image{}
}

// split are the ends of transactions of the projection that a batch or a position does
// not take whole: these get an entry of their own for their end.
func (r *replay) split(trace []Step, changes []projectedChange) (ends []int) {
	for _, ch := range changes {
		end := r.txnEnd(trace, ch.position)
		if slices.Contains(ends, end) {
			continue
		}
		taken := false // by a batch whose position is to come
		for _, s := range trace {
			at := r.index[s.At]
			switch s.Kind {
			case "batch":
				if taken = at >= ch.position; taken && at < end {
					ends = append(ends, end)
				}
			case "position":
				if taken && at < end {
					ends = append(ends, end)
				}
			}
		}
		slices.Sort(ends)
		ends = slices.Compact(ends)
	}
	return ends
}

// position is where a position of the trace stands in the log of the projection.
func (r *replay) position(at string) uint8 { return r.upTo(r.index[at], r.index[at]) }

// upTo counts the entries up to a position; ends of transactions up to another one.
func (r *replay) upTo(position, ended int) (n uint8) {
	for i, e := range r.log {
		if e.touches() == 0 && r.ends[i] <= ended || e.touches() != 0 && r.ends[i] <= position {
			n = uint8(i) + 1
		}
	}
	return n
}

// readBatches finds out where each batch ends. The end of a transaction belongs to the
// batch that commits it as the position.
func (r *replay) readBatches(trace []Step) {
	for i, s := range trace {
		if s.Kind != "batch" {
			continue
		}
		ended := r.index[s.At]
		for _, next := range trace[i+1:] {
			if next.Kind == "position" {
				ended = r.index[next.At]
			}
			if next.Kind == "position" || next.Kind == "crash" {
				break
			}
		}
		r.batches[i] = r.upTo(r.index[s.At], ended)
	}
}

// readChunks finds out which chunks copy each key. Those that were abandoned, had no row
// and were copied again by a later process, or were not read before the process died, are
// not of the projection: their gates only made changes wait.
func (r *replay) readChunks(trace []Step) {
	type copying struct {
		open     Step
		read     bool
		rows     int
		high     string
		dropped  bool
		sequence int
	}
	chunks := map[int]*copying{}
	for i, s := range trace {
		c := chunks[s.Chunk]
		switch s.Kind {
		case "open":
			chunks[s.Chunk] = &copying{open: s, high: s.High, sequence: i}
		case "read":
			if c.read, c.rows = true, len(s.Rows); s.High != "" {
				c.high = s.High
			}
		case "abandon", "fail":
			c.dropped = true
		case "copy":
			c.dropped = false // its COMMIT was executed after all
		}
	}
	for k, key := range r.Keys {
		r.copies[k] = map[int]bool{}
		last := 0
		for _, c := range chunks {
			g := traceGate{open: c.open}
			g.open.High = c.high
			if c.dropped || !c.read || !g.mayHold(r.Table, key) {
				continue
			}
			r.copies[k][c.open.Chunk] = true
			last = max(last, c.sequence)
		}
		for id := range r.copies[k] {
			if c := chunks[id]; c.rows == 0 && c.sequence != last {
				delete(r.copies[k], id)
			}
		}
	}
}

// name is the trace's name of an image of key k.
func (r *replay) name(k int, x img) string {
	switch {
	case x == 0:
		return ""
	case x.stamp() == stampInitial:
		return r.before[k]
	}
	return r.names[x.stamp()-stampLog]
}
