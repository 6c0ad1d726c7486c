package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry"
)

// decode streams the source's log from a place, file:offset, to its present end and
// delivers the table's changes to a listener that only counts them.
func decode(ctx context.Context, o options) error {
	file, text, _ := strings.Cut(o.decode, ":")
	offset, err := strconv.ParseUint(text, 10, 32)
	if err != nil || file == "" {
		return fmt.Errorf("-decode is %q: say file:offset", o.decode)
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	f := &ghostferry.Ferry{Config: config}
	if err := f.InitializeContext(ctx); err != nil {
		return err
	}
	changes := uint64(0) // owned by the streaming goroutine
	streamer := f.NewSourceBinlogStreamer()
	streamer.AddEventListener(func(events []ghostferry.DMLEvent) error {
		changes += uint64(len(events))
		return nil
	})
	if _, err := streamer.ConnectBinlogStreamerToMysqlFrom(mysql.Position{Name: file, Pos: uint32(offset)}); err != nil {
		return errors.Join(err, f.Close())
	}
	streamer.FlushAndStop()
	if err := (event{Event: "running"}).print(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(streamer.RunContext(ctx), f.Close()); err != nil {
		return err
	}
	for _, what := range []string{"caught_up", "done"} {
		if err := (event{Event: what, BinlogApplied: changes}).print(); err != nil {
			return err
		}
	}
	return nil
}
