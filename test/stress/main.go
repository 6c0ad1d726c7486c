// Command stress kills a move with kill -9, again and again, until it has arrived: the
// mover, the source and the target, in the copy, while changes are applied, and in the
// cutover, under two applications that never stop. Each time the mover is started again
// with the same command.
//
// After every kill the target is looked at as it lies there: every row has to be a
// version that the checkpoint allows (soundness.go). At the end every row of both servers
// is compared by a program that knows nothing of the mover.
//
// What is going on is told on standard error, the seed first: the same SEED chooses the
// same victims and instants, as far as the machine lets it. The last line on standard
// output is one JSON object; the status is 0 only if everything was equal, no checkpoint
// was unsound, and no more rows were copied again than were under way at the kills.
//
// Environment: SERVER is mysql (default) or mariadb, KILLS how many (default 200), SEED
// the origin of every choice (default: drawn).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

const defaultKills = 200

func main() {
	if path := os.Getenv(moverEnv); path != "" {
		os.Exit(moverProcess(path, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(status())
}

// status runs the stress and returns the exit status.
func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	screen := &console{out: os.Stderr, begun: time.Now()}
	o, err := readOptions()
	var r *result
	if err == nil {
		r, err = stress(ctx, o, screen)
	}
	if r != nil {
		line, encodeErr := json.Marshal(r)
		err = errors.Join(err, encodeErr)
		fmt.Fprintln(os.Stdout, string(line))
	}
	if err == nil {
		return 0
	}
	screen.printf("stress failed: %v", err)
	return 1
}

// options are what the environment says.
type options struct {
	flavour servers.Flavour
	kills   int
	seed    uint64
}

func readOptions() (options, error) {
	o := options{flavour: servers.MySQL, kills: defaultKills, seed: rand.Uint64N(1e9)}
	switch server := os.Getenv("SERVER"); server {
	case "", string(servers.MySQL):
	case string(servers.MariaDB):
		o.flavour = servers.MariaDB
	default:
		return o, fmt.Errorf("SERVER is %q: say mysql or mariadb", server)
	}
	if kills := os.Getenv("KILLS"); kills != "" {
		n, err := strconv.Atoi(kills)
		if err != nil || n < 1 {
			return o, fmt.Errorf("KILLS is %q: say how often to kill, such as 200", kills)
		}
		o.kills = n
	}
	if seed := os.Getenv("SEED"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			return o, fmt.Errorf("SEED is %q: say a whole number", seed)
		}
		o.seed = n
	}
	return o, nil
}
