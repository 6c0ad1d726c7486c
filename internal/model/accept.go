package model

import (
	"fmt"
)

// Step is one step of a run as an engine reports it, in the order in which the
// steps took effect. Changes are named by strings that are unique and, when a
// stream delivers a part of the log again, the same as before; keys by strings
// whose order is the order of keys. The kinds:
//
//	table     Table, Phases: 1, 2, or 0 for the serial path; before all others
//	deliver   a row change is handed over: At its name, Table, Old and New key (""
//	          absent) with the images Was and Is, End when it is the last of its
//	          transaction
//	open      the gate of Chunk, for Table and Low < key <= High ("" open), registers;
//	          At is the last change delivered, or executed before a crash; AnyKey says
//	          that keys cannot be ordered, so that the chunk may hold every key
//	barrier   everything up to At, a change, is visible to the read of Chunk
//	read      Rows, by key, are in memory: Chunk's rows up to High ("": its end)
//	copy      rows and mark of Chunk are committed; Keys were skipped
//	abandon   nothing of Chunk is or can come to the target
//	close     the gate of Chunk closes
//	fail      it is unknown what of Chunk is on the target; what waits for it is never
//	          executed by this process
//	batch     the applier takes what is delivered up to At; all gates are closed
//	delete    Lane has committed the first phase of Table for Keys
//	write     Lane has committed the last phase of Table for Keys; Skipped of them
//	          were left out
//	position  At is committed as the position, the batch is over
//	retry     the batch begins again
//	maybe     one transaction with the writes in Steps, whose COMMIT was sent and not
//	          answered: it took effect or it did not
//	crash     the process is gone
//	resume    a new one has raised the epoch to Epoch and goes on from At
//	settle    the Keys of Table are looked up and found to be paid
//	block     the source's writers have stopped
//	stop      At is the stop position: the last change of the log
//	done      everything up to the stop position is there
//	verified  the verifier found both sides equal
type Step struct {
	Kind    string
	Table   string
	Phases  int
	At      string
	Old     string
	New     string
	Was     Image
	Is      Image
	End     bool
	Chunk   int
	Low     string
	High    string
	AnyKey  bool
	Rows    map[string]Image
	Lane    int
	Keys    []string
	Skipped []string
	Steps   []Step
	Epoch   int
}

// Image is a row: a name that equal rows share, and its unique values, NULLs left
// out. The zero value is no row.
type Image struct {
	Name   string
	Unique []string
}

func (x Image) absent() bool { return x.Name == "" }

// RejectedError says which step of a trace breaks which rule.
type RejectedError struct {
	// Index counts from 0.
	Index int
	Step  Step
	// Rule says what the model expected.
	Rule string
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("step %d, %s: %s", e.Index, e.Step, e.Rule)
}

// String tells the step in a line, without the rows of a read.
func (s Step) String() string {
	text := s.Kind
	for _, part := range []struct {
		name, value string
	}{{"", s.Table}, {"at ", s.At}, {"old ", s.Old}, {"new ", s.New}, {"above ", s.Low}, {"up to ", s.High}} {
		if part.value != "" {
			text += " " + part.name + part.value
		}
	}
	if s.Chunk != 0 {
		text += fmt.Sprintf(" chunk %d", s.Chunk)
	}
	const shown = 4
	for _, list := range []struct {
		name string
		keys []string
	}{{"keys", s.Keys}, {"left out", s.Skipped}} {
		if n := len(list.keys); n > shown {
			text += fmt.Sprintf(" %s %v and %d more", list.name, list.keys[:shown], n-shown)
		} else if n > 0 {
			text += fmt.Sprintf(" %s %v", list.name, list.keys)
		}
	}
	return text
}

// Accept checks a trace of any size against the rules of docs/algorithm.md and returns
// a *RejectedError for the first step that the engine of the model could not have taken.
//
// The acceptor believes the trace only what it must: the log, which it takes from the
// changes delivered, and the rows that were read. From these it works out by itself what
// a read may have seen, what a batch writes, what is then on the target, which row keeps
// out which, and what is there at the end. Whatever schedule the model has is accepted,
// and the schedules of its mutants are rejected (accept_test.go).
func Accept(trace []Step) error {
	a := &acceptor{
		tables: map[string]int{}, index: map[string]int{"": 0}, finished: map[int]bool{},
		past: readPast(trace), target: map[tableKey]Image{}, holder: map[tableKey]string{},
	}
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

	past   past                // of all keys, from the whole trace
	target map[tableKey]Image  // rows, and unknown
	holder map[tableKey]string // unique value to the key that holds it there

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
	case "open", "barrier", "read", "copy", "abandon", "close", "fail":
		return a.chunk(s)
	case "batch", "delete", "write", "position", "retry":
		return a.apply(s)
	case "maybe":
		return a.maybe(s)
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
		return a.equal()
	case "verified":
		return a.equal()
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

// deliver takes a change: the next one, and after a resume the same as before. The
// row that it changes must be the one that the change before it left.
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
	if rule := a.past.continues(s, a.delivered); rule != "" {
		return rule
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
