package model

import (
	"fmt"
	"slices"
)

// traceOf is a schedule of the model as a trace, for configurations with the
// plain engine: gates, batches, lanes, crashes and a cutover.
func traceOf(c *Config, acts []action, states []state) (trace []Step) {
	phases := 2
	if c.on[OnePhase] {
		phases = 1
	}
	trace = append(trace, Step{Kind: "table", Table: "t", Phases: phases})
	for i, act := range acts {
		trace = append(trace, act.steps(c, &states[i], &states[i+1])...)
	}
	return trace
}

func changeName(position uint8) string {
	if position == 0 {
		return ""
	}
	return fmt.Sprintf("change %d", position)
}

func keyNames(keys uint8) (names []string) {
	for k := range maxKeys {
		if keys>>k&1 != 0 {
			names = append(names, fmt.Sprint(k+1))
		}
	}
	return names
}

// steps are the steps of a trace that an action stands for.
func (a action) steps(c *Config, from, to *state) []Step {
	chunk := int(a.a) + 1
	// What was to be written and is not there was left out.
	skipped := func(in rows) (keys uint8) {
		for k, x := range in {
			if x != 0 && to.t[k] == 0 {
				keys |= 1 << k
			}
		}
		return keys
	}
	switch a.kind {
	case actDeliver:
		return deliverSteps(from, a.a, a.b)
	case actOpen, actRegister:
		if to.ch[a.a].pc != chOpen {
			return nil
		}
		keys := keyNames(c.Chunks[a.a])
		low := fmt.Sprint(slices.Min(keys)[0] - '1')
		return []Step{{Kind: "open", Table: "t", Chunk: chunk, Low: low, High: slices.Max(keys), At: changeName(to.ch[a.a].d)}}
	case actBarrier:
		// What is visible, up to the first change that is not.
		at := to.ch[a.a].d
		for i := range at {
			if from.vis>>i&1 == 0 {
				at = i
				break
			}
		}
		return []Step{{Kind: "barrier", Chunk: chunk, At: changeName(at)}}
	case actRead:
		rows := map[string]Image{}
		for k, x := range to.ch[a.a].buf {
			if x != 0 {
				rows[fmt.Sprint(k+1)] = imageName(x)
			}
		}
		return []Step{{Kind: "read", Chunk: chunk, Rows: rows}}
	case actWrite:
		return []Step{{Kind: "copy", Chunk: chunk, Keys: keyNames(skipped(from.ch[a.a].buf))}}
	case actClose:
		return []Step{{Kind: "close", Chunk: chunk}}
	case actReplan:
		return []Step{{Kind: "abandon", Chunk: chunk}, {Kind: "close", Chunk: chunk}}
	case actBatch:
		return []Step{{Kind: "batch", At: changeName(a.b)}}
	case actDelete:
		return []Step{{Kind: "delete", Table: "t", Lane: int(a.a), Keys: keyNames(a.b)}}
	case actInsert, actUpsert:
		last := from.compact(c, from.m, from.bEnd).last
		steps := []Step{{Kind: "write", Table: "t", Lane: int(a.a), Keys: keyNames(a.b), Skipped: keyNames(skipped(last) & a.b)}}
		if to.bEnd == 0 {
			steps = append(steps, Step{Kind: "position", At: changeName(to.pos[0])})
		}
		return steps
	case actPosition:
		return []Step{{Kind: "position", At: changeName(to.pos[0])}}
	case actCrash:
		return []Step{{Kind: "crash"}}
	case actResume:
		return []Step{{Kind: "resume", At: changeName(to.pos[0]), Epoch: int(to.epoch)}}
	case actBlock:
		return []Step{{Kind: "block"}}
	case actReadE:
		return []Step{{Kind: "stop", At: changeName(to.e)}}
	case actDone:
		return []Step{{Kind: "done"}}
	}
	return nil
}

func deliverSteps(s *state, from, to uint8) (steps []Step) {
	name := func(k uint8) string {
		if k == noKey {
			return ""
		}
		return fmt.Sprint(k + 1)
	}
	for i := from; i < to; i++ {
		e := s.log[i]
		step := Step{Kind: "deliver", Table: "t", At: changeName(i + 1), Old: name(e.old()), New: name(e.new()), End: e.end()}
		if e.old() != noKey {
			step.Was = imageName(s.rowsAt(i)[e.old()])
		}
		if e.new() != noKey {
			step.Is = imageName(e.x)
		}
		steps = append(steps, step)
	}
	return steps
}

func imageName(x img) Image {
	image := Image{Name: fmt.Sprintf("%02x", uint8(x))}
	if u := x.unique(); u != 0 {
		image.Unique = []string{fmt.Sprint(u)}
	}
	return image
}
