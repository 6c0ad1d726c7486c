package integration

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// terminal is a pseudo-terminal: what is written to it are keys, what is read the screen.
type terminal struct {
	*os.File
	inside *os.File
	screen lines
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(outside.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(outside.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	inside, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(outside.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	p := &terminal{File: outside, inside: inside}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&p.screen, outside) // ends when nobody has the inside any more
	}()
	t.Cleanup(func() {
		_ = inside.Close()
		<-read
		_ = outside.Close()
	})
	return p
}

// mode is how the terminal hands over what is typed.
func (p *terminal) mode(t *testing.T) uint32 {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.inside.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return mode.Lflag
}

// press types a key and waits for what the screen says then.
func (p *terminal) press(t *testing.T, key, answer string) {
	t.Helper()
	p.screen.mu.Lock()
	p.screen.text.Reset()
	p.screen.mu.Unlock()
	_, err := p.WriteString(key)
	require.NoError(t, err)
	p.screen.until(t, answer)
}

// run starts copydb on the terminal; the function returned waits for its exit status.
func (p *terminal) run(t *testing.T, args ...string) (ended func() int) {
	t.Helper()
	cmd := exec.Command(copydbBinary(t), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.inside, p.inside, p.inside
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() int {
		_ = cmd.Wait() // the status tells
		return cmd.ProcessState.ExitCode()
	}
}

// On a terminal single keys drive a move; the terminal is left as it was.
func TestCopydbKeys(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	sourceShop(t, p, "keys", 200)
	config := copydbSettings(p, []string{"keys"}, settings{"AutomaticCutover": false}).file(t)
	screen := openTerminal(t)
	before := screen.mode(t)

	ended := screen.run(t, config)
	screen.screen.until(t, "press c to switch over")
	require.Zero(t, screen.mode(t)&(unix.ICANON|unix.ECHO), "keys wait for Enter")
	screen.press(t, "q", "interrupted")
	require.Equal(t, copydb.Interrupted.ExitStatus(), ended())
	require.Equal(t, before, screen.mode(t))

	ended = screen.run(t, config)
	screen.screen.until(t, "going on with the run")
	for _, step := range []struct{ key, answer string }{
		{"?", "ends this process; the same command goes on"}, {"p", "paused"}, {"r", "the pause is over"},
		{"c", "cut over as soon as the rows are copied? y: yes"}, {"n", "no cutover"},
	} {
		screen.press(t, step.key, step.answer)
	}
	screen.screen.until(t, "wait-for-cutover for")
	screen.screen.until(t, "cutover: held back, write block predicted: ") // as on the page
	screen.press(t, "v", "a verification was started")
	screen.press(t, "c", "? y: yes")
	screen.press(t, "y", "equal at ")
	require.Equal(t, 0, ended())
	require.Equal(t, before, screen.mode(t))
	p.MustEqual(t, "keys")
}
