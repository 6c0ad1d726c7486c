package model

import (
	"fmt"
	"slices"
)

// Replay checks a trace against the model itself, one projection at a time: the steps that
// concern the projection's keys must be a schedule of the model's own machine, with every
// invariant kept in every state on the way.
//
// Why a projection says something about the whole: the engine decides nothing about a key
// by what other keys are, except that a row is kept out by another that holds its unique
// value. So what a run does with two keys is a run of the model with two keys, whose log
// are the changes of these keys, whose chunks are the parts of chunks that hold them, and
// whose lanes are one a key (that two keys were written by one transaction is a special
// case of two transactions with nothing between). When a third row keeps one of the keys
// out, the projection has not all of the cause and says nothing: the result is void.
//
// What a trace does not tell is tried in all ways: when the source flushed and committed
// its transactions, when between barrier and its report a read took place, and when
// between the first statement and its report a transaction of the target took effect. The
// trace is accepted when one of the ways is left at the end. locking says that the source
// was read with locks instead of behind a barrier.
func Replay(trace []Step, p Projection, locking bool) (void bool, err error) {
	r, void := newReplay(trace, p, locking)
	if void {
		return true, nil
	}
	for i, s := range trace {
		r.at = i
		if rule := r.step(s); rule != "" {
			return r.void, &RejectedError{Index: i, Step: s, Rule: fmt.Sprintf("%s (keys %v alone)", rule, p.Keys)}
		}
		if r.void {
			return true, nil
		}
	}
	return false, nil
}

// way is a state of the model with what was done ahead of its report.
type way struct {
	s state
	// copySkip and laneSkip are keys that were kept out by the last write of their
	// chunk and of their lane.
	copySkip, laneSkip uint8
}

// replay is a projection on its way through the trace.
type replay struct {
	projected
	ways map[way]struct{}
	at   int
	void bool

	open    [maxChunks]int  // the chunk of the trace that a key's chunk stands for
	seen    [maxChunks]bool // its read is reported: it may be written
	copied  [maxChunks]bool // so is its write: its gate may close
	touched uint8           // keys of the batch
	deleted uint8           // of these, keys whose first phase is reported
	written uint8           // and the last
	end     uint8           // where the batch ends
	idle    bool            // it has nothing of the projection
}

// successors are the states after a step of the machine that match takes.
func (r *replay) successors(w *way, match func(a action, to *state) bool) (out []state) {
	m := machine{cfg: r.cfg}
	m.next(&w.s)
	for i := range m.out {
		if match(m.out[i].act, &m.out[i].to) {
			out = append(out, m.out[i].to)
		}
	}
	return out
}

// take replaces every way by those that f leads to; rule is the reason when none is left.
func (r *replay) take(rule string, f func(w way) []way) string {
	next := map[way]struct{}{}
	for w := range r.ways {
		for _, to := range f(w) {
			next[to] = struct{}{}
		}
	}
	if len(next) == 0 {
		return rule
	}
	r.ways = next
	return r.unseen()
}

// act takes a step of the machine in every way that has it.
func (r *replay) act(rule string, match func(a action, to *state) bool) string {
	return r.take(rule, func(w way) (out []way) {
		for _, s := range r.successors(&w, match) {
			out = append(out, way{s, w.copySkip, w.laneSkip})
		}
		return out
	})
}

// keep drops the ways that do not match.
func (r *replay) keep(rule string, match func(w *way) bool) string {
	return r.take(rule, func(w way) []way {
		if match(&w) {
			return []way{w}
		}
		return nil
	})
}

// unseen adds all ways to which steps lead that the trace does not tell, or tells later,
// and checks the invariants in each.
func (r *replay) unseen() string {
	var todo []way
	for w := range r.ways {
		todo = append(todo, w)
	}
	for len(todo) > 0 {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if inv := r.cfg.check(&w.s); inv != 0 {
			return inv.String()
		}
		for _, to := range r.ahead(&w) {
			if _, known := r.ways[to]; !known {
				r.ways[to] = struct{}{}
				todo = append(todo, to)
			}
		}
	}
	return ""
}

// ahead are the steps that may have been taken before the trace tells of them.
func (r *replay) ahead(w *way) (out []way) {
	if w.s.up == 0 || w.s.halt != runs {
		return nil
	}
	if t, ok := r.flush(&w.s); ok {
		out = append(out, way{t, w.copySkip, w.laneSkip})
	}
	m := machine{cfg: r.cfg}
	m.next(&w.s)
	for i := range m.out {
		a, to := m.out[i].act, &m.out[i].to
		n := way{*to, w.copySkip, w.laneSkip}
		switch a.kind {
		case actEngine, actRead, actReadKey:
		case actWrite:
			if !r.seen[a.a] {
				continue
			}
			n.copySkip = n.copySkip&^(1<<a.a) | leftOut(&w.s.ch[a.a].buf, to, 1<<a.a)
		case actDelete, actUpsert:
		case actInsert:
			if r.deleted != r.touched {
				continue // all lanes meet before any goes on
			}
			last := w.s.compact(r.cfg, w.s.m, w.s.bEnd).last
			n.laneSkip = n.laneSkip&^a.b | leftOut(&last, to, a.b)
		default:
			continue
		}
		out = append(out, n)
	}
	return out
}

// leftOut are the keys that were to be written and are not there.
func leftOut(in *rows, to *state, keys uint8) (out uint8) {
	for k, x := range in {
		if keys>>k&1 != 0 && x != 0 && to.t[k] == 0 {
			out |= 1 << k
		}
	}
	return out
}

// flush puts the next transaction of the log into it, unless it would have had to wait
// for a lock.
func (r *replay) flush(s *state) (state, bool) {
	if int(s.n) == len(r.log) {
		return state{}, false
	}
	m := machine{cfg: r.cfg, s: s}
	keys, values := m.locked()
	t := *s
	for done := false; !done; {
		e := r.log[t.n]
		if e.touches()&keys != 0 || values>>e.x.unique()&1 != 0 && e.x.unique() != 0 {
			return state{}, false
		}
		t.append(e)
		done = e.end()
	}
	return t, true
}

// step takes a step of the trace.
func (r *replay) step(s Step) string {
	switch s.Kind {
	case "deliver":
		return r.deliver(s)
	case "open", "barrier", "read", "copy", "close":
		return r.chunk(s)
	case "batch", "delete", "write", "position", "retry":
		return r.apply(s)
	case "crash":
		r.open, r.idle = [maxChunks]int{}, false
		return r.act("the model does not crash here", func(a action, _ *state) bool { return a.kind == actCrash })
	case "resume":
		at := r.position(s.At)
		return r.act(fmt.Sprintf("it goes on from change %d, the model from another", at), func(a action, to *state) bool {
			return a.kind == actResume && to.p(r.cfg) == at
		})
	case "block":
		if rule := r.keep("", func(w *way) bool { return int(w.s.n) == len(r.log) }); rule != "" {
			return rule
		}
		return r.act("the model does not block the writes yet", func(a action, _ *state) bool { return a.kind == actBlock })
	case "stop":
		return r.act("the model does not read the stop position yet", func(a action, _ *state) bool { return a.kind == actReadE })
	case "done":
		return r.act("the model is not done", func(_ action, to *state) bool { return to.halt == haltDone })
	}
	return "" // what a transaction without an answer did is open until it is written again
}

// deliver takes the changes of the projection, and the end of a transaction that was
// executed in parts.
func (r *replay) deliver(s Step) string {
	for _, i := range r.entries[s.At] {
		if r.log[i].touches() == 0 && !s.End {
			continue
		}
		rule := r.act(fmt.Sprintf("the model does not deliver its change %d now", i+1), func(a action, _ *state) bool {
			return a.kind == actDeliver && int(a.a) == i
		})
		if rule != "" {
			return rule
		}
	}
	return ""
}

// chunk takes a step of a copier, for each key that the chunk holds.
func (r *replay) chunk(s Step) string {
	for k, key := range r.Keys {
		if s.Kind == "open" && !r.copies[k][s.Chunk] || s.Kind != "open" && (r.open[k] == 0 || r.open[k] != s.Chunk) {
			continue
		}
		if rule := r.chunkOf(s, k, key); rule != "" {
			return rule
		}
	}
	return ""
}

func (r *replay) chunkOf(s Step, k int, key string) string {
	is := func(kind actionKind) func(action, *state) bool {
		return func(a action, _ *state) bool { return a.kind == kind && int(a.a) == k }
	}
	switch s.Kind {
	case "open":
		r.open[k], r.seen[k], r.copied[k] = s.Chunk, false, false
		return r.act("the model does not open the gate of key "+key, is(actOpen))
	case "barrier":
		return r.act("what was delivered when the gate opened is not visible to the read of key "+key, is(actBarrier))
	case "read":
		r.seen[k] = true
		want := s.Rows[key].Name
		return r.keep(fmt.Sprintf("key %s was read as %q, which the model cannot see", key, want), func(w *way) bool {
			return w.s.ch[k].pc == chRead && r.name(k, w.s.ch[k].buf[k]) == want
		})
	case "copy":
		r.copied[k] = true
		skipped := slices.Contains(s.Keys, key)
		return r.left(skipped, key, s.Kind, func(w *way) bool {
			return w.s.ch[k].pc == chWritten && (w.copySkip>>k&1 != 0) == skipped
		})
	}
	if r.open[k] = 0; !r.copied[k] {
		return "the chunk is closed without its write"
	}
	return r.act("the model does not close the gate of key "+key, is(actClose))
}

// left keeps the ways in which a key was left out, or was not. What the model would not
// have left out was kept out by a row that is not of the projection.
func (r *replay) left(skipped bool, key, kind string, match func(w *way) bool) string {
	rule := r.keep(fmt.Sprintf("%s of key %s, left out: %t; the model does otherwise", kind, key, skipped), match)
	if rule != "" && skipped {
		r.void, rule = true, ""
	}
	return rule
}

// apply takes a step of the applier.
func (r *replay) apply(s Step) string {
	switch s.Kind {
	case "batch":
		return r.batch()
	case "retry":
		r.deleted, r.written = 0, 0
		return r.take("no batch is in execution", func(w way) []way {
			m := machine{cfg: r.cfg, s: &w.s}
			t := w
			if w.s.bEnd != 0 {
				t.s.lane = [maxLanes]uint8{}
				m.idleLanes(&t.s)
			}
			return []way{w, t}
		})
	case "position":
		if !r.idle && r.written != r.touched {
			return "not all keys are written yet"
		}
		at := r.position(s.At)
		return r.take(fmt.Sprintf("the model does not have change %d as the position after this batch", at), func(w way) (out []way) {
			if (r.idle || r.over(&w)) && w.s.p(r.cfg) == at {
				return []way{w}
			}
			for _, s := range r.successors(&w, func(a action, to *state) bool { return a.kind == actPosition && to.p(r.cfg) == at }) {
				out = append(out, way{s, w.copySkip, w.laneSkip})
			}
			return out
		})
	}
	for k, key := range r.Keys {
		if r.idle || s.Table != r.Table || !slices.Contains(s.Keys, key) {
			continue
		}
		if s.Kind == "delete" {
			r.deleted |= 1 << k
			rule := r.keep("the model does not delete key "+key, func(w *way) bool { return r.over(w) || w.s.lane[r.cfg.laneOf(k)] != laneNone })
			if rule != "" {
				return rule
			}
			continue
		}
		if !r.cfg.on[OnePhase] && r.deleted != r.touched {
			return "not all keys are deleted yet"
		}
		r.written |= 1 << k
		skipped := slices.Contains(s.Skipped, key)
		rule := r.left(skipped, key, s.Kind, func(w *way) bool {
			return (r.over(w) || w.s.lane[r.cfg.laneOf(k)] == laneDone) && (w.laneSkip>>k&1 != 0) == skipped
		})
		if rule != "" || r.void {
			return rule
		}
	}
	return ""
}

// over says whether the batch has ended: one that has no end of a transaction commits no
// new position in the model.
func (r *replay) over(w *way) bool { return w.s.bEnd == 0 && w.s.m == r.end }

// batch takes the changes of the projection up to the batch's end.
func (r *replay) batch() string {
	end := r.batches[r.at]
	r.touched, r.deleted, r.written, r.idle, r.end = 0, 0, 0, true, end
	for w := range r.ways {
		r.idle = r.idle && w.s.m == end
	}
	if r.idle {
		return ""
	}
	for w := range r.ways {
		for _, e := range r.log[w.s.m:end] {
			r.touched |= e.touches()
		}
		break
	}
	return r.act(fmt.Sprintf("the model does not begin a batch up to change %d: a gate is open, or another is in execution", end), func(a action, _ *state) bool {
		return a.kind == actBatch && a.b == end
	})
}
