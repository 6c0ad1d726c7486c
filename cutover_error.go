package ghostferry

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrTrafficUnknown is wrapped by what CutoverHooks.Switch returns when it cannot tell
// whether the traffic goes to the target. The source then stays fenced: it must not be
// written while the target may be.
var ErrTrafficUnknown = errors.New("it is not known which side owns the traffic")

// TrafficOwner says which side the application writes to.
type TrafficOwner string

// The answers to who owns the traffic.
const (
	TrafficOnSource TrafficOwner = "source"
	TrafficOnTarget TrafficOwner = "target"
	TrafficUnknown  TrafficOwner = "unknown"
)

// WriteBlockBudgetError says that a cutover was given up because it would have kept the
// writers waiting for longer than MaxWriteBlock. It can be tried again.
type WriteBlockBudgetError struct {
	// Phase is what would have taken too long.
	Phase CutoverPhase
	// Budget is MaxWriteBlock.
	Budget time.Duration
	// Needs is how long the block would have been by an estimate; 0 when the time was up.
	Needs time.Duration
}

// Error names the phase, the budget and the remedy.
func (e *WriteBlockBudgetError) Error() string {
	what := "was not over"
	if e.Needs > 0 {
		what = fmt.Sprintf("would have been over after %s,", e.Needs.Round(time.Millisecond))
	}
	return fmt.Sprintf("the %s %s within MaxWriteBlock=%s: raise it, or try when the source is written less", e.Phase, what, e.Budget)
}

// CutoverError says how a cutover failed: what the target has, who owns the traffic, and
// whether the source's writers are still kept waiting.
type CutoverError struct {
	// Phase is where it failed.
	Phase CutoverPhase
	// Traffic is the side that the application writes to.
	Traffic TrafficOwner
	// Fenced: the source's writers were told to stop. Blocked: they may still be waiting.
	Fenced, Blocked bool
	// Coordinate is the place of the source's log at which the writers had stopped; zero when
	// it was not read.
	Coordinate BinlogCoordinate
	// Complete: everything up to Coordinate is on the target.
	Complete bool
	// Following: the run goes on and follows the source; Cutover may be called again.
	Following bool
	// WriteBlock is how long the writers were kept waiting.
	WriteBlock time.Duration
	// Err is what went wrong.
	Err error
	// UnfencedBy names the hook that let the writers go on: "Unfence" or "CutoverAbort".
	UnfencedBy string
	// UnfenceErr is why the writers could not be let go on; nil when they were, or when that
	// must not be tried.
	UnfenceErr error
	// Silent names the servers that did not answer within a second when the attempt had been
	// given up because of the time or could not let the writers go on: "source host:port",
	// "target host:port".
	Silent []string

	lasts string // how long a fence lasts that stays closed; empty: for good
}

// Error tells all of it.
func (e *CutoverError) Error() string {
	return fmt.Sprintf("cutover, %s: %v; %s", e.Phase, e.Err, e.Consequence())
}

// Consequence says what the target has, who owns the traffic, and whether the writers wait.
func (e *CutoverError) Consequence() string {
	text := ""
	switch {
	case e.Coordinate.IsZero():
	case e.Complete:
		text = fmt.Sprintf("the target has everything up to %s; ", e.Coordinate)
	default:
		text = fmt.Sprintf("the target does not have everything up to %s yet; ", e.Coordinate)
	}
	switch e.Traffic {
	case TrafficOnTarget:
		return text + "the target owns the traffic"
	case TrafficUnknown:
		return text + "whether the host has switched over is not known, and the source stays fenced: look, then either finish the switch or unfence the source" + e.lasts
	}
	text += "the source stays the side that counts"
	switch {
	case !e.Fenced:
	case e.UnfenceErr != nil:
		text += fmt.Sprintf(", and its writes %v", e.UnfenceErr)
	default:
		text += fmt.Sprintf(", and its writes were unblocked by %s after %s", e.UnfencedBy, e.WriteBlock.Round(time.Millisecond))
	}
	return text + e.silence()
}

// silence says which servers do not answer; empty when all do.
func (e *CutoverError) silence() string {
	if len(e.Silent) == 0 {
		return ""
	}
	return "; no answer comes from the " + strings.Join(e.Silent, " and the ")
}

// Unwrap returns what went wrong, and why unfencing failed.
func (e *CutoverError) Unwrap() []error {
	if e.UnfenceErr != nil {
		return []error{e.Err, e.UnfenceErr}
	}
	return []error{e.Err}
}

// Resumable is that of what went wrong, unless the target may own the traffic: then the
// source must not be followed any more.
func (e *CutoverError) Resumable() bool {
	return e.Traffic == TrafficOnSource && Resumable(e.Err)
}

// Retryable is that of what went wrong, while the run follows the source.
func (e *CutoverError) Retryable() bool { return e.Following && Retryable(e.Err) }
