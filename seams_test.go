package ghostferry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

func TestHTTPCallback(t *testing.T) {
	var status atomic.Int32
	status.Store(http.StatusOK)
	received := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.Method + " " + r.Header.Get("Content-Type") + " " + string(body)
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "why not\n")
	}))
	defer server.Close()

	callback := HTTPCallback{URI: server.URL + "/lock?token=secret", Payload: `{"a": "<b>"}`}
	require.NoError(t, callback.Post(server.Client()))
	require.Equal(t, `POST application/json {"Payload":"{\"a\": \"\u003cb\u003e\"}"}`+"\n", <-received)
	require.NoError(t, callback.Post(nil))
	<-received

	for _, code := range []int32{http.StatusNoContent, http.StatusServiceUnavailable} {
		status.Store(code)
		err := callback.PostContext(t.Context(), nil)
		<-received
		var refused *HTTPCallbackError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, int(code), refused.StatusCode)
		require.NotContains(t, err.Error(), "secret")
	}
	require.EqualError(t, callback.Post(nil), "callback returned 503 Service Unavailable from "+server.URL+"/lock: why not")
	<-received

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, callback.PostContext(ended, nil), context.Canceled)
	require.NoError(t, HTTPCallback{Payload: "x"}.Post(nil), "without a URI it is off")
	require.Error(t, HTTPCallback{URI: "::"}.Post(nil))
	require.True(t, callback == HTTPCallback{URI: callback.URI, Payload: callback.Payload})
}

func TestHTTPCallbackStaysOnItsHost(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the payload reached another host")
	}))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.Handle("/away", http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	mux.Handle("/here", http.RedirectHandler("/ok", http.StatusTemporaryRedirect))
	mux.Handle("/moved", http.RedirectHandler("/ok", http.StatusPermanentRedirect))
	var posted, got atomic.Int32
	mux.HandleFunc("POST /ok", func(_ http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == `{"Payload":"lock"}`+"\n" {
			posted.Add(1)
		}
	})
	mux.HandleFunc("GET /ok", func(http.ResponseWriter, *http.Request) { got.Add(1) })
	mux.HandleFunc("/as-get/{status}", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.PathValue("status"))
		http.Redirect(w, r, "/ok?token=secret", status)
	})

	post := func(path string, client *http.Client) error {
		return HTTPCallback{URI: server.URL + path, Payload: "lock"}.Post(client)
	}
	require.ErrorContains(t, post("/away", nil), "refused to follow a redirect")
	require.NoError(t, post("/here", nil))
	require.NoError(t, post("/moved", nil))
	require.EqualValues(t, 2, posted.Load(), "the payload goes along")
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther} {
		path := fmt.Sprintf("/as-get/%d", status)
		// A client of the host's follows it; the answer does not count then either.
		for _, client := range []*http.Client{nil, server.Client()} {
			err := post(path, client)
			require.ErrorContains(t, err, "refused a redirect to "+server.URL+"/ok, which would be asked by GET", path)
			require.NotContains(t, err.Error(), "secret")
		}
	}
	require.EqualValues(t, 3, got.Load(), "by the host's client only")
	require.EqualValues(t, 2, posted.Load())
}

// An endpoint of a throttler may be moved within its host.
func TestHTTPThrottlerStaysOnItsHost(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.Handle("/away", http.RedirectHandler(elsewhere.URL, http.StatusFound))
	mux.Handle("/moved", http.RedirectHandler("/go", http.StatusFound))
	mux.HandleFunc("/go", func(http.ResponseWriter, *http.Request) {})
	look := func(path string) (func() string, error) {
		throttler, err := NewHTTPThrottler(&HTTPThrottlerConfig{URI: server.URL + path}, nil)
		require.NoError(t, err)
		return throttler.look(t.Context())
	}
	judge, err := look("/moved")
	require.NoError(t, err)
	require.Empty(t, judge())
	_, err = look("/away")
	require.ErrorContains(t, err, "refused to follow a redirect")
}

func TestMetrics(t *testing.T) {
	sink := make(chan interface{}, 2)
	metrics := &Metrics{Prefix: "p", DefaultTags: []MetricTag{{"a", "default"}, {"b", "default"}}, Sink: sink}

	metrics.Count("c", 1, []MetricTag{{"b", "given"}}, 0.5)
	metrics.Measure("m", nil, 1, func() {})
	metrics.Gauge("dropped", 1, nil, 1) // must not block
	require.Equal(t, CountMetric{MetricBase{"p.c", []MetricTag{{"b", "given"}, {"a", "default"}}, 0.5}, 1}, <-sink)
	require.Equal(t, "p.m", (<-sink).(TimerMetric).Key)

	var flushed []interface{}
	metrics.AddConsumer()
	metrics.Gauge("g", 2.5, nil, 1)
	go func() {
		defer metrics.DoneConsumer()
		for sample := range sink {
			flushed = append(flushed, sample)
		}
	}()
	metrics.StopAndFlush()
	require.Len(t, flushed, 1)
	metrics.Count("late", 1, nil, 1)
	metrics.StopAndFlush()

	var none *Metrics
	none.Count("x", 1, nil, 1)
	none.StopAndFlush()
	ran := false
	(&Metrics{}).Measure("x", nil, 1, func() { ran = true })
	require.True(t, ran)
}

func TestWithRetries(t *testing.T) {
	var out bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&out)
	failure := errors.New("no luck")

	calls := 0
	err := WithRetries(3, 0, logger, "do it", func() error { calls++; return failure })
	require.Equal(t, failure, err, "the last error is returned as it is")
	require.Equal(t, 3, calls)
	require.Equal(t, 2, strings.Count(out.String(), "level=warning"))
	require.Equal(t, 1, strings.Count(out.String(), "level=error"))
	require.Contains(t, out.String(), "failed to do it, 1 of 3 max retries")
	require.Contains(t, out.String(), "retry limit exceeded")

	calls = 0
	require.NoError(t, WithRetries(0, 0, nil, "do it", func() error {
		if calls++; calls < 200 {
			return failure
		}
		return nil
	}))

	calls = 0
	require.ErrorIs(t, WithRetries(0, 0, nil, "do it", func() error { calls++; return context.Canceled }), context.Canceled)
	require.Equal(t, 1, calls)

	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, WithRetriesContext(ctx, 0, time.Hour, nil, "do it", func() error { cancel(); return failure }), context.Canceled)
}

func TestPauserThrottler(t *testing.T) {
	var throttler Throttler = &PauserThrottler{}
	require.NoError(t, throttler.Run(t.Context()))
	WaitForThrottle(throttler)
	WaitForThrottle(nil)

	throttler.SetPaused(true)
	require.True(t, throttler.Throttled())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, WaitForThrottleContext(ended, throttler), context.Canceled)

	throttler.SetDisabled(true)
	require.True(t, throttler.Disabled())
	WaitForThrottle(throttler) // disabled beats paused
}

func TestLogLevels(t *testing.T) {
	for text, level := range map[string]LogLevel{"debug": LogLevelDebug, "INFO": LogLevelInfo, "Warning": LogLevelWarn, "warn": LogLevelWarn, "error": LogLevelError} {
		parsed, ok := ParseLogLevel(text)
		require.True(t, ok)
		require.Equal(t, level, parsed)
	}
	parsed, ok := ParseLogLevel("trace")
	require.False(t, ok)
	require.Equal(t, LogLevelInfo, parsed)

	_, err := loggerAtLevel(struct{ Logger }{}, LogLevelInfo)
	require.ErrorContains(t, err, "no level")
}

func TestSlogLogger(t *testing.T) {
	var out bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&out)
	logger.SetLevel(logrus.DebugLevel)
	logger.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})

	log := NewSlogLogger(logger.WithField("tag", "x")).With("a", 1).WithGroup("g")
	log.Debug("one", "b", 2)
	log.Warn("two", slog.Group("h", "c", 3), slog.Group("", "d", 4))
	log.Error("three")
	log.Info("four")
	require.Equal(t, "level=debug msg=one a=1 g.b=2 tag=x\n"+
		"level=warning msg=two a=1 g.d=4 g.h.c=3 tag=x\n"+
		"level=error msg=three a=1 tag=x\nlevel=info msg=four a=1 tag=x\n", out.String())
}

func TestWorkerPool(t *testing.T) {
	var sum atomic.Int64
	pool := &WorkerPool{Concurrency: 4, Process: func(i int) (interface{}, error) { return i, errors.Join(addTo(&sum, i)) }}
	results, err := pool.Run(1000)
	require.NoError(t, err)
	require.Len(t, results, 4)
	require.Equal(t, int64(999*1000/2), sum.Load())

	failure := errors.New("at 10")
	var processed atomic.Int64
	pool = &WorkerPool{Concurrency: 2, Process: func(i int) (interface{}, error) {
		processed.Add(1)
		if i == 10 {
			return nil, failure
		}
		return nil, nil
	}}
	_, err = pool.Run(1 << 30)
	require.Equal(t, failure, err)
	require.Less(t, processed.Load(), int64(1<<30))

	results, err = (&WorkerPool{}).Run(0)
	require.NoError(t, err)
	require.Len(t, results, 1)
}

func addTo(sum *atomic.Int64, i int) error {
	sum.Add(int64(i))
	return nil
}

func TestAtomicBoolean(t *testing.T) {
	var flag AtomicBoolean
	require.False(t, flag.Get())
	flag.Set(true)
	require.True(t, flag.Get())
	flag.Set(false)
	require.False(t, flag.Get())
}

func TestErrorsAnswerQuestions(t *testing.T) {
	wrapped := func(err error) error { return errors.Join(errors.New("context"), err) }
	for _, test := range []struct {
		err                  error
		resumable, retryable bool
	}{
		{errors.New("connection lost"), true, true},
		{ErrInterrupted, true, false},
		{context.Canceled, true, false},
		{&ConfigError{}, true, false},
		{&NoUsableKeyError{}, true, false},
		{&NotEmptyTargetError{}, true, false},
		{&LateWriteError{}, true, false},
		{&FencedError{}, false, false},
		{&TargetConflictError{}, false, false},
		{&UnsupportedEventError{}, false, false},
		{&DebtError{}, false, false},
		{&SchemaChangedError{}, false, false},
		{VerificationResult{Message: "row 7 differs"}, false, false},
		{IncompleteVerificationError{}, true, true},
		{&CutoverError{Err: VerificationResult{Message: "row 7 differs"}, Traffic: TrafficOnSource, Following: true}, false, false},
	} {
		require.Equal(t, test.resumable, Resumable(wrapped(test.err)), "%T", test.err)
		require.Equal(t, test.retryable, Retryable(wrapped(test.err)), "%T", test.err)
	}
	require.False(t, Resumable(nil))
	require.False(t, Retryable(nil))
}

func TestRewrites(t *testing.T) {
	r := newRewrites(map[string]string{"a": "b"}, map[string]string{"t": "u"})
	schemaName, tableName := r.table("a", "t")
	require.Equal(t, "b.u", schemaName+"."+tableName)
	schemaName, tableName = rewrites{}.table("a", "t")
	require.Equal(t, "a.t", schemaName+"."+tableName)

	inverted, err := TargetToSourceRewrites(map[string]string{"a": "x", "b": "y"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"x": "a", "y": "b"}, inverted)
	_, err = TargetToSourceRewrites(map[string]string{"a": "x", "b": "x"})
	require.ErrorContains(t, err, "duplicate target to source rewrite detected")
}
