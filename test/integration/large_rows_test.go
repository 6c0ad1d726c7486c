package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema, rows, limit = "too_full", 100 + 1000, 4 << 20
		p.Create(t, schema, "CREATE TABLE blobs (id INT NOT NULL PRIMARY KEY, b MEDIUMBLOB)")
		// Small ones behind them, so that a row is thought to be small.
		p.In(t, p.SourceDB, schema, "INSERT INTO blobs SELECT a.n*10+b.n, REPEAT('b', 600000) FROM "+digits("a")+" JOIN "+digits("b"),
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
		const buffers = 32 << 20 // of the kernel, between source, link and reader: as large as these are fast
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

// A move takes at most 96 MB and four times the largest row, whether all rows are that large
// or one meets them among others, by LOAD DATA and by INSERT, and whether they are copied or
// changed.
func TestMemoryOfHugeRows(t *testing.T) {
	mover := filepath.Join(t.TempDir(), "mover") // without the race detector, which takes memory of its own
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", mover, "github.com/ghostferry-go/ghostferry/bench/mover").CombinedOutput()
	require.NoError(t, err, string(output))
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "huge_rows"
		for _, bulk := range harness.Share([]string{"", "off"}, slices.Index(flavours(), p.Setting), len(flavours())) {
			p.Create(t, schema, "CREATE TABLE huge (id INT NOT NULL PRIMARY KEY, b LONGBLOB)", "CREATE TABLE mixed (id INT NOT NULL PRIMARY KEY, b LONGBLOB)")
			for i := range 5 {
				p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO huge VALUES (%d, REPEAT('h', %d))", i*1000, hugeRow))
			}
			p.In(t, p.SourceDB, schema, "INSERT INTO mixed SELECT a.n*1000+b.n*100+c.n*10+d.n, 'small' FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c")+" JOIN "+digits("d"))
			p.In(t, p.SourceDB, schema, fmt.Sprintf("UPDATE mixed SET b=REPEAT('m', %d) WHERE id IN (1, 1000, 9998)", hugeRow))
			move := func(what string) {
				peak := peakOf(t, p, mover, "-schema", schema, "-bulk", bulk, "-verifier", "Online", "-concurrency", "4")
				t.Logf("%s, BulkLoad %q: %.0f MB", what, bulk, peak)
				require.Less(t, peak, float64(96_000_000+4*hugeRow)/1e6, "%s, BulkLoad %q", what, bulk)
				p.MustEqual(t, schema)
			}
			move("copied")
			p.In(t, p.SourceDB, schema, "UPDATE huge SET b=CONCAT('c', SUBSTRING(b, 2))")
			move("changed")
		}
	})
}

// peakOf runs the mover until it has caught up and returns the peak of its memory in megabytes.
func peakOf(t *testing.T, p *harness.Pair, mover string, args ...string) float64 {
	t.Helper()
	source, target := p.Config("").Source, p.Config("").Target
	cmd := exec.CommandContext(t.Context(), mover, append(args, "-source", source.Host+":"+strconv.Itoa(int(source.Port)), "-target", target.Host+":"+strconv.Itoa(int(target.Port)), "-user", source.User)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+source.Pass)
	var said strings.Builder
	cmd.Stderr = &said
	output, err := cmd.Output()
	require.NoError(t, err, said.String())
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	var done struct {
		Event string  `json:"event"`
		MiB   float64 `json:"peak_rss_mb"`
	}
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &done))
	require.Equal(t, "done", done.Event)
	return done.MiB * (1 << 20) / 1e6
}
