package main

import (
	"context"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A mover that dies at any step goes on with the same command, and arrives: it is killed
// at every failpoint, what it leaves behind is judged, and at the end every row compared.
// Each failpoint is tried on one of the flavours, on both at full width.
func TestKilledAtEveryFailpoint(t *testing.T) {
	program := filepath.Join(t.TempDir(), "mover")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", program, ".")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	for i, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel() // half of the time is waiting for servers and processes
			w, err := newWorld(t.Context(), &console{out: io.Discard, begun: time.Now()}, flavour, 2000, 1, 60)
			require.NoError(t, err)
			defer func() { require.NoError(t, w.close()) }()
			w.program = program
			s := &run{world: w, rng: rand.New(rand.NewPCG(1, 1)), done: map[string]int{}, victims: map[string]int{}}
			for _, name := range harness.Share(s.failpoints(t), i, 2) {
				s.killAt(t, name)
			}
			r, err := s.arrive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "equal", r.Result)
			require.Positive(t, r.RowsCompared)
		})
	}
}

// failpoints are the names that the program knows.
func (s *run) failpoints(t *testing.T) []string {
	t.Helper()
	m, err := s.start("GHOSTFERRY_STRESS_FAILPOINT=list")
	require.NoError(t, err)
	there, err := m.until(t.Context(), func() bool { return len(m.state.failpoints) > 0 })
	require.NoError(t, err)
	require.True(t, there)
	m.kill()
	return m.state.failpoints
}

// killAt runs a mover until it has killed itself at the failpoint.
func (s *run) killAt(t *testing.T, name string) {
	t.Helper()
	ctx := t.Context()
	begun := time.Now()
	s.apps.resume()
	m, err := s.start("GHOSTFERRY_STRESS_FAILPOINT=" + name + ":1")
	require.NoError(t, err)
	defer m.kill()
	stop := s.provoke(ctx, name)
	if strings.HasPrefix(name, "cutover.") && name != "cutover.copied" {
		_, err := m.until(ctx, func() bool { return m.state.copied || m.state.killed != "" })
		require.NoError(t, err)
		m.cutover()
	}
	_, err = m.until(ctx, func() bool { return m.state.killed != "" })
	stop()
	require.NoError(t, err, name)
	<-m.ended
	require.Equal(t, name, m.state.killed, "%s", m.failure())
	require.NoError(t, s.remember(m))
	s.done[phaseOf(name)]++
	require.NoError(t, s.check(ctx))
	require.Empty(t, s.checker.violations, "after the kill at %s", name)
	t.Logf("%s: %s", name, time.Since(begun).Round(10*time.Millisecond))
}

// phaseOf is the phase that a failpoint belongs to.
func phaseOf(name string) string {
	switch component, _, _ := strings.Cut(name, "."); component {
	case "resume", "copy":
		return inCopy
	case "cutover":
		return inCutover
	}
	return inApply
}

// provoke makes happen what the applications do not do by themselves.
func (s *run) provoke(ctx context.Context, name string) (stop func()) {
	if name != "stream.rotated" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_, _ = s.sourceDB.ExecContext(ctx, "FLUSH BINARY LOGS")
			}
		}
	}()
	return func() { cancel(); <-done }
}
