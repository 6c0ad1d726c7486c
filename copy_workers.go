package ghostferry

import (
	"context"
	"sync/atomic"
	"time"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// maxFoundWorkers bounds the workers that nobody has asked for: each has a connection to
	// either server, and a chunk in memory.
	maxFoundWorkers = 12
	// maxFoundBytes is how many bytes all their chunks may have: they are in memory.
	maxFoundBytes = maxFoundWorkers * defaultDataIterationChunkBytes
	// workerConnections is of how many connections that an account may have a worker takes one.
	workerConnections = 8
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
// by hand, so that it is seen where settings are; it ends when one is made by hand, and when
// the rows are copied the setting is what it was.
type copyWorkers struct {
	// immutable
	config      *Config
	least, most int
	copied      func() uint64 // bytes so far
	throttled   func() bool
	late        func() bool // workers have rested since the last call, to let late changes go first
	logger      Logger
}

// findWorkers searches until the rows are copied or ctx ends.
func (f *Ferry) findWorkers(ctx context.Context) error {
	most, err := f.mostWorkers(ctx)
	if err != nil {
		f.logger.WithError(err).Debug("how many connections there may be is not known: four workers copy")
		return nil
	}
	search := &copyWorkers{f.Config, f.UpdatableConfig.workers(), most, f.StateTracker.bytesWritten, f.Throttler.Throttled, f.waits.since(waitLate), taggedLogger(f.logger, "data_iterator")}
	search.run(ctx, f.rowsCopied)
	return nil
}

// looksForWorkers: nobody has said how many are to copy, and tenants share their servers with
// others.
func (f *Ferry) looksForWorkers() bool {
	c := f.Config
	return c.workersByDefault && atomic.LoadInt32(&c.workersChosen) == 0 && c.UpdatableConfig.workers() == c.DataIterationConcurrency &&
		f.DataIterator.pace == nil && f.CopyFilter == nil
}

// mostWorkers is how many there may be at most. Their chunks are in memory, and they take an
// eighth of the connections that the account may have on either server: what else the run
// opens, and the applications, must not find none left. Of a pool that the host has bounded
// they take half (session.mayRest).
func (f *Ferry) mostWorkers(ctx context.Context) (int, error) {
	most := min(maxFoundWorkers, maxFoundBytes/max(defaultDataIterationChunkBytes, f.DataIterationChunkBytes))
	for _, db := range []*sql.DB{f.SourceDB, f.TargetDB} {
		var all, account uint64
		if err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.max_connections, @@SESSION.max_user_connections").Scan(&all, &account); err != nil {
			return 0, err
		}
		if account > 0 {
			all = min(all, account)
		}
		most = min(most, all/workerConnections)
		if bound := db.Stats().MaxOpenConnections; bound > 0 {
			most = min(most, uint64(bound)/2)
		}
	}
	return int(most), nil
}

// warnOfBounds tells of pools that the host has bounded more closely than the copy and the apply
// can use them. The run goes on: it waits for connections, and makes them anew.
func (f *Ferry) warnOfBounds() {
	workers := f.UpdatableConfig.workers()
	for _, pool := range []struct {
		name     string
		db       *sql.DB
		sessions int
	}{{"SourceDB", f.SourceDB, workers}, {"TargetDB", f.TargetDB, workers + f.UpdatableConfig.lanes()}} {
		if bound := pool.db.Stats().MaxOpenConnections; bound > 0 && bound < 2*pool.sessions {
			f.logger.Warnf("%s is bounded to %d connections (SetMaxOpenConns), and %d sessions copy and apply there beside what else the run asks: it waits for connections, and makes them anew; allow %d, or lower DataIterationConcurrency or BinlogApplyLanes",
				pool.name, bound, pool.sessions, 2*pool.sessions)
		}
	}
}

func (c *copyWorkers) run(ctx context.Context, copied <-chan struct{}) {
	search := &workerSearch{least: c.least, most: max(c.least, c.most), workers: c.least, rest: workersBegin}
	set, before, since := c.least, c.copied(), time.Now()
	defer func() { c.config.setFoundWorkers(set, c.least) }()
	ticker := time.NewTicker(workersInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-copied:
			return
		case <-ticker.C:
		}
		last, now, at := before, c.copied(), time.Now()
		rate := float64(now-last) / at.Sub(since).Seconds()
		before, since = now, at
		if last == 0 { // the copy had not begun
			continue
		}
		var wanted int
		switch {
		case c.late():
			search.workers = search.least
			wanted = search.restart()
		case rate == 0 || c.throttled():
			wanted = search.restart()
		default:
			wanted = search.next(rate)
		}
		if !c.config.setFoundWorkers(set, wanted) {
			return // by hand
		}
		if wanted != set {
			c.logger.Debugf("%d workers copy, %.1f MB/s were copied by %d", wanted, rate/1e6, set)
			set = wanted
		}
	}
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
