// Command demo moves eight tenants of shared tables at once, from one source to one
// target, while applications write to all of them and rows pass from tenant to tenant. The
// eight moves follow the source over one connection. Rows of other tenants stand on the
// target beforehand.
//
// What is going on is told on standard error. The last line on standard output is one JSON
// object; the status is 0 only if every row of every tenant was compared equal, with rows of
// others as they were and no row on the target that should not be there.
//
// Environment: SERVER is mysql (default) or mariadb, ROWS how many rows a tenant has at
// least (default 50,000).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const defaultRows = 50_000

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ghostferry.SetLogLevel(ghostferry.LogLevelError)
	screen := &console{out: os.Stderr, begun: time.Now()}
	result, err := run(ctx, screen)
	if result != nil {
		line, encodeErr := json.Marshal(result)
		err = errors.Join(err, encodeErr)
		fmt.Println(string(line))
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted; servers and files are removed")
	}
	screen.printf("failed: %v", err)
	return 1
}

func run(ctx context.Context, screen *console) (*result, error) {
	d := &demo{console: screen, flavour: servers.MySQL, rows: defaultRows}
	switch server := os.Getenv("SERVER"); server {
	case "", string(servers.MySQL):
	case string(servers.MariaDB):
		d.flavour = servers.MariaDB
	default:
		return nil, fmt.Errorf("SERVER is %q: say mysql or mariadb", server)
	}
	if rows := os.Getenv("ROWS"); rows != "" {
		n, err := strconv.Atoi(rows)
		if err != nil || n < 100 {
			return nil, fmt.Errorf("ROWS is %q: say how many rows a tenant has, at least 100", rows)
		}
		d.rows = n
	}
	return d.run(ctx)
}

// console tells people what happens, one line at a time, with the seconds since the
// beginning.
type console struct {
	mu    sync.Mutex
	out   io.Writer
	begun time.Time
}

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.out, "tenants %5.1fs  %s\n", time.Since(c.begun).Seconds(), fmt.Sprintf(format, args...))
}

// Write takes the lines of others.
func (c *console) Write(text []byte) (int, error) {
	c.printf("%s", strings.TrimRight(string(text), "\n"))
	return len(text), nil
}
