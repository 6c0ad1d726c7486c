package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// console tells people what happens, one line at a time, with the seconds since
// the beginning.
type console struct {
	out      io.Writer
	terminal bool
	begun    time.Time

	mu struct {
		sync.Mutex
		held    bool
		waiting []string
		last    time.Time // when anything was last told
	}
}

func newConsole(out *os.File) *console {
	return &console{out: out, terminal: term.IsTerminal(int(out.Fd())), begun: time.Now()}
}

func (c *console) printf(format string, args ...any) {
	line := fmt.Sprintf("demo %5.1fs  %s\n", time.Since(c.begun).Seconds(), fmt.Sprintf(format, args...))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last = time.Now()
	if c.mu.held {
		c.mu.waiting = append(c.mu.waiting, line)
		return
	}
	_, _ = io.WriteString(c.out, line) // there is no better place to complain
}

// Write takes the lines of others.
func (c *console) Write(text []byte) (int, error) {
	c.printf("%s", strings.TrimRight(string(text), "\n"))
	return len(text), nil
}

// progress tells how far something is, after a second of silence.
func (c *console) progress(doing string, done, total int64) {
	c.mu.Lock()
	due := time.Since(c.mu.last) >= time.Second
	c.mu.Unlock()
	if due && total > 0 {
		c.printf("%s: %s of %s rows (%d%%)", doing, grouped(done), grouped(total), 100*done/total)
	}
}

// hold leaves a terminal to copydb's live view: lines wait until release.
func (c *console) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.held = c.terminal
}

func (c *console) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.held = false
	for _, line := range c.mu.waiting {
		_, _ = io.WriteString(c.out, line)
	}
	c.mu.waiting = nil
}

// grouped writes 1234567 as 1,234,567.
func grouped[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
