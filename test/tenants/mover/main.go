// Command mover makes a tenant's move as the sharding program does, or those of many tenants over
// one stream, in a process that can be told to kill itself on its way: built with the tag failpoint it does so at the failpoint
// that GHOSTFERRY_TENANTS_FAILPOINT names.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
)

func main() {
	cancel := flag.Bool("cancel", false, "give the move up")
	onSource := flag.Bool("application-on-source", false, "go on although CutoverUnlock may have been posted")
	many := flag.Bool("many", false, "move many tenants at once")
	flag.Parse()
	ghostferry.SetLogLevel(ghostferry.LogLevelError)
	armFailpoint()
	var err error
	if *many {
		err = moveMany(context.Background(), bufio.NewReader(os.Stdin), os.Stdout)
	} else {
		err = move(context.Background(), *cancel, *onSource)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mover:", err)
		os.Exit(1)
	}
}

// move reads the configuration from standard input.
func move(ctx context.Context, cancel, onSource bool) (err error) {
	config, err := sharding.ReadConfig(os.Stdin)
	if err != nil {
		return err
	}
	ferry, err := sharding.NewFerry(config)
	if err != nil {
		return err
	}
	if err := ferry.InitializeContext(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ferry.Close()) }()
	if cancel {
		_, err := ferry.CancelContext(ctx, false)
		return err
	}
	if onSource {
		if err := ferry.ApplicationOnSourceContext(ctx); err != nil {
			return err
		}
	}
	if err := ferry.StartContext(ctx); err != nil {
		return err
	}
	return ferry.RunContext(ctx)
}
