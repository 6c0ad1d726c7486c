package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Transactions with a few rows of some megabytes fill the queue of the apply before their end
// is read: their beginning is applied then, instead of waiting for the end.
func TestTransactionsOfLargeRows(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		p.Create(t, "large_rows", "CREATE TABLE blobs (id INT NOT NULL PRIMARY KEY, b LONGBLOB)")
		p.In(t, p.SourceDB, "large_rows", "INSERT INTO blobs VALUES (1,REPEAT('1',2500000)),(2,REPEAT('2',2500000))")
		f := &ghostferry.Ferry{Config: p.Config("large_rows")}
		err := harness.Move(ctx, f, func() error {
			p.In(t, p.SourceDB, "large_rows",
				"INSERT INTO blobs VALUES (3,REPEAT('3',5000000)),(4,REPEAT('4',5000000))",
				"INSERT INTO blobs VALUES (5,REPEAT('5',3000000)),(6,REPEAT('6',3000000)),(7,REPEAT('7',3000000)),(8,REPEAT('8',3000000))",
				"UPDATE blobs SET b=CONCAT('x',b) WHERE id <= 2",
				"UPDATE blobs SET b=CONCAT('y',b) WHERE id BETWEEN 3 AND 6",
				"DELETE FROM blobs WHERE id IN (4,7)")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, "large_rows")
	})
}

// A chunk whose rows are larger than was thought is read up to its limit in bytes, not in
// rows: the source sends little more.
func TestChunkOfRowsLargerThanThought(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema, rows, limit = "too_full", 60 + 1000, 4 << 20
		p.Create(t, schema, "CREATE TABLE blobs (id INT NOT NULL PRIMARY KEY, b MEDIUMBLOB)")
		// Small ones behind them, so that a row is thought to be small.
		p.In(t, p.SourceDB, schema, "INSERT INTO blobs SELECT a.n*10+b.n, REPEAT('b', 600000) FROM "+digits("a")+" JOIN "+digits("b")+" WHERE a.n < 6",
			"INSERT INTO blobs SELECT 100+a.n*100+b.n*10+c.n, '' FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c"), "ANALYZE TABLE blobs")
		link, err := faultproxy.StartLink(fmt.Sprintf("%s:%d", p.Source.Host, p.Source.Port), 1_000_000_000, 0)
		require.NoError(t, err)
		defer func() { require.NoError(t, link.Close()) }()
		f := &ghostferry.Ferry{Config: p.Config(schema)}
		f.BulkLoad = "off"
		f.DataIterationConcurrency = 1
		f.UpdatableConfig.DataIterationBatchSize = 1000
		f.Source.Host, f.Source.Port = splitAddr(t, link.Addr())
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		var before int64
		var sent []int64 // by chunk
		read := 0
		f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
			_, down := link.Bytes()
			sent, before = append(sent, down-before), down
			read += b.Size()
			return nil
		})
		require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.Equal(t, rows, read)
		const buffers = 10 << 20 // of the kernel, between source, link and reader
		for _, n := range sent {
			require.Less(t, n, int64(limit+600000+buffers), "sent for one chunk: %d", sent)
		}
		p.MustEqual(t, schema)
	})
}

func splitAddr(t *testing.T, addr string) (host string, port uint16) {
	t.Helper()
	host, text, _ := strings.Cut(addr, ":")
	n, err := strconv.ParseUint(text, 10, 16)
	require.NoError(t, err)
	return host, uint16(n)
}

// hugeRow is the size of each row whose move TestMemoryOfHugeRows measures.
const hugeRow = 15_000_000

// moverEnv is the configuration of the move that a process of TestMemoryOfHugeRows makes.
const moverEnv = "GHOSTFERRY_TEST_MOVE"

// A copy by several workers takes at most 96 MB and four times the largest row, whether
// all rows are that large or one meets them among others, by LOAD DATA and by INSERT.
func TestMemoryOfHugeRows(t *testing.T) {
	if config := os.Getenv(moverEnv); config != "" {
		moveAlone(t, config)
		return
	}
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		const schema = "huge_rows"
		for _, bulk := range harness.Share([]string{"", "off"}, slices.Index(flavours(), p.Setting), len(flavours())) {
			p.Create(t, schema, "CREATE TABLE huge (id INT NOT NULL PRIMARY KEY, b LONGBLOB)", "CREATE TABLE mixed (id INT NOT NULL PRIMARY KEY, b LONGBLOB)")
			for i := range 5 {
				p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO huge VALUES (%d, REPEAT('h', %d))", i*1000, hugeRow))
			}
			p.In(t, p.SourceDB, schema, "INSERT INTO mixed SELECT a.n*1000+b.n*100+c.n*10+d.n, 'small' FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c")+" JOIN "+digits("d"))
			p.In(t, p.SourceDB, schema, fmt.Sprintf("UPDATE mixed SET b=REPEAT('m', %d) WHERE id IN (1, 1000, 9998)", hugeRow))
			config := p.Config(schema)
			text, err := json.Marshal(aloneConfig{config.Source, config.Target, schema, bulk})
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryOfHugeRows$", "-test.v")
			cmd.Env = append(os.Environ(), moverEnv+"="+string(text))
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, string(output))
			p.MustEqual(t, schema)
			_, rest, _ := strings.Cut(string(output), "peak ")
			kib, _, _ := strings.Cut(rest, " ")
			peak, err := strconv.Atoi(kib)
			require.NoError(t, err, string(output))
			t.Logf("BulkLoad %q: %d MB", bulk, peak*1024/1_000_000)
			if !raceDetector { // which takes memory of its own
				require.Less(t, peak*1024, 96_000_000+4*hugeRow, "BulkLoad %q", bulk)
			}
		}
	})
}

// aloneConfig is what a process that moves needs.
type aloneConfig struct {
	Source, Target *ghostferry.DatabaseConfig
	Schema, Bulk   string
}

// moveAlone is a move in a process of its own, which tells its peak of memory.
func moveAlone(t *testing.T, text string) {
	t.Helper()
	var config aloneConfig
	require.NoError(t, json.Unmarshal([]byte(text), &config))
	f := &ghostferry.Ferry{Config: &ghostferry.Config{
		Source: config.Source, Target: config.Target, TableFilter: harness.Schemas{config.Schema}, BulkLoad: config.Bulk,
		AutomaticCutover: true, VerifierType: ghostferry.VerifierTypeOnline, Logger: harness.TestLogger(), DataIterationConcurrency: 4,
	}}
	require.NoError(t, harness.Move(t.Context(), f, func() error { return nil }))
	require.NoError(t, f.Close())
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Printf("peak %s\n", strings.TrimSpace(rest))
}
