package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// moved is what copydb says on its last line.
type moved struct {
	Result            string  `json:"result"`
	RowsCopied        int64   `json:"rows_copied"`
	CopySeconds       float64 `json:"copy_seconds"`
	BinlogRowsApplied int64   `json:"binlog_rows_applied"`
	Verified          bool    `json:"verified"`
}

func (m *moved) rowsPerSecond() int64 {
	if m.CopySeconds <= 0 {
		return 0
	}
	return int64(math.Round(float64(m.RowsCopied) / m.CopySeconds))
}

const moverPackage = "github.com/ghostferry-go/ghostferry/examples/copydb/cmd"

// mover is copydb, built by the first demo that needs it.
type mover struct {
	path string
	once sync.Once
	err  error
}

func (m *mover) build(ctx context.Context) error {
	m.once.Do(func() {
		build := exec.CommandContext(ctx, "go", "build", "-o", m.path, moverPackage)
		if output, err := build.CombinedOutput(); err != nil {
			m.err = fmt.Errorf("building copydb: %w\n%s", err, output)
		}
	})
	return m.err
}

// config is the part of copydb's configuration that the demo needs.
type config struct {
	Source, Target             endpoint
	Databases, Tables          filter
	AutomaticCutover           bool
	TailGuardSeconds           int
	CutoverLock, CutoverUnlock callback
}

type endpoint struct {
	Host       string
	Port       int
	User, Pass string
}

type filter struct {
	Whitelist []string `json:",omitempty"`
}

type callback struct{ URI, Payload string }

func (d *demo) writeConfig(hooks string) (string, error) {
	at := func(s *servers.Server) endpoint {
		return endpoint{Host: s.Host, Port: s.Port, User: s.User(), Pass: s.Password()}
	}
	text, err := json.MarshalIndent(config{
		Source: at(d.source), Target: at(d.target),
		Databases:        filter{Whitelist: []string{database}},
		AutomaticCutover: true,
		TailGuardSeconds: 1,
		CutoverLock:      callback{URI: hooks + "/lock"},
		CutoverUnlock:    callback{URI: hooks + "/unlock"},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(d.directory, "copydb.json")
	return path, os.WriteFile(path, text, 0o600)
}

// runMover runs copydb as a user would, and returns what it says of itself. The
// numbers are never nil.
func (d *demo) runMover(ctx context.Context, hooks string) (*moved, error) {
	m := &moved{}
	path, err := d.writeConfig(hooks)
	if err != nil {
		return m, err
	}
	d.printf("moving: copydb -json %s", filepath.Base(path))
	var output bytes.Buffer
	command := exec.CommandContext(ctx, d.copydb.path, "-json", path)
	command.Stdout, command.Stderr = &output, d.out
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 20 * time.Second
	begun := time.Now()
	d.hold()
	err = command.Run()
	d.release()
	if err != nil {
		return m, fmt.Errorf("copydb: %w", err)
	}
	lines := bytes.Split(bytes.TrimSpace(output.Bytes()), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], m); err != nil {
		return m, fmt.Errorf("copydb's last line %q: %w", lines[len(lines)-1], err)
	}
	d.printf("copydb took %.1f s: %s; %s rows copied at %s rows/s, %s rows from the binlog applied", time.Since(begun).Seconds(), m.Result,
		grouped(m.RowsCopied), grouped(m.rowsPerSecond()), grouped(m.BinlogRowsApplied))
	return m, nil
}
