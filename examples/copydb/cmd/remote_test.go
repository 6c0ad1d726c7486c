package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/certs"
)

// controlled is a run that has not begun, with a control server, and the configuration
// file that finds it.
func controlled(t *testing.T, more map[string]any) (*ghostferry.Ferry, string) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	listener, err := net.Listen("tcp", "127.0.0.1:0") // for a port that nobody uses
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	file := filepath.Join(t.TempDir(), "config.json")
	settings := map[string]any{"Enabled": true, "ServerBindAddr": addr}
	maps.Copy(settings, more)
	text, err := json.Marshal(map[string]any{"ControlServerConfig": settings})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))

	config, err := copydb.ReadConfig(bytes.NewReader(text))
	require.NoError(t, err)
	require.Error(t, config.InitializeAndValidateConfig(), "it has no servers")
	info, err := os.Stat(config.TokenFile())
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	logger := logrus.New()
	logger.SetOutput(io.Discard)
	config.Logger = logger
	f := &ghostferry.Ferry{Config: config.Config, Throttler: &ghostferry.PauserThrottler{}}
	server := &ghostferry.ControlServer{Config: config.ControlServerConfig, F: f}
	require.NoError(t, server.Initialize())
	serving := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { serving <- server.RunContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-serving)
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, 10*time.Second, 10*time.Millisecond)
	return f, file
}

func TestARunningCopydbIsTold(t *testing.T) {
	f, file := controlled(t, nil)
	said := func(order string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		status := tell(t.Context(), order, []string{file}, &stdout, &stderr)
		return status, stdout.String(), stderr.String()
	}
	status, text, _ := said("status")
	require.Zero(t, status)
	require.Contains(t, text, "phase         starting\n")
	require.Contains(t, text, "cutover       held back, write block not predicted yet, no budget\n")
	status, _, complaint := said("pause")
	require.Zero(t, status, complaint)
	require.True(t, f.Throttler.Throttled())
	_, text, _ = said("status")
	require.Contains(t, text, "throttled     by pauser since")
	status, _, _ = said("resume")
	require.Zero(t, status)
	require.False(t, f.Throttler.Throttled())

	// The same address and token, another move.
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), "other.json")
	elsewhere := map[string]any{"Host": "elsewhere", "Port": 7}
	for setting, c := range map[string]struct {
		value any
		says  string
	}{
		"Source":        {elsewhere, "this configuration's Source is elsewhere:7"},
		"Target":        {elsewhere, "this configuration's Target is elsewhere:7"},
		"RunID":         {"mine", "another version of copydb"}, // the run has made one itself
		"Databases":     {map[string]any{"Whitelist": []string{"shop"}}, "other Databases"},
		"Tables":        {map[string]any{"Blacklist": []string{"sessions"}}, "other Databases, Tables"},
		"TableRewrites": {map[string]any{"orders": "purchases"}, "other Databases, Tables or rewrites"},
	} {
		config := map[string]any{}
		require.NoError(t, json.Unmarshal(written, &config))
		config[setting] = c.value
		changed, err := json.Marshal(config)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(other, changed, 0o600))
		for order := range orders {
			var stderr bytes.Buffer
			status := tell(t.Context(), order, []string{other}, io.Discard, &stderr)
			if order == "status" {
				require.Zero(t, status, stderr.String())
				continue
			}
			require.Equal(t, 2, status, order)
			require.Contains(t, stderr.String(), c.says)
		}
	}
	require.False(t, f.Throttler.Throttled())
	require.False(t, f.CutoverAllowed())

	status, text, complaint = said("cutover")
	require.Zero(t, status, complaint)
	require.Contains(t, text, "cutover of run ")
	require.True(t, f.CutoverAllowed())
	status, text, complaint = said("hold")
	require.Zero(t, status, complaint)
	require.Contains(t, text, "held back\n")
	require.False(t, f.CutoverAllowed())
	status, _, complaint = said("verify")
	require.Equal(t, 2, status)
	require.Contains(t, complaint, "no verifier")

	var stderr bytes.Buffer
	off := filepath.Join(t.TempDir(), "off.json")
	require.NoError(t, os.WriteFile(off, []byte("{}"), 0o600))
	require.Equal(t, 2, run([]string{"status", off}, nil, os.Stdout, os.Stderr))
	require.Equal(t, 1, runTell(&stderr))
	require.Contains(t, stderr.String(), "usage: copydb status CONFIG.json")
}

// A certificate need not know the address that the process is reached at from its own machine.
func TestARunningCopydbIsToldByTLS(t *testing.T) {
	pair := certs.NewAuthority(t).Issue(t, "control", time.Hour, "move.example.com")
	f, file := controlled(t, map[string]any{"TLSCertPath": pair.Cert, "TLSKeyPath": pair.Key})
	var stderr bytes.Buffer
	require.Zero(t, tell(t.Context(), "pause", []string{file}, io.Discard, &stderr), stderr.String())
	require.True(t, f.Throttler.Throttled())
}

func runTell(stderr io.Writer) int {
	return tell(context.Background(), "status", nil, io.Discard, stderr)
}

func TestWordsOnStandardInput(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	p := &program{logger: logger}
	quit := 0
	p.quit = func(why error) {
		quit++
		require.ErrorIs(t, why, ghostferry.ErrInterrupted)
	}
	f := &ghostferry.Ferry{Config: &ghostferry.Config{}, Throttler: &ghostferry.PauserThrottler{}}
	for _, step := range []struct {
		word string
		is   func() bool
	}{
		{"pause", f.Throttler.Throttled},
		{"r", func() bool { return !f.Throttler.Throttled() }},
		{"nonsense", func() bool { return !f.CutoverAllowed() && quit == 0 }},
		{"verify", func() bool { return true }},
		{"cutover", f.CutoverAllowed},
		{"hold", func() bool { return !f.CutoverAllowed() }},
		{"q", func() bool { return quit == 1 }},
	} {
		p.obey(step.word, f)
		require.True(t, step.is(), step.word)
	}
}

// Who has started it without a terminal is told what there is instead of the word.
func TestNothingOnStandardInput(t *testing.T) {
	for _, c := range []struct {
		control *ghostferry.ControlServer
		says    string
	}{
		{nil, "interrupt, set AutomaticCutover, or ControlServerConfig.Enabled for copydb cutover shop.json, and run the same command"},
		{&ghostferry.ControlServer{}, "run copydb cutover shop.json, or use the page of the control server,"},
	} {
		var said bytes.Buffer
		logger := logrus.New()
		logger.SetOutput(&said)
		p := &program{logger: logger, options: options{config: "shop.json"}}
		f := &ghostferry.Ferry{Config: &ghostferry.Config{}, ControlServer: c.control}
		require.Contains(t, p.cutOverBy(f), `type "cutover"`)
		p.listen(new(bytes.Buffer), &copydb.CopydbFerry{Ferry: f})
		require.Contains(t, said.String(), "standard input has ended; "+c.says+" to switch over")
		require.Equal(t, c.says, p.cutOverBy(f), "later, too")
	}
}
