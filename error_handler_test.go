package ghostferry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

func TestPanicErrorHandler(t *testing.T) {
	received := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	defer server.Close()
	var log bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&log)

	for _, ferry := range []*Ferry{nil, {Config: &Config{Logger: logger}}} {
		log.Reset()
		handler := &PanicErrorHandler{Ferry: ferry, ErrorCallback: HTTPCallback{URI: server.URL, Payload: "not sent"}, DumpStateToStdoutOnError: true}
		failure := errors.New("it broke")
		stdout := capturedStdout(t, func() {
			handler.ReportError("ferry.start", failure)
			require.PanicsWithValue(t, "fatal error detected, see logs for details", func() { handler.Fatal("cutover", failure) })
			handler.Fatal("binlog_writer", failure) // returns
		})
		require.Empty(t, stdout, "there is no state before the run has begun")

		for _, from := range []string{"ferry.start", "cutover"} {
			var posted struct{ Payload string }
			require.NoError(t, json.Unmarshal([]byte(<-received), &posted))
			require.Equal(t, "{\n  \"ErrFrom\": \""+from+"\",\n  \"ErrMessage\": \"it broke\",\n  \"StateDump\": \"\"\n}", posted.Payload)
		}
		require.Empty(t, received)
		if ferry != nil {
			require.Contains(t, log.String(), "errfrom=cutover")
			require.Contains(t, log.String(), "multiple fatal errors detected, not reporting again")
		}
	}
}

// Security 19: while the error callback hangs the error is in the log already, and a
// process that is interrupted still ends soon.
func TestErrorCallbackThatHangs(t *testing.T) {
	log := &cappedBuffer{limit: 1 << 16}
	logger := logrus.New()
	logger.SetOutput(log)
	seen := make(chan string, 1)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		seen <- log.String()
		<-release
	}))
	defer server.Close()
	defer close(release)
	handler := &PanicErrorHandler{Ferry: &Ferry{Config: &Config{Logger: logger}}, ErrorCallback: HTTPCallback{URI: server.URL}}
	handler.ReportError("user_interrupt", fmt.Errorf("signal received: %w", ErrInterrupted)) // returns while the endpoint hangs
	require.Contains(t, <-seen, "fatal error detected")
	require.Contains(t, log.String(), "failed to post the error callback")
	require.Equal(t, 1, strings.Count(log.String(), "level=error"))
}

func TestPanicErrorHandlerPrintsTheState(t *testing.T) {
	ferry := &Ferry{Config: &Config{}, StateTracker: NewStateTracker(0)}
	handler := &PanicErrorHandler{Ferry: ferry, DumpStateToStdoutOnError: true}
	stdout := capturedStdout(t, func() { handler.ReportError("cutover", errors.New("it broke")) })
	state, err := ferry.SerializeStateToJSON()
	require.NoError(t, err)
	require.Equal(t, state+"\n", stdout)

	handler.DumpStateToStdoutOnError = false
	require.Empty(t, capturedStdout(t, func() { handler.ReportError("cutover", errors.New("it broke")) }))
}

func capturedStdout(t *testing.T, f func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	original := os.Stdout
	os.Stdout = write
	defer func() { os.Stdout = original }()
	f()
	require.NoError(t, write.Close())
	text, err := io.ReadAll(read)
	require.NoError(t, err)
	return string(text)
}
