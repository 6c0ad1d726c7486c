package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// stopping is a throttler that holds everything back once it was told to and rows were
// compared.
type stopping struct {
	ghostferry.PauserThrottler
	armed    atomic.Bool
	verifier *ghostferry.OnlineVerifier
	once     sync.Once
	stuck    chan struct{} // closed when it holds back
}

func (s *stopping) Throttled() bool {
	if !s.armed.Load() || s.verifier.Stats().RowsCompared == 0 {
		return false
	}
	s.once.Do(func() { close(s.stuck) })
	return true
}

// A verification that is interrupted goes on with the chunks that are left, from the
// checkpoint and from a state, and its report is that of an undisturbed one.
func TestVerificationGoesOn(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const rows = 60000
		var digests []string
		for _, how := range []string{"checkpoint", "state"} {
			p.Create(t, "verify_resumed", "CREATE TABLE big (id INT PRIMARY KEY, v INT)", "CREATE TABLE small (k VARCHAR(10) PRIMARY KEY)")
			p.In(t, p.SourceDB, "verify_resumed", "SET SESSION "+recursionLimit(p)+"=100000",
				fmt.Sprintf("INSERT INTO big WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i, i%%11 FROM n", rows-1),
				"INSERT INTO small VALUES ('a'),('b')")
			config := func() *ghostferry.Config {
				c := p.Config("verify_resumed")
				if how == "state" {
					c.Checkpoint = "off"
				}
				return c
			}
			throttler := &stopping{stuck: make(chan struct{})}
			f := &ghostferry.Ferry{Config: config(), Throttler: throttler}
			f.AutomaticCutover = false
			require.NoError(t, f.InitializeContext(t.Context()))
			require.NoError(t, f.StartContext(t.Context()))
			throttler.verifier = f.Verifier.(*ghostferry.OnlineVerifier)
			f.DataIterator.AddDoneListener(func() error { throttler.armed.Store(true); return nil })
			ctx, cancel := context.WithCancel(context.Background())
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(ctx) }()
			<-throttler.stuck
			p.In(t, p.SourceDB, "verify_resumed", "UPDATE big SET v = 77 WHERE id = 5")
			state, err := f.SerializeStateToJSON()
			require.NoError(t, err)
			cancel()
			require.True(t, errors.Is(<-ran, ghostferry.ErrInterrupted))
			require.NoError(t, f.Close())

			c := config()
			if how == "state" {
				c.StateToResumeFrom = &ghostferry.SerializableState{}
				require.NoError(t, json.Unmarshal([]byte(state), c.StateToResumeFrom))
			}
			f = &ghostferry.Ferry{Config: c}
			require.NoError(t, f.InitializeContext(t.Context()))
			require.NoError(t, f.StartContext(t.Context()))
			v := f.Verifier.(*ghostferry.OnlineVerifier)
			before := v.Stats()
			require.NotZero(t, before.RowsCompared)
			require.Less(t, before.RowsCompared, uint64(rows))
			require.NoError(t, harness.RunStarted(t.Context(), f, func() error { return nil }))
			report := v.Report()
			require.Equal(t, "equal", report.Result)
			require.Equal(t, uint64(rows+2), report.Rows, "no chunk is compared twice, none is left out")
			p.MustEqual(t, "verify_resumed")
			require.NoError(t, f.Close())
			digests = append(digests, report.Digest)
		}
		require.Len(t, digests, 2)
	})
}

// A repair that collides with others, or loses a connection, is made again.
func TestRepairIsMadeAgain(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "repaired_again"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		f, target := proxiedTarget(t, p, schema)
		source, err := faultproxy.Start(fmt.Sprintf("%s:%d", p.Source.Host, p.Source.Port))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, source.Close()) })
		f.Source.Host, f.Source.Port = "127.0.0.1", uint16(source.Port())
		f.SkipTargetVerification = true // whose business it would be
		f.OnlineVerifierConfig.Repair = true
		mustStart(t, t.Context(), f)
		var faults []*faultproxy.Trigger
		f.DataIterator.AddDoneListener(func() error {
			for _, fault := range []struct {
				proxy *faultproxy.Proxy
				of    string
				code  uint16
			}{{source, "FROM `" + schema + "`.`t` .*(FOR SHARE|LOCK IN SHARE MODE)$", 1205}, {target, "^DELETE FROM `" + schema + "`.`t`", 1213}} {
				faults = append(faults, fault.proxy.On(faultproxy.Rule{Match: faultproxy.Query(fault.of), Do: faultproxy.Refuse, Error: fault.code, Times: 3}),
					fault.proxy.On(faultproxy.Rule{Match: faultproxy.Query(fault.of), Do: faultproxy.Reset}))
			}
			return p.TryIn(t.Context(), p.TargetDB, schema, "UPDATE t SET v = 7 WHERE id = 2", "DELETE FROM t WHERE id = 3")
		})
		require.NoError(t, harness.RunStarted(t.Context(), f, func() error { return nil }))
		p.MustEqual(t, schema)
		require.Len(t, f.Verifier.(ghostferry.ReportingVerifier).Report().Repaired, 2)
		for i, fault := range faults {
			require.Positive(t, fault.Taken(), "fault %d", i)
		}
		require.NoError(t, f.Close())
	})
}

// Rows that differ during a move are repaired while the application writes.
func TestRepairUnderWrites(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		o := p.Shop(t, "repaired_shop", 3000)
		w := p.Write(t, o, 80)
		config := p.Config(o.Database)
		config.SkipTargetVerification = true // whose business it would be
		config.OnlineVerifierConfig.Repair = true
		f := &ghostferry.Ferry{Config: config}
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		f.DataIterator.AddDoneListener(func() error {
			return p.TryIn(ctx, p.TargetDB, o.Database, "UPDATE seats SET price = price + 1 ORDER BY id LIMIT 3", "DELETE FROM stock LIMIT 2")
		})
		require.NoError(t, harness.RunStarted(ctx, f, harness.StopWriter(w)))
		p.MustEqual(t, o.Database)
		require.NotEmpty(t, f.Verifier.(ghostferry.ReportingVerifier).Report().Repaired)
		require.NoError(t, f.Close())
	})
}

// A run that resumes executes changes again that its verifier has not seen, deleting rows
// first that the position on the target claims already. If it ends between that and the
// rows' return, however it ends, the next one writes them.
func TestResumeAfterChangesExecutedAgain(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "again", "CREATE TABLE t (id INT PRIMARY KEY, u INT, UNIQUE KEY (u))")
		p.In(t, p.SourceDB, "again", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		begin := func(ctx context.Context, f *ghostferry.Ferry) <-chan error {
			f.Config.AutomaticCutover = false
			mustStart(t, ctx, f)
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(ctx) }()
			return ran
		}
		follow, stop := context.WithCancel(ctx)
		f := shopFerry(p, "again", 100)
		ran := begin(follow, f)
		harness.Await(t, "the verifier's progress is saved", func() bool {
			select {
			case err := <-ran:
				t.Fatalf("the run ended: %v", err)
			default:
			}
			return harness.Count(t, p.TargetDB, "information_schema.tables WHERE table_schema='_ghostferry' AND table_name='verifications'") == 1 &&
				harness.Count(t, p.TargetDB, "_ghostferry.verifications WHERE state LIKE '%VerifierType%'") == 1
		})
		// As a process leaves it that is killed before the progress is saved again.
		p.In(t, p.TargetDB, "_ghostferry", "DROP TABLE IF EXISTS kept", "CREATE TABLE kept SELECT * FROM verifications")
		p.In(t, p.SourceDB, "again", "BEGIN", "UPDATE t SET u=u+10 WHERE id=2", "INSERT INTO t VALUES (4,4)", "COMMIT")
		require.NoError(t, f.WaitUntilBinlogStreamerCatchesUpContext(ctx))
		stop()
		mustBeInterrupted(t, <-ran)
		p.In(t, p.TargetDB, "_ghostferry", "UPDATE verifications v JOIN kept k USING (run_id) SET v.state=k.state", "DROP TABLE kept")
		p.MustEqual(t, "again")

		f = shopFerry(p, "again", 100)
		lost := behindProxy(t, p.Target, f.Target).On(faultproxy.Rule{Match: faultproxy.Query("^INSERT INTO `again`"), Times: 1000, Do: faultproxy.Reset})
		follow, stop = context.WithCancel(ctx)
		ran = begin(follow, f)
		await(t, lost.Fired(), ran)
		stop()
		mustBeInterrupted(t, <-ran)
		require.Equal(t, 2, harness.Count(t, p.TargetDB, "again.t"), "two rows are to be written again")

		f = shopFerry(p, "again", 100)
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, "again")
	})
}

// A row that differed when it was written is in the checkpoint, and the process that goes on
// compares it again.
func TestRowsThatDifferedAreComparedByTheNextProcess(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "differed", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "differed", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		ferry := func() *ghostferry.Ferry {
			c := p.Config("differed")
			c.VerifierType, c.SkipTargetVerification, c.DataIterationConcurrency = ghostferry.VerifierTypeInline, true, 1
			c.UpdatableConfig.DataIterationBatchSize = 1
			return &ghostferry.Ferry{Config: c}
		}
		f := ferry()
		mustStart(t, ctx, f)
		run, stop := context.WithCancel(ctx)
		defer stop()
		batches := 0
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { // behind the Ferry's own: it is written
			switch batches++; batches {
			case 1: // the preflight would refuse it before
				return p.TryIn(ctx, p.TargetDB, "differed", "CREATE TRIGGER spoils BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 0")
			case 2:
				stop()
			}
			return nil
		})
		mustBeInterrupted(t, f.RunContext(run))
		require.NoError(t, f.Close())
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "_ghostferry.rechecks"))

		p.In(t, p.TargetDB, "differed", "DROP TRIGGER spoils")
		f = ferry()
		err := harness.Move(ctx, f, func() error { return nil })
		require.ErrorContains(t, err, "differed.t [PKs: 2 ")
		require.NoError(t, f.Close())
	})
}

// A row that differs is found by every process of the run, until it does not differ any more.
func TestADifferenceIsNotForgottenByTheNextProcess(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "forgotten", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "forgotten", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		move := func(copied func() error) error {
			c := p.Config("forgotten")
			c.VerifierType = ghostferry.VerifierTypeOnline
			f := &ghostferry.Ferry{Config: c}
			require.NoError(t, f.InitializeContext(ctx))
			f.DataIterator.AddDoneListener(copied)
			require.NoError(t, f.StartContext(ctx))
			err := harness.RunStarted(ctx, f, func() error { return nil })
			require.NoError(t, f.Close())
			return err
		}
		unlogged := func(statement string) error {
			return p.TryIn(ctx, p.TargetDB, "forgotten", "SET SESSION sql_log_bin=0", statement)
		}
		nothing := func() error { return nil }
		require.ErrorContains(t, move(func() error { return unlogged("UPDATE t SET v=22 WHERE id=2") }), "forgotten.t [PKs: 2 ")
		require.ErrorContains(t, move(nothing), "forgotten.t [PKs: 2 ")
		require.NoError(t, unlogged("UPDATE t SET v=2 WHERE id=2"))
		require.NoError(t, move(nothing))
		p.MustEqual(t, "forgotten")
	})
}
