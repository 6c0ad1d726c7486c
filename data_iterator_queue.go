package ghostferry

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// copyQueue hands the pieces of all tables to the workers, first table first. A worker stays
// with a table that is its own, and helps another one when no table is without a worker:
// several that fill one small table wait for each other in the target, which lets only one
// of them make a file longer or split a page near an index's root.
type copyQueue struct {
	d *DataIterator

	mu      sync.Mutex
	jobs    *jobList
	at      map[int]copyJob // where a worker took its last piece
	changed chan struct{}   // closed and replaced when a piece ends
	over    chan struct{}   // closed when no table is left
	noRest  time.Time       // before it no worker lets changes go first
}

// jobList is an immutable list: workers walk through it unlocked, and one without some job
// shares what comes behind it.
type jobList struct {
	job  copyJob
	next *jobList
}

// newJobList leaves out nils.
func newJobList(jobs []copyJob) (l *jobList) {
	for _, job := range slices.Backward(jobs) {
		if job != nil {
			l = &jobList{job, l}
		}
	}
	return l
}

func (l *jobList) all() iter.Seq[copyJob] {
	return func(yield func(copyJob) bool) {
		for at := l; at != nil; at = at.next {
			if !yield(at.job) {
				return
			}
		}
	}
}

// without is a list that lacks the job. Workers go through a list from its front, so that few
// jobs are before the one that has ended.
func (l *jobList) without(job copyJob) *jobList {
	if l == nil {
		return nil
	}
	if l.job == job {
		return l.next
	}
	return &jobList{l.job, l.next.without(job)}
}

// newCopyQueue finds what is left to copy of each table; empty tables are complete.
func (d *DataIterator) newCopyQueue(ctx context.Context, tables []*TableSchema) (*copyQueue, error) {
	q := &copyQueue{d: d, at: map[int]copyJob{}, changed: make(chan struct{}), over: make(chan struct{})}
	// Each costs the server a round trip, which many tables need not wait for in a row.
	jobs := make([]copyJob, len(tables))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(d.Concurrency)
	for i, table := range tables {
		group.Go(func() (err error) {
			if jobs[i], err = d.newCopyJob(groupCtx, table); err != nil {
				return &TableError{Schema: table.Schema, Table: table.Name, Err: err}
			}
			if jobs[i] == nil {
				return d.completeTable(groupCtx, table)
			}
			d.logger.WithFields(tableFields(table)).Debug("table is about to be copied")
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	q.jobs = newJobList(jobs)
	if q.jobs == nil {
		close(q.over)
	}
	return q, nil
}

// work takes pieces until all tables are copied.
func (q *copyQueue) work(ctx context.Context, worker int) error {
	for {
		if wanted, err := q.wanted(ctx, worker); err != nil || !wanted {
			return err
		}
		if q.d.CursorConfig.Throttler != nil {
			if err := WaitForThrottleContext(ctx, q.d.CursorConfig.Throttler); err != nil {
				return err
			}
		}
		job, piece, changed, err := q.next(ctx, worker)
		if err != nil {
			return err
		}
		if piece == nil {
			if changed == nil {
				return nil
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := piece(ctx); err != nil {
			return err
		}
		if err := q.ended(ctx, job); err != nil {
			return err
		}
	}
}

const (
	// lateLook is how often a worker that lets late changes go first looks whether they still are.
	lateLook = 100 * time.Millisecond
	// longestRest is how long it does so at most. When the changes are late all the same, the copy is not
	// why (the target is far, a row is locked on the source), and no worker rests for restPause.
	longestRest, restPause = 3 * time.Second, 15 * time.Second
)

// wanted returns when the worker is among those that are wanted; false when none is needed
// any more. While changes are late, one is.
func (q *copyQueue) wanted(ctx context.Context, worker int) (bool, error) {
	const none = waitCauses
	cause, rested := none, func() {}
	defer func() { rested() }()
	var began time.Time
	for {
		changed := q.d.updates.wait()
		configured := q.d.configuredWorkers()
		now := none
		var look <-chan time.Time
		switch {
		case worker > configured: // nobody counts on it
		case worker > q.d.pace.workers(configured):
			now = waitPaced
		case worker > 1 && q.rests(&began):
			now, look = waitLate, time.After(lateLook)
		default:
			return true, nil
		}
		if now != cause { // else it is the same rest, after a look
			rested()
			cause, rested = now, func() {}
			if now != none {
				rested = waitingFor(ctx, now)
			}
		}
		select {
		case <-changed:
		case <-look:
		case <-q.over:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// rests says whether a worker lets changes go first, and keeps when it began to.
func (q *copyQueue) rests(began *time.Time) bool {
	if q.d.late == nil || !q.d.late() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	switch {
	case now.Before(q.noRest):
		return false
	case began.IsZero():
		*began = now
	case now.Sub(*began) > longestRest:
		q.noRest = now.Add(restPause)
		return false
	}
	return true
}

// next claims a piece of a job; without one it returns a channel to wait on, or nil when no
// table is left.
func (q *copyQueue) next(ctx context.Context, worker int) (copyJob, func(context.Context) error, <-chan struct{}, error) {
	q.mu.Lock()
	jobs, changed := q.jobs, q.changed
	q.mu.Unlock()
	for job := range q.choices(jobs, worker) {
		piece, err := job.claim(ctx, worker)
		if err != nil {
			return nil, nil, nil, &TableError{Schema: job.schema().Schema, Table: job.schema().Name, Err: err}
		}
		if piece != nil {
			q.move(worker, job)
			return job, piece, nil, nil
		}
	}
	if jobs == nil {
		return nil, nil, nil, nil
	}
	return nil, nil, changed, nil
}

// choices are the jobs in the order in which a worker asks them for a piece: the one that it
// is at, those that nobody is at, and all others.
func (q *copyQueue) choices(jobs *jobList, worker int) iter.Seq[copyJob] {
	return func(yield func(copyJob) bool) {
		q.mu.Lock()
		own := q.at[worker]
		q.mu.Unlock()
		if own != nil && !yield(own) {
			return
		}
		for job := range jobs.all() {
			if q.moveAlone(worker, job) && !yield(job) {
				return
			}
		}
		for job := range jobs.all() {
			if !yield(job) {
				return
			}
		}
	}
}

// move notes that a worker is at a job.
func (q *copyQueue) move(worker int, job copyJob) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at[worker] = job
}

// moveAlone does so if no worker is at it.
func (q *copyQueue) moveAlone(worker int, job copyJob) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, other := range q.at {
		if other == job {
			return false
		}
	}
	q.at[worker] = job
	return true
}

// ended completes the piece's table when it was the last of its work, and wakes the waiting
// workers. A job has work from the start, so no other can have been finished by it.
func (q *copyQueue) ended(ctx context.Context, job copyJob) error {
	if job.finished() {
		if err := q.d.completeTable(ctx, job.schema()); err != nil {
			return err
		}
		q.remove(job)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.changed)
	q.changed = make(chan struct{})
	return nil
}

// remove takes a job off the list.
func (q *copyQueue) remove(job copyJob) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = q.jobs.without(job)
	if q.jobs == nil {
		close(q.over)
	}
}
