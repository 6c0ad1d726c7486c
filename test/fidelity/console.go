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
	fmt.Fprintf(c.out, "fidelity %6.1fs  %s\n", time.Since(c.begun).Seconds(), fmt.Sprintf(format, args...))
}

// Write takes the lines of the servers.
func (c *console) Write(text []byte) (int, error) {
	c.printf("%s", strings.TrimRight(string(text), "\n"))
	return len(text), nil
}
