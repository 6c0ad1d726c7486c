package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Security 19: endpoints that never answer, and one that sends to another host, delay
// nothing: the run ends while they still hang.
func TestHangingCallbacksDelayNothing(t *testing.T) {
	pair := harness.Shared(t, harness.Settings[0])
	o := pair.Shop(t, "hanging", 500)
	release := make(chan struct{})
	var hanging, elsewhere atomic.Int64
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hanging.Add(1)
		defer hanging.Add(-1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(release) })
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	redirects := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(redirects.Close)

	config := pair.Config("hanging")
	config.ProgressCallback, config.ProgressReportFrequency = ghostferry.HTTPCallback{URI: hangs.URL}, 1
	config.StateCallback, config.StateReportFrequency = ghostferry.HTTPCallback{URI: redirects.URL}, 1
	f := &ghostferry.Ferry{Config: config}
	writer := pair.Write(t, o, 20)
	stop := harness.StopWriter(writer)
	require.NoError(t, harness.Move(context.Background(), f, func() error {
		require.Equal(t, int64(1), hanging.Load(), "one report hangs, and no second one was begun")
		return stop()
	}))
	require.Equal(t, int64(1), hanging.Load(), "the run has ended while a report hangs")
	require.NoError(t, f.Close())
	require.Zero(t, elsewhere.Load(), "a payload was handed to another host")
	pair.MustEqual(t, "hanging")
}
