package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// pin keeps a process on one core: its threads, and those that they start.
func pin(pid, core int) error {
	var set unix.CPUSet
	set.Set(core)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH { // it may have ended
			return fmt.Errorf("keeping process %d on core %d: %w", pid, core, err)
		}
	}
	return nil
}

// pinnedOutput runs a command on a core and returns what it says.
func pinnedOutput(cmd *exec.Cmd, core int) ([]byte, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := pin(cmd.Process.Pid, core); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	err := cmd.Wait()
	return said.Bytes(), err
}
