// Package integration shows each promise of the library on real servers.
package integration

import (
	"os"
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

func TestMain(m *testing.M) {
	ghostferry.SetLogLevel(ghostferry.LogLevelWarn) // of components that have no logger of their own
	code := m.Run()
	harness.Stop()
	removeCopydb()
	os.Exit(code)
}

// onEachSetting runs a test on every kind of pair of servers.
func onEachSetting(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	for _, s := range harness.Settings {
		t.Run(s.Name, func(t *testing.T) { f(t, harness.Shared(t, s)) })
	}
}
