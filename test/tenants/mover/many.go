package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// manyConfig is the first line of standard input of a mover of many tenants.
type manyConfig struct {
	Source, Target *ghostferry.DatabaseConfig
	Schema         string
	Owners         []int
}

// moveMany moves some tenants at once, which follow the source over one connection. When all
// are ready for it, it tells "ready" and waits for a line that says that the writers have
// stopped.
func moveMany(ctx context.Context, in *bufio.Reader, out io.Writer) (err error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var c manyConfig
	if err := json.Unmarshal(line, &c); err != nil {
		return err
	}
	shared := &ghostferry.SharedStreamer{Source: c.Source, Logger: harness.TestLogger()}
	if err := shared.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	var ready, ended sync.WaitGroup
	ready.Add(len(c.Owners))
	stopped := sync.OnceValue(func() error {
		fmt.Fprintln(out, "ready")
		_, err := in.ReadString('\n')
		return err
	})
	errs := make([]error, len(c.Owners))
	for i, owner := range c.Owners {
		ended.Go(func() {
			arrive := sync.OnceFunc(ready.Done)
			defer arrive()
			config := &ghostferry.Config{
				Source: c.Source, Target: c.Target, TableFilter: harness.Schemas{c.Schema}, Logger: harness.TestLogger(),
				CopyFilter:     &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {owner}}},
				SharedStreamer: shared, SkipTargetVerification: true, AutomaticCutover: true, VerifierType: ghostferry.VerifierTypeOnline,
			}
			config.UpdatableConfig.DataIterationBatchSize = 50
			ferry := &ghostferry.Ferry{Config: config}
			errs[i] = harness.Move(ctx, ferry, func() error {
				arrive()
				ready.Wait()
				return stopped()
			})
			errs[i] = errors.Join(errs[i], ferry.Close())
		})
	}
	ended.Wait()
	return errors.Join(errs...)
}
