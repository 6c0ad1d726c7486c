package model

import "fmt"

// traceGate is an open chunk.
type traceGate struct {
	open  Step
	d     int
	ended bool
	// failed: nothing waits for it any more, and what waited is held for ever. The lost
	// transaction keeps the locks of its rows until it is decided.
	failed bool
	// visible: the barrier is passed; read: the rows are in memory.
	visible, read bool
	rows          map[string]Image
	written       map[tableKey]bool // by the applier since the read: see traceBatch.copied
}

func (g *traceGate) mayHold(table, key string) bool {
	return !g.failed && table == g.open.Table && key != "" && (g.open.AnyKey || key > g.open.Low && (g.open.High == "" || key <= g.open.High))
}

// chunk takes a step of a copier.
func (a *acceptor) chunk(s Step) string {
	if s.Kind == "open" {
		at, ok := a.index[s.At]
		switch {
		case a.gates[s.Chunk] != nil:
			return fmt.Sprintf("chunk %d is open", s.Chunk)
		case a.finished[s.Chunk]:
			return fmt.Sprintf("chunk %d is finished", s.Chunk)
		case !ok || at < a.delivered:
			return fmt.Sprintf("d is %q, and %d changes are delivered", s.At, a.delivered)
		}
		a.gates[s.Chunk] = &traceGate{open: s, d: at}
		return ""
	}
	g := a.gates[s.Chunk]
	if g == nil {
		return fmt.Sprintf("chunk %d is not open", s.Chunk)
	}
	switch s.Kind {
	case "barrier":
		if at, ok := a.index[s.At]; !ok || at < g.d {
			return fmt.Sprintf("the barrier covers %q, the gate opened at %d", s.At, g.d)
		}
		g.visible = true
	case "read":
		if g.read = g.visible; !g.read {
			return "read before the barrier"
		}
		g.rows, g.written = s.Rows, map[tableKey]bool{}
		return a.seen(g, s)
	case "copy":
		if !g.read || g.ended {
			return "written without having been read under this gate"
		}
		g.ended, a.finished[s.Chunk] = true, true
		a.owe(g.open.Table, s.Keys)
		return a.copied(g, s.Keys)
	case "abandon":
		if g.ended {
			return "it is committed"
		}
		g.ended = true
	case "fail":
		g.failed = true
	case "close":
		if !g.ended {
			return "it is neither committed nor abandoned"
		}
		delete(a.gates, s.Chunk)
	}
	return ""
}

// seen checks what a read has seen: of every key, whose range the read covers, an
// image that was there at the gate's d or later.
func (a *acceptor) seen(g *traceGate, s Step) string {
	covers := *g
	if s.High != "" {
		covers.open.High = s.High
	}
	table := g.open.Table
	for key, x := range s.Rows {
		k := tableKey{table, key}
		switch {
		case !covers.mayHold(table, key):
			return fmt.Sprintf("row %s of %s is outside the chunk", key, table)
		case a.past.keys[k] == nil:
			a.past.keys[k] = []version{{0, x}} // it never changes
		case !a.past.was(k, x, g.d):
			return fmt.Sprintf("row %s of %s was read as %s, which it was not at or after %d changes, delivered when the gate opened", key, table, x.Name, g.d)
		}
	}
	for k := range a.past.keys {
		if g.open.AnyKey {
			break
		}
		if _, ok := s.Rows[k.key]; !ok && covers.mayHold(k.table, k.key) && !a.past.was(k, Image{}, g.d) {
			return fmt.Sprintf("row %s of %s was not read, and it was there at and after %d changes, delivered when the gate opened", k.key, table, g.d)
		}
	}
	return ""
}

// copied inserts a chunk's rows where they are absent.
func (a *acceptor) copied(g *traceGate, skipped []string) string {
	left := keySet(g.open.Table, skipped)
	for key, x := range g.rows {
		k := tableKey{g.open.Table, key}
		if a.target[k].absent() && !left[k] && !a.past.was(k, x, a.executed) {
			return fmt.Sprintf("row %s of %s, read as %s, was changed since by changes that are executed", key, k.table, x.Name)
		}
		if left[k] && g.written[k] {
			continue
		}
		if a.batch != nil && a.target[k].absent() && !left[k] {
			a.batch.copied[k] = true
		}
		if rule := a.insert(k, x, left[k]); rule != "" {
			return rule
		}
	}
	return ""
}

// owe notes skipped keys.
func (a *acceptor) owe(table string, keys []string) {
	for _, k := range keys {
		a.owed[tableKey{table, k}] = struct{}{}
	}
}

func keySet(table string, keys []string) map[tableKey]bool {
	set := make(map[tableKey]bool, len(keys))
	for _, k := range keys {
		set[tableKey{table, k}] = true
	}
	return set
}
