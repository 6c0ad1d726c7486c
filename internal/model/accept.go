package model

import "fmt"

// Step is one step of a run as an engine reports it, in the order in which the
// steps took effect. Changes are named by strings that are unique and, when a
// stream delivers a part of the log again, the same as before; keys by strings
// whose order is the order of keys. The kinds:
//
//	table     Table, Phases: 1, 2, or 0 for the serial path; before all others
//	deliver   a row change is handed over: At its name, Table, Old and New key (""
//	          absent), End when it is the last of its transaction
//	open      the gate of Chunk, for Table and Low < key <= High ("" open), registers;
//	          At is the last change delivered, or executed before a crash
//	barrier   everything up to At, a change, is visible to the read of Chunk
//	read      Chunk's rows are in memory
//	copy      rows and mark of Chunk are committed; Keys were skipped
//	abandon   nothing of Chunk is or can come to the target
//	close     the gate of Chunk closes
//	batch     the applier takes what is delivered up to At; all gates are closed
//	delete    Lane has committed the first phase of Table for Keys
//	write     Lane has committed the last phase of Table for Keys; Skipped of them
//	          were left out
//	position  At is committed as the position, the batch is over
//	retry     the batch begins again
//	crash     the process is gone
//	resume    a new one has raised the epoch to Epoch and goes on from At
//	settle    the Keys of Table are looked up and found to be paid
//	block     the source's writers have stopped
//	stop      At is the stop position: the last change of the log
//	done      everything up to the stop position is there
type Step struct {
	Kind    string   `json:"kind"`
	Table   string   `json:"table,omitempty"`
	Phases  int      `json:"phases,omitempty"`
	At      string   `json:"at,omitempty"`
	Old     string   `json:"old,omitempty"`
	New     string   `json:"new,omitempty"`
	End     bool     `json:"end,omitempty"`
	Chunk   int      `json:"chunk,omitempty"`
	Low     string   `json:"low,omitempty"`
	High    string   `json:"high,omitempty"`
	Lane    int      `json:"lane,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	Skipped []string `json:"skipped,omitempty"`
	Epoch   int      `json:"epoch,omitempty"`
}

// RejectedError says which step of a trace breaks which rule.
type RejectedError struct {
	// Index counts from 0.
	Index int
	Step  Step
	Rule  string
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("step %d, %s: %s", e.Index, e.Step.Kind, e.Rule)
}

// Accept checks a trace against the rules of docs/algorithm.md: it keeps what the
// steps say, nothing of the source, and returns a *RejectedError for the first
// step that the engine of the model could not have taken.
func Accept(trace []Step) error {
	a := &acceptor{tables: map[string]int{}, index: map[string]int{"": 0}, finished: map[int]bool{}}
	a.begin(0)
	for i, s := range trace {
		if rule := a.step(s); rule != "" {
			return &RejectedError{Index: i, Step: s, Rule: rule}
		}
	}
	return nil
}

// acceptor is what the steps so far have said. Positions count changes.
type acceptor struct {
	tables map[string]int
	log    []traceChange
	index  map[string]int // name of a change to the position after it

	delivered, executed int // of this process
	gates               map[int]*traceGate
	batch               *traceBatch

	owed map[tableKey]struct{}

	position int // durable
	epoch    int
	finished map[int]bool // durable

	down, blocked bool
	stop          *string
}

type tableKey struct{ table, key string }

type traceChange struct {
	step  Step
	waits []int // chunks
}

func (ch *traceChange) keys() (keys []tableKey) {
	for _, k := range []string{ch.step.Old, ch.step.New} {
		if k != "" && (len(keys) == 0 || keys[0].key != k) {
			keys = append(keys, tableKey{ch.step.Table, k})
		}
	}
	return keys
}

type traceGate struct {
	open                Step
	d                   int
	passed, read, ended bool
}

func (g *traceGate) mayHold(table, key string) bool {
	return table == g.open.Table && key != "" && key > g.open.Low && (g.open.High == "" || key <= g.open.High)
}

type traceBatch struct {
	end              int
	deleted, written map[tableKey]bool
}

// begin starts a process at a position.
func (a *acceptor) begin(at int) {
	a.delivered, a.executed = at, at
	a.gates, a.batch = map[int]*traceGate{}, nil
	a.owed = map[tableKey]struct{}{}
}

// step takes one step; it returns the rule that forbids it, or "".
func (a *acceptor) step(s Step) string {
	if a.down && s.Kind != "resume" {
		return "the process is gone"
	}
	switch s.Kind {
	case "table":
		a.tables[s.Table] = s.Phases
		return ""
	case "deliver":
		return a.deliver(s)
	case "open", "barrier", "read", "copy", "abandon", "close":
		return a.chunk(s)
	case "batch", "delete", "write", "position", "retry":
		return a.apply(s)
	case "settle":
		for _, k := range s.Keys {
			delete(a.owed, tableKey{s.Table, k})
		}
		return ""
	case "crash":
		a.down = true
		return ""
	}
	return a.phase(s)
}

// phase takes the steps that concern the whole run.
func (a *acceptor) phase(s Step) string {
	switch s.Kind {
	case "resume":
		switch at, ok := a.index[s.At]; {
		case !a.down:
			return "a process resumes that has not died"
		case !ok || at != a.position:
			return fmt.Sprintf("it goes on from %q, %d changes are covered by the position", s.At, a.position)
		case s.Epoch <= a.epoch:
			return fmt.Sprintf("epoch %d is not higher than %d", s.Epoch, a.epoch)
		}
		a.down, a.epoch = false, s.Epoch
		a.begin(a.position)
	case "block":
		a.blocked = true
	case "stop":
		if !a.blocked {
			return "the stop position is read before the writes are blocked"
		}
		a.stop = &s.At
	case "done":
		switch {
		case a.stop == nil:
			return "there is no stop position"
		case !a.reached(*a.stop):
			return "not everything up to the stop position is executed"
		case len(a.owed) > 0:
			return "skipped keys have not been paid"
		case len(a.gates) > 0:
			return "a chunk is open"
		}
	default:
		return "there is no such step"
	}
	return ""
}

// reached says whether everything up to the change is executed.
func (a *acceptor) reached(change string) bool {
	at, ok := a.index[change]
	return ok && a.executed >= at && a.batch == nil
}

// deliver takes a change: the next one, and after a resume the same as before.
func (a *acceptor) deliver(s Step) string {
	at, known := a.index[s.At]
	switch {
	case s.At == "" || known && at != a.delivered+1:
		return fmt.Sprintf("change %q comes after %d changes", s.At, a.delivered)
	case !known && a.delivered < len(a.log):
		return fmt.Sprintf("change %q comes where %q came before", s.At, a.log[a.delivered].step.At)
	case !known:
		a.log = append(a.log, traceChange{})
		a.index[s.At] = len(a.log)
	}
	ch := traceChange{step: s}
	for id, g := range a.gates {
		if g.mayHold(s.Table, s.Old) || g.mayHold(s.Table, s.New) {
			ch.waits = append(ch.waits, id)
		}
	}
	a.log[a.delivered] = ch
	a.delivered++
	return ""
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
		g.passed = true
	case "read":
		if g.read = g.passed; !g.read {
			return "read before the barrier"
		}
	case "copy":
		if !g.read || g.ended {
			return "written without having been read under this gate"
		}
		g.ended, a.finished[s.Chunk] = true, true
		a.owe(g.open.Table, s.Keys)
	case "abandon":
		if g.ended {
			return "it is committed"
		}
		g.ended = true
	case "close":
		if !g.ended {
			return "it is neither committed nor abandoned"
		}
		delete(a.gates, s.Chunk)
	}
	return ""
}

// owe notes skipped keys.
func (a *acceptor) owe(table string, keys []string) {
	for _, k := range keys {
		a.owed[tableKey{table, k}] = struct{}{}
	}
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
	return &traceBatch{end: end, deleted: map[tableKey]bool{}, written: map[tableKey]bool{}}
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

// commitPosition ends the batch: everything is written, and the position is the
// last end of a transaction.
func (a *acceptor) commitPosition(s Step) string {
	for k := range a.touched(a.batch.end) {
		if !a.batch.written[k] {
			return fmt.Sprintf("key %s of %s is not written yet", k.key, k.table)
		}
	}
	want := a.batch.end
	for want > 0 && !a.log[want-1].step.End {
		want--
	}
	if at, ok := a.index[s.At]; !ok || at != want {
		return fmt.Sprintf("the position is %q, the last transaction ended after %d changes", s.At, want)
	}
	a.position, a.executed, a.batch = want, a.batch.end, nil
	return ""
}
