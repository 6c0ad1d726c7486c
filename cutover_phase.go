package ghostferry

import (
	"sync"
	"sync/atomic"
	"time"
)

// CutoverPhase is where a cutover is: a second field beside Ferry.OverallState, which keeps
// the states that hosts know. The way is ready, fence, drain, verify, commit, done; from
// any of fence to commit it may lead to abort and unfenced, and from there to ready again.
type CutoverPhase string

// The phases of a cutover, and who owns the traffic if the process dies in them.
const (
	// PhaseNone: the rows are not copied yet. The source owns the traffic.
	PhaseNone CutoverPhase = ""
	// PhaseReady: the cutover may begin; the source is written. The source owns the traffic.
	PhaseReady CutoverPhase = "ready"
	// PhaseFence: the writers are being stopped. The source owns the traffic, and may be blocked.
	PhaseFence CutoverPhase = "fence"
	// PhaseDrain: nobody writes; the rest of the log is being applied. The source owns the
	// traffic, and is blocked. So it is in PhaseVerify.
	PhaseDrain CutoverPhase = "drain"
	// PhaseVerify: both sides stand still and are compared.
	PhaseVerify CutoverPhase = "verify"
	// PhaseCommit: the target is complete and equal; the stream ends and the traffic is being
	// switched. Who owns it only the host can tell, see CutoverHooks.Switch.
	PhaseCommit CutoverPhase = "commit"
	// PhaseDone: the target owns the traffic.
	PhaseDone CutoverPhase = "done"
	// PhaseAbort: the cutover was given up; the writers are being let go on. The source owns
	// the traffic, and may be blocked.
	PhaseAbort CutoverPhase = "abort"
	// PhaseUnfenced: the cutover was given up and the source is written again.
	PhaseUnfenced CutoverPhase = "unfenced"
)

// blocks reports whether the writers of the source wait in this phase, as far as we know.
func (p CutoverPhase) blocks() bool {
	switch p {
	case PhaseFence, PhaseDrain, PhaseVerify, PhaseCommit, PhaseAbort:
		return true
	}
	return false
}

// CutoverStatus tells of a cutover, as part of Progress. Times are seconds.
type CutoverStatus struct {
	// Since is when the phase began; zero before the first.
	Since time.Time
	// Attempts counts the cutovers begun, drills included, Aborts those given up.
	Attempts, Aborts int
	// WriteBlock is how long the writers have been kept waiting by the present attempt, or
	// were by the last one.
	WriteBlock float64
	// MaxWriteBlock is the budget; 0 means none.
	MaxWriteBlock float64
	// PredictedWriteBlock is what was predicted last: while the cutover waits for its
	// permission, or by RehearseCutover; 0 before.
	PredictedWriteBlock float64
	// LastError is why the last attempt was given up; empty when none was.
	LastError string
}

// cutoverState is what a Ferry knows of its cutover.
type cutoverState struct {
	running sync.Mutex  // held by the one Cutover, or RehearseCutover
	blocked atomic.Bool // the writers wait: nothing of ours may pause
	driven  atomic.Bool // by Cutover, not by the contract's methods
	// heldBack: the next attempt waits for its permission.
	heldBack atomic.Bool
	late     lateWatch

	mu struct {
		sync.Mutex
		phase     CutoverPhase
		status    CutoverStatus
		blockedAt time.Time // zero while nobody waits
		// failed is the failure after which the run no longer follows the source; nil
		// without one.
		failed *CutoverError
		fences []func() // ends of those that stay closed until Close
	}
}

// Phase tells where the cutover is. It may be called at any time.
func (f *Ferry) Phase() CutoverPhase {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	return f.cut.mu.phase
}

func (f *Ferry) enterPhase(phase CutoverPhase) {
	c := &f.cut
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.phase == phase {
		return
	}
	now := time.Now()
	switch {
	case phase.blocks() && c.mu.blockedAt.IsZero():
		c.mu.blockedAt = now
		c.mu.status.Attempts++
	case !phase.blocks() && !c.mu.blockedAt.IsZero():
		c.mu.status.WriteBlock = now.Sub(c.mu.blockedAt).Seconds()
		c.mu.blockedAt = time.Time{}
	}
	c.blocked.Store(phase.blocks())
	c.mu.phase, c.mu.status.Since = phase, now
	f.logger.WithField("phase", string(phase)).Debug("the cutover's phase")
}

// cutoverFailed notes why a cutover has failed, nil that none has.
func (f *Ferry) cutoverFailed(err error) {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	f.cut.mu.status.LastError = ""
	if err != nil {
		f.cut.mu.status.LastError = err.Error()
	}
}

// countAbort notes that a cutover was given up; that a drill ends is none.
func (f *Ferry) countAbort() {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	f.cut.mu.status.Aborts++
}

// cutoverFailure is the failure that has left a run behind which no longer follows the source,
// though it has ended without an error of its own; nil when there is none.
func (f *Ferry) cutoverFailure() *CutoverError {
	f.cut.mu.Lock()
	defer f.cut.mu.Unlock()
	if f.cut.mu.phase == PhaseDone { // the host has finished it
		return nil
	}
	return f.cut.mu.failed
}

// cutoverStatus is the status for Progress.
func (f *Ferry) cutoverStatus() CutoverStatus {
	c := &f.cut
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.status
	s.MaxWriteBlock = f.UpdatableConfig.maxWriteBlock().Seconds()
	if !c.mu.blockedAt.IsZero() {
		s.WriteBlock = time.Since(c.mu.blockedAt).Seconds()
	}
	return s
}
