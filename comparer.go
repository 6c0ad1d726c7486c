package ghostferry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	defaultVerifierConcurrency = 4

	// verifyChunkRows and verifyChunkBytes bound a chunk that is compared as one: a
	// chunk that differs is read row by row.
	verifyChunkRows  = 8192
	verifyChunkBytes = 8 << 20

	// keysPerRead and keyBytesPerRead bound the keys that one statement looks up.
	keysPerRead     = 500
	keyBytesPerRead = 256 << 10

	// maxVerifyPasses is how often the keys that changed meanwhile are compared again before
	// the cutover, one after the other without a repair or a walk that was cut short, and fewKeys
	// how many of them may be left for it.
	maxVerifyPasses = 30
	fewKeys         = 1000

	// defaultFollowInterval is the pause between two passes while the run waits.
	defaultFollowInterval = time.Second
)

// appliedWaiter tells when the target has what the source's log has.
type appliedWaiter interface {
	// WaitUntilApplied returns once every in-scope change at or before the coordinate's
	// file and offset has been executed on the target and committed.
	WaitUntilApplied(ctx context.Context, c BinlogCoordinate) error
}

// comparer compares rows of two servers while one is written and the other follows. It
// is what the verifiers have in common: one reader of digests, one queue of what has to
// be compared, one rule for when a difference is real. Verifiers differ in what they
// put into the queue, and when they ask for the verdict.
//
// A pass takes everything out of the queue, waits until the target has what the source
// had at that moment, compares, and puts back what differs. A difference that stays the
// same over several passes, without a change delivered in between, is a mismatch.
type comparer struct {
	// immutable
	sourceDB, targetDB *sql.DB
	names              rewrites
	concurrency        int
	locatedKeys        int // how many differing keys of a table one walk looks for
	logger             Logger
	throttler          Throttler  // nil: never waits
	filter             CopyFilter // nil: whole tables
	// early: a difference may count before the source stands still.
	early bool
	// maxDowntime is how long the last pass before the cutover may take; 0: any time.
	maxDowntime time.Duration
	repairer    *repairer // nil: mismatches are reported only
	// How long a server that is away is waited for; nil: the defaults.
	sourcePatience, targetPatience *patience
	metrics                        *comparerMetrics // nil: there are none

	gate    *gate         // what the stream has delivered; nil without a stream
	applied appliedWaiter // nil without a stream
	logEnd  func(ctx context.Context) (BinlogCoordinate, error)

	collisions *collisionLedger // rows that wait for another move differ until then; nil without

	ignored []string // tables that the settings leave out, "schema.table"
	prints  []*fingerprint
	byName  map[TableIdentifier]*fingerprint

	queue     *recheckQueue
	following followControl

	phase   chan struct{} // full while a comparison runs: one at a time
	running struct {
		sync.Mutex
		cancel  context.CancelFunc // of that comparison; nil without one
		closing bool
	}
	// Owned by whoever holds phase.
	servers *verifiedServers

	// taken is what a pass has taken out of the queue, and what the last one left.
	taken struct {
		sync.Mutex
		work     verifyWork
		walks    []*tableWalk
		suspects map[*fingerprint]map[string]observation // differed when last compared
	}
	found struct {
		sync.Mutex
		mismatches []OnlineVerifierMismatch
		known      map[*fingerprint]map[string]struct{} // by encoded key
		repaired   []RepairedRow
	}
	counters  comparerCounters
	atCutover atomic.Pointer[VerificationResult] // the last verdict of duringCutover; nil before
	stats     struct {
		sync.Mutex
		tables     map[*fingerprint]*tableStats
		coordinate BinlogCoordinate // what the last pass was equal at
	}
}

// comparerCounters count since the comparer was made.
type comparerCounters struct {
	rows, chunks, differing, rechecks, passes atomic.Uint64
	tablesDone, suspects                      atomic.Int64
	before, during, recheckTime               atomic.Int64 // nanoseconds
}

// tableStats is what was done for one table.
type tableStats struct {
	rows, chunks, differing, rechecks uint64
	seen                              bool      // a side had a row to compare, in a walk or by its key
	sum                               digestSum // of the source's rows, when first compared
	took                              time.Duration
}

// newComparer makes the comparer's own parts; prints are the tables.
func newComparer(source, target *sql.DB, names rewrites, prints []*fingerprint) *comparer {
	c := &comparer{sourceDB: source, targetDB: target, names: names, prints: prints, locatedKeys: maxLocatedKeys, queue: newRecheckQueue(recheckQueueBytes), phase: make(chan struct{}, 1)}
	c.byName = make(map[TableIdentifier]*fingerprint, len(prints))
	c.stats.tables = make(map[*fingerprint]*tableStats, len(prints))
	for _, f := range prints {
		c.byName[NewTableIdentifierFromSchemaTable(f.table)] = f
		c.stats.tables[f] = &tableStats{}
	}
	return c
}

// wire connects the comparer to a run: the source is read behind the barrier of the
// run's gate, and the target when it has what the source's log had.
func (c *comparer) wire(f *Ferry) {
	c.gate, c.applied, c.logEnd, c.collisions = f.gate, appliedByRun{f}, f.sourceLogEnd, f.collisions
	c.throttler, c.filter = f.copyThrottler(), f.CopyFilter
	c.sourcePatience, c.targetPatience = f.sourcePatience, f.targetPatience
}

// compareEverything queues every row of every table.
func (c *comparer) compareEverything() {
	c.counters.tablesDone.Store(0)
	c.counters.rows.Store(0)
	c.stats.Lock()
	defer c.stats.Unlock()
	for _, f := range c.prints {
		*c.stats.tables[f] = tableStats{}
		// In the place of what an interrupted comparison has left: its rows count once.
		c.queue.replace(f, &tableWork{keys: map[string]struct{}{}, first: []keyRange{{}}})
	}
}

// verifiedServers are the connections of a comparison.
type verifiedServers struct {
	source, target *fingerprintReader
	planning       *sourceReader
}

// connect opens both servers unless they are open.
func (c *comparer) connect(ctx context.Context) error {
	if c.servers != nil {
		return nil
	}
	source, err := detectPatiently(ctx, c.sourceDB, c.sourcePatience)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	target, err := detectPatiently(ctx, c.targetDB, c.targetPatience)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	g := c.gate
	if g == nil {
		g = newGate() // nothing was delivered, so reads wait for nothing
	}
	s := &verifiedServers{target: newTargetFingerprints(c.targetDB, target, c.names, c.targetPatience)}
	s.source, s.planning = newSourceFingerprints(c.sourceDB, source, g, c.sourcePatience)
	c.servers = s
	return nil
}

// detectPatiently is server.Detect for a server that may be away.
func detectPatiently(ctx context.Context, db *sql.DB, p *patience) (srv *server.Server, err error) {
	err = p.do(ctx, fingerprintAttempts, func(ctx context.Context, _ int) (err error) {
		srv, err = server.Detect(ctx, db)
		return err
	})
	return srv, err
}

func (c *comparer) disconnect() {
	if c.servers != nil {
		c.servers.source.close()
		c.servers.target.close()
		c.servers = nil
	}
}

// close ends the comparison that runs, if one does, and the connections that are kept from one
// pass to the next.
func (c *comparer) close() {
	c.setClosing(true)
	defer c.setClosing(false)
	c.phase <- struct{}{}
	defer func() { <-c.phase }()
	c.disconnect()
}

func (c *comparer) setClosing(closing bool) {
	c.running.Lock()
	defer c.running.Unlock()
	c.running.closing = closing
	if closing && c.running.cancel != nil {
		c.running.cancel()
	}
}

// endable makes the comparison that ctx belongs to the one that close ends.
func (c *comparer) endable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	c.running.Lock()
	defer c.running.Unlock()
	c.running.cancel = cancel
	if c.running.closing {
		cancel()
	}
	return ctx, cancel
}

// queueEvents puts the keys of changed rows into the queue. It never waits.
func (c *comparer) queueEvents(events []DMLEvent) error {
	for _, ev := range events {
		f := c.byName[TableIdentifier{ev.Database(), ev.Table()}]
		if f == nil || c.queue.holdsWhole(f) {
			continue
		}
		r, err := rowEventOf(ev)
		if err != nil {
			return err
		}
		for _, image := range []int{r.old, r.new} {
			if image >= 0 {
				c.queue.add(f, r.key(image))
				c.metrics.queued(c)
			}
		}
	}
	return nil
}

// run runs one phase, one at a time, with both servers connected, and takes its time.
func (c *comparer) run(ctx context.Context, spent *atomic.Int64, phase func(ctx context.Context) error) error {
	select {
	case c.phase <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.phase }()
	ctx, cancel := c.endable(ctx)
	defer cancel()
	started := time.Now()
	defer func() { spent.Add(int64(time.Since(started))) }()
	if len(c.prints) == 0 {
		return fmt.Errorf("%w: there is no table to compare", IncompleteVerificationError{})
	}
	err := c.connect(ctx)
	if err == nil {
		err = phase(ctx)
	}
	if err != nil {
		c.disconnect()
	}
	return err
}

// beforeCutover compares what is queued until little is left.
func (c *comparer) beforeCutover(ctx context.Context) error {
	return c.run(ctx, &c.counters.before, c.shrink)
}

// duringCutover compares what is left, when the source no longer changes and the target
// has everything, and gives the verdict.
func (c *comparer) duringCutover(ctx context.Context) (VerificationResult, error) {
	var result VerificationResult
	err := c.run(ctx, &c.counters.during, func(ctx context.Context) error {
		defer c.metrics.fenced()()
		defer c.disconnect()
		if err := c.settle(ctx); err != nil {
			return err
		}
		if c.logEnd != nil {
			end, err := c.logEnd(ctx)
			if err != nil {
				return fmt.Errorf("verification: end of the source's binary log: %w", err)
			}
			c.equalAt(end)
		}
		result = c.verdict()
		c.atCutover.Store(&result)
		traceVerified(result.DataCorrect)
		return nil
	})
	return result, err
}

// follow compares what is queued, pass after pass, until the context ends: so that
// little is left whenever the cutover comes. That the context ended is no error.
func (c *comparer) follow(ctx context.Context, interval time.Duration) error {
	for {
		pass, end, err := c.following.begin(ctx)
		if err != nil {
			return nil //nolint:nilerr // its context ended
		}
		err = c.run(pass, &c.counters.before, func(ctx context.Context) error {
			_, err := c.pass(ctx, false)
			return err
		})
		held := pass.Err() != nil // by a cutover, which takes the connections over
		end()
		if err == nil || held {
			err = retry.Sleep(ctx, interval)
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it ends with its context
		case err != nil:
			return err
		}
	}
}

// waitUntilApplied returns when the target has everything that the source's log holds
// now. Without a stream there is nothing to wait for.
func (c *comparer) waitUntilApplied(ctx context.Context) error {
	if c.applied == nil || c.logEnd == nil {
		return nil
	}
	end, err := c.logEnd(ctx)
	if err != nil {
		return fmt.Errorf("verification: end of the source's binary log: %w", err)
	}
	if err := c.applied.WaitUntilApplied(ctx, end); err != nil {
		return fmt.Errorf("verification: waiting until the target has the changes up to %s: %w", end, err)
	}
	c.equalAt(end)
	return nil
}

func (c *comparer) equalAt(at BinlogCoordinate) {
	c.stats.Lock()
	defer c.stats.Unlock()
	c.stats.coordinate = at
}

// passWorker is one of the goroutines that compare in a pass.
type passWorker struct {
	throttler Throttler     // nil: never waits
	held      time.Duration // for how long it was throttled
}

// throttle waits while the run is throttled.
func (w *passWorker) throttle(ctx context.Context) error {
	if w.throttler == nil {
		return nil
	}
	began := time.Now()
	defer func() { w.held += time.Since(began) }()
	return WaitForThrottleContext(ctx, w.throttler)
}

// parallel runs f on every worker and waits for all. It returns how long that would have taken if
// nobody had been throttled, which they are unless the writers wait for us.
func (c *comparer) parallel(ctx context.Context, still bool, f func(ctx context.Context, worker *passWorker) error) (time.Duration, error) {
	workers := c.concurrency
	if workers <= 0 {
		workers = defaultVerifierConcurrency
	}
	throttler := c.throttler
	if still {
		throttler = nil
	}
	took := make([]time.Duration, workers)
	group, _ := lifecycle.New(ctx)
	for i := range workers {
		group.Go("verification", func(ctx context.Context) error {
			began, worker := time.Now(), &passWorker{throttler: throttler}
			err := f(ctx, worker)
			took[i] = time.Since(began) - worker.held
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, endOf(ctx, err)
	}
	return slices.Max(took), ctx.Err() // a worker that was told to stop has not failed, nor finished
}

// verdict is the result as far as rows were compared.
func (c *comparer) verdict() VerificationResult {
	mismatches := c.mismatches()
	if len(mismatches) == 0 {
		return NewCorrectVerificationResult()
	}
	result := mismatchResult(mismatches)
	c.log().Error(result.Message)
	return result
}

func (c *comparer) log() Logger { return taggedLogger(c.logger, "verifier") }

func (c *comparer) mismatches() []OnlineVerifierMismatch {
	c.found.Lock()
	defer c.found.Unlock()
	return append([]OnlineVerifierMismatch(nil), c.found.mismatches...)
}

func (c *comparer) countRepaired() int {
	c.found.Lock()
	defer c.found.Unlock()
	return len(c.found.repaired)
}

// sawRows reports that there was a row to compare. Tables that were empty when they were walked
// may have got rows since, by the stream.
func (c *comparer) sawRows() bool {
	c.stats.Lock()
	defer c.stats.Unlock()
	return c.sawRowsLocked()
}

func (c *comparer) sawRowsLocked() bool {
	for _, t := range c.stats.tables {
		if t.seen {
			return true
		}
	}
	return false
}

// nothingCompared is the error of a verification that has seen no row.
func (c *comparer) nothingCompared() error {
	return fmt.Errorf("%w: all %d tables are empty on both sides, so no row was compared", IncompleteVerificationError{}, len(c.prints))
}

// statistics tells what was done so far.
func (c *comparer) statistics() OnlineVerifierStats {
	n := &c.counters
	s := OnlineVerifierStats{
		Tables: len(c.prints), TablesDone: int(n.tablesDone.Load()),
		RowsCompared: n.rows.Load(), Chunks: n.chunks.Load(), DifferingChunks: n.differing.Load(),
		KeysRechecked: n.rechecks.Load(), Passes: n.passes.Load(),
		BeforeCutover: time.Duration(n.before.Load()), DuringCutover: time.Duration(n.during.Load()),
	}
	s.KeysQueued, s.RangesQueued = c.queue.counts()
	s.KeysQueued += int(n.suspects.Load())
	c.found.Lock()
	defer c.found.Unlock()
	s.Mismatches, s.Repaired = len(c.found.mismatches), len(c.found.repaired)
	return s
}
