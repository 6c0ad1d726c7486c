package integration

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// controlSettings switch the control server on, at a port that nobody uses, and keep its token
// in a directory of the test.
func controlSettings(t *testing.T) settings {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	return settings{"AutomaticCutover": false, "ControlServerConfig": settings{"Enabled": true, "ServerBindAddr": address}}
}

// order tells a running copydb something, by another process.
func order(t *testing.T, word, config string) (output string, status int) {
	t.Helper()
	cmd := exec.Command(copydbBinary(t), word, config)
	text, err := cmd.CombinedOutput()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	return string(text), cmd.ProcessState.ExitCode()
}

// A copydb whose standard input nobody has is driven by other processes from the copy to the
// end, with the token that it has written where only its owner reads it.
func TestCopydbIsDrivenThroughItsControlServer(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	o := sourceShop(t, p, "copydb_control", 1000)
	writer := p.Write(t, o, 60)
	h := serveHooks(t, func() error { return writer.Pause(context.Background()) })
	controlled := with(h.settings(), controlSettings(t))
	config := copydbSettings(p, []string{o.Database}, controlled).file(t)
	told := func(word string) string {
		t.Helper()
		text, status := order(t, word, config)
		require.Zero(t, status, text)
		return text
	}
	says := func(what string) func() bool {
		return func() bool { return strings.Contains(told("status"), what) }
	}

	text, status := order(t, "status", config)
	require.Equal(t, copydb.Failed.ExitStatus(), status)
	require.Contains(t, text, "no copydb answers")

	run := startCopydb(t, "-json", config)
	require.NoError(t, run.stdin.Close())
	run.stderr.until(t, "standard input has ended; run copydb cutover "+config)
	run.stderr.until(t, "the rows are copied; ")
	named := regexp.MustCompile(`the token of the control server is in ([^ "]+)`).FindStringSubmatch(run.stderr.String())
	require.Len(t, named, 2, run.stderr.String())
	require.Equal(t, os.Getenv("XDG_CONFIG_HOME"), filepath.Dir(filepath.Dir(named[1])))
	info, err := os.Stat(named[1])
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	token, err := os.ReadFile(named[1])
	require.NoError(t, err)
	require.NotContains(t, run.stderr.String(), strings.TrimSpace(string(token)))

	harness.Await(t, "a write block is predicted", says("held back, write block predicted: "))
	told("pause")
	require.Contains(t, told("status"), "throttled     by pauser since ")
	told("resume")
	require.NotContains(t, told("status"), "throttled")
	told("verify")
	harness.Await(t, "the verification has ended", says(" rows differ, equal"))
	other := copydbSettings(p, []string{"copydb_other"}, controlled).file(t)
	more := copydbSettings(p, []string{o.Database, "copydb_other"}, controlled).file(t)
	for _, config := range []string{other, more} { // with the same address and token
		text, status = order(t, "cutover", config)
		require.Equal(t, copydb.Failed.ExitStatus(), status, text)
		require.Contains(t, text, "it was started with other Databases, Tables or rewrites")
	}
	require.Contains(t, told("status"), "held back, ")
	require.Empty(t, h.calls())
	require.Contains(t, told("cutover"), "cutover of run ")
	require.Zero(t, run.ended())
	require.Equal(t, []string{"lock", "unlock"}, h.calls())
	require.Equal(t, copydb.Equal, run.result().Outcome)
	_, err = writer.Stop()
	require.NoError(t, err)
	p.MustEqual(t, o.Database)

	_, status = order(t, "cutover", config)
	require.Equal(t, copydb.Failed.ExitStatus(), status, "it is over")
}
