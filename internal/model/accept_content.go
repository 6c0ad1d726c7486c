package model

import "fmt"

// past is what every key ever was, as far as the trace tells.
type past struct {
	keys map[tableKey][]version
	// whole: the trace is that of a run to its end, so that it has every change.
	whole bool
}

// version is a row, or its absence, from a position on.
type version struct {
	from  int
	image Image
}

// readPast collects the changes of a trace in the order of the log.
func readPast(trace []Step) past {
	p := past{keys: map[tableKey][]version{}}
	known := map[string]bool{}
	for _, s := range trace {
		if s.Kind == "done" {
			p.whole = true
		}
		if s.Kind != "deliver" || known[s.At] {
			continue
		}
		known[s.At] = true
		if s.Old != "" {
			p.add(tableKey{s.Table, s.Old}, len(known), s.Was, Image{})
		}
		if s.New != "" {
			p.add(tableKey{s.Table, s.New}, len(known), Image{}, s.Is)
		}
	}
	return p
}

// add notes that k became x with the change before position at; was is what it was if
// this is its first change.
func (p *past) add(k tableKey, at int, was, x Image) {
	v := p.keys[k]
	if len(v) == 0 {
		v = append(v, version{0, was})
	}
	if last := &v[len(v)-1]; last.from == at {
		last.image = x // deleted and written by one change
	} else {
		v = append(v, version{at, x})
	}
	p.keys[k] = v
}

// at returns what k was at a position.
func (p *past) at(k tableKey, position int) Image {
	var x Image
	for _, v := range p.keys[k] {
		if v.from <= position {
			x = v.image
		}
	}
	return x
}

// was says whether k was x at the position or later.
func (p *past) was(k tableKey, x Image, position int) bool {
	versions := p.keys[k]
	for i, v := range versions {
		if v.image.Name == x.Name && (i+1 == len(versions) || versions[i+1].from > position) {
			return true
		}
	}
	return !p.whole
}

// continues checks that a change begins where the one before it on its keys ended.
func (p *past) continues(s Step, position int) string {
	if s.Old != "" {
		if x := p.at(tableKey{s.Table, s.Old}, position); x.Name != s.Was.Name {
			return fmt.Sprintf("row %s of %s was %q before, and not %q: a change is missing", s.Old, s.Table, x.Name, s.Was.Name)
		}
	}
	if s.New != "" && s.New != s.Old {
		if x := p.at(tableKey{s.Table, s.New}, position); !x.absent() {
			return fmt.Sprintf("row %s of %s was there before: a change is missing", s.New, s.Table)
		}
	}
	return ""
}

// unknown stands on the target where a COMMIT without an answer may have written, or a
// copy and a delete have met in an order that the trace does not tell.
var unknown = Image{Name: "unknown"}

// set puts x on the target.
func (a *acceptor) set(k tableKey, x Image) {
	for _, u := range a.target[k].Unique {
		if a.holder[tableKey{k.table, u}] == k.key {
			delete(a.holder, tableKey{k.table, u})
		}
	}
	if x.absent() {
		delete(a.target, k)
		return
	}
	a.target[k] = x
	for _, u := range x.Unique {
		a.holder[tableKey{k.table, u}] = k.key
	}
}

// insert puts x on the target if k is absent, or leaves it out: then another row must
// hold one of its unique values, and otherwise none may.
func (a *acceptor) insert(k tableKey, x Image, skipped bool) string {
	if !a.target[k].absent() {
		if skipped && a.target[k].Name != unknown.Name {
			return fmt.Sprintf("row %s of %s was left out, and it is there", k.key, k.table)
		}
		return ""
	}
	held := ""
	for _, u := range x.Unique {
		if by, ok := a.holder[tableKey{k.table, u}]; ok {
			held = by
		}
	}
	switch {
	case held != "" && !skipped:
		return fmt.Sprintf("row %s of %s was inserted, and row %s holds one of its unique values", k.key, k.table, held)
	case held == "" && skipped && !a.doubtful():
		return fmt.Sprintf("row %s of %s was left out, and no row holds one of its unique values", k.key, k.table)
	case !skipped:
		a.set(k, x)
	}
	return ""
}

// doubtful says whether it is unknown what some row is on the target.
func (a *acceptor) doubtful() bool {
	for _, x := range a.target {
		if x.Name == unknown.Name {
			return true
		}
	}
	return false
}

// maybe forgets what the keys of a transaction are whose COMMIT was not answered.
func (a *acceptor) maybe(s Step) string {
	for _, w := range s.Steps {
		keys := w.Keys
		if w.Kind == "copy" {
			g := a.gates[w.Chunk]
			if g == nil {
				return fmt.Sprintf("chunk %d is not open", w.Chunk)
			}
			w.Table, keys = g.open.Table, nil
			for key := range g.rows {
				if a.target[tableKey{w.Table, key}].absent() {
					keys = append(keys, key)
				}
			}
		}
		for _, key := range keys {
			a.set(tableKey{w.Table, key}, unknown)
		}
	}
	return ""
}

// equal says what differs between the target and the source after the last change.
func (a *acceptor) equal() string {
	for k, versions := range a.past.keys {
		x, y := a.target[k], versions[len(versions)-1].image
		if x.Name != y.Name && x.Name != unknown.Name {
			return fmt.Sprintf("row %s of %s is %q on the target and %q on the source", k.key, k.table, x.Name, y.Name)
		}
	}
	for k := range a.target {
		if a.past.keys[k] == nil {
			return fmt.Sprintf("row %s of %s is on the target and never was on the source", k.key, k.table)
		}
	}
	return ""
}
