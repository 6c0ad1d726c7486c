//go:build unix && !linux

package servers

import (
	"os/exec"
	"syscall"
)

// dieWithParent keeps Ctrl-C on a terminal from the child, so that the parent can
// stop it in order. There is no parent-death signal here: a killed parent leaves it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
