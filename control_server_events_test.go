package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var streamClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// overviewsOf returns the overviews of a stream of events that has ended.
func overviewsOf(t *testing.T, body io.Reader) (all []ControlServerOverview) {
	t.Helper()
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	for event := range strings.SplitSeq(string(text), "\n\n") {
		data, ok := strings.CutPrefix(event, "event: overview\ndata: ")
		if !ok {
			continue
		}
		var o ControlServerOverview
		require.NoError(t, json.Unmarshal([]byte(data), &o))
		all = append(all, o)
	}
	return all
}

// Who looks when a run fails sees how, though its process ends with it, and whether it can be
// resumed.
func TestEventsTellHowTheRunEnded(t *testing.T) {
	for name, test := range map[string]struct {
		err       error
		resumable bool
	}{
		"can be resumed":    {errors.New("the disk of the target is full"), true},
		"cannot be resumed": {&SchemaChangedError{Schema: "shop", Table: "orders", Change: "a column was added"}, false},
		"the data differs":  {VerificationResult{Message: "verification failed: shop.orders: row 7 differs"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := testControlServer(t, nil)
			answer, err := streamClient.Do(s.request(t, "GET", "/api/events", ""))
			require.NoError(t, err)
			defer answer.Body.Close()
			begun := make([]byte, len("event: history"))
			_, err = io.ReadFull(answer.Body, begun)
			require.NoError(t, err)
			s.view.current() // is not looked at again for a while
			s.F.runErr = test.err
			close(s.F.runEnded)
			require.NoError(t, s.Shutdown(context.Background()))
			all := overviewsOf(t, answer.Body)
			require.NotEmpty(t, all)
			last := all[len(all)-1]
			require.True(t, last.Failed)
			require.Equal(t, test.err.Error(), last.Error)
			require.Equal(t, test.resumable, last.Resumable)
		})
	}
}

// The end of a run is not told by the next tick only.
func TestEventsTellTheEndAtOnce(t *testing.T) {
	s := testControlServer(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // or a failure waits for ever
	defer cancel()
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(&eventStream{s: s, w: w, r: r, control: http.NewResponseController(w)}).follow(nil)
	}))
	defer serving.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, serving.URL, http.NoBody)
	require.NoError(t, err)
	answer, err := streamClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	s.F.runErr = errors.New("the disk of the target is full")
	close(s.F.runEnded)
	var read strings.Builder
	for piece := make([]byte, 4096); !strings.Contains(read.String(), s.F.runErr.Error()); {
		n, err := answer.Body.Read(piece)
		require.NoError(t, err)
		read.Write(piece[:n])
	}
	require.Contains(t, read.String(), `"Failed":false`, "it was followed before")
}
