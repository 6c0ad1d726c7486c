package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// console tells people what happens, with the seconds since the beginning.
type console struct {
	out   io.Writer
	begun time.Time
	mu    sync.Mutex
}

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, "stress %6.1fs  %s\n", time.Since(c.begun).Seconds(), fmt.Sprintf(format, args...))
}

// Write takes the lines of the servers.
func (c *console) Write(text []byte) (int, error) {
	c.printf("%s", strings.TrimRight(string(text), "\n"))
	return len(text), nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 64 << 10

// Write adds text.
func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	if len(t.text) > 2*tailBytes {
		t.text = append([]byte(nil), t.text[len(t.text)-tailBytes:]...)
	}
	return len(text), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
