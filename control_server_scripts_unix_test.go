//go:build unix

package ghostferry

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

// Security 7: what a script has started ends with it, whether its time is up, the server
// closes, or it has gone and left something behind.
func TestCustomScriptEndsWithWhatItHasStarted(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	for name, test := range map[string]struct {
		script  string
		timeout time.Duration
		close   bool
	}{
		"its time is up":       {`sh -c "echo up >&3; sleep 600"; touch mark`, 300 * time.Millisecond, false},
		"the server closes":    {`sh -c "echo up >&3; sleep 600"; touch mark`, time.Hour, true},
		"something stays back": {"sleep 600 >&3 2>&3 &", time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			fifo, err := filepath.Abs("fifo")
			require.NoError(t, err)
			require.NoError(t, syscall.Mkfifo(fifo, 0o600))
			self, err := os.OpenFile(fifo, os.O_RDWR, 0) // nobody waits for a peer
			require.NoError(t, err)
			defer self.Close()
			alive, err := os.Open(fifo)
			require.NoError(t, err)
			defer alive.Close()

			r := newScriptRunner(&ControlServerConfig{
				CustomScripts: map[string][]string{"x": {"sh", "-c", `exec 3>"$1"; ` + test.script, "sh", fifo}}, scriptTimeout: test.timeout,
			}, logger)
			defer r.close()
			require.True(t, r.start("x"))
			if test.close {
				_, err := io.ReadFull(alive, make([]byte, len("up\n")))
				require.NoError(t, err)
				r.close()
			}
			r.running.Wait()
			require.NoError(t, self.Close())
			require.NoError(t, alive.SetReadDeadline(time.Now().Add(10*time.Second)))
			_, err = io.ReadAll(alive)
			require.NoError(t, err, "somebody still has the pipe open")
			require.NoFileExists(t, "mark")
		})
	}
}
