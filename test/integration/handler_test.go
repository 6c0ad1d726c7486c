package integration

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// returningHandler keeps errors and returns, which upstream's never does.
type returningHandler struct {
	mu   sync.Mutex
	errs []error
}

func (h *returningHandler) ReportError(string, error) {}

func (h *returningHandler) Fatal(_ string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs = append(h.errs, err)
}

// A run whose error handler returns has ended: nothing is left running, and the table
// that failed is not complete.
func TestErrorHandlerThatReturns(t *testing.T) {
	onSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "handler", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "handler", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		broken := errors.New("a listener broke")
		handler := &returningHandler{}
		f := &ghostferry.Ferry{Config: p.Config("handler"), ErrorHandler: handler}
		p.NoLeak(t, func() {
			mustStart(t, t.Context(), f)
			f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return broken })
			f.Run()
			f.WaitUntilRowCopyIsComplete() // returns, too
			require.NoError(t, f.Close())
		})
		require.Len(t, handler.errs, 1)
		require.ErrorIs(t, handler.errs[0], broken)
		require.False(t, f.StateTracker.IsTableComplete("handler.t"))
	})
}
