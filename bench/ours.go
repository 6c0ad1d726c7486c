package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// moverEvent is a line of our mover; see bench/mover.
type moverEvent struct {
	Event         string  `json:"event"`
	Resuming      bool    `json:"resuming"`
	RowsCopied    uint64  `json:"rows_copied"`
	BinlogApplied uint64  `json:"binlog_rows_applied"`
	PeakRSSMB     float64 `json:"peak_rss_mb"`
	RowsVerified  uint64  `json:"rows_verified"`
	VerifySeconds float64 `json:"verify_seconds"`
	CPUSeconds    float64 `json:"cpu_s"`
	// RowEventsDecoded is of a shared stream.
	RowEventsDecoded uint64 `json:"row_events_decoded"`
}

// course is what our mover did, by this process' clock.
type course struct {
	startedAt, runningAt, copiedAt, caughtUpAt time.Time
	rowsCopied, caughtUp, done                 moverEvent
	cpu                                        float64
	copied                                     func() error // called when the rows are copied, with -follow
	// The processors' clocks when the rows began to move and when all was on the target.
	before, after []cpuClock
}

func (c *course) fill(m *measurement) {
	m.WallSeconds = c.caughtUpAt.Sub(c.startedAt).Seconds()
	m.MoverCPU, m.PeakRSSMB = c.cpu, c.done.PeakRSSMB
	m.Busy = busyShares(c.before, c.after)
}

// runOurs runs our mover to its end; of flags that come twice the later one counts. It
// leaves a CPU profile for a run that is measured, that is, one with a measurement.
func (l *lab) runOurs(ctx context.Context, flags []string, m *measurement) (*course, error) {
	return l.runOursUntil(ctx, flags, m, nil)
}

// profileOf is the file of a run's CPU profile.
func (l *lab) profileOf(m *measurement) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(fmt.Sprintf("%s-%s-%d", m.Bench, m.System, m.Run)))
	return filepath.Join(l.profiles, name+".cpu.prof")
}

// runOursUntil runs our mover, and, when copied is given, calls it when the rows are
// copied and lets the mover follow the log until it has returned.
func (l *lab) runOursUntil(ctx context.Context, flags []string, m *measurement, copied func(mover *os.Process) error) (*course, error) {
	if copied != nil {
		flags = append(slices.Clone(flags), "-follow")
	}
	if m != nil {
		flags = slices.Concat([]string{"-cpuprofile", l.profileOf(m)}, flags)
	}
	cmd := exec.CommandContext(ctx, l.moverPath(), slices.Concat([]string{
		"-source", address(l.source), "-target", address(l.target), "-user", l.source.User(), "-schema", schema, "-table", table,
	}, flags)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+l.source.Password())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c := &course{startedAt: time.Now(), copied: func() error {
		var err error
		if copied != nil {
			err = copied(cmd.Process)
		}
		return errors.Join(err, input.Close())
	}}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	readErr := c.follow(output)
	if err := outputError("our mover", errors.Join(cmd.Wait(), readErr), &said); err != nil {
		return nil, err
	}
	if said.Len() > 0 {
		progress("our mover says: %s", bytes.TrimSpace(said.Bytes()))
	}
	if c.done.Event == "" || c.caughtUpAt.IsZero() {
		return nil, errors.New("our mover ended without saying that it was done")
	}
	c.cpu = cpuOf(cmd)
	return c, nil
}

// follow reads events until the mover closes its output.
func (c *course) follow(output io.Reader) (err error) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		now := time.Now()
		var e moverEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("unexpected line %q: %w", lines.Text(), err)
		}
		switch e.Event {
		case "running":
			c.runningAt = now
			if _, c.before, err = cpuClocks(); err != nil {
				return err
			}
		case "copied":
			c.copiedAt, c.rowsCopied = now, e
			if err := c.copied(); err != nil {
				return err
			}
		case "caught_up":
			c.caughtUpAt, c.caughtUp = now, e
			if _, c.after, err = cpuClocks(); err != nil {
				return err
			}
		case "done":
			c.done = e
		}
	}
	return lines.Err()
}
