package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// OnlineVerifier compares every row of both sides in chunks while the source is being
// written, and at the cutover once more the rows that changed since: what it calls
// equal was compared, and a difference is one that no change under way explains.
//
// It walks all tables, with several workers. A chunk whose digests differ is read row by
// row; keys that differ, and keys that the binary log says were changed, are compared
// again until few are left. A Ferry's begins when the rows are copied and goes on until
// the cutover; VerifyBeforeCutover waits until few keys are left, so that
// VerifyDuringCutover has only recent keys to compare. A row that was found to differ
// makes every later verdict "different".
//
// With a CopyFilter it compares the rows that the filter selects on both servers, see
// [Config.CopyFilter].
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
	// MaxExpectedDowntime is how long a comparison of what changes meanwhile may take
	// before the cutover; a longer one is an error of VerifyBeforeCutover. 0 means any.
	MaxExpectedDowntime time.Duration
	// CompareAllDuringCutover makes VerifyDuringCutover compare every row, whatever was
	// compared before: changes that no binary log has are found too, and the writers
	// wait as long as a whole comparison takes.
	CompareAllDuringCutover bool
	// Repair makes rows that differ equal to the source's, see [Config.OnlineVerifierConfig].
	// They are compared again afterwards. It needs a Ferry, or a source that stands still.
	Repair bool

	ferry *Ferry // nil in a literal

	made struct { // by core
		sync.Mutex
		*comparer
	}
	background backgroundRun
}

var _ Verifier = (*OnlineVerifier)(nil)

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
	// Mismatches is how many rows were found to differ, and Repaired how many were made
	// equal.
	Mismatches, Repaired int
	// BeforeCutover and DuringCutover are the time spent in either phase.
	BeforeCutover, DuringCutover time.Duration
}

// core returns the comparer, made at the first call.
func (v *OnlineVerifier) core() (*comparer, error) {
	v.made.Lock()
	defer v.made.Unlock()
	if v.made.comparer != nil {
		return v.made.comparer, nil
	}
	var prints []*fingerprint
	for _, t := range v.Tables {
		f, err := newFingerprint(t)
		if err != nil {
			return nil, err
		}
		prints = append(prints, f)
	}
	c := newComparer(v.SourceDB, v.TargetDB, newRewrites(v.DatabaseRewrites, v.TableRewrites), prints)
	c.concurrency, c.logger, c.maxDowntime, c.early = v.Concurrency, taggedLogger(v.Logger, "online_verifier"), v.MaxExpectedDowntime, true
	if v.ferry != nil {
		c.wire(v.ferry)
	}
	if v.Repair {
		c.repairer = newRepairer(c, v.ferry)
	}
	c.compareEverything()
	v.made.comparer = c
	return c, nil
}

// BinlogEventListener remembers the keys of changed rows, so that they are compared
// again. It is called on the streamer's goroutine and never waits. It fails when an
// event does not fit its table's definition.
func (v *OnlineVerifier) BinlogEventListener(events []DMLEvent) error {
	c, err := v.core()
	if err != nil {
		return err
	}
	return c.queueEvents(events)
}

// VerifyBeforeCutover is [OnlineVerifier.VerifyBeforeCutoverContext] without a context.
func (v *OnlineVerifier) VerifyBeforeCutover() error {
	return v.VerifyBeforeCutoverContext(context.Background())
}

// VerifyBeforeCutoverContext compares every row, and then those that changed meanwhile
// until few are left or they do not get fewer. Called again it compares what changed
// since. When rows differ, the error is a [VerificationResult] that names them. With Repair it is
// refused while deferred indexes are missing.
func (v *OnlineVerifier) VerifyBeforeCutoverContext(ctx context.Context) error {
	c, err := v.core()
	if err != nil {
		return err
	}
	if err := v.afterIndexes(); err != nil {
		return err
	}
	if err := c.beforeCutover(ctx); err != nil {
		return err
	}
	if result := c.verdict(); !result.DataCorrect {
		return result
	}
	return nil
}

// afterIndexes refuses to repair rows before a run's deferred indexes are there: without a unique
// one nothing keeps out a row that has to wait for the repair of another one.
func (v *OnlineVerifier) afterIndexes() error {
	if v.ferry == nil || !v.Repair || !v.ferry.follows() {
		return nil
	}
	if !v.ferry.indexes.owes() {
		return nil
	}
	return errors.New("rows are repaired when the deferred indexes are there, not while rows are copied or indexes created: verify when the run waits for its cutover, which Run does by itself")
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
	c, err := v.core()
	if err != nil {
		return VerificationResult{}, err
	}
	if v.CompareAllDuringCutover {
		c.compareEverything()
	}
	result, err := c.duringCutover(ctx)
	if err == nil && !c.sawRows() && result.DataCorrect {
		return VerificationResult{}, c.nothingCompared()
	}
	return result, err
}

func (v *OnlineVerifier) verifyFenced(ctx context.Context) (VerificationResult, error) {
	return v.VerifyDuringCutoverContext(ctx)
}

func (v *OnlineVerifier) follow(ctx context.Context) error {
	c, err := v.core()
	if err != nil {
		return err
	}
	return c.follow(ctx, defaultFollowInterval)
}

// Mismatches returns the rows found to differ, at most a thousand a table.
func (v *OnlineVerifier) Mismatches() []OnlineVerifierMismatch {
	c, err := v.core()
	if err != nil {
		return nil
	}
	return c.mismatches()
}

// StartInBackground starts VerifyDuringCutover on a goroutine that ends with it; Wait
// waits for it. It fails while one is running. While a run waits for its cutover it compares
// every row anew beside the writers instead: rows that change meanwhile are no difference.
// From then on until the stream has its end it is refused: the cutover compares, and the
// writers would wait for all of it again. Close ends it.
func (v *OnlineVerifier) StartInBackground() error {
	return v.StartInBackgroundContext(context.Background())
}

// StartInBackgroundContext is StartInBackground with a context that ends the
// verification.
func (v *OnlineVerifier) StartInBackgroundContext(ctx context.Context) error {
	verify := v.VerifyDuringCutoverContext
	if v.ferry != nil && v.ferry.follows() {
		switch v.ferry.OverallState.Load() {
		case StateWaitingForCutover:
		case StateCopying:
			return errors.New("the rows are being copied, or the indexes created, and every row is compared anyway: start a verification while the run waits for the cutover")
		default:
			return errors.New("the cutover has begun, which compares what is left: start a verification while the run waits for it, or when the stream has ended")
		}
		verify = v.verifyFollowing
	}
	return v.background.start(func() (VerificationResult, error) { return verify(ctx) })
}

// verifyFollowing compares every row while the source goes on changing. A cutover that is
// allowed meanwhile waits for it: what it has not compared would be compared before the fence.
func (v *OnlineVerifier) verifyFollowing(ctx context.Context) (VerificationResult, error) {
	c, err := v.core()
	if err != nil {
		return VerificationResult{}, err
	}
	defer c.hold()()
	err = c.run(ctx, &c.counters.before, func(ctx context.Context) error {
		c.compareEverything()
		return c.shrink(ctx)
	})
	if err != nil {
		return VerificationResult{}, err
	}
	return c.verdict(), nil
}

// Wait waits for the verification started in the background, if one was.
func (v *OnlineVerifier) Wait() { v.background.wait() }

// Result is the outcome of the verification started in the background so far.
func (v *OnlineVerifier) Result() (VerificationResultAndStatus, error) { return v.background.result() }

// Message tells how far the comparison is.
func (v *OnlineVerifier) Message() string {
	s := v.Stats()
	return fmt.Sprintf("%d rows compared, %d of %d tables walked, %d keys and %d key ranges to compare again, %d rows differ",
		s.RowsCompared, s.TablesDone, s.Tables, s.KeysQueued, s.RangesQueued, s.Mismatches)
}

// Stats tells what was done so far. It is safe to call at any time.
func (v *OnlineVerifier) Stats() OnlineVerifierStats {
	c, err := v.core()
	if err != nil {
		return OnlineVerifierStats{Tables: len(v.Tables)}
	}
	return c.statistics()
}

// Close ends the connections that are kept between two comparisons;
// VerifyDuringCutover ends them itself.
func (v *OnlineVerifier) Close() error {
	if c, err := v.core(); err == nil {
		c.close()
	}
	return nil
}
