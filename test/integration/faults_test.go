package integration

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// behindProxy puts a proxy before a server and leads a connection's settings there.
func behindProxy(t *testing.T, s *servers.Server, config *ghostferry.DatabaseConfig) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	config.Host, config.Port = "127.0.0.1", uint16(p.Port())
	return p
}

// everyNth makes rules that take the n-th match each, one after the other.
func everyNth(p *faultproxy.Proxy, n, times int, rule faultproxy.Rule) []*faultproxy.Trigger {
	triggers := make([]*faultproxy.Trigger, times)
	for i := range triggers {
		rule.Skip = n
		triggers[i] = p.On(rule)
	}
	return triggers
}

func taken(triggers []*faultproxy.Trigger) (n int) {
	for _, t := range triggers {
		n += t.Taken()
	}
	return n
}

// moveUnderFaults moves a shop that is written all along and compares every row.
func moveUnderFaults(t *testing.T, p *harness.Pair, database string, rows int, prepare func(f *ghostferry.Ferry)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o := p.Shop(t, database, rows)
	writer := p.Write(t, o, 80)
	f := shopFerry(p, database, 100)
	f.Config.DBWriteRetries = 20
	prepare(f)
	require.NoError(t, harness.Move(ctx, f, harness.StopWriter(writer)))
	require.NoError(t, f.Close())
	p.MustEqual(t, database)
}

// F07: connections are reset in the middle of a chunk's rows and of a row event.
func TestF07ResetInTheMiddleOfRows(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		var reads, events []*faultproxy.Trigger
		moveUnderFaults(t, p, "cut_rows", 3000, func(f *ghostferry.Ferry) {
			proxy := behindProxy(t, p.Source, f.Source)
			reads = everyNth(proxy, 7, 4, faultproxy.Rule{Match: faultproxy.Query("^SELECT .* ORDER BY .* LIMIT [0-9]{2}"), Do: faultproxy.Cut, Bytes: 3000})
			events = everyNth(proxy, 20, 3, faultproxy.Rule{Match: faultproxy.RowsEvent, Do: faultproxy.Cut})
		})
		require.Positive(t, taken(reads))
		require.Positive(t, taken(events))
	})
}

// F08: the binary log's connection goes silent without an end while writes go on. Silence
// is not taken for having caught up: who waits for that waits until the connection was made
// anew and what was written meanwhile is on the target.
func TestF08HalfOpenBinlogConnection(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		p.Create(t, "half_open", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "half_open", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		f := shopFerry(p, "half_open", 100)
		f.Config.AutomaticCutover = false
		proxy := behindProxy(t, p.Source, f.Source)
		// The preflight streams for a moment, too, and the server notices its end only later.
		var latest atomic.Int64
		proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
			if faultproxy.BinlogDump(m) {
				latest.Store(int64(m.Connection))
			}
			return false
		}})
		mustStart(t, ctx, f)
		ran := make(chan error, 1)
		go func() { ran <- harness.RunStarted(ctx, f, func() error { return nil }) }()
		awaitRows(t, p.TargetDB, "half_open.t", 3, f)

		stream := int(latest.Load())
		silent := proxy.On(faultproxy.Rule{Do: faultproxy.Silence, Match: func(m faultproxy.Message) bool {
			return faultproxy.RowsEvent(m) && m.Connection == stream
		}})
		anew := proxy.On(faultproxy.Rule{Match: faultproxy.BinlogDump, Do: faultproxy.Delay})
		p.In(t, p.SourceDB, "half_open", "UPDATE t SET v=v+1")
		await(t, silent.Fired(), ran)
		p.In(t, p.SourceDB, "half_open", "INSERT INTO t VALUES (4,4)", "DELETE FROM t WHERE id=2")
		caughtUp := make(chan error, 1)
		go func() { caughtUp <- f.WaitUntilBinlogStreamerCatchesUpContext(ctx) }()
		select {
		case err := <-caughtUp:
			t.Fatalf("a silent connection was taken for one that has caught up: %v", err)
		case err := <-ran:
			t.Fatalf("the run ended: %v", err)
		case <-anew.Fired():
		}
		require.NoError(t, <-caughtUp)
		p.MustEqual(t, "half_open")
		f.AllowCutover()
		require.NoError(t, <-ran)
		require.NoError(t, f.Close())
		p.MustEqual(t, "half_open")
		require.Equal(t, 1, silent.Taken())
	})
}

// F09: a COMMIT is lost, or only its answer: whichever, the transaction takes effect once.
func TestF09UnknownOutcomeOfCommit(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		var lost, unanswered []*faultproxy.Trigger
		moveUnderFaults(t, p, "unknown_commit", 3000, func(f *ghostferry.Ferry) {
			proxy := behindProxy(t, p.Target, f.Target)
			unanswered = everyNth(proxy, 4, 5, faultproxy.Rule{Match: faultproxy.Query("^COMMIT"), Do: faultproxy.LoseAnswer})
			lost = everyNth(proxy, 5, 5, faultproxy.Rule{Match: faultproxy.Query("^COMMIT"), Do: faultproxy.Reset})
		})
		require.Positive(t, taken(unanswered))
		require.Positive(t, taken(lost))
	})
}

// F10: packets of connections that were given up arrive later, while their successor
// waits or long after it: a COMMIT takes effect once, anything else never.
func TestF10ZombiePackets(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		var zombies []*faultproxy.Trigger
		var delivering sync.WaitGroup
		errs := make(chan error, 100)
		moveUnderFaults(t, p, "zombies", 3000, func(f *ghostferry.Ferry) {
			proxy := behindProxy(t, p.Target, f.Target)
			for _, text := range []string{"^COMMIT", "^INSERT INTO `zombies`", "^DELETE FROM `zombies`", "^UPDATE `_ghostferry`"} {
				zombies = append(zombies, everyNth(proxy, 3, 2, faultproxy.Rule{Match: faultproxy.Query(text), Do: faultproxy.Hold})...)
			}
			for i, z := range zombies {
				delivering.Go(func() {
					select {
					case <-z.Fired():
					case <-t.Context().Done():
						return
					}
					late := time.Duration(50+100*(i%4)) * time.Millisecond // its successor is at work
					if i == 0 {
						late = 6 * time.Second // a COMMIT whose locks the successor has given up waiting for
					}
					<-time.After(late)
					errs <- z.Deliver()
				})
			}
		})
		require.Greater(t, taken(zombies), len(zombies)/2)
		for range taken(zombies) {
			require.NoError(t, <-errs)
		}
		p.MustEqual(t, "zombies") // the last may have arrived after the move
	})
}

// F11: the source's connections are killed between the read of rows and their insert, and
// one of the rows is deleted and the delete streamed meanwhile. It does not rise again.
func TestF11ConnectionsLostBetweenReadAndInsert(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "lost_lock", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "lost_lock", "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(5,5),(6,6),(7,7),(8,8)")
		f := shopFerry(p, "lost_lock", 4)
		proxy := behindProxy(t, p.Source, f.Source)
		require.NoError(t, f.InitializeContext(ctx))
		streamed := make(chan struct{}, 10)
		var once sync.Once
		f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) (err error) { // before the Ferry's own
			once.Do(func() {
				if err = p.TryIn(ctx, p.SourceDB, "lost_lock", "DELETE FROM t WHERE id="+strings.Trim(harness.Keys(b)[0], ",")); err != nil {
					return
				}
				select {
				case <-streamed:
				case <-ctx.Done():
					err = ctx.Err()
				}
				proxy.ResetAll()
			})
			return err
		})
		require.NoError(t, f.StartContext(ctx))
		f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error {
			streamed <- struct{}{}
			return nil
		})
		require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, "lost_lock")
		require.Equal(t, 7, harness.Count(t, p.TargetDB, "lost_lock.t"))
	})
}

// F38: of two processes that both have found no run of theirs only one begins it; the other one
// says so, has written nothing, and its owner keeps the run.
func TestF38TwoProcessesBeginARun(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		p.Create(t, "begun_twice", "CREATE TABLE t (id INT PRIMARY KEY)")
		p.In(t, p.SourceDB, "begun_twice", "INSERT INTO t VALUES (1),(2),(3)")
		first, second := shopFerry(p, "begun_twice", 2), shopFerry(p, "begun_twice", 2)
		second.Config.RunID = "begun_twice"
		first.Config.RunID = "begun_twice"
		begun, told := make(chan struct{}, 2), make(chan struct{})
		require.NoError(t, first.InitializeContext(ctx))
		first.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { // before it is written
			begun <- struct{}{}
			<-told
			return nil
		})
		require.NoError(t, first.StartContext(ctx))
		mustStart(t, ctx, second)
		ran := make(chan error, 1)
		go func() { ran <- harness.RunStarted(ctx, first, func() error { return nil }) }()
		await(t, begun, ran)
		err := second.RunContext(ctx)
		close(told)
		var other *ghostferry.RunBegunError
		require.ErrorAs(t, err, &other)
		require.Equal(t, "begun_twice", other.RunID)
		require.True(t, ghostferry.Resumable(err))
		require.NoError(t, second.Close())
		require.NoError(t, <-ran)
		require.NoError(t, first.Close())
		p.MustEqual(t, "begun_twice")
	})
}

// F38: a second process takes a run over while the first one is alive: the first notices
// in its next transaction, and only the second arrives.
func TestF38SecondProcessTakesOver(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		o := p.Shop(t, "taken_over", 4000)
		writer := p.Write(t, o, 80)

		first, second := shopFerry(p, "taken_over", 50), shopFerry(p, "taken_over", 50)
		copied := make(chan struct{}, 10000)
		gate := make(chan struct{})
		mustStart(t, ctx, first)
		batches := 0
		var mu sync.Mutex
		first.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			mu.Lock()
			batches++
			n := batches
			mu.Unlock()
			copied <- struct{}{}
			if n == 10 {
				select {
				case <-gate: // the second has looked at the checkpoint
				case <-ctx.Done():
				}
			}
			return nil
		})
		ran := make(chan error, 1)
		go func() { ran <- first.RunContext(ctx) }()
		for range 10 {
			<-copied
		}
		mustStart(t, ctx, second)
		require.True(t, second.Resuming())
		close(gate)
		for range 10 { // which the first goes on with, unknown to the second
			<-copied
		}
		require.NoError(t, harness.RunStarted(ctx, second, harness.StopWriter(writer)))
		err := <-ran
		var fenced *ghostferry.FencedError
		require.True(t, errors.As(err, &fenced), "the first ended with %v", err)
		require.False(t, ghostferry.Resumable(err))
		require.NoError(t, second.Close())
		p.MustEqual(t, "taken_over")
	})
}
