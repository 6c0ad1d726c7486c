package integration

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// returningHandler keeps errors and returns, which upstream's never does.
type returningHandler struct {
	busy, goOn chan struct{} // closed when the first error is here, and when it may be kept
	mu         sync.Mutex
	errs       []error
}

func (h *returningHandler) ReportError(string, error) {}

func (h *returningHandler) Fatal(_ string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.errs) == 0 {
		close(h.busy)
		<-h.goOn
	}
	h.errs = append(h.errs, err)
}

func (h *returningHandler) told() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.errs)
}

// A run whose error handler returns has ended: nothing is left running, and the table
// that failed is not complete. A host that waits for the rows goes on when its handler has
// been told, the steps of a cutover do nothing, and nothing is told twice.
func TestErrorHandlerThatReturns(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "handler", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "handler", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		broken := errors.New("a listener broke")
		handler := &returningHandler{busy: make(chan struct{}), goOn: make(chan struct{})}
		unlocked := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the source's writers were sent to the target") }))
		defer unlocked.Close()
		config := p.Config("handler")
		config.CutoverUnlock = ghostferry.HTTPCallback{URI: unlocked.URL}
		f := &ghostferry.Ferry{Config: config, ErrorHandler: handler}
		p.NoLeak(t, func() {
			mustStart(t, t.Context(), f)
			f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return broken })
			waited := make(chan int, 1)
			go func() {
				f.WaitUntilRowCopyIsComplete()
				waited <- handler.told()
			}()
			var running sync.WaitGroup
			running.Go(f.Run)
			<-handler.busy
			select {
			case <-waited:
				t.Error("the host goes on while its handler is being told")
			case <-time.After(200 * time.Millisecond):
			}
			close(handler.goOn)
			running.Wait()
			require.Equal(t, 1, <-waited)
			f.WaitUntilBinlogStreamerCatchesUp()
			f.FlushBinlogAndStopStreaming()
			f.StopTargetVerifier()
			f.EndCutover(time.Now())
			require.ErrorIs(t, f.EndCutoverContext(t.Context(), time.Now()), broken)
			require.ErrorIs(t, f.StopTargetVerifierContext(t.Context()), broken)
			for _, step := range []func(context.Context) error{f.WaitUntilBinlogStreamerCatchesUpContext, f.FlushBinlogAndStopStreamingContext} {
				err := step(t.Context())
				require.ErrorContains(t, err, "the run ended before")
				require.ErrorIs(t, err, broken)
			}
			require.NoError(t, f.Close())
		})
		require.Len(t, handler.errs, 1)
		require.ErrorIs(t, handler.errs[0], broken)
		require.False(t, f.StateTracker.IsTableComplete("handler.t"))
	})
}

// brokenFilter panics at a change.
type brokenFilter struct{}

func (brokenFilter) BuildSelect(columns []string, table *ghostferry.TableSchema, key ghostferry.PaginationKey, n uint64) (sq.SelectBuilder, error) {
	return ghostferry.DefaultBuildSelect(columns, table, key, n), nil
}

func (brokenFilter) ApplicableEvent(ghostferry.DMLEvent) (bool, error) { panic("the filter is broken") }

// brokenThrottler panics while it observes.
type brokenThrottler struct{ ghostferry.PauserThrottler }

func (*brokenThrottler) Run(context.Context) error { panic("the throttler is broken") }

// A panic in the host's code ends the run with it, wherever it was.
func TestPanicsOfTheHostEndTheRun(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "host_panics", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		for what, spoil := range map[string]func(f *ghostferry.Ferry){
			"filter": func(f *ghostferry.Ferry) {
				f.CopyFilter = brokenFilter{}
			},
			"throttler": func(f *ghostferry.Ferry) { f.Throttler = &brokenThrottler{} },
			"handler":   func(*ghostferry.Ferry) {},
		} {
			t.Run(what, func(t *testing.T) {
				p.NoLeak(t, func() {
					p.In(t, p.TargetDB, "host_panics", "DELETE FROM t")
					f := &ghostferry.Ferry{Config: p.Config("host_panics")}
					f.Checkpoint = "off"
					spoil(f)
					require.NoError(t, f.InitializeContext(t.Context()))
					if what == "handler" {
						require.NoError(t, f.BinlogStreamer.AddBinlogEventHandler(replication.XID_EVENT, func(*replication.BinlogEvent, []byte, *ghostferry.BinlogEventState) ([]byte, error) {
							panic("the handler is broken")
						}))
					}
					require.NoError(t, f.StartContext(t.Context()))
					ran := make(chan error, 1)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					go func() { ran <- f.RunContext(ctx) }()
					p.In(t, p.SourceDB, "host_panics", "REPLACE INTO t VALUES (1,1)", "UPDATE t SET v=v+1")
					err := <-ran
					require.ErrorContains(t, err, "the "+what+" is broken")
					require.NotErrorIs(t, err, ghostferry.ErrInterrupted)
					require.NoError(t, f.Close())
				})
			})
		}
	})
}

// Security 19: while the error callback hangs nothing of the failed run is held: its error
// is logged, whoever waits is told, and another process goes on with it to its end.
func TestErrorCallbackHoldsNothing(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	p.Create(t, "hanging_error", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, "hanging_error", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
	posted, release := make(chan struct{}), make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(posted)
		<-release
	}))
	t.Cleanup(hangs.Close)
	goOn := sync.OnceFunc(func() { close(release) })
	t.Cleanup(goOn)
	var said lockedBuffer
	logger := logrus.New()
	logger.SetOutput(&said)
	f := &ghostferry.Ferry{Config: p.Config("hanging_error")}
	f.Config.Logger, f.Config.ErrorCallback = logger, ghostferry.HTTPCallback{URI: hangs.URL}
	mustStart(t, t.Context(), f)
	broken := errors.New("a listener broke")
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return broken })
	var running sync.WaitGroup
	running.Go(func() {
		defer func() { _ = recover() }() // the default handler panics in the end
		f.Run()
	})
	<-posted
	require.Contains(t, said.String(), broken.Error())
	require.ErrorIs(t, f.WaitUntilRowCopyIsCompleteContext(t.Context()), broken)
	require.NoError(t, harness.Move(t.Context(), &ghostferry.Ferry{Config: p.Config("hanging_error")}, func() error { return nil }))
	p.MustEqual(t, "hanging_error")
	goOn()
	running.Wait()
	require.NoError(t, f.Close())
}
