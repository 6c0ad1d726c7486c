package copydb

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry"
)

// Outcome says how a move ended.
type Outcome string

// The ways in which a move ends.
const (
	// Equal: both sides were compared while nobody wrote, and are equal.
	Equal Outcome = "equal"
	// EqualSourceNotFenced: both sides were equal at a coordinate of the source, and
	// nothing was written after it until the comparison ended, but nothing keeps
	// writers from going on.
	EqualSourceNotFenced Outcome = "equal_source_not_fenced"
	// DoneNotVerified: everything was copied; nothing was compared, as configured.
	DoneNotVerified Outcome = "done_not_verified"
	// Different: the comparison found differences.
	Different Outcome = "different"
	// Failed: something went wrong after the first write to the target.
	Failed Outcome = "failed"
	// Interrupted: the move was stopped from outside and can be resumed.
	Interrupted Outcome = "interrupted"
	// Refused: this process has written nothing to the target. An earlier one may have.
	Refused Outcome = "refused"
)

// ExitStatus is the process's exit status for the outcome: 0 done, 1 refused before
// any write of this process, 2 failed, 3 interrupted and resumable, 4 differences found.
func (o Outcome) ExitStatus() int {
	switch o {
	case Equal, EqualSourceNotFenced, DoneNotVerified:
		return 0
	case Refused:
		return 1
	case Interrupted:
		return 3
	case Different:
		return 4
	}
	return 2
}

// Result tells how a move ended; its JSON form is one line for programs.
type Result struct {
	Outcome Outcome `json:"result"`
	// Tables is the number of tables moved.
	Tables int `json:"tables"`
	// RowsCopied counts the rows that this process copied, CopySeconds how long it
	// took until the last of them was on the target.
	RowsCopied  uint64  `json:"rows_copied"`
	CopySeconds float64 `json:"copy_seconds"`
	// BinlogRowsApplied counts the row changes that this process applied.
	BinlogRowsApplied uint64 `json:"binlog_rows_applied"`
	// Coordinate is the source's coordinate up to which the target has everything;
	// empty when the run did not get that far.
	Coordinate string `json:"coordinate"`
	// Verified is true when every row of both sides was compared and found equal, but for what
	// NotCompared tells of.
	Verified bool `json:"verified"`
	// NotCompared says how much the settings leave out of the comparison, such as "2 tables
	// and 3 columns"; the report has the names. Empty when they leave out nothing.
	NotCompared string `json:"not_compared,omitempty"`
	// RowsCompared counts the rows that the verifier has compared, repeated
	// comparisons included.
	RowsCompared uint64 `json:"rows_compared"`
	// WriteBlockMS is how long writes to the source were blocked, in milliseconds;
	// 0 without a lock callback.
	WriteBlockMS int64 `json:"write_block_ms"`
	// VerifyBlockMS is how much of that the comparison took, in milliseconds.
	VerifyBlockMS int64 `json:"verify_block_ms"`
	// Digest is that of the verification report; equal data give the same one.
	Digest string `json:"verification_digest,omitempty"`
	// RowsRepaired counts the rows of the target that were made equal.
	RowsRepaired int `json:"rows_repaired,omitempty"`
	// Seconds is how long everything took.
	Seconds float64 `json:"seconds"`
	// Err is what went wrong; nil when the exit status is 0.
	Err error `json:"-"`
}

// MarshalJSON adds the error's text as "error".
func (r Result) MarshalJSON() ([]byte, error) {
	type plain Result
	line := struct {
		plain
		Error string `json:"error"`
	}{plain: plain(r)}
	if r.Err != nil {
		line.Error = r.Err.Error()
	}
	return json.Marshal(line)
}

// String is the last line for people.
func (r Result) String() string {
	left := ""
	if r.NotCompared != "" {
		left = ", " + r.NotCompared + " not compared"
	}
	switch r.Outcome {
	case Equal:
		return "equal at " + r.Coordinate + left
	case EqualSourceNotFenced:
		return "equal at " + r.Coordinate + ", source not fenced" + left
	case DoneNotVerified:
		return "done, NOT verified"
	case Interrupted:
		if e, ok := errors.AsType[interface { // of a cutover
			error
			Consequence() string
		}](r.Err); ok {
			return "interrupted; " + e.Consequence() + "; the same command goes on from here"
		}
		return "interrupted; the same command goes on from here"
	}
	first, others, _ := strings.Cut(fmt.Sprint(r.Err), "\n")
	if others != "" {
		first += fmt.Sprintf(" (and %d more)", 1+strings.Count(others, "\n"))
	}
	return fmt.Sprintf("%s: %s", r.Outcome, first)
}

// DifferentError says that the comparison found differences.
type DifferentError struct {
	ghostferry.VerificationResult
}

// Error names the tables and repeats what the verifier says.
func (e *DifferentError) Error() string {
	return "source and target differ: " + e.Message
}

// RefusedError says that a move was refused before this process had written anything.
type RefusedError struct {
	// Err is the reason.
	Err error
	// Resuming: the rows of an earlier process of the move are on the target.
	Resuming bool
}

// Error is the reason.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// SwitchedError says that an earlier process of the move has, or may have, switched the
// application over to the target: the move must not go on from the source.
type SwitchedError struct {
	// Traffic is what the checkpoint says: TrafficOnTarget or TrafficUnknown.
	Traffic ghostferry.TrafficOwner
}

// Error says where to look, and what then.
func (e *SwitchedError) Error() string {
	what := "an earlier run of this move has switched over, and CutoverUnlock was answered"
	if e.Traffic != ghostferry.TrafficOnTarget {
		what = "an earlier run of this move may have posted CutoverUnlock, and no answer is known"
	}
	return what + ": look where the application writes. If that is the target, which was complete and equal then, nothing is left to do, " +
		"and going on, or -restart, would overwrite or remove what it has written. If it is the source, run this with -application-on-source"
}

// Resumable is false: only a person can tell.
func (*SwitchedError) Resumable() bool { return false }

// givenUpError is an error that has ended a cutover, with what that leaves behind.
type givenUpError struct {
	err         error
	consequence string
}

func (e *givenUpError) Error() string { return e.err.Error() + "; " + e.consequence }
func (e *givenUpError) Unwrap() error { return e.err }

// Consequence is named as that of a CutoverError.
func (e *givenUpError) Consequence() string { return e.consequence }

// ResultNow is how the move ends when the process does at once, without waiting for its
// steps. It may be called at any time, by anybody.
func (f *CopydbFerry) ResultNow(reason error) Result {
	phase, fenced := f.Ferry.Phase(), f.fenced()
	if owner := f.switching(phase); owner != ghostferry.TrafficOnSource {
		return Result{Outcome: Failed, Err: &ghostferry.CutoverError{Phase: phase, Traffic: owner, Fenced: fenced, Blocked: fenced, Err: errors.New("the process was ended before it could tell")}}
	}
	switch phase {
	case ghostferry.PhaseFence, ghostferry.PhaseDrain, ghostferry.PhaseVerify, ghostferry.PhaseCommit, ghostferry.PhaseAbort, ghostferry.PhaseDone:
		if fenced {
			reason = &givenUpError{reason, "the source's writers may still be stopped: let them go on if this is not run again at once"}
		}
	default: // nobody waits
	}
	return Result{Outcome: Interrupted, Err: reason}
}

// Switching says that the application is being, or was, sent to the target by
// CutoverUnlock. It may be called at any time, by anybody.
func (f *CopydbFerry) Switching() bool {
	return f.switching(f.Ferry.Phase()) != ghostferry.TrafficOnSource
}

func (f *CopydbFerry) switching(phase ghostferry.CutoverPhase) ghostferry.TrafficOwner {
	switch {
	case f.config.CutoverUnlock.URI == "":
		return ghostferry.TrafficOnSource
	case phase == ghostferry.PhaseCommit:
		return ghostferry.TrafficUnknown
	case phase == ghostferry.PhaseDone:
		return ghostferry.TrafficOnTarget
	}
	return ghostferry.TrafficOnSource
}

// outcomeOf sorts an error.
func outcomeOf(err error) Outcome {
	switch {
	case isType[*DifferentError](err), isType[*ghostferry.ForeignWriteError](err):
		return Different
	case isType[*RefusedError](err):
		return Refused
	case interrupted(err):
		return Interrupted
	}
	return Failed
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
