// Command demo moves a live shop from one real server to another and proves that
// nothing was lost. It starts two throwaway servers, fills one with a million
// rows, lets an application write to it all along, moves everything with copydb,
// switches the application over, and compares both servers row by row with a
// program that knows nothing of the mover.
//
// What is going on is told on standard error. The last line on standard output is
// one JSON object; the status is 0 only if copydb succeeded, every row of every table was
// compared equal, and (from the default number of rows on) the application kept up its rate.
//
// Environment: SERVER is mysql (default) or mariadb, ROWS how many rows the shop
// has at least (default 1,000,000).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

const defaultRows = 1_000_000

func main() { os.Exit(status()) }

// status runs the demo and returns the exit status.
func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	screen := newConsole(os.Stderr)
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
	screen.printf("demo failed: %v", err)
	return 1
}

func run(ctx context.Context, screen *console) (*result, error) {
	d := newDemo(screen)
	switch server := os.Getenv("SERVER"); server {
	case "", string(servers.MySQL):
	case string(servers.MariaDB):
		d.flavour = servers.MariaDB
	default:
		return nil, fmt.Errorf("SERVER is %q: say mysql or mariadb", server)
	}
	if rows := os.Getenv("ROWS"); rows != "" {
		n, err := strconv.Atoi(rows)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("ROWS is %q: say how many rows, such as 1000000", rows)
		}
		d.rows = n
	}
	return d.run(ctx)
}
