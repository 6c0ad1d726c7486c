package servers

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// process is a running server program.
type process struct {
	pid    int
	handle *os.Process
	exited chan struct{} // closed when the process is gone and has been waited for
	err    error         // how it ended; read only after exited is closed
}

// startProcess starts the command so that it dies with this process.
func startProcess(cmd *exec.Cmd) (*process, error) {
	dieWithParent(cmd)
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the *thread* that started
		// the child ends, so that thread is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.handle, p.pid = cmd.Process, cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stopTimeout is how long a server may take to end.
const stopTimeout = time.Minute

// end sends the signal and waits until the process is gone; false after stopTimeout.
func (p *process) end(sig os.Signal) bool {
	// An error means that it is gone already, which is what is wanted.
	_ = p.handle.Signal(sig)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

// alive tells whether the process has not ended yet.
func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// cpuSeconds returns the user and system time of the process, all threads.
func (p *process) cpuSeconds() (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, fmt.Errorf("servers: CPU time of process %d: %w", p.pid, err)
	}
	// The second field is the command in parentheses and may contain anything;
	// utime and stime are fields 14 and 15 (proc_pid_stat(5)), in ticks of 1/100 s,
	// which is USER_HZ on every Linux architecture that Go supports.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("servers: CPU time of process %d: unexpected /proc text %q", p.pid, stat)
	}
	user, errUser := strconv.ParseFloat(fields[11], 64)
	system, errSystem := strconv.ParseFloat(fields[12], 64)
	if errUser != nil || errSystem != nil {
		return 0, fmt.Errorf("servers: CPU time of process %d: unexpected /proc text %q", p.pid, stat)
	}
	return (user + system) / 100, nil
}
