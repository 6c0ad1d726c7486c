package model

import (
	"fmt"
	"time"
)

// Result is what a search came to.
type Result struct {
	Config      *Config
	States      int
	Transitions int
	Depth       int
	// Complete says that every reachable state was visited.
	Complete bool
	Elapsed  time.Duration
	// Violation is nil when no invariant was broken.
	Violation *Violation
}

// Violation is a schedule that breaks an invariant.
type Violation struct {
	Invariant Invariant
	acts      []action
	states    []state // one more than acts
}

// Limits bounds a search.
type Limits struct {
	// States is the most distinct states to visit; 0 means no bound.
	States int
}

// explorer is a breadth-first search with the visited set as fingerprints.
type explorer struct {
	cfg     *Config
	seen    fingerprints
	parent  []uint32
	ordinal []uint16 // which successor of the parent
	edges   []uint32 // progress steps, see liveness
	first   []uint32 // per state: its edges begin here
	goals   []uint32
}

// Explore visits every state of the configuration until one breaks an
// invariant.
func Explore(c Config, lim Limits) Result {
	began := time.Now()
	x := &explorer{cfg: c.prepared()}
	res := x.run(lim)
	res.Config = x.cfg
	res.Elapsed = time.Since(began)
	return res
}

func (x *explorer) run(lim Limits) (res Result) {
	var level, next []state
	for i, s := range x.cfg.initial() {
		if _, fresh := x.seen.add(s.hash()); fresh {
			x.parent = append(x.parent, noParent)
			x.ordinal = append(x.ordinal, uint16(i))
			level = append(level, s)
		}
	}
	mac := machine{cfg: x.cfg}
	base := 0
	for ; len(level) > 0; res.Depth++ {
		next = next[:0]
		for i := range level {
			from := uint32(base + i)
			mac.next(&level[i])
			x.first = append(x.first, uint32(len(x.edges)))
			if x.cfg.goal(&level[i]) {
				x.goals = append(x.goals, from)
			}
			for j := range mac.out {
				to := &mac.out[j].to
				res.Transitions++
				id, fresh := x.seen.add(to.hash())
				if mac.out[j].act.progress() {
					x.edges = append(x.edges, id)
				}
				if !fresh {
					continue
				}
				x.parent = append(x.parent, from)
				x.ordinal = append(x.ordinal, uint16(j))
				if inv := x.cfg.check(to); inv != 0 {
					res.States = len(x.parent)
					res.Violation = x.violation(inv, id)
					return res
				}
				next = append(next, *to)
			}
			if lim.States > 0 && len(x.parent) >= lim.States {
				res.States = len(x.parent)
				return res
			}
		}
		base += len(level)
		level, next = next, level
	}
	res.States, res.Complete = len(x.parent), true
	if id, stuck := x.stuck(); stuck && x.cfg.checks(Liveness) {
		res.Violation = x.violation(Liveness, id)
	}
	return res
}

const noParent = ^uint32(0)

// violation finds the schedule that leads to state id by running it again.
func (x *explorer) violation(inv Invariant, id uint32) *Violation {
	var path []uint32
	for ; id != noParent; id = x.parent[id] {
		path = append(path, id)
	}
	s := x.cfg.initial()[x.ordinal[path[len(path)-1]]]
	v := &Violation{Invariant: inv, states: []state{s}}
	mac := machine{cfg: x.cfg}
	for i := len(path) - 2; i >= 0; i-- {
		mac.next(&s)
		step := mac.out[x.ordinal[path[i]]]
		s = step.to
		v.acts = append(v.acts, step.act)
		v.states = append(v.states, s)
	}
	return v
}

// goal says whether a run may end here.
func (c *Config) goal(s *state) bool {
	return s.halt != runs || !c.on[Cutover] && s.quiet(c)
}

// stuck looks for a state from which no progress step leads to a goal: it walks
// the progress steps backwards from the goals.
func (x *explorer) stuck() (uint32, bool) {
	n := uint32(len(x.parent))
	x.first = append(x.first, uint32(len(x.edges)))
	count := make([]uint32, n+1)
	for _, to := range x.edges {
		count[to+1]++
	}
	for i := range n {
		count[i+1] += count[i]
	}
	back := make([]uint32, len(x.edges))
	at := make([]uint32, n)
	copy(at, count)
	for from := range n {
		for _, to := range x.edges[x.first[from]:x.first[from+1]] {
			back[at[to]] = from
			at[to]++
		}
	}
	ends := make([]bool, n)
	queue := x.goals
	for _, g := range queue {
		ends[g] = true
	}
	for len(queue) > 0 {
		to := queue[0]
		queue = queue[1:]
		for _, from := range back[count[to]:count[to+1]] {
			if !ends[from] {
				ends[from] = true
				queue = append(queue, from)
			}
		}
	}
	for i, ok := range ends {
		if !ok {
			return uint32(i), true
		}
	}
	return 0, false
}

// fingerprints is a set of 64-bit hashes, each with the number of its state in
// order of discovery. Open addressing, load at most two thirds. Two states that
// share a fingerprint would be taken for one: with ten million states the
// chance of a single such pair is about one in 400,000.
type fingerprints struct {
	hash []uint64
	id   []uint32
	n    uint32
}

// add returns the number of h and whether it is new.
func (f *fingerprints) add(h uint64) (uint32, bool) {
	if h == 0 {
		h = 1
	}
	if int(f.n)*3 >= len(f.hash)*2 {
		f.grow()
	}
	mask := uint64(len(f.hash) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch f.hash[i] {
		case h:
			return f.id[i], false
		case 0:
			f.hash[i], f.id[i] = h, f.n
			f.n++
			return f.n - 1, true
		}
	}
}

func (f *fingerprints) grow() {
	old, ids := f.hash, f.id
	size := max(1<<12, 2*len(old))
	f.hash, f.id = make([]uint64, size), make([]uint32, size)
	mask := uint64(size - 1)
	for j, h := range old {
		if h == 0 {
			continue
		}
		i := h & mask
		for f.hash[i] != 0 {
			i = (i + 1) & mask
		}
		f.hash[i], f.id[i] = h, ids[j]
	}
}

// Line is one line about the result.
func (r Result) Line() string {
	verdict := "no violation"
	switch {
	case r.Violation != nil:
		verdict = r.Violation.Invariant.String()
	case !r.Complete:
		verdict = "no violation so far, stopped at the bound"
	}
	return fmt.Sprintf("%-28s %9d states %10d steps depth %2d %6.1fs  %s",
		r.Config.Name, r.States, r.Transitions, r.Depth, r.Elapsed.Seconds(), verdict)
}
