// Command mutations changes rows behind a move's back and sees whether each verifier
// names every one of them, with its key and in which way it differs, and no other row.
// An application writes to a shop all along, whose rows must not be named.
//
// For every type of column a bit is flipped, NULL moves to another column, two rows
// exchange values, a row is deleted and one is added: on the target or on the source,
// at copy time, between copy and cutover, and during the cutover, mostly by statements
// that no binary log has. Writes to the target that its log has are for the target
// verifier.
//
// With -stress it moves a shop under its application for that long, with one verifier
// after the other, and counts false alarms.
//
// Progress is told on standard error; the last line on standard output is one JSON
// object. The status is 0 only if everything was caught and nothing else was named.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// counts is the last line of the mutations.
type counts struct {
	Mutations      int `json:"mutations"`
	Caught         int `json:"caught"`
	WrongKeyOrKind int `json:"wrong_key_or_kind"`
	FalseAlarms    int `json:"false_alarms"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutations:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mutations", flag.ContinueOnError)
	stress := flags.Duration("stress", 0, "no mutations: move a written shop for that long and count false alarms")
	only := flags.String("only", "", "mysql or mariadb: only this flavour")
	if err := flags.Parse(args); err != nil {
		return err
	}
	flavours := []servers.Flavour{servers.MySQL, servers.MariaDB}
	if *only != "" {
		flavours = []servers.Flavour{servers.Flavour(*only)}
	}
	if *stress > 0 {
		return stressVerifiers(ctx, flavours, *stress)
	}
	var total counts
	for _, flavour := range flavours {
		if err := mutateAll(ctx, flavour, &total); err != nil {
			return fmt.Errorf("%s: %w", flavour, err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(total); err != nil {
		return err
	}
	if total.Caught != total.Mutations || total.WrongKeyOrKind+total.FalseAlarms > 0 {
		return errors.New("not every mutation was caught, or something else was named")
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "mutations: %s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}
