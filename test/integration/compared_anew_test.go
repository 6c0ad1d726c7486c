package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// unwatched moves one row a chunk, and does not notice by the target's log what a test writes there.
func unwatched(p *harness.Pair, schema, verifier string) *ghostferry.Ferry {
	f := shopFerry(p, schema, 1)
	f.VerifierType, f.SkipTargetVerification, f.DataIterationConcurrency = verifier, true, 1
	return f
}

// compareAll runs until every row was compared and ends then, which saves that nothing is left.
func compareAll(t *testing.T, ctx context.Context, f *ghostferry.Ferry) {
	t.Helper()
	runUntil(t, ctx, f, "every row is compared", comparedAll)
}

func comparedAll(v *ghostferry.OnlineVerifier) bool {
	s := v.Stats()
	return s.TablesDone == s.Tables && s.KeysQueued+s.RangesQueued == 0
}

// runUntil runs until its verifier is so far, and interrupts the run then.
func runUntil(t *testing.T, ctx context.Context, f *ghostferry.Ferry, what string, holds func(v *ghostferry.OnlineVerifier) bool) {
	t.Helper()
	f.AutomaticCutover = false
	require.NoError(t, f.InitializeContext(ctx))
	v, ok := f.Verifier.(*ghostferry.OnlineVerifier)
	require.True(t, ok)
	require.NoError(t, f.StartContext(ctx))
	run, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(run) }()
	harness.Await(t, what, func() bool {
		select {
		case err := <-ran:
			t.Fatalf("the run ended: %v", err)
		default:
		}
		return holds(v)
	})
	stop()
	mustBeInterrupted(t, <-ran)
	require.NoError(t, f.Close())
}

// stopAtFirstChunk runs until one chunk is copied.
func stopAtFirstChunk(t *testing.T, ctx context.Context, f *ghostferry.Ferry) {
	t.Helper()
	mustStart(t, ctx, f)
	run, stop := context.WithCancel(ctx)
	defer stop()
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { // behind the Ferry's own: it is committed
		stop()
		return nil
	})
	mustBeInterrupted(t, f.RunContext(run))
	require.NoError(t, f.Close())
}

// mustFindWrongCopy moves the rest, and makes a row wrong that was copied anew.
func mustFindWrongCopy(t *testing.T, ctx context.Context, p *harness.Pair, f *ghostferry.Ferry, schema string) {
	t.Helper()
	require.NoError(t, f.InitializeContext(ctx))
	f.DataIterator.AddDoneListener(func() error { return p.TryIn(ctx, p.TargetDB, schema, "UPDATE t SET v=22 WHERE id=2") })
	require.NoError(t, f.StartContext(ctx))
	require.ErrorContains(t, harness.RunStarted(ctx, f, func() error { return nil }), schema+".t [PKs: 2 ")
	require.NoError(t, f.Close())
}

// Rows that are copied anew are compared anew, by whichever process: also when the one that has
// seen that they are to be copied again ends before it has compared anything.
func TestRowsCopiedAnewAreComparedAnew(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, verifier := range []string{ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeNoVerification} {
			t.Run(verifier, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				const schema = "anew"
				p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
				p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
				compareAll(t, ctx, unwatched(p, schema, ghostferry.VerifierTypeOnline))

				p.In(t, p.TargetDB, schema, "TRUNCATE TABLE t")
				stopAtFirstChunk(t, ctx, unwatched(p, schema, verifier))
				require.Positive(t, harness.Count(t, p.TargetDB, schema+".t"))
				mustFindWrongCopy(t, ctx, p, unwatched(p, schema, ghostferry.VerifierTypeOnline), schema)
			})
		}
	})
}

// So it is with rows that another process copies anew after this one has looked for what was compared.
func TestRowsCopiedAnewMeanwhileAreComparedAnew(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "anew_late"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		compareAll(t, ctx, unwatched(p, schema, ghostferry.VerifierTypeOnline))
		late := unwatched(p, schema, ghostferry.VerifierTypeOnline)
		mustStart(t, ctx, late)

		p.In(t, p.TargetDB, schema, "TRUNCATE TABLE t")
		stopAtFirstChunk(t, ctx, unwatched(p, schema, ghostferry.VerifierTypeOnline))
		p.In(t, p.TargetDB, schema, "UPDATE t SET v=11 WHERE id=1")
		require.ErrorContains(t, harness.RunStarted(ctx, late, func() error { return nil }), schema+".t [PKs: 1 ")
		require.NoError(t, late.Close())

		p.In(t, p.TargetDB, schema, "UPDATE t SET v=1 WHERE id=1")
		f := unwatched(p, schema, ghostferry.VerifierTypeOnline)
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.EqualValues(t, 3, f.Verifier.(ghostferry.ReportingVerifier).Report().Rows)
		require.NoError(t, f.Close())
		p.MustEqual(t, schema)
	})
}

// The same holds for rows that the source may have lost after they were compared.
func TestRepairedRowsAreComparedAnew(t *testing.T) {
	t.Parallel() // with servers of its own
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := harness.New(t, harness.Settings[0])
	const schema = "lost_compared"
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.Create(t, "elsewhere", "CREATE TABLE t (id INT PRIMARY KEY)")
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
	restore := older(t, p)
	ferry := func() *ghostferry.Ferry { return unwatched(p, schema, ghostferry.VerifierTypeOnline) }
	stopAtFirstChunk(t, ctx, ferry())
	// The source loses a transaction that the copy has read past. Its place was not recorded, as by a
	// process that is killed soon after: places without changes are recorded once a second.
	p.In(t, p.TargetDB, "_ghostferry", "CREATE TABLE elsewhere.kept SELECT * FROM lanes")
	p.In(t, p.SourceDB, "elsewhere", "INSERT INTO t VALUES (1)")
	compareAll(t, ctx, ferry())
	p.In(t, p.TargetDB, "_ghostferry", "DELETE FROM lanes", "INSERT INTO lanes SELECT * FROM elsewhere.kept")
	restore()

	stopAtFirstChunk(t, ctx, ferry())
	mustFindWrongCopy(t, ctx, p, ferry(), schema)
}

// A table that an ALTER may have written anew is compared again by a process that had compared it
// before, although another one without a verifier has made the ALTER.
func TestRebuiltTableIsComparedByTheNextVerifier(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "rebuilt"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT, w INT, KEY (w))")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1,1),(2,2,2),(3,3,3)")
		ferry := func(verifier string) (*ghostferry.Ferry, *faultproxy.Proxy) {
			f, proxy := proxiedTarget(t, p, schema)
			f.VerifierType, f.SkipTargetVerification = verifier, true
			return f, proxy
		}
		f, proxy := ferry(ghostferry.VerifierTypeOnline)
		proxy.On(faultproxy.Rule{Match: faultproxy.Query(creates), Do: faultproxy.Refuse, Error: 1205, Times: 1000})
		compareAll(t, ctx, f)

		f, proxy = ferry(ghostferry.VerifierTypeNoVerification)
		f.AutomaticCutover = false
		quiet := proxy.On(faultproxy.Rule{Match: faultproxy.Query(creates), Do: faultproxy.Refuse, Error: 1845, Times: 1})
		mustStart(t, ctx, f)
		interrupt(t, ctx, f, func() {
			awaitRows(t, p.TargetDB, schema+".t", 3, f)
		})
		require.NoError(t, f.Close())
		require.Equal(t, 1, quiet.Taken())

		f, _ = ferry(ghostferry.VerifierTypeOnline)
		mustFindWrongCopy(t, ctx, p, f, schema)
	})
}

// What was copied and changed before an inline verifier has saved anything, or while a process had
// another one, was compared by nobody: it compares that when it goes on, once.
func TestInlineVerifierTakesOver(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for name, before := range map[string][]string{
			"without one":          {ghostferry.VerifierTypeNoVerification},
			"with it, and without": {ghostferry.VerifierTypeInline, ghostferry.VerifierTypeNoVerification},
		} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				const schema = "inline_later"
				p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
				p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4)")
				for _, verifier := range before {
					stopAtFirstChunk(t, ctx, unwatched(p, schema, verifier))
				}
				copied := harness.Count(t, p.TargetDB, schema+".t")
				require.GreaterOrEqual(t, copied, len(before))
				p.In(t, p.TargetDB, schema, "UPDATE t SET v=v+10")
				f := unwatched(p, schema, ghostferry.VerifierTypeInline)
				err := harness.Move(ctx, f, func() error { return nil })
				for id := range copied {
					require.ErrorContains(t, err, fmt.Sprintf("%d (type: rows checksum difference", id+1))
				}
				require.NoError(t, f.Close())
			})
		}
	})
}

// So it is with what another process copies between this one's first look at the checkpoint and
// the moment in which it takes the run over.
func TestInlineVerifierTakesOverFromALiveProcess(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "inline_late"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4)")
		stopAtFirstChunk(t, ctx, unwatched(p, schema, ghostferry.VerifierTypeNoVerification))
		first := harness.Count(t, p.TargetDB, schema+".t")
		f := unwatched(p, schema, ghostferry.VerifierTypeInline)
		require.NoError(t, f.InitializeContext(ctx))
		stopAtFirstChunk(t, ctx, unwatched(p, schema, ghostferry.VerifierTypeNoVerification))
		copied := harness.Count(t, p.TargetDB, schema+".t")
		require.Greater(t, copied, first)
		p.In(t, p.TargetDB, schema, "UPDATE t SET v=v+10")
		require.NoError(t, f.StartContext(ctx))
		err := harness.RunStarted(ctx, f, func() error { return nil })
		for id := range copied {
			require.ErrorContains(t, err, fmt.Sprintf("%d (type: rows checksum difference", id+1))
		}
		require.NoError(t, f.Close())
	})
}

// What an inline verifier has left to compare is what was saved when it takes the run over, also of a
// table that another process has copied anew, because the source may have lost rows of it, since this
// one has looked.
func TestInlineVerifierTakesOverARepair(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "inline_repaired"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2)", "INSERT INTO u VALUES (1)")
		move := func(change func()) (copied uint64) {
			f := unwatched(p, schema, ghostferry.VerifierTypeInline)
			f.AutomaticCutover = false
			mustStart(t, ctx, f)
			interrupt(t, ctx, f, func() {
				awaitRows(t, p.TargetDB, schema+".t", 2, f)
				change()
				copied = f.Progress().RowsCopied
			})
			require.NoError(t, f.Close())
			return copied
		}
		require.EqualValues(t, 3, move(func() {}))
		// As when the source was restarted, and its log had not been followed up to the reads of t.
		p.In(t, p.TargetDB, "_ghostferry", "UPDATE runs SET source_started=source_started-60", "UPDATE tables SET read_pos=read_pos+1000000000 WHERE source_table='t'")
		late := unwatched(p, schema, ghostferry.VerifierTypeInline)
		mustStart(t, ctx, late)
		copied := move(func() { // the preflight would refuse the triggers before, and a change that is applied right may be compared at once
			p.In(t, p.TargetDB, schema, "CREATE TRIGGER spoils BEFORE UPDATE ON t FOR EACH ROW SET NEW.v=11", "CREATE TRIGGER spoils_new BEFORE INSERT ON t FOR EACH ROW SET NEW.v=11")
			p.In(t, p.SourceDB, schema, "UPDATE t SET v=10 WHERE id=1")
			harness.Await(t, "the change is applied", func() bool { return harness.Count(t, p.TargetDB, schema+".t WHERE v=11") == 1 })
		})
		require.EqualValues(t, 2, copied, "t is copied anew")
		p.In(t, p.TargetDB, schema, "DROP TRIGGER spoils", "DROP TRIGGER spoils_new")
		require.ErrorContains(t, harness.RunStarted(ctx, late, func() error { return nil }), schema+".t [PKs: 1 ")
		require.NoError(t, late.Close())
	})
}

// Where the target's log is not watched from where it was, an inline verifier compares all that was
// copied anew, also what another process copies before this one takes the run over.
func TestInlineVerifierComparesAllThatOthersCopied(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "inline_all"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4)")
		ferry := func() *ghostferry.Ferry {
			f := unwatched(p, schema, ghostferry.VerifierTypeInline)
			f.SkipTargetVerification = false
			return f
		}
		stopAtFirstChunk(t, ctx, ferry())
		target := &harness.Pair{Setting: p.Setting, SourceDB: p.TargetDB}
		p.In(t, p.TargetDB, "", "FLUSH BINARY LOGS")
		file, _, err := target.SourceLogEnd(ctx)
		require.NoError(t, err)
		purge(t, target, file)
		late := ferry()
		mustStart(t, ctx, late)
		stopAtFirstChunk(t, ctx, ferry())
		copied := harness.Count(t, p.TargetDB, schema+".t")
		require.GreaterOrEqual(t, copied, 2)
		p.In(t, p.TargetDB, schema, "SET SESSION sql_log_bin=0", "UPDATE t SET v=v+10")
		err = harness.RunStarted(ctx, late, func() error { return nil })
		for id := range copied {
			require.ErrorContains(t, err, fmt.Sprintf("%d (type: rows checksum difference", id+1))
		}
		require.NoError(t, late.Close())
	})
}

// So it is with a table that was empty when it was copied, and filled since; and what was compared
// only then is in the report.
func TestInlineVerifierTakesOverChanges(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "inline_filled"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		first := unwatched(p, schema, ghostferry.VerifierTypeNoVerification)
		first.AutomaticCutover = false
		mustStart(t, ctx, first)
		interrupt(t, ctx, first, func() {
			p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2)")
			awaitRows(t, p.TargetDB, schema+".t", 2, first)
		})
		require.NoError(t, first.Close())

		f := unwatched(p, schema, ghostferry.VerifierTypeInline)
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		v, ok := f.Verifier.(ghostferry.ReportingVerifier)
		require.True(t, ok)
		require.EqualValues(t, 2, v.Report().Rows)
		require.NoError(t, f.Close())
	})
}

// Rows that came by the stream after their tables were walked, when they were empty, are compared:
// no cutover fails for want of a row, in this process or a later one, and what was changed out of the
// log's sight since is found where everything is compared at the cutover.
func TestTablesFilledAfterTheWalk(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "filled"
		empty := func(t *testing.T) (context.Context, *ghostferry.Ferry) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
			return ctx, unwatched(p, schema, ghostferry.VerifierTypeOnline)
		}
		fill := func(t *testing.T) { p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2)") }
		compared := func(v *ghostferry.OnlineVerifier) bool { return comparedAll(v) && v.Stats().KeysRechecked > 0 }
		verifier := func(f *ghostferry.Ferry) *ghostferry.OnlineVerifier { return f.Verifier.(*ghostferry.OnlineVerifier) }
		t.Run("at the cutover", func(t *testing.T) {
			ctx, f := empty(t)
			require.NoError(t, harness.Move(ctx, f, func() error {
				harness.Await(t, "the table is walked", func() bool { return comparedAll(verifier(f)) })
				fill(t)
				return nil
			}))
			report := verifier(f).Report()
			require.Equal(t, "equal", report.Result)
			require.Contains(t, report.Verdict(), "The rows of 1 table that were copied or changed by the run are equal")
			require.NoError(t, f.Close())
		})
		t.Run("before an interruption", func(t *testing.T) {
			ctx, f := empty(t)
			filled := false
			runUntil(t, ctx, f, "the new rows are compared", func(v *ghostferry.OnlineVerifier) bool {
				if !filled && comparedAll(v) {
					fill(t)
					filled = true
				}
				return compared(v)
			})
			f = unwatched(p, schema, ghostferry.VerifierTypeOnline)
			require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
			require.Equal(t, "equal", verifier(f).Report().Result)
			require.NoError(t, f.Close())
		})
		t.Run("everything at the cutover", func(t *testing.T) {
			ctx, f := empty(t)
			f.OnlineVerifierConfig.CompareAllDuringCutover = true
			err := harness.Move(ctx, f, func() error {
				harness.Await(t, "the table is walked", func() bool { return comparedAll(verifier(f)) })
				fill(t)
				harness.Await(t, "the new rows are compared", func() bool { return compared(verifier(f)) })
				p.In(t, p.TargetDB, schema, "UPDATE t SET v = 3 WHERE id = 2")
				return nil
			})
			require.ErrorContains(t, err, schema+".t [PKs: 2 ")
			require.NoError(t, f.Close())
		})
	})
}
