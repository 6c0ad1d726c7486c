package ghostferry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// scriptOutputBytes is how much of a script's output is kept.
	scriptOutputBytes = 64 << 10
	// scriptTailBytes is how much of that an overview has, which is sent every second.
	scriptTailBytes = 1 << 10
	// scriptGrace is how long the output of a script that was ended is waited for.
	scriptGrace = 2 * time.Second
)

// CustomScriptStatus tells about one custom script.
type CustomScriptStatus struct {
	// Name is its name in the configuration.
	Name string
	// Status is "not started yet", "running", "success" or "exitted with error: …".
	Status string
	// Logs is what the last run has written, both streams; the beginning of it.
	Logs string
	// ExitCode is that of the last run, -1 when it did not end by itself.
	ExitCode int
	// Running says that it runs.
	Running bool
}

// scriptRunner runs the configured scripts, each once at a time, without a shell. What a
// script has started ends with it.
type scriptRunner struct {
	// immutable
	scripts map[string][]string
	timeout time.Duration
	logger  Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		status map[string]CustomScriptStatus
		closed bool
	}
}

func newScriptRunner(c *ControlServerConfig, logger Logger) *scriptRunner {
	r := &scriptRunner{scripts: c.CustomScripts, timeout: c.scriptTimeout, logger: logger}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.mu.status = map[string]CustomScriptStatus{}
	for name := range c.CustomScripts {
		r.mu.status[name] = CustomScriptStatus{Name: name, Status: "not started yet"}
	}
	return r
}

// start begins a script unless it is running; false means that there is none of that name.
func (r *scriptRunner) start(name string) bool {
	argv, ok := r.scripts[name]
	if !ok || len(argv) == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed || r.mu.status[name].Running {
		return true
	}
	r.mu.status[name] = CustomScriptStatus{Name: name, Status: "running", Running: true}
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		r.run(name, argv)
	}()
	return true
}

func (r *scriptRunner) run(name string, argv []string) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	out := &cappedBuffer{limit: scriptOutputBytes}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, scriptGrace
	ownGroup(cmd)
	r.logger.WithField("script", name).Info("running a custom script")
	err := cmd.Run()
	_ = endGroup(cmd) // what it left behind; mostly nothing
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("ended after %s", r.timeout)
	}
	status := CustomScriptStatus{Name: name, Status: "success", Logs: out.String()}
	if err != nil {
		status.Status, status.ExitCode = "exitted with error: "+err.Error(), -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status.ExitCode = exit.ExitCode()
		}
		r.logger.WithField("script", name).WithError(err).Warn("a custom script failed")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.status[name] = status
}

// statuses returns a copy, nil without scripts.
func (r *scriptRunner) statuses() map[string]CustomScriptStatus {
	if r == nil || len(r.scripts) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]CustomScriptStatus, len(r.mu.status))
	for name, status := range r.mu.status {
		out[name] = status
	}
	return out
}

// tails returns the statuses with no more than the end of each output.
func (r *scriptRunner) tails() map[string]CustomScriptStatus {
	out := r.statuses()
	for name, status := range out {
		if over := len(status.Logs) - scriptTailBytes; over > 0 {
			status.Logs = "…" + strings.ToValidUTF8(status.Logs[over:], "")
			out[name] = status
		}
	}
	return out
}

// close ends what runs and waits for it.
func (r *scriptRunner) close() {
	r.mu.Lock()
	r.mu.closed = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
}

// cappedBuffer keeps the beginning of what is written.
type cappedBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
	cut   bool
}

// Write keeps what there is room for.
func (b *cappedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := max(0, b.limit-b.buf.Len())
	b.buf.Write(p[:min(len(p), room)])
	b.cut = b.cut || len(p) > room
	return len(p), nil
}

func (b *cappedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut {
		return b.buf.String() + "\n… the rest is left out"
	}
	return b.buf.String()
}
