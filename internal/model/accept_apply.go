package model

import "fmt"

// traceBatch is the batch in execution.
type traceBatch struct {
	end              int
	deleted, written map[tableKey]bool
	// copied are rows that a copier put in since the batch began. A delete that found
	// nothing and an insert that was kept out lock no row: they may have been executed
	// before such a copy although they were committed after it.
	copied map[tableKey]bool
}

// apply takes a step of the applier.
func (a *acceptor) apply(s Step) string {
	if s.Kind == "batch" {
		return a.gather(s)
	}
	b := a.batch
	if b == nil {
		return "no batch is in execution"
	}
	switch s.Kind {
	case "retry":
		a.batch = newTraceBatch(b.end)
		return ""
	case "position":
		return a.commitPosition(s)
	}
	touched := a.touched(b.end)
	if s.Kind == "write" && a.tables[s.Table] == 2 {
		for k := range touched {
			if k.table == s.Table && !b.deleted[k] {
				return fmt.Sprintf("key %s of %s is not deleted yet", k.key, k.table)
			}
		}
	}
	skipped := keySet(s.Table, s.Skipped)
	for _, key := range s.Keys {
		k := tableKey{s.Table, key}
		done := b.written
		if s.Kind == "delete" {
			done = b.deleted
		}
		switch {
		case !touched[k]:
			return fmt.Sprintf("key %s of %s is not in the batch", key, s.Table)
		case done[k]:
			return fmt.Sprintf("two lanes write key %s of %s", key, s.Table)
		}
		done[k] = true
		if s.Kind == "write" {
			delete(a.owed, k)
		}
	}
	a.owe(s.Table, s.Skipped)
	return a.written(s, skipped)
}

// written puts what a lane has committed on the target.
func (a *acceptor) written(s Step, skipped map[tableKey]bool) string {
	phases := a.tables[s.Table]
	if s.Kind == "delete" || phases != 2 {
		for _, key := range s.Keys { // one phase: whatever was there is replaced
			k := tableKey{s.Table, key}
			if a.batch.copied[k] {
				a.set(k, unknown)
			} else {
				a.set(k, Image{})
			}
		}
	}
	if s.Kind == "delete" {
		return ""
	}
	for _, key := range s.Keys {
		k := tableKey{s.Table, key}
		for _, g := range a.gates {
			if g.read {
				g.written[k] = true
			}
		}
		x := a.past.at(k, a.batch.end)
		switch {
		case x.absent(), skipped[k] && a.batch.copied[k]:
			continue
		case phases == 1:
			a.set(k, Image{}) // an upsert locks the row
		}
		if rule := a.insert(k, x, skipped[k]); rule != "" {
			return rule
		}
	}
	return ""
}

// gather takes a batch.
func (a *acceptor) gather(s Step) string {
	end, ok := a.index[s.At]
	switch {
	case a.batch != nil:
		return "the batch before is in execution"
	case !ok || end < a.executed || end > a.delivered:
		return fmt.Sprintf("it ends at %q, %d changes are executed and %d delivered", s.At, a.executed, a.delivered)
	}
	for i := a.executed; i < end; i++ {
		for _, c := range a.log[i].waits {
			if a.gates[c] != nil && a.gates[c].d <= i {
				return fmt.Sprintf("change %q waits for chunk %d, which is open", a.log[i].step.At, c)
			}
		}
	}
	a.batch = newTraceBatch(end)
	return ""
}

func newTraceBatch(end int) *traceBatch {
	return &traceBatch{end: end, deleted: map[tableKey]bool{}, written: map[tableKey]bool{}, copied: map[tableKey]bool{}}
}

// touched are the keys of the batch that ends at end.
func (a *acceptor) touched(end int) map[tableKey]bool {
	keys := map[tableKey]bool{}
	for i := a.executed; i < end; i++ {
		for _, k := range a.log[i].keys() {
			keys[k] = true
		}
	}
	return keys
}

// commitPosition ends the batch: everything is written, and the position is the end of
// a transaction that is executed. It may stand before the last such end: the engine
// sometimes takes the end of a transaction into a batch of its own.
func (a *acceptor) commitPosition(s Step) string {
	for k := range a.touched(a.batch.end) {
		if !a.batch.written[k] {
			return fmt.Sprintf("key %s of %s is not written yet", k.key, k.table)
		}
	}
	last := a.batch.end
	for last > 0 && !a.log[last-1].step.End {
		last--
	}
	at, ok := a.index[s.At]
	if !ok || at > last || at < a.position || at > 0 && !a.log[at-1].step.End {
		return fmt.Sprintf("the position is %q, the last transaction ended after %d changes", s.At, last)
	}
	a.position, a.executed, a.batch = at, a.batch.end, nil
	return ""
}
