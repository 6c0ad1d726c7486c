package ghostferry

import (
	"context"
	"time"
)

const (
	// maxFoundWorkers bounds the workers that nobody has asked for: each has a connection to
	// either server, and a chunk in memory.
	maxFoundWorkers = 12
	// workersInterval is how long a number of workers is tried.
	workersInterval = 2 * time.Second
	// workersGain is by how much faster the copy has to be with more workers for them to stay;
	// workersLoss by how much slower it may be with fewer.
	workersGain, workersLoss = 1.1, 1.03
	// workersBegin is how many intervals pass before the first trial: a copy that is over soon
	// gains little.
	workersBegin = 4
	// workersRest is the longest pause between two trials that changed nothing, in intervals.
	workersRest = 32
)

// copyWorkers finds how many workers keep the target busy, where nobody has said how many: it
// tries more, and keeps them when the copy is faster by them. What it finds is a setting like one made
// by hand, so that it is seen where settings are; and it ends when one is made by hand.
type copyWorkers struct {
	// immutable
	config    *Config
	copied    func() uint64 // bytes so far
	throttled func() bool
	logger    Logger
}

// run searches until the rows are copied or ctx ends.
func (c *copyWorkers) run(ctx context.Context, copied <-chan struct{}) error {
	search := &workerSearch{least: c.config.UpdatableConfig.workers(), most: maxFoundWorkers, rest: workersBegin}
	search.workers = search.least
	set, before, since := search.least, c.copied(), time.Now()
	_ = every(ctx, workersInterval, func() {
		select {
		case <-copied:
			return
		default:
		}
		last, now, at := before, c.copied(), time.Now()
		rate := float64(now-last) / at.Sub(since).Seconds()
		before, since = now, at
		if set != c.config.UpdatableConfig.workers() {
			set = 0 // by hand
		}
		if set == 0 || last == 0 { // or the copy had not begun
			return
		}
		wanted := search.restart()
		if rate > 0 && !c.throttled() {
			wanted = search.next(rate)
		}
		if wanted != set {
			c.logger.Debugf("%d workers copy, %.1f MB/s were copied by %d", wanted, rate/1e6, set)
			c.config.Update(UpdatableConfig{DataIterationConcurrency: int64(wanted)})
			set = wanted
		}
	})
	return nil
}

// workerSearch climbs a hill whose shape is not known and which changes: half as many workers more
// are kept when they pay, a quarter fewer when they cost nothing. After a trial that has changed
// nothing it rests, and then tries the other direction.
type workerSearch struct {
	least, most int

	workers int     // that are kept
	rate    float64 // what they copied in the last interval
	tried   int     // the number under trial; 0: none
	down    bool    // the direction of the next trial
	rest    int     // intervals before it
	pause   int     // how many the next rest has
}

// next takes what was copied in an interval with the workers that it, or restart, had said, and
// says how many are to copy in the next one.
func (s *workerSearch) next(rate float64) int {
	if s.tried > 0 {
		paid := rate > s.rate*workersGain
		if s.tried < s.workers {
			paid = rate*workersLoss > s.rate
		}
		if !paid {
			s.down = !s.down
			s.pause = min(2*s.pause+1, workersRest)
			s.rest = s.pause
			return s.restart()
		}
		s.workers, s.pause = s.tried, 0
	}
	s.rate, s.tried = rate, 0
	if s.rest > 0 {
		s.rest--
		return s.workers
	}
	for range 2 {
		s.tried = min(s.most, s.workers+(s.workers+1)/2)
		if s.down {
			s.tried = max(s.least, s.workers-max(1, s.workers/4))
		}
		if s.tried != s.workers {
			return s.tried
		}
		s.down, s.tried = !s.down, 0
	}
	return s.workers
}

// restart ends a trial without a result.
func (s *workerSearch) restart() int {
	s.tried = 0
	return s.workers
}
