package integration

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// partBatch is how many changes the batches of these tests have.
const partBatch = 10

// followed is a run whose rows are copied and whose changes are applied in small batches. It
// gives up a silent stream after two seconds. silence makes its stream silent behind so many events of rows.
func followed(t *testing.T, ctx context.Context, p *harness.Pair, schema string, set ...func(*ghostferry.Config)) (f *ghostferry.Ferry, proxy *faultproxy.Proxy, silence func(after int) *faultproxy.Trigger, ran chan error) {
	t.Helper()
	config := p.Config(schema)
	config.BinlogEventBatchSize, config.AutomaticCutover, config.VerifierType = partBatch, false, ghostferry.VerifierTypeNoVerification
	for _, s := range set {
		s(config)
	}
	proxy = behindProxy(t, p.Source, config.Source)
	var latest atomic.Int64 // the preflight streams for a moment, too, and the server notices its end only later
	proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
		if faultproxy.BinlogDump(m) {
			latest.Store(int64(m.Connection))
		}
		return false
	}})
	f = &ghostferry.Ferry{Config: config}
	require.NoError(t, f.InitializeContext(ctx))
	f.BinlogStreamer.HeartbeatPeriod = time.Second
	require.NoError(t, f.StartContext(ctx))
	copied := make(chan struct{})
	f.DataIterator.AddDoneListener(func() error { close(copied); return nil })
	ran = make(chan error, 1)
	go func() { ran <- f.RunContext(ctx) }()
	select {
	case <-copied:
	case err := <-ran:
		require.NoError(t, err)
	}
	harness.Await(t, "the stream is connected", f.BinlogStreamer.IsAlmostCaughtUp)
	silence = func(after int) *faultproxy.Trigger {
		stream := int(latest.Load())
		return proxy.On(faultproxy.Rule{Skip: after, Do: faultproxy.Silence, Match: func(m faultproxy.Message) bool {
			return faultproxy.RowsEvent(m) && m.Connection == stream
		}})
	}
	return f, proxy, silence, ran
}

// transactionOfChanges writes rows of other, one a statement, with the given statements at
// their places among them, in one transaction.
func transactionOfChanges(t *testing.T, ctx context.Context, p *harness.Pair, schema string, first, changes int, at map[int]string) {
	t.Helper()
	statements := []string{"BEGIN"}
	for i := 1; i <= changes; i++ {
		statement := at[i]
		if statement == "" {
			statement = fmt.Sprintf("INSERT INTO other VALUES (%d)", first+i)
		}
		statements = append(statements, statement)
	}
	require.NoError(t, p.TryIn(ctx, p.SourceDB, schema, append(statements, "COMMIT")...))
}

// A stream that breaks in a transaction larger than a batch brings it again from its beginning,
// when a part of it is on the target already: rows are then not where they were before it.
func TestStreamBreaksInALargeTransaction(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		const schema = "broken_large"
		ctx := minute(t)
		p.Create(t, schema, "CREATE TABLE s (id INT PRIMARY KEY, state INT, at INT)", "CREATE TABLE other (id INT PRIMARY KEY)")
		p.In(t, p.SourceDB, schema, "INSERT INTO s VALUES (1,0,0),(2,0,0)")
		f, _, silence, ran := followed(t, ctx, p, schema)
		for i := range 5 { // from some place on rows are updated in place
			p.In(t, p.SourceDB, schema, fmt.Sprintf("UPDATE s SET at=%d WHERE id=2", i+1))
			require.NoError(t, f.WaitUntilBinlogStreamerCatchesUpContext(ctx))
		}
		silent := silence(13)
		transactionOfChanges(t, ctx, p, schema, 0, 20, map[int]string{9: "UPDATE s SET state=1, at=1 WHERE id=1", 15: "UPDATE s SET state=0, at=2 WHERE id=1"})
		await(t, silent.Fired(), ran)
		p.In(t, p.SourceDB, schema, "INSERT INTO other VALUES (1000)")
		f.AllowCutover()
		for _, step := range []func(context.Context) error{f.WaitUntilRowCopyIsCompleteContext, f.WaitUntilBinlogStreamerCatchesUpContext, f.FlushBinlogAndStopStreamingContext} {
			require.NoError(t, step(ctx))
		}
		require.NoError(t, <-ran)
		require.NoError(t, f.Close())
		p.MustEqual(t, schema)
	})
}

// A source that crashes without having kept the transaction that it was sending has lost what a part
// of it left on the target, though its log is right up to the last whole one: neither the
// running process nor a later one goes on.
func TestSourceLosesAPartlySentTransaction(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, resumed := range []bool{false, true} {
		t.Run(map[bool]string{false: "the same process", true: "a later one"}[resumed], func(t *testing.T) {
			t.Parallel()
			for _, s := range harness.OneSetting(t) {
				p := harness.New(t, s)
				const schema = "lost_part"
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				p.Create(t, schema, "CREATE TABLE s (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)")
				restore := older(t, p)
				run, stop := context.WithCancel(ctx)
				defer stop()
				f, proxy, silence, ran := followed(t, run, p, schema)
				silent := silence(13)
				transactionOfChanges(t, ctx, p, schema, 0, 20, nil)
				await(t, silent.Fired(), ran)
				proxy.Refuse(true) // it is not brought again before it is lost
				awaitRows(t, p.TargetDB, schema+".other", partBatch, f)
				if resumed {
					stop()
					mustBeInterrupted(t, <-ran)
					require.NoError(t, f.Close())
				}
				restore()
				for i := range 50 { // more than there was before
					p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO other VALUES (%d)", 1000+i))
				}
				proxy.Refuse(false)
				if resumed {
					f = &ghostferry.Ferry{Config: p.Config(schema)}
					go func() { ran <- harness.Move(ctx, f, func() error { return nil }) }()
				}
				var lost *ghostferry.LostTransactionsError
				require.ErrorAs(t, <-ran, &lost)
				_ = f.Close()
			}
		})
	}
}

// The rows of an XA transaction that are read again at its COMMIT are such a transaction, too.
func TestStreamBreaksInALargeXA(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		var proxy *faultproxy.Proxy
		var latest atomic.Int64
		r := followWith(t, p, func(c *ghostferry.Config) {
			c.BinlogEventBatchSize = partBatch
			proxy = behindProxy(t, p.Source, c.Source)
			proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
				if faultproxy.BinlogDump(m) {
					latest.Store(int64(m.Connection))
				}
				return false
			}})
		})
		for i := range 5 { // from some place on rows are updated in place
			p.In(t, p.SourceDB, eventSchema, fmt.Sprintf("UPDATE moved SET v=%d WHERE id=2", i+10))
			require.NoError(t, r.f.WaitUntilBinlogStreamerCatchesUpContext(t.Context()))
		}
		large := func(first, n int) string { // an event each
			return fmt.Sprintf("INSERT INTO moved (id,b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT %d+i, REPEAT('x',60000) FROM n", n, first)
		}
		p.In(t, p.SourceDB, eventSchema, xaGroup("'big'", large(3000, 108), "UPDATE moved SET v=50, w=1 WHERE id=1", large(4000, 5), "UPDATE moved SET v=1, w=2 WHERE id=1", large(5000, 45))...)
		r.marker(1001)
		stream := latest.Load()
		var events atomic.Int64
		cut := proxy.On(faultproxy.Rule{Do: faultproxy.Cut, Match: func(m faultproxy.Message) bool {
			if !faultproxy.RowsEvent(m) || int64(m.Connection) <= stream || events.Add(1) != 114 {
				return false
			}
			time.Sleep(300 * time.Millisecond) // what went before has arrived
			return true
		}})
		p.In(t, p.SourceDB, eventSchema, "XA COMMIT 'big'")
		await(t, cut.Fired(), r.ran)
		r.marker(1002)
		mustHaveEqualRows(t, p, eventSchema+".moved")
		r.mustGoOn()
	})
}
