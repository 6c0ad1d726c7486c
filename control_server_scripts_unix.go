//go:build unix

package ghostferry

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// ownGroup makes a program the leader of a process group, so that ending it ends what it
// has started, too.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return endGroup(cmd) }
}

// endGroup ends whatever still runs of a program's group. Nobody is given the number of a
// group as long as one of it lives.
func endGroup(cmd *exec.Cmd) error {
	if cmd.Process == nil {
		return nil
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return os.ErrProcessDone
}
