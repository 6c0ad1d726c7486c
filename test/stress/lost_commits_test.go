package main

import (
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// F05: a target that writes its log once a second only loses the transactions that it
// acknowledged last when it is killed. The checkpoint is lost with the data: what is left
// is sound, and the same command goes on from there.
func TestTargetThatLosesCommits(t *testing.T) {
	w, err := newWorld(t.Context(), &console{out: io.Discard, begun: time.Now()}, servers.MySQL, 2000, 1, 60,
		"--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0")
	require.NoError(t, err)
	defer func() { require.NoError(t, w.close()) }()
	s := &run{world: w, rng: rand.New(rand.NewPCG(5, 5)), kills: 6, rows: 6000, done: map[string]int{}, victims: map[string]int{}, victim: "target", lossy: true}
	phases := []string{inCopy, inApply}
	if harness.Full() {
		phases = []string{inCopy, inCopy, inApply, inApply}
	}
	for _, phase := range phases {
		require.NoError(t, s.killOnce(t.Context(), phase))
		require.Empty(t, s.checker.violations)
	}
	r, err := s.arrive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "equal", r.Result)
}

// TestMain lets the test binary be a mover.
func TestMain(m *testing.M) {
	if path := os.Getenv(moverEnv); path != "" {
		os.Exit(moverProcess(path, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
