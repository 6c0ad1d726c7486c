package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// position is a place in the source's log as a mover tells it.
type position struct {
	mysql.Position
	set string
}

// mover is a mover's process, seen from outside.
type mover struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   tail
	ended chan struct{} // closed when the process is gone and its lines are read

	state struct {
		sync.Mutex
		changed    chan struct{} // closed and replaced at every line
		reads      int           // batches that were about to be written
		begins     *position     // of the stream, when this process has begun the run
		copied     bool
		killed     string // the failpoint at which it killed itself
		failpoints []string
		resumable  bool
		err        string
	}
}

// startMover starts a program of this package as a mover. Rows that it is about to write
// are given to reread.
func startMover(program, config string, environment []string, reread func(table string, keys []string)) (*mover, error) {
	m := &mover{cmd: exec.Command(program), ended: make(chan struct{})}
	m.state.changed = make(chan struct{})
	m.cmd.Env = append(append(os.Environ(), moverEnv+"="+config), environment...)
	m.cmd.Stderr = &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is the parent's
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(m.ended)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			m.heard(lines.Text(), reread)
		}
		_ = m.cmd.Wait() // the lines tell more
	}()
	return m, nil
}

func (m *mover) heard(line string, reread func(table string, keys []string)) {
	word, rest, _ := strings.Cut(line, " ")
	m.state.Lock()
	defer m.state.Unlock()
	switch word {
	case "read":
		table, keys, _ := strings.Cut(rest, " ")
		reread(table, strings.Fields(keys))
		m.state.reads++
	case "begins":
		p := &position{}
		if _, err := fmt.Sscanf(rest, "%s %d %q", &p.Name, &p.Pos, &p.set); err == nil {
			m.state.begins = p
		}
	case "copied":
		m.state.copied = true
	case "killed":
		m.state.killed = rest
	case "failpoints":
		m.state.failpoints = strings.Fields(rest)
	case "ended":
		var status int
		if _, err := fmt.Sscanf(rest, "%d %t %q", &status, &m.state.resumable, &m.state.err); err != nil {
			m.state.err = line
		}
	}
	close(m.state.changed)
	m.state.changed = make(chan struct{})
}

// errNoProgress ends a wait that takes too long.
var errNoProgress = errors.New("the mover makes no progress")

// patience bounds every wait for a mover.
const patience = 3 * time.Minute

// until waits for a condition on the state. It returns false when the process ended first.
func (m *mover) until(ctx context.Context, holds func() bool) (bool, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		m.state.Lock()
		done, changed := holds(), m.state.changed
		m.state.Unlock()
		if done {
			return true, nil
		}
		select {
		case <-changed:
		case <-m.ended:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return false, m.stuck()
		}
	}
}

// stuck has the process tell where its goroutines are.
func (m *mover) stuck() error {
	_ = m.cmd.Process.Signal(syscall.SIGQUIT)
	<-m.ended
	return fmt.Errorf("%w for %s:\n%s", errNoProgress, patience, m.log.String())
}

func (m *mover) hasCopied() bool {
	m.state.Lock()
	defer m.state.Unlock()
	return m.state.copied
}

func (m *mover) alive() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (m *mover) kill() {
	_ = m.cmd.Process.Kill()
	<-m.ended
}

// cutover lets the cutover begin.
func (m *mover) cutover() { _, _ = io.WriteString(m.stdin, "cutover\n") }

// wait waits for the end. The error is nil when the move has arrived.
func (m *mover) wait(ctx context.Context) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-m.ended:
	case <-ctx.Done():
		m.kill()
		return ctx.Err()
	case <-timer.C:
		return m.stuck()
	}
	return m.failure()
}

// failure is why a mover that has ended did not arrive.
func (m *mover) failure() error {
	if m.cmd.ProcessState.Success() {
		return nil
	}
	m.state.Lock()
	defer m.state.Unlock()
	return &moverError{status: m.cmd.ProcessState.ExitCode(), resumable: m.state.resumable, text: m.state.err, log: m.log.String()}
}

// moverError is how a mover failed.
type moverError struct {
	status    int
	resumable bool
	text, log string
}

// Error has the mover's log.
func (e *moverError) Error() string {
	return fmt.Sprintf("the mover ended with status %d (resumable: %t): %s\n%s", e.status, e.resumable, e.text, e.log)
}
