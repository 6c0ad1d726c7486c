package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// meeting lets goroutines through once so many have arrived at the same time.
type meeting struct {
	mu      sync.Mutex
	wanted  int
	arrived int
	met     chan struct{}
}

func newMeeting(n int) *meeting { return &meeting{wanted: n, met: make(chan struct{})} }

func (m *meeting) wait(ctx context.Context) error {
	m.mu.Lock()
	if m.arrived++; m.arrived == m.wanted {
		close(m.met)
	}
	m.mu.Unlock()
	select {
	case <-m.met:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not %d workers at once: %w", m.wanted, ctx.Err())
	}
}

// lockedBuffer is a writer for several goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

const liveConfigToken = "live-config-token-0123456789"

// postConfig changes settings by the control server, as an operator does, and returns the
// status and what is in force then.
func postConfig(ctx context.Context, f *ghostferry.Ferry, body string) (status int, inForce ghostferry.UpdatableConfig, err error) {
	for _, method := range []string{"POST", "GET"} {
		r, err := http.NewRequestWithContext(ctx, method, f.ControlServer.URL()+"api/config", strings.NewReader(body))
		if err != nil {
			return 0, inForce, err
		}
		r.Header.Set("Authorization", "Bearer "+liveConfigToken)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(ghostferry.ControlHeader, "1")
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			return 0, inForce, err
		}
		if method == "POST" {
			status = answer.StatusCode
		} else {
			err = json.NewDecoder(answer.Body).Decode(&inForce)
		}
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return 0, inForce, err
		}
	}
	return status, inForce, nil
}

// Batch size, workers, lanes and log level change over HTTP while a run copies and applies.
func TestSettingsChangeDuringARun(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	ctx := cutoverContext(t)
	p.Create(t, "live_config", "CREATE TABLE rows_ (id INT NOT NULL PRIMARY KEY, v VARCHAR(20) NOT NULL)")
	p.In(t, p.SourceDB, "live_config", "SET SESSION cte_max_recursion_depth=100000",
		"INSERT INTO rows_ WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id < 6000) SELECT id, 'x' FROM n")
	f := &ghostferry.Ferry{Config: p.Config("live_config")}
	var said lockedBuffer
	logger := logrus.New()
	logger.SetOutput(&said)
	logger.SetLevel(logrus.ErrorLevel)
	f.Config.Logger = logger
	f.DataIterationConcurrency, f.BinlogApplyLanes = 1, 1
	f.UpdatableConfig.DataIterationBatchSize = 20
	f.ControlServerConfig = &ghostferry.ControlServerConfig{Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: liveConfigToken}
	defer func() { require.NoError(t, f.Close()) }()
	require.NoError(t, f.InitializeContext(ctx))

	var sizes []int
	together := newMeeting(3)
	var mu sync.Mutex
	f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
		mu.Lock()
		sizes = append(sizes, b.Size())
		n := len(sizes)
		mu.Unlock()
		switch {
		case n == 2:
			status, inForce, err := postConfig(ctx, f, `{"DataIterationBatchSize": 100, "DataIterationConcurrency": 3, "BinlogApplyLanes": 3, "LogLevel": "debug"}`)
			if err != nil || status != http.StatusOK || inForce.DataIterationConcurrency != 3 {
				return fmt.Errorf("changing settings: status %d, %+v, %w", status, inForce, err)
			}
		case n > 2 && n <= 5:
			return together.wait(ctx)
		}
		return nil
	})
	require.NoError(t, f.StartContext(ctx))
	changed := false
	require.NoError(t, harness.RunStarted(ctx, f, func() error {
		// More rows than one lane takes for itself.
		changed = true
		_, err := p.SourceDB.ExecContext(ctx, "UPDATE live_config.rows_ SET v = 'y' WHERE id <= 1000")
		return err
	}))
	require.True(t, changed)
	require.Equal(t, 3, together.arrived, "three workers were never at work at once")
	require.LessOrEqual(t, sizes[0], 40)
	require.Greater(t, slices.Max(sizes), 40, "the batch size did not change")
	require.Contains(t, said.String(), "level=debug", "the log level did not change")
	var lanes int
	require.NoError(t, p.TargetDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM _ghostferry.lanes").Scan(&lanes))
	require.Equal(t, 3, lanes)
	now := f.Updatable()
	require.Equal(t, int64(3), now.DataIterationConcurrency)
	require.Equal(t, "debug", now.LogLevel)
	p.MustEqual(t, "live_config")

	// What cannot be is refused, and left out.
	status, inForce, err := postConfig(ctx, f, `{"DataIterationBatchSize": 50, "LogLevel": "loud"}`)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, now, inForce, "all or nothing")
	f.Update(ghostferry.UpdatableConfig{DataIterationConcurrency: -1, BinlogApplyLanes: 1 << 20, LogLevel: "loud", MaxLag: -4})
	require.Equal(t, now, f.Updatable())
	require.ErrorContains(t, (&ghostferry.UpdatableConfig{DataIterationConcurrency: -1, LogLevel: "loud", MaxLag: -4}).Validate(), "LogLevel")
}
