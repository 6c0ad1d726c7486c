package servers

import (
	"os/exec"
	"syscall"
)

// dieWithParent kills the child when its parent dies, and keeps Ctrl-C on a terminal
// from it, so that the parent can stop it in order.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
