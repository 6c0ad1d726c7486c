// Command servers prepares and runs throwaway MySQL and MariaDB servers by hand:
//
//	go run ./test/servers/cmd/servers prepare
//	go run ./test/servers/cmd/servers run -flavour mysql -n 2 -- --max-binlog-size=1M
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "prepare":
			return prepare(ctx, args[1:])
		case "run":
			return run(ctx, args[1:], out)
		}
	}
	return errors.New("servers: usage: servers prepare [mysql|mariadb|tools ...] | servers run [-flavour mysql|mariadb] [-n 1] [-gtid=true] [-- server flags]")
}

// prepare downloads, unpacks and initialises, and proves it by a start.
func prepare(ctx context.Context, what []string) error {
	if len(what) == 0 {
		what = []string{string(servers.MySQL), string(servers.MariaDB), "tools"}
	}
	for _, f := range what {
		if f == "tools" {
			if _, _, err := servers.ToolCommand(ctx, servers.Mysqldump); err != nil {
				return err
			}
			continue
		}
		s, err := servers.Start(ctx, servers.Options{Flavour: servers.Flavour(f), Name: "prepare", GTID: true})
		if err != nil {
			return err
		}
		if err := s.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// run starts servers and prints how to reach them, until the context ends.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flavour := flags.String("flavour", string(servers.MySQL), "mysql or mariadb")
	n := flags.Int("n", 1, "how many servers")
	gtid := flags.Bool("gtid", true, "GTIDs (MySQL; MariaDB always has them)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var running []*servers.Server
	defer func() {
		for _, s := range running {
			err = errors.Join(err, s.Stop())
		}
	}()
	for i := range *n {
		s, startErr := servers.Start(ctx, servers.Options{
			Flavour: servers.Flavour(*flavour), Name: fmt.Sprintf("%s%d", *flavour, i+1), GTID: *gtid,
			LocalInfile: true, Flushes: true, Flags: flags.Args(),
		})
		if startErr != nil {
			return startErr
		}
		running = append(running, s)
		fmt.Fprintf(out, "host=%s port=%d user=%s password=%s socket=%s version=%s\n",
			s.Host, s.Port, s.User(), s.Password(), s.Socket, s.Version)
	}
	fmt.Fprintln(os.Stderr, "servers: running until interrupted (Ctrl-C)")
	<-ctx.Done()
	return nil
}
