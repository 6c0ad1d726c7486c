package ghostferry

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ControlServerOverview is the answer of GET /api/overview: the run at a glance, of the same
// size however many tables there are. What is not known is null.
type ControlServerOverview struct {
	GhostferryVersion string
	// RunID names the run; POST /api/cutover has to repeat it.
	RunID string
	// Selection is that of the control server's configuration, empty where the host has set none.
	Selection string
	// SourceHostPort and TargetHostPort are "host:port".
	SourceHostPort, TargetHostPort string
	// State is one of the State constants, Phase what the run does in more detail.
	State, Phase string
	// Failed says that the run has ended with Error, or that its cutover has failed when it
	// had ended: then Error says what the target has and who owns the traffic.
	Failed bool
	Error  string
	// Resumable says of a run that has failed that it can be continued by starting it again,
	// once the reason is out of the way: see [Resumable].
	Resumable bool
	// StartTime is when the run began, CurrentTime now, and DoneTime when its streams had
	// ended; null before.
	StartTime   *time.Time
	CurrentTime time.Time
	DoneTime    *time.Time

	TablesTotal, TablesWaiting, TablesCopying, TablesCompleted int
	// TablesUnestimated are those waiting of which the source estimates no row: they are
	// empty, or were filled a moment ago.
	TablesUnestimated int

	// RowsCopied and BytesCopied count what this process has copied, RowsCopiedBefore what
	// earlier processes of the run have. RowsRemaining is the source's own estimate less both.
	RowsCopied, BytesCopied, RowsCopiedBefore, RowsRemaining uint64
	outgrown                                                 uint64 // rows of tables that have more than was estimated
	// BinlogRowsApplied counts the row changes applied.
	BinlogRowsApplied uint64
	// Speeds of the last ten seconds.
	CopyRowsPerSecond, CopyBytesPerSecond, ApplyRowsPerSecond float64
	// CopySeconds is how long the copy has taken so far, or took.
	CopySeconds float64
	copied      bool
	// ReadLagSeconds is how old the last event read from the source is, ApplyLagSeconds
	// how old changes are when they reach the target.
	ReadLagSeconds, ApplyLagSeconds *float64
	// ETASeconds is until the last row is copied; ETAReason says why it is not known.
	ETASeconds *float64
	ETAReason  string

	// Throttle says who makes the run pause, why and since when; null when nobody does.
	// Paused is a pause by hand.
	Throttle *ThrottleReport
	Paused   bool

	// CutoverAllowed says that the cutover begins by itself when the rows are copied.
	CutoverAllowed bool
	// CutoverPhase is where the cutover is, empty before the rows are copied, and Cutover
	// tells more of it.
	CutoverPhase CutoverPhase
	Cutover      CutoverStatus

	Verification ControlServerVerification

	// Position is the last applied place of the source's binary log, empty until there is one;
	// StopPosition where the stream ends, empty until a stop was asked for.
	Position, StopPosition string

	// Waits are the causes for which parts of the run have waited.
	Waits []WaitStats
	// Settings are those that can be changed now.
	Settings UpdatableConfig
	// Scripts are the custom scripts with the last kilobyte of their Logs, of which
	// GET /api/status has more; null without any.
	Scripts map[string]CustomScriptStatus
	// Role is what the token of this request may do: "read" or "operate".
	Role string
}

// Overview tells of the run at a glance what GET /api/overview does, with or without a control
// server; Role is empty. It is at most a second old. It may be called after Start, at any time,
// from any goroutine; the result is the caller's, but for what its pointers and maps hold.
func (f *Ferry) Overview() ControlServerOverview {
	f.prepareChannels()
	f.overview.once.Do(func() {
		if f.ControlServer != nil && f.ControlServer.view != nil {
			f.overview.view = f.ControlServer.view // so that it is made once for all
		} else {
			f.overview.view = newRunView(&ControlServer{F: f, Verifier: f.Verifier})
		}
	})
	return f.overview.view.current().overview
}

// overviewOnce is the view that Overview takes; the zero value is ready.
type overviewOnce struct {
	once sync.Once
	view *runView
}

// ControlServerVerification tells how far the comparison is.
type ControlServerVerification struct {
	// Type is the verifier's name, empty without one; Message its free text.
	Type, Message string
	// Available says that POST /api/verify would start one now.
	Available bool
	// Detailed says that the numbers below are known.
	Detailed                 bool
	TablesDone, TablesTotal  int
	RowsCompared             uint64
	KeysQueued, RangesQueued int
	Mismatches, Repaired     int
	// Started and Done tell about the verification that POST /api/verify has started;
	// Correct is its verdict, or that of the cutover when the run has ended; null before.
	Started, Done bool
	Correct       *bool
	Verdict       string
}

func (o *ControlServerOverview) count(t tableFacts) {
	o.TablesTotal++
	switch t.action {
	case actionCompleted:
		o.TablesCompleted++
	case actionCopying:
		o.TablesCopying++
	default:
		o.TablesWaiting++
		if t.estimated == 0 {
			o.TablesUnestimated++
		}
	}
	o.RowsCopied += t.rows
	o.BytesCopied += t.bytes
	o.RowsCopiedBefore += t.before
	switch {
	case t.action == actionCompleted:
	case t.outgrown():
		o.outgrown += t.copied()
	default:
		o.RowsRemaining += t.estimated - t.copied()
	}
}

// describe fills in everything but the tables.
func (s *ControlServer) describe(o *ControlServerOverview, now time.Time) {
	f := s.F
	o.GhostferryVersion, o.CurrentTime = BuildVersion(), now
	if !f.StartTime.IsZero() {
		start := f.StartTime
		o.StartTime = &start
	}
	o.SourceHostPort, o.TargetHostPort = hostPort(f.Source), hostPort(f.Target)
	if s.Config != nil {
		o.Selection = s.Config.Selection
	}
	if o.State, _ = f.OverallState.Load().(string); o.State == "" {
		o.State = StateStarting
	}
	o.CutoverPhase, o.Cutover = f.Phase(), f.cutoverStatus()
	o.Cutover.LastError = redactedText(o.Cutover.LastError)
	o.Phase = o.State
	if o.CutoverPhase.blocks() || o.CutoverPhase == PhaseUnfenced {
		o.Phase = "cutover: " + string(o.CutoverPhase)
	}
	if f.log != nil {
		if id := f.log.runID.Load(); id != nil {
			o.RunID = *id
		}
	}
	if ended, err := f.ended(); ended {
		if failure := f.cutoverFailure(); failure != nil && (err == nil || errors.Is(err, failure)) {
			err = failure // and not that it was interrupted for this
		}
		if err != nil {
			o.Failed, o.Error, o.Resumable, o.Phase = true, redactedError{err}.Error(), Resumable(err), "failed"
		}
		at := f.runEndedAt
		o.DoneTime = &at
	}
	o.CutoverAllowed, o.Waits = f.CutoverAllowed(), f.waits.stats()
	o.Settings = f.Updatable()
	o.Scripts = s.scripts.tails()
	if f.Throttler != nil {
		s.describeThrottle(o)
	}
	if f.BinlogStreamer == nil || f.BinlogWriter == nil {
		return
	}
	o.BinlogRowsApplied = f.BinlogWriter.appliedRows.Load()
	if ended, _ := f.ended(); o.State != StateStarting && !ended {
		o.ReadLagSeconds, o.ApplyLagSeconds = knownSeconds(f.BinlogStreamer.lag()), knownSeconds(f.writerLag())
	}
	if at := f.BinlogWriter.appliedUpTo(); !at.IsZero() {
		o.Position = at.String()
	}
	if stop := f.StopCoordinate(); !stop.IsZero() {
		o.StopPosition = stop.String()
	}
	o.CopySeconds, o.copied = f.copySeconds(), f.copyTook.Load() > 0
	s.describeVerification(o)
}

// ended tells whether Run has returned, and with what.
func (f *Ferry) ended() (bool, error) {
	select {
	case <-f.runEnded:
		return true, f.runErr
	default:
		return false, nil
	}
}

// unknownLag is more than any lag: a stream that has not read an event yet is as old as time.
const unknownLag = 10 * 365 * 24 * time.Hour

func knownSeconds(d time.Duration) *float64 {
	if d > unknownLag {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}

func hostPort(c *DatabaseConfig) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", c.Host, c.Port)
}

func (s *ControlServer) describeThrottle(o *ControlServerOverview) {
	report := s.F.throttleReport()
	if report == nil || s.F.Throttler.Disabled() {
		return
	}
	shown := *report
	shown.Why = redactedText(shown.Why)
	o.Throttle, o.Paused = &shown, shown.Who == pausedByHand
}

// comparing is a verifier whose progress is known in numbers.
func comparing(v Verifier) *comparer {
	if saving, ok := v.(savingVerifier); ok {
		if c, err := saving.core(); err == nil {
			return c
		}
	}
	return nil
}

func (s *ControlServer) describeVerification(o *ControlServerOverview) {
	if s.Verifier == nil {
		return
	}
	v := &o.Verification
	v.Type, v.Message = s.F.VerifierType, redactedText(s.Verifier.Message())
	if v.Type == "" {
		v.Type = "custom"
	}
	if c := comparing(s.Verifier); c != nil {
		stats := c.statistics()
		v.Detailed, v.TablesDone, v.TablesTotal, v.RowsCompared = true, stats.TablesDone, stats.Tables, stats.RowsCompared
		v.KeysQueued, v.RangesQueued, v.Mismatches, v.Repaired = stats.KeysQueued, stats.RangesQueued, stats.Mismatches, stats.Repaired
		if verdict := c.atCutover.Load(); verdict != nil && o.DoneTime != nil { // nothing changes any more
			v.Correct, v.Verdict = &verdict.DataCorrect, redactedText(verdict.Message)
		}
	}
	result, err := s.Verifier.Result()
	v.Started, v.Done = result.IsStarted(), result.IsDone()
	v.Available = s.verifierAvailable(o.State, result)
	if v.Done {
		correct := err == nil && result.DataCorrect
		v.Correct, v.Verdict = &correct, redactedText(result.Message)
		if err != nil {
			v.Verdict = redactedText(err.Error())
		}
	}
}

// verifierAvailable: there is something to compare, and nobody does.
func (s *ControlServer) verifierAvailable(state string, result VerificationResultAndStatus) bool {
	if s.Verifier == nil || state == StateStarting || state == StateCopying || result.IsStarted() && !result.IsDone() {
		return false
	}
	switch s.Verifier.(type) {
	case *OnlineVerifier:
		return state == StateWaitingForCutover || !s.F.follows()
	case *InlineVerifier:
		return !s.F.follows()
	}
	return true
}

// estimate says when the last row is expected to be copied, or why nobody knows. Row counts
// before the copy are the source's own estimates, so this is one as well.
func (o *ControlServerOverview) estimate() {
	switch {
	case o.Failed:
		o.ETAReason = "the run has failed"
	case o.State == StateStarting:
		o.ETAReason = "the copy has not begun"
	case o.copied && o.State == StateCopying:
		o.ETAReason = "the rows are copied, the indexes are being created"
	case o.State != StateCopying:
		o.ETAReason = "the rows are copied"
	case o.Throttle != nil:
		o.ETAReason = "the run is throttled"
	case o.CopyRowsPerSecond < 1:
		o.ETAReason = "no row was copied in the last seconds"
	default:
		o.ETASeconds, o.ETAReason = o.secondsLeft(o.CopyRowsPerSecond)
	}
}

// secondsLeft is how long the rows that remain take at a rate, or why nobody knows. A table that has
// outgrown its estimate may have as many rows again, which matters unless much more remains.
func (o *ControlServerOverview) secondsLeft(rowsPerSecond float64) (seconds *float64, unknown string) {
	switch {
	case o.TablesUnestimated*10 > o.TablesTotal:
		return nil, fmt.Sprintf("the source has no estimate of %d tables", o.TablesUnestimated)
	case o.RowsRemaining <= o.outgrown:
		return nil, "the tables have more rows than the source has estimated"
	}
	left := float64(o.RowsRemaining) / rowsPerSecond
	return &left, ""
}
