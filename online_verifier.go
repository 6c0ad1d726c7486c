package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
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

	// maxVerifyPasses is how often the keys that changed meanwhile are compared again
	// before the cutover, and fewKeys how many of them may be left for it.
	maxVerifyPasses = 30
	fewKeys         = 1000
)

// appliedWaiter tells when the target has what the source's log has.
type appliedWaiter interface {
	// WaitUntilApplied returns once every in-scope change at or before the coordinate's
	// file and offset has been executed on the target and committed.
	WaitUntilApplied(ctx context.Context, c BinlogCoordinate) error
}

// OnlineVerifier compares every row of both sides in chunks while the source is being
// written, and at the cutover once more the rows that changed since: what it calls
// equal was compared, and a difference is one that no change under way explains.
//
// VerifyBeforeCutover walks all tables, with several workers. A chunk whose digests
// differ is read row by row; keys that differ, and keys that the binary log says were
// changed, are compared again until few are left. VerifyDuringCutover compares these,
// or all rows when there was no complete walk before. A row that was found to differ
// makes every later verdict "different".
//
// It compares whole tables: it is not for a run with a CopyFilter.
//
// As a literal of its exported fields, without a Ferry, it compares two servers that
// nobody writes: VerifyDuringCutover is all that is needed then.
type OnlineVerifier struct {
	// SourceDB and TargetDB are the two servers.
	SourceDB, TargetDB *sql.DB
	// Tables are the tables to compare, with their definition on the source.
	Tables []*TableSchema
	// DatabaseRewrites and TableRewrites map names of the source to the target's.
	DatabaseRewrites, TableRewrites map[string]string
	// Concurrency is the number of workers, each with one connection to either side.
	// Default 4.
	Concurrency int
	// Logger is the run's logger; nil means the process's.
	Logger Logger

	// Wiring, immutable; nil in a literal.

	gate    *gate // what the stream has delivered
	applied appliedWaiter
	logEnd  func(ctx context.Context) (BinlogCoordinate, error)

	touched *touchedKeys // made by prepare

	phase sync.Mutex // held by the one comparison that runs
	// Owned by whoever holds phase.
	servers  *verifiedServers
	suspects map[*fingerprint]map[string]observation // differed when last compared
	walked   bool                                    // every row was compared once

	prints struct { // made by prepare, then immutable
		sync.Mutex
		list   []*fingerprint
		byName map[TableIdentifier]*fingerprint
	}
	found struct {
		sync.Mutex
		mismatches []OnlineVerifierMismatch
		known      map[*fingerprint]map[string]struct{} // by encoded key
	}
	background struct {
		sync.Mutex
		status VerificationResultAndStatus
		err    error
		done   chan struct{} // closed at the end of the run; nil before the first
	}
	counters onlineCounters
}

var _ Verifier = (*OnlineVerifier)(nil)

// onlineCounters count since the verifier was made.
type onlineCounters struct {
	rows, chunks, differing, rechecks, passes atomic.Uint64
	tablesDone, suspects                      atomic.Int64
	before, during                            atomic.Int64 // nanoseconds
}

// OnlineVerifierStats tells what an OnlineVerifier has done so far.
type OnlineVerifierStats struct {
	// Tables is how many tables there are to compare, TablesDone how many were walked.
	Tables, TablesDone int
	// RowsCompared counts the rows of compared chunks; Chunks and DifferingChunks the
	// chunks, and those that had to be read row by row.
	RowsCompared, Chunks, DifferingChunks uint64
	// KeysRechecked counts comparisons of single keys, Passes the rounds of them.
	KeysRechecked, Passes uint64
	// KeysQueued is how many keys wait to be compared (again), RangesQueued how many
	// key ranges, where there were too many keys.
	KeysQueued, RangesQueued int
	// Mismatches is how many rows were found to differ.
	Mismatches int
	// BeforeCutover and DuringCutover are the time spent in either phase.
	BeforeCutover, DuringCutover time.Duration
}

// newOnlineVerifier makes the verifier of a run: it reads the source behind the
// barrier of the run's gate, asks logEnd for the end of the source's log and waits for
// the apply by applied. Its BinlogEventListener has to be registered.
func newOnlineVerifier(source, target *sql.DB, tables []*TableSchema, databases, names map[string]string, concurrency int, logger Logger,
	g *gate, applied appliedWaiter, logEnd func(ctx context.Context) (BinlogCoordinate, error)) *OnlineVerifier {
	return &OnlineVerifier{
		SourceDB: source, TargetDB: target, Tables: tables, DatabaseRewrites: databases, TableRewrites: names,
		Concurrency: concurrency, Logger: logger, gate: g, applied: applied, logEnd: logEnd,
	}
}

// prepare derives how to read the tables, once.
func (v *OnlineVerifier) prepare() error {
	v.prints.Lock()
	defer v.prints.Unlock()
	if v.prints.byName != nil {
		return nil
	}
	byName := make(map[TableIdentifier]*fingerprint, len(v.Tables))
	var list []*fingerprint
	for _, t := range v.Tables {
		f, err := newFingerprint(t)
		if err != nil {
			return err
		}
		list = append(list, f)
		byName[NewTableIdentifierFromSchemaTable(t)] = f
	}
	v.touched = newTouchedKeys(touchedKeysBytes)
	v.prints.list, v.prints.byName = list, byName
	return nil
}

// verifiedServers are the connections of a comparison.
type verifiedServers struct {
	source, target *fingerprintReader
	planning       *sourceReader
}

// connect opens both servers unless they are open.
func (v *OnlineVerifier) connect(ctx context.Context) error {
	if v.servers != nil {
		return nil
	}
	source, err := server.Detect(ctx, v.SourceDB)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	target, err := server.Detect(ctx, v.TargetDB)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	g := v.gate
	if g == nil {
		g = newGate() // nothing was delivered, so reads wait for nothing
	}
	s := &verifiedServers{target: newTargetFingerprints(v.TargetDB, target, newRewrites(v.DatabaseRewrites, v.TableRewrites))}
	s.source, s.planning = newSourceFingerprints(v.SourceDB, source, g)
	v.servers = s
	return nil
}

func (v *OnlineVerifier) disconnect() {
	if v.servers != nil {
		v.servers.source.close()
		v.servers.target.close()
		v.servers = nil
	}
}

// BinlogEventListener remembers the keys of changed rows, so that they are compared
// again. It is called on the streamer's goroutine and never waits. It fails when an
// event does not fit its table's definition.
func (v *OnlineVerifier) BinlogEventListener(events []DMLEvent) error {
	if err := v.prepare(); err != nil {
		return err
	}
	if !v.touched.recording.Load() {
		return nil
	}
	for _, ev := range events {
		f := v.prints.byName[TableIdentifier{ev.Database(), ev.Table()}]
		if f == nil {
			continue
		}
		r, err := rowEventOf(ev)
		if err != nil {
			return err
		}
		for _, image := range []int{r.old, r.new} {
			if image >= 0 {
				v.touched.add(f, r.key(image))
			}
		}
	}
	return nil
}

// VerifyBeforeCutover is [OnlineVerifier.VerifyBeforeCutoverContext] without a context.
func (v *OnlineVerifier) VerifyBeforeCutover() error {
	return v.VerifyBeforeCutoverContext(context.Background())
}

// VerifyBeforeCutoverContext compares every row, and then those that changed meanwhile
// until few are left or they do not get fewer. Called again it compares what changed
// since. When rows differ, the error is a [VerificationResult] that names them.
func (v *OnlineVerifier) VerifyBeforeCutoverContext(ctx context.Context) error {
	return v.run(ctx, &v.counters.before, func(ctx context.Context) error {
		if err := v.walkOnce(ctx, false); err != nil {
			return err
		}
		if err := v.shrink(ctx); err != nil {
			return err
		}
		if result := v.verdict(); !result.DataCorrect {
			return result
		}
		return nil
	})
}

// VerifyDuringCutover is [OnlineVerifier.VerifyDuringCutoverContext] without a context.
func (v *OnlineVerifier) VerifyDuringCutover() (VerificationResult, error) {
	return v.VerifyDuringCutoverContext(context.Background())
}

// VerifyDuringCutoverContext gives the verdict, when the source no longer changes and
// the target has everything: it compares all rows that were not compared since they
// last changed. The error is an [IncompleteVerificationError] when there was nothing
// to compare, and a [*LateWriteError] when the source still changes.
func (v *OnlineVerifier) VerifyDuringCutoverContext(ctx context.Context) (VerificationResult, error) {
	var result VerificationResult
	err := v.run(ctx, &v.counters.during, func(ctx context.Context) error {
		defer v.disconnect()
		if err := v.walkOnce(ctx, true); err != nil {
			return err
		}
		if err := v.settle(ctx); err != nil {
			return err
		}
		if v.counters.rows.Load() == 0 {
			return fmt.Errorf("%w: all %d tables are empty on both sides, so no row was compared", IncompleteVerificationError{}, len(v.Tables))
		}
		result = v.verdict()
		traceVerified(result.DataCorrect)
		return nil
	})
	return result, err
}

// run runs one phase, one at a time, with both servers connected, and takes its time.
func (v *OnlineVerifier) run(ctx context.Context, spent *atomic.Int64, phase func(ctx context.Context) error) error {
	v.phase.Lock()
	defer v.phase.Unlock()
	started := time.Now()
	defer func() { spent.Add(int64(time.Since(started))) }()
	if len(v.Tables) == 0 {
		return fmt.Errorf("%w: there is no table to compare", IncompleteVerificationError{})
	}
	err := v.prepare()
	if err == nil {
		err = v.connect(ctx)
	}
	if err == nil {
		err = phase(ctx)
	}
	if err != nil {
		v.disconnect()
	}
	return err
}

// walkOnce compares every row, unless that was done before.
func (v *OnlineVerifier) walkOnce(ctx context.Context, still bool) error {
	if v.walked {
		return nil
	}
	// Changes delivered from here on are recorded, earlier ones are on the target
	// before the first row of it is read: each change is applied before its row is
	// compared, or leads to another comparison.
	v.touched.recording.Store(true)
	if !still {
		if err := v.waitUntilApplied(ctx); err != nil {
			return err
		}
	}
	v.counters.tablesDone.Store(0)
	work := verifyWork{}
	for _, f := range v.prints.list {
		work.of(f).ranges = []keyRange{{}}
	}
	if err := v.walk(ctx, work, func() { v.counters.tablesDone.Add(1) }); err != nil {
		return err
	}
	v.walked = true
	return nil
}

// waitUntilApplied returns when the target has everything that the source's log holds
// now. Without a stream there is nothing to wait for.
func (v *OnlineVerifier) waitUntilApplied(ctx context.Context) error {
	if v.applied == nil || v.logEnd == nil {
		return nil
	}
	end, err := v.logEnd(ctx)
	if err != nil {
		return fmt.Errorf("verification: end of the source's binary log: %w", err)
	}
	if err := v.applied.WaitUntilApplied(ctx, end); err != nil {
		return fmt.Errorf("verification: waiting until the target has the changes up to %s: %w", end, err)
	}
	return nil
}

// parallel runs f on every worker and waits for all.
func (v *OnlineVerifier) parallel(ctx context.Context, f func(ctx context.Context) error) error {
	workers := v.Concurrency
	if workers <= 0 {
		workers = defaultVerifierConcurrency
	}
	group, ctx := lifecycle.New(ctx)
	for range workers {
		group.Go("verification", f)
	}
	return group.Wait()
}

// verdict is the result as far as rows were compared.
func (v *OnlineVerifier) verdict() VerificationResult {
	mismatches := v.Mismatches()
	if len(mismatches) == 0 {
		return NewCorrectVerificationResult()
	}
	result := mismatchResult(mismatches)
	v.log().Error(result.Message)
	return result
}

func (v *OnlineVerifier) log() Logger { return taggedLogger(v.Logger, "online_verifier") }

// Mismatches returns the rows found to differ, at most a thousand a table.
func (v *OnlineVerifier) Mismatches() []OnlineVerifierMismatch {
	v.found.Lock()
	defer v.found.Unlock()
	return append([]OnlineVerifierMismatch(nil), v.found.mismatches...)
}

// StartInBackground starts VerifyDuringCutover on a goroutine that ends with it; Wait
// waits for it. It fails while one is running.
func (v *OnlineVerifier) StartInBackground() error {
	return v.StartInBackgroundContext(context.Background())
}

// StartInBackgroundContext is StartInBackground with a context that ends the
// verification.
func (v *OnlineVerifier) StartInBackgroundContext(ctx context.Context) error {
	b := &v.background
	b.Lock()
	defer b.Unlock()
	if b.status.IsStarted() && !b.status.IsDone() {
		return errors.New("verification is on going")
	}
	b.status, b.err, b.done = VerificationResultAndStatus{StartTime: time.Now()}, nil, make(chan struct{})
	go func() {
		defer close(b.done)
		result, err := v.VerifyDuringCutoverContext(ctx)
		b.Lock()
		defer b.Unlock()
		b.status.VerificationResult, b.err, b.status.DoneTime = result, err, time.Now()
	}()
	return nil
}

// Wait waits for the verification started in the background, if one was.
func (v *OnlineVerifier) Wait() {
	v.background.Lock()
	done := v.background.done
	v.background.Unlock()
	if done != nil {
		<-done
	}
}

// Result is the outcome of the verification started in the background so far.
func (v *OnlineVerifier) Result() (VerificationResultAndStatus, error) {
	v.background.Lock()
	defer v.background.Unlock()
	return v.background.status, v.background.err
}

// Message tells how far the comparison is.
func (v *OnlineVerifier) Message() string {
	s := v.Stats()
	return fmt.Sprintf("%d rows compared, %d of %d tables walked, %d keys and %d key ranges to compare again, %d rows differ",
		s.RowsCompared, s.TablesDone, s.Tables, s.KeysQueued, s.RangesQueued, s.Mismatches)
}

// Stats tells what was done so far. It is safe to call at any time.
func (v *OnlineVerifier) Stats() OnlineVerifierStats {
	c := &v.counters
	s := OnlineVerifierStats{
		Tables: len(v.Tables), TablesDone: int(c.tablesDone.Load()),
		RowsCompared: c.rows.Load(), Chunks: c.chunks.Load(), DifferingChunks: c.differing.Load(),
		KeysRechecked: c.rechecks.Load(), Passes: c.passes.Load(), KeysQueued: int(c.suspects.Load()),
		BeforeCutover: time.Duration(c.before.Load()), DuringCutover: time.Duration(c.during.Load()),
	}
	v.prints.Lock()
	touched := v.touched
	v.prints.Unlock()
	if touched != nil {
		keys, ranges := touched.counts()
		s.KeysQueued, s.RangesQueued = s.KeysQueued+keys, ranges
	}
	v.found.Lock()
	s.Mismatches = len(v.found.mismatches)
	v.found.Unlock()
	return s
}

// Close ends the connections that VerifyBeforeCutover keeps for VerifyDuringCutover;
// that one ends them itself.
func (v *OnlineVerifier) Close() error {
	v.phase.Lock()
	defer v.phase.Unlock()
	v.disconnect()
	return nil
}
