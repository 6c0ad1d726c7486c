package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// moverEnv names the configuration of a process that is a mover: copydb, which also tells
// on standard output what it does, one line each:
//
//	begins <file> <offset> <GTID set>  where the stream of a new run starts
//	read <table> <digest of a key>…  a batch that is about to be written
//	copied                           every row is there
//	ended <status> <resumable> <error>
const moverEnv = "GHOSTFERRY_STRESS_MOVER"

// moverProcess is the mover's main function.
func moverProcess(path string, stdin io.Reader, stdout, stderr io.Writer) int {
	tell := &teller{out: stdout}
	armFailpoint(tell)
	ferry, err := openMover(path, stderr)
	if err == nil {
		err = moveAndTell(context.Background(), ferry, tell, stdin)
		_ = ferry.Close()
	}
	outcome := copydb.Refused
	if ferry != nil {
		outcome = ferry.Result(err).Outcome
	}
	tell.printf("ended %d %t %q", outcome.ExitStatus(), err == nil || ghostferry.Resumable(err), fmt.Sprint(err))
	return outcome.ExitStatus()
}

func openMover(path string, stderr io.Writer) (*copydb.CopydbFerry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	config, err := copydb.ReadConfig(file)
	if err != nil {
		return nil, err
	}
	logger := logrus.New()
	logger.SetOutput(stderr)
	config.Logger = logger
	if err := config.InitializeAndValidateConfig(); err != nil {
		return nil, err
	}
	ferry := copydb.NewFerry(config)
	ferry.ApplicationOnSource() // whatever a process that was killed at CutoverUnlock has recorded
	return ferry, nil
}

// moveAndTell is the whole command. The word "cutover" on standard input lets the cutover begin.
func moveAndTell(ctx context.Context, ferry *copydb.CopydbFerry, tell *teller, stdin io.Reader) error {
	if err := ferry.InitializeContext(ctx); err != nil {
		return err
	}
	// Before the Ferry's own listener, which writes the batch.
	ferry.Ferry.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
		tell.printf("read %s %s", b.TableSchema(), strings.Join(keyDigests(b), " "))
		return nil
	})
	ferry.Ferry.DataIterator.AddDoneListener(func() error {
		tell.printf("copied")
		return nil
	})
	if err := ferry.StartContext(ctx); err != nil {
		return err
	}
	if !ferry.Ferry.Resuming() {
		at := ferry.Ferry.StateTracker.Serialize(nil, nil)
		tell.printf("begins %s %d %q", at.LastWrittenBinlogPosition.Name, at.LastWrittenBinlogPosition.Pos, at.LastWrittenGTIDSet)
	}
	if err := ferry.CreateDatabasesAndTablesContext(ctx); err != nil {
		return err
	}
	go func() {
		if line, err := bufio.NewReader(stdin).ReadString('\n'); err == nil && line == "cutover\n" {
			ferry.Ferry.AllowCutover()
		}
	}()
	return ferry.RunContext(ctx)
}

// keyDigests are digests of the keys of a batch's rows.
func keyDigests(b *ghostferry.RowBatch) []string {
	columns := b.TableSchema().PKColumns
	digests := make([]string, 0, b.Size())
	for _, row := range b.Values() {
		sum := fnv.New64a()
		for _, c := range columns {
			fmt.Fprintf(sum, "%v|", row[c])
		}
		digests = append(digests, hex.EncodeToString(sum.Sum(nil)))
	}
	return digests
}

// teller writes whole lines.
type teller struct {
	mu  sync.Mutex
	out io.Writer
}

func (t *teller) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format+"\n", args...)
}
