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

// onEachSetting runs a test on every kind of pair of servers, some at once: each has its own.
func onEachSetting(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.Settings, true, f)
}

// onSomeSettings is onEachSetting for tests in which it makes little difference how the
// source's log is followed (harness.SomeSettings).
func onSomeSettings(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.SomeSettings(t), true, f)
}

// onSomeSettingsInTurn is for tests of what belongs to the whole process (goroutines, signals),
// and for those that write as fast as two processors let them.
func onSomeSettingsInTurn(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.SomeSettings(t), false, f)
}

// onOneSetting is onEachSetting on one of them (harness.OneSetting).
func onOneSetting(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.OneSetting(t), true, f)
}

// flavours are the settings of tests that do not depend on how the log is followed.
func flavours() []harness.Setting {
	return []harness.Setting{harness.Settings[0], harness.Settings[2]}
}

// onTwoFlavours runs a test that does not depend on GTIDs.
func onTwoFlavours(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, flavours(), true, f)
}

// onOneFlavour is onTwoFlavours on a share of the flavours (harness.OneFlavour).
func onOneFlavour(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.OneFlavour(t), true, f)
}
