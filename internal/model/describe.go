package model

import (
	"fmt"
	"strings"
)

type actionKind uint8

// The steps, see action.text for what they say.
const (
	actFlush actionKind = iota
	actEngine
	actStart
	actPlan
	actDeliver
	actOpen
	actRegister
	actBarrier
	actRead
	actReadKey
	actExecute
	actWrite
	actClose
	actReplan
	actBatch
	actDelete
	actInsert
	actUpsert
	actSerial
	actLose
	actLand
	actResolve
	actCrash
	actResume
	actBlock
	actReadE
	actDone
	actLock
	actRollback
	actPrepare
	actXACommit
	actXARollback
	actFailover
	actReconnect
	actMutex
	actPlace
	actPass
	actSingle
	actFail
	actPingDead
	actRepair
	actRewrite
	actPosition
	actEmpty
	actLoseLocks
	actLate
	actStop
	actSave
	actTargetCrash
	actTwoPhase
	actIndexBegin
	actIndexDone
	actVerify
	actVerifySource
	actVerifyTarget
	actVerifyAgain
)

// action is a step, with what it was done to.
type action struct {
	kind actionKind
	a, b uint8
}

// progress says whether the step belongs to a run without new writes and new
// faults.
func (a action) progress() bool {
	switch a.kind {
	case actFlush, actPrepare, actLock, actCrash, actLose, actReplan, actFailover, actLoseLocks,
		actFail, actStop, actSave, actTargetCrash:
		return false
	}
	return true
}

// text says what the step does between two states.
func (a action) text(c *Config, from, to *state) string {
	who := sender(a.a)
	if c.Coarse && from.bEnd == 0 && a.kind >= actDelete && a.kind <= actSerial {
		began := *from
		began.bEnd = max(to.bEnd, to.m)
		return "applier: takes as a batch " + from.eventNames(from.m, began.bEnd) + "; " + a.text(c, &began, to)
	}
	switch a.kind {
	case actFlush:
		return "application: flushes to the log " + to.logText(c, a.a, a.b)
	case actEngine:
		return "source: engine-commits " + from.eventNames(a.a, a.b) + ", plain reads see it"
	case actStart:
		return fmt.Sprintf("mover: starts the stream; the start position includes %s", from.maskNames(to.pre))
	case actPlan:
		return fmt.Sprintf("mover: plans the copy up to key %d", to.planMax)
	case actDeliver:
		text := "streamer: delivers " + from.eventNames(a.a, a.b) + waitText(to, a.a, a.b)
		if to.halt == haltRefused {
			text += ", an XA COMMIT whose rows it does not have: refuses"
		}
		return text
	case actOpen:
		if to.ch[a.a].pc == chNoted {
			return fmt.Sprintf("copier %d: notes d = %d for %s, gate not yet registered", a.a+1, to.ch[a.a].d, c.rangeText(a.a))
		}
		return fmt.Sprintf("copier %d: opens the gate of %s, d = %d", a.a+1, c.rangeText(a.a), to.ch[a.a].d)
	case actRegister:
		return fmt.Sprintf("copier %d: registers the gate", a.a+1)
	case actBarrier:
		return fmt.Sprintf("copier %d: passes the barrier at d = %d", a.a+1, a.b)
	case actRead:
		return fmt.Sprintf("copier %d: reads %s, log end %d", a.a+1, c.rowsText(&to.ch[a.a].buf), to.ch[a.a].h)
	case actReadKey:
		return fmt.Sprintf("copier %d: locks and reads key %d: %s", a.a+1, a.b+1, imgText(c, int(a.b), to.ch[a.a].buf[a.b]))
	case actExecute:
		return fmt.Sprintf("copier %d: inserts if absent, COMMIT not yet sent", a.a+1)
	case actWrite:
		return fmt.Sprintf("copier %d: inserts if absent and commits%s", a.a+1, targetText(c, from, to))
	case actClose:
		return fmt.Sprintf("copier %d: closes the gate", a.a+1)
	case actReplan:
		return fmt.Sprintf("copier %d: gives up in time, closes the gate unwritten", a.a+1)
	case actBatch:
		return "applier: takes as a batch " + from.eventNames(a.a, a.b)
	case actDelete:
		return fmt.Sprintf("lane %d: phase 1, deletes keys %s and commits%s", a.a+1, keysText(a.b), targetText(c, from, to))
	case actInsert:
		return fmt.Sprintf("lane %d: phase 2, inserts if absent keys %s and commits%s", a.a+1, keysText(a.b), targetText(c, from, to))
	case actUpsert:
		return fmt.Sprintf("lane %d: upserts or deletes keys %s and commits%s", a.a+1, keysText(a.b), targetText(c, from, to))
	case actSerial:
		return "applier: executes the batch change by change and commits" + targetText(c, from, to)
	case actLose:
		return who + ": the connection dies after COMMIT was sent"
	case actLand:
		if a.b == 0 {
			return "target: rolls back the lost transaction of " + who
		}
		return "target: the lost transaction of " + who + " lands" + targetText(c, from, to)
	case actResolve:
		return who + ": finds out what became of its transaction"
	case actCrash:
		return fmt.Sprintf("mover: killed; durable position %d, chunks finished: %s", from.p(c), marksText(from.marks))
	case actResume:
		return fmt.Sprintf("mover: resumes from position %d with epoch %d", to.m, to.epoch)
	case actBlock:
		return "host: blocks the writes"
	case actReadE:
		return fmt.Sprintf("mover: reads the stop position, %d", to.e)
	case actDone:
		return "mover: " + [...]string{haltDone: "done", haltLedger: "a skipped key was never paid", haltLateWrite: "a change came after the stop position"}[to.halt]
	}
	return a.rareText(c, from, to)
}

// rareText is text for the steps that belong to a feature.
func (a action) rareText(c *Config, from, to *state) string {
	switch a.kind {
	case actLock:
		return fmt.Sprintf("application: locks row %d in a transaction that will be rolled back", a.a+1)
	case actRollback:
		return "application: rolls back"
	case actPrepare:
		e := to.xa[0]
		pending := *from
		pending.append(e)
		return fmt.Sprintf("application: XA PREPARE, entry %d, with %s", a.a+1, pending.logText(c, a.a, a.a+1))
	case actXACommit:
		return fmt.Sprintf("application: XA COMMIT, its rows count from entry %d", a.a+1)
	case actXARollback:
		return fmt.Sprintf("application: XA ROLLBACK, entry %d", a.a+1)
	case actFailover:
		return fmt.Sprintf("source: lost, replaced by a server with %d of %d log entries", a.a, from.n)
	case actReconnect:
		if to.halt == haltRefused {
			return "mover: reconnects and refuses, the source lost what was executed"
		}
		return "mover: reconnects" + repairText(to)
	case actMutex:
		return "streamer: takes the gate's mutex and waits for space in the queue"
	case actPlace:
		return fmt.Sprintf("copier %d: places what no change has touched since d (keys %s) and commits%s", a.a+1, keysText(a.b), targetText(c, from, to))
	case actPass:
		return "applier: executes " + from.eventNames(a.a, a.b) + " ahead of what is held" + targetText(c, from, to)
	case actSingle:
		if to.m > from.m && to.t == from.t {
			return fmt.Sprintf("lane %d: is through", a.a+1)
		}
		return fmt.Sprintf("lane %d: executes change %d alone%s", a.a+1, a.b+1, targetText(c, from, to))
	case actFail:
		return sender(a.a) + ": a statement fails" + targetText(c, from, to)
	case actPingDead:
		return fmt.Sprintf("copier %d: finds its reading transaction dead, rolls back, will read again", a.a+1)
	case actRepair:
		return fmt.Sprintf("copier %d: finds its reading transaction dead after the commit, will repair", a.a+1)
	case actPosition:
		return fmt.Sprintf("applier: commits the position %d", a.b)
	case actRewrite:
		return sender(a.a) + ": finds its transaction rolled back, will write the same rows again, gate still open"
	case actEmpty:
		return fmt.Sprintf("mover: empties %s on the target", c.rangeText(a.a)) + targetText(c, from, to)
	case actLoseLocks:
		return fmt.Sprintf("source: kills the reading transaction of copier %d, its row locks are gone", a.a+1)
	case actLate:
		return "network: the late transaction of " + sender(a.a) + " arrives" + lateText(c, from, to)
	case actStop:
		return fmt.Sprintf("mover: stopped before %s sends its transaction for keys %s; durable position %d", sender(a.a), keysText(a.b), from.p(c))
	case actSave:
		return "target: what it holds now reaches the disk"
	case actTargetCrash:
		return "target: crashes, falls back to what is on the disk" + targetText(c, from, to)
	case actTwoPhase:
		return "applier: goes over to two phases"
	case actIndexBegin:
		return "mover: starts to create the unique index"
	case actIndexDone:
		return "target: the unique index is ready"
	}
	return a.verifyText(c, to)
}

func (a action) verifyText(c *Config, to *state) string {
	switch a.kind {
	case actVerify:
		return fmt.Sprintf("verifier: begins with key %d, delivered %d", a.a+1, to.ver.d)
	case actVerifySource:
		return fmt.Sprintf("verifier: reads the source, %s, log end %d", imgText(c, int(a.a), to.ver.x), to.ver.h)
	case actVerifyTarget:
		text := fmt.Sprintf("verifier: reads the target, %s", imgText(c, int(a.a), to.t[a.a]))
		switch {
		case to.halt == haltMismatch:
			text += ", reports a difference"
		case to.ver.claim[a.a] != 0:
			text += fmt.Sprintf(", equal at position %d", to.ver.claim[a.a]-1)
		}
		return text
	case actVerifyAgain:
		text := fmt.Sprintf("verifier: reads the source again, %s", imgText(c, int(a.a), c.scope(to.visible()[a.a])))
		if to.halt == haltMismatch {
			text += ", reports a difference"
		}
		return text
	}
	return fmt.Sprintf("step %d", a.kind)
}

func repairText(s *state) string {
	if s.fix == 0 {
		return ""
	}
	return ", will empty and copy again chunk " + keysText(s.fix)
}

func lateText(c *Config, from, to *state) string {
	if from.z.epoch != from.epoch && to.ghost&ghostFenced == 0 {
		return " and finds a higher epoch"
	}
	return targetText(c, from, to)
}

// Schedule is the violation as a numbered list, with the state at its end.
func (v *Violation) Schedule(c *Config) string {
	var b strings.Builder
	first, last := &v.states[0], &v.states[len(v.states)-1]
	fmt.Fprintf(&b, "rows are written key:unique value, version 0 is the initial one, version i the one of log entry i\n")
	fmt.Fprintf(&b, " 0. source holds %s\n", c.rowsText(&first.init))
	for i, a := range v.acts {
		fmt.Fprintf(&b, "%2d. %s\n", i+1, a.text(c, &v.states[i], &v.states[i+1]))
	}
	now := last.rowsAt(last.n)
	fmt.Fprintf(&b, "source: %s\ntarget: %s\n", c.rowsText(&now), c.rowsText(&last.t))
	fmt.Fprintf(&b, "durable position %d of %d, chunks finished: %s\n", last.p(c), last.n, marksText(last.marks))
	fmt.Fprintf(&b, "%s\n", v.Invariant)
	return b.String()
}

// Golden is the text of a mutant's golden file.
func (mc MutantCase) Golden(res Result) string {
	known := ""
	if mc.Known != "" {
		known = " (" + mc.Known + ")"
	}
	return fmt.Sprintf("mutant %s%s: without the rule that %s\n\n%s", mc.Name, known, mc.Rule, res.Violation.Schedule(res.Config))
}

func sender(owner uint8) string {
	if owner >= maxLanes {
		return fmt.Sprintf("copier %d", owner-maxLanes+1)
	}
	return fmt.Sprintf("lane %d", owner+1)
}

func valueText(u uint8) string { return [...]string{"NULL", "a", "b", "c"}[u] }

func imgText(c *Config, k int, x img) string {
	if x == 0 {
		return "absent"
	}
	return fmt.Sprintf("%s:%s(%s)", c.keyText(k, x), valueText(x.unique()), versionText(x))
}

func versionText(x img) string {
	switch stamp := x.stamp(); stamp {
	case stampPrepared:
		return "prepared"
	case stampTrigger:
		return "trigger"
	case stampStale:
		return "earlier run"
	case stampForeign:
		return "foreign"
	default:
		text := fmt.Sprintf("v%d", int(stamp)-stampLog+1)
		if x&imgEra != 0 {
			text += "'"
		}
		return text
	}
}

// keyText is the key of an image: with its spelling, or its other owner.
func (c *Config) keyText(k int, x img) string {
	switch {
	case c.on[Collated] && x.variant():
		return string(rune('P' + k))
	case c.on[Collated]:
		return string(rune('p' + k))
	case c.on[Filter] && x.variant():
		return fmt.Sprintf("%d(other's)", k+1)
	}
	return fmt.Sprint(k + 1)
}

func (c *Config) rowsText(r *rows) string {
	var parts []string
	for k := range c.Keys {
		if r[k] != 0 {
			parts = append(parts, imgText(c, k, r[k]))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " ")
}

func (c *Config) rangeText(i uint8) string { return "keys " + keysText(c.Chunks[i]) }

func keysText(keys uint8) string {
	var parts []string
	for k := range maxKeys {
		if keys>>k&1 != 0 {
			parts = append(parts, fmt.Sprint(k+1))
		}
	}
	return strings.Join(parts, ",")
}

func marksText(marks uint8) string {
	if marks == 0 {
		return "none"
	}
	return keysText(marks)
}

// eventNames names log entries (from, to].
func (s *state) eventNames(from, to uint8) string {
	if to == from+1 {
		return fmt.Sprintf("change %d", to)
	}
	return fmt.Sprintf("changes %d-%d", from+1, to)
}

func (s *state) maskNames(mask uint8) string {
	var parts []string
	for i := range s.n {
		if mask>>i&1 != 0 {
			parts = append(parts, fmt.Sprint(i+1))
		}
	}
	if len(parts) == 0 {
		return "no change"
	}
	return "changes " + strings.Join(parts, ",")
}

// logText tells the changes (from, to] of the log.
func (s *state) logText(c *Config, from, to uint8) string {
	var parts []string
	r := s.rowsAt(from)
	for i := from; i < to; i++ {
		e := s.log[i]
		var text string
		switch {
		case e.touches() == 0:
			text = "marker"
		case e.old() == noKey:
			text = "insert " + c.plainText(e.new(), e.x)
		case e.new() == noKey:
			text = "delete " + c.plainText(e.old(), r[e.old()])
		default:
			text = "update " + c.plainText(e.old(), r[e.old()]) + " to " + c.plainText(e.new(), e.x)
		}
		if e.a&evHidden != 0 {
			text += ", unseen by the streamer"
		}
		parts = append(parts, fmt.Sprintf("change %d (%s)", i+1, text))
		e.apply(&r)
	}
	if to > from+1 {
		return "one transaction: " + strings.Join(parts, ", ")
	}
	return strings.Join(parts, ", ")
}

func (c *Config) plainText(k uint8, x img) string {
	return c.keyText(int(k), x) + ":" + valueText(x.unique())
}

func waitText(s *state, from, to uint8) string {
	var gates uint8
	for i := from; i < to; i++ {
		gates |= s.wait[i]
	}
	if gates == 0 {
		return ""
	}
	return "; waits for the gate of chunk " + keysText(gates)
}

// targetText tells what a commit did to the target.
func targetText(c *Config, from, to *state) string {
	switch to.halt {
	case haltConflict:
		return ": a foreign row is in the way, the run ends"
	case haltDuplicate:
		return ": fails, a duplicate or a row that should be there is not"
	}
	text := ": target holds " + c.rowsText(&to.t)
	for k := range c.Keys {
		if to.debt[k] != 0 && from.debt[k] == 0 {
			text += fmt.Sprintf("; key %d skipped, its change is due by %d", k+1, to.debt[k]-1)
		}
	}
	return text
}
