package ghostferry

import (
	"context"
	"sync"
	"time"
)

// waitCause names why a part of the run waits.
type waitCause int

// Every wait of the engine has one of these causes.
const (
	waitThrottled    waitCause = iota // copy, apply or comparison is paused by the throttler
	waitSourceOutage                  // the source cannot be used
	waitTargetOutage                  // the target cannot be used
	waitConflict                      // work that collided with others is about to be repeated
	waitRowLock                       // rows that an application keeps locked on the source are about to be read again
	waitBarrier                       // a read waits until the source has committed what was streamed
	waitChunk                         // changes wait for the copy of the chunk that they are in
	waitQueueFull                     // the stream waits for room in the writer's queue
	waitPermission                    // the rows are copied and the cutover is not allowed
	waitPaced                         // a worker of the copy rests while the source answers slowly
	waitLate                          // a worker of the copy rests while changes reach the target late
	waitApplied                       // a comparison or the cutover waits for changes to reach the target
	waitIndex                         // changes wait for an index of their table to be created
	waitReplica                       // the source, a replica, has yet to reach its primary
	waitOtherMove                     // a row of another move is in the way of one of ours
	waitNextCutover                   // the pause before a cutover, because it took or would take too long
	waitCauses
)

var waitNames = [waitCauses]string{
	"throttled", "source_outage", "target_outage", "conflict", "row_lock", "barrier", "chunk", "queue_full", "cutover_permission",
	"paced", "late", "applied", "index", "replica", "other_move", "next_cutover",
}

// WaitStats tells how much parts of a run have waited for one cause.
type WaitStats struct {
	// Cause is a name such as "throttled" or "queue_full"; docs/operations.md lists them.
	Cause string
	// Waiting is how many wait now.
	Waiting int64
	// Count is how often somebody has waited, Seconds how long altogether, those who wait
	// now included.
	Count   uint64
	Seconds float64
}

// waitLog counts waits by cause. A nil one counts nothing; it is safe for concurrent use.
type waitLog struct {
	causes [waitCauses]struct {
		sync.Mutex
		waiting int64
		count   uint64
		took    time.Duration // of those that are over
		since   int64         // sum of the starts of those that wait now, in microseconds since 1970
	}
}

// begin notes that somebody waits; the function returned, that it is over.
func (w *waitLog) begin(cause waitCause) (end func()) {
	if w == nil {
		return func() {}
	}
	c, start := &w.causes[cause], time.Now()
	c.Lock()
	defer c.Unlock()
	c.waiting++
	c.count++
	c.since += start.UnixMicro()
	return func() {
		c.Lock()
		defer c.Unlock()
		c.waiting--
		c.since -= start.UnixMicro()
		c.took += time.Since(start)
	}
}

// since returns a function that tells whether somebody has waited for a cause since it was called
// before.
func (w *waitLog) since(cause waitCause) func() bool {
	var seen uint64
	return func() bool {
		if w == nil {
			return false
		}
		c := &w.causes[cause]
		c.Lock()
		defer c.Unlock()
		waited := c.waiting > 0 || c.count != seen
		seen = c.count
		return waited
	}
}

type waitLogKey struct{}

// withWaits makes the context's work count its waits.
func withWaits(ctx context.Context, w *waitLog) context.Context {
	return context.WithValue(ctx, waitLogKey{}, w)
}

// waitingFor notes that the work of this context waits; the function returned, that it is over.
func waitingFor(ctx context.Context, cause waitCause) (end func()) {
	w, _ := ctx.Value(waitLogKey{}).(*waitLog)
	return w.begin(cause)
}

// stats returns all causes.
func (w *waitLog) stats() []WaitStats {
	out := make([]WaitStats, waitCauses)
	for i := range out {
		out[i].Cause = waitNames[i]
		if w != nil {
			c := &w.causes[i]
			c.Lock()
			waits := time.Duration(max(0, c.waiting*time.Now().UnixMicro()-c.since)) * time.Microsecond
			out[i].Waiting, out[i].Count, out[i].Seconds = c.waiting, c.count, (c.took + waits).Seconds()
			c.Unlock()
		}
	}
	return out
}
