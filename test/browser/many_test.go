//go:build browser

package browser

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const (
	manyTables = 10_000
	// measured is how long CPU time is counted, and pageShare what an open page may take of
	// a processor.
	measured  = time.Minute
	pageShare = 0.02
)

// cpu is what this process has used of the processors.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// share is how much of a processor this process uses, while rows are copied.
func share(t *testing.T) float64 {
	t.Helper()
	before, begun := cpu(t), time.Now()
	timer := time.NewTimer(measured)
	defer timer.Stop()
	<-timer.C
	return (cpu(t) - before).Seconds() / time.Since(begun).Seconds()
}

// manyRun is a Ferry whose tables are known and never copied, and a control server over it:
// what the page costs does not depend on where rows come from.
func manyRun(t *testing.T) (f *ghostferry.Ferry, tables []*ghostferry.TableSchema, url string) {
	t.Helper()
	config := &ghostferry.Config{ControlServerConfig: &ghostferry.ControlServerConfig{ServerBindAddr: "127.0.0.1:0", Token: operateToken, ReadToken: readToken}}
	f = &ghostferry.Ferry{Config: config, Tables: ghostferry.TableSchemaCache{}, StateTracker: ghostferry.NewStateTracker(0), Throttler: &ghostferry.PauserThrottler{}}
	f.StartTime = time.Now()
	f.OverallState.Store(ghostferry.StateCopying)
	for i := range manyTables {
		table := &ghostferry.TableSchema{Table: &schema.Table{Schema: "many", Name: fmt.Sprintf("table_%05d", i), Columns: []schema.TableColumn{{Name: "id", Type: schema.TYPE_NUMBER}}}}
		table.PaginationKeyColumn = &table.Columns[0]
		tables = append(tables, table)
		f.Tables[table.String()] = table
		if i%3 == 0 {
			f.StateTracker.MarkTableAsCompleted(table.String())
		}
	}
	server := &ghostferry.ControlServer{Config: config.ControlServerConfig, F: f}
	require.NoError(t, server.Initialize())
	serving := httptest.NewServer(server)
	t.Cleanup(serving.Close)
	return f, tables, serving.URL + "/"
}

// copyOn lets rows of a few tables arrive, until the test ends.
func copyOn(t *testing.T, f *ghostferry.Ferry, tables []*ghostferry.TableSchema) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for key := uint64(1000); ; key += 1000 {
			for _, i := range []int{1, 2, 4, 5} {
				f.StateTracker.UpdateLastSuccessfulPaginationKey(tables[i].String(), ghostferry.NewUint64Key(key), ghostferry.RowStats{NumRows: 1000, NumBytes: 100_000})
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
}

// With ten thousand tables the page answers as with eight, and costs the mover next to
// nothing.
func TestTenThousandTables(t *testing.T) {
	f, tables, url := manyRun(t)
	copyOn(t, f, tables)
	shots(t, url, "running-10000", phase("copying"))
	p := openTab(t, url, 1440, false)
	p.signIn(operateToken)
	p.until(`document.getElementById("page-text").textContent.startsWith("1–50 of 10,000")`)
	p.click("page-last")
	p.until(`document.getElementById("page-text").textContent.startsWith("9,951–10,000")`)
	p.run(chromedp.SendKeys("#search", "table_0777", chromedp.ByID))
	p.until(`document.getElementById("page-text").textContent.startsWith("1–10 of 10")`)
	p.run(chromedp.Evaluate(`document.getElementById("search").value = ""; document.getElementById("search").dispatchEvent(new Event("input"))`, nil))
	p.until(`document.getElementById("page-text").textContent.startsWith("1–50")`)

	with := share(t)
	p.clean()
	p.close()
	without := share(t)
	t.Logf("with the page open the process uses %.4f of a processor, without it %.4f", with, without)
	require.Less(t, with-without, pageShare)

	f.Throttler.SetPaused(true)
	shots(t, url, "throttled-10000", `document.getElementById("alerts").textContent.includes("Paused by hand")`)
}

// samplesUnder is the percentage of a CPU profile's samples that have a function in their stacks
// whose name matches.
func samplesUnder(t *testing.T, profile, functions string) float64 {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", "-focus="+functions, profile).CombinedOutput()
	require.NoError(t, err, string(output))
	found := regexp.MustCompile(`(?m)^Showing nodes accounting for [^,]+, ([0-9.]+)% of`).FindSubmatch(output)
	require.NotNil(t, found, string(output))
	percent, err := strconv.ParseFloat(string(found[1]), 64)
	require.NoError(t, err)
	return percent
}

// manyMove is a run of ten thousand real tables, of which the batch listener decides.
func manyMove(t *testing.T, pair *harness.Pair, onBatch func(*ghostferry.RowBatch) error) (f *ghostferry.Ferry, ended <-chan error) {
	t.Helper()
	config := pair.Config("many")
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	config.Logger = logger
	config.ControlServerConfig = &ghostferry.ControlServerConfig{Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: operateToken, ReadToken: readToken}
	f = &ghostferry.Ferry{Config: config}
	require.NoError(t, f.InitializeContext(t.Context()))
	t.Cleanup(func() { _ = f.Close() })
	f.DataIterator.AddBatchListener(onBatch)
	require.NoError(t, f.StartContext(t.Context()))
	result := make(chan error, 1)
	go func() {
		begun := time.Now()
		err := harness.RunStarted(context.Background(), f, func() error { return nil })
		if err == nil {
			err = f.EndCutoverContext(context.Background(), begun)
		}
		result <- err
	}()
	return f, result
}

// Ten thousand real tables: a run that fails in the middle, and the next one, which goes on
// and arrives, while somebody looks at the page.
func TestTenThousandTablesAreMoved(t *testing.T) {
	pair := harness.New(t, harness.Settings[0])
	for _, db := range []*sql.DB{pair.SourceDB, pair.TargetDB} {
		harness.Exec(t, db, "CREATE DATABASE many")
		making, ctx := errgroup.WithContext(t.Context())
		making.SetLimit(4)
		for i := range manyTables {
			making.Go(func() error {
				_, err := db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE many.table_%05d (id INT PRIMARY KEY, v INT)", i))
				if err == nil && db == pair.SourceDB {
					_, err = db.ExecContext(ctx, fmt.Sprintf("INSERT INTO many.table_%05d VALUES (1,1),(2,2),(3,3)", i))
				}
				return err
			})
		}
		require.NoError(t, making.Wait())
	}
	var batches atomic.Int64
	failed, ended := manyMove(t, pair, func(*ghostferry.RowBatch) error {
		if batches.Add(1) > manyTables/2 {
			return errFromTest
		}
		return nil
	})
	p := openTab(t, failed.ControlServer.URL(), 1440, false)
	p.signIn(operateToken)
	p.until(`document.getElementById("page-text").textContent.startsWith("1–50 of 10,000")`)
	require.Error(t, <-ended)
	p.until(phase("failed"))
	p.clean()
	p.close()
	shots(t, failed.ControlServer.URL(), "failed-10000", phase("failed"))
	require.NoError(t, failed.Close())

	profile := filepath.Join("out", "ten-thousand-tables.pprof") // kept beside the pictures
	file, err := os.Create(profile)
	require.NoError(t, err)
	require.NoError(t, pprof.StartCPUProfile(file))
	done, ended := manyMove(t, pair, func(*ghostferry.RowBatch) error { return nil })
	p = openTab(t, done.ControlServer.URL(), 1440, false)
	p.signIn(operateToken)
	p.until(`document.getElementById("page-text").textContent.startsWith("1–50 of 10,000")`)
	require.NoError(t, <-ended)
	pprof.StopCPUProfile()
	require.NoError(t, file.Close())
	served := samplesUnder(t, profile, `ControlServer|webui`)
	t.Logf("%.2f %% of the run's CPU samples are under the control server", served)
	require.Positive(t, served)
	require.LessOrEqual(t, served, 100*pageShare)
	p.until(phase("done"))
	require.Contains(t, p.eval(`document.getElementById("overall-percent").textContent`), "100") // the space before % is the language's
	p.clean()
	p.close()
	shots(t, done.ControlServer.URL(), "done-10000", phase("done"))
}
