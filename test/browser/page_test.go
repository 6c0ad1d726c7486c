//go:build browser

package browser

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const (
	operateToken = "browser-operate-0123456789"
	readToken    = "browser-read-0123456789abc"
)

// hostile is a table's name that would be a script if it were not text.
const hostile = `<img src=x onerror=document.title='owned'>`

// runOfShop is a move of a written shop that stops in the middle of its copy.
type runOfShop struct {
	ferry *ghostferry.Ferry
	url   string

	reached  chan struct{} // closed when the copy has come to its middle
	goOn     chan error    // its end lets the copy go on, an error fails it
	ended    chan error
	stopOnce sync.Once
}

var errFromTest = errors.New("Error 1062 (23000): Duplicate entry 'canary-row' for key 'orders.PRIMARY'")

func startShop(t *testing.T, change func(f *ghostferry.Ferry)) *runOfShop {
	t.Helper()
	pair := harness.Shared(t, harness.Settings[0])
	o := pair.Shop(t, "shop", 30000)
	create := "CREATE TABLE `shop`.`" + hostile + "` (id BIGINT PRIMARY KEY, v VARCHAR(20))"
	harness.Exec(t, pair.SourceDB, create+";\nINSERT INTO `shop`.`"+hostile+"` VALUES (1, 'a'), (2, 'b')")
	harness.Exec(t, pair.TargetDB, create)
	writer := pair.Write(t, o, 60)

	config := pair.Config("shop")
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	config.Logger, config.AutomaticCutover = logger, false
	config.UpdatableConfig.DataIterationBatchSize = 500
	config.ControlServerConfig = &ghostferry.ControlServerConfig{
		Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: operateToken, ReadToken: readToken,
		CustomScripts: map[string][]string{"say hello": {"echo", "hello"}},
	}
	r := &runOfShop{reached: make(chan struct{}), goOn: make(chan error), ended: make(chan error, 1)}
	r.ferry = &ghostferry.Ferry{Config: config}
	if change != nil {
		change(r.ferry)
	}
	require.NoError(t, r.ferry.InitializeContext(t.Context()))
	batches := 0
	var mu sync.Mutex
	r.ferry.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
		mu.Lock()
		batches++
		if batches == 40 {
			close(r.reached)
		}
		hold := batches >= 40
		mu.Unlock()
		if hold {
			return <-r.goOn
		}
		return nil
	})
	require.NoError(t, r.ferry.StartContext(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		begun := time.Now()
		err := harness.RunStarted(ctx, r.ferry, harness.StopWriter(writer))
		if err == nil {
			err = r.ferry.EndCutoverContext(ctx, begun)
		}
		r.ended <- err
	}()
	t.Cleanup(func() {
		r.release(nil)
		cancel()
		_ = r.ferry.Close()
	})
	select {
	case <-r.reached:
	case err := <-r.ended:
		t.Fatal("the run has ended:", err)
	}
	r.url = r.ferry.ControlServer.URL()
	return r
}

// release ends the hold.
func (r *runOfShop) release(err error) {
	r.stopOnce.Do(func() {
		if err != nil {
			r.goOn <- err
		}
		close(r.goOn)
	})
}

const phaseIs = `document.getElementById("phase").textContent.startsWith(%q)`

func phase(text string) string { return strings.Replace(phaseIs, "%q", `"`+text+`"`, 1) }

// A whole move is watched and driven from the page.
func TestAMoveFromThePage(t *testing.T) {
	r := startShop(t, nil)
	p := openTab(t, r.url, 1440, false)

	p.run(chromedp.WaitVisible("#token", chromedp.ByID), chromedp.SendKeys("#token", "wrong-token-0123456789\r", chromedp.ByID))
	p.until(`document.getElementById("login-error").textContent.includes("not accepted")`)
	require.Equal(t, "null", p.eval(`sessionStorage.getItem("ghostferry-token")`))
	p.signIn(operateToken)
	require.NotContains(t, p.eval(`location.href`), operateToken)

	p.until(phase("copying"))
	p.until(`[...document.querySelectorAll("#tables-body .name")].length > 5`)
	p.until(`Number(document.getElementById("overall-meter").getAttribute("aria-valuenow")) > 0`)
	p.until(`document.querySelectorAll("#log li").length > 0`)
	shots(t, r.url, "running-8", phase("copying"))

	// A table's name is text.
	p.until(`[...document.querySelectorAll("#tables-body .name")].some((b) => b.textContent.includes("onerror"))`)
	require.Equal(t, "0", p.eval(`document.querySelectorAll("#tables-body img").length`))
	require.Contains(t, p.eval(`document.title`), "copying")

	// Search, sorting by keyboard, the detail of one table.
	p.run(chromedp.SendKeys("#search", "orders", chromedp.ByID))
	p.until(`[...document.querySelectorAll("#tables-body .name")].every((b) => b.textContent.includes("orders"))`)
	p.run(chromedp.Evaluate(`document.getElementById("search").value = ""; document.getElementById("search").dispatchEvent(new Event("input"))`, nil))
	p.run(chromedp.Focus(`#tables th button[data-sort="rows"]`), chromedp.KeyEvent("\r"))
	p.until(`document.querySelector('[data-sort="rows"]').parentElement.getAttribute("aria-sort") === "descending"`)
	p.until(`document.querySelectorAll("#tables-body .name").length > 5`)
	p.run(chromedp.Click(`#tables-body tr:first-child .name`))
	p.until(`document.getElementById("detail").open && document.getElementById("chunk-text").textContent !== ""`)
	p.run(chromedp.KeyEvent("\x1b"))
	p.until(`!document.getElementById("detail").open`)

	// Pause and resume.
	p.click("pause")
	p.until(`document.getElementById("phase").textContent.includes("throttled")`)
	require.True(t, r.ferry.Throttler.Throttled())
	shots(t, r.url, "throttled-8", `document.getElementById("alerts").textContent.includes("Paused by hand")`)
	p.click("pause")
	p.until(`!document.getElementById("phase").textContent.includes("throttled")`)
	require.False(t, r.ferry.Throttler.Throttled())

	// Settings.
	p.click("settings-open")
	p.run(chromedp.WaitVisible("#setting-DataIterationBatchSize", chromedp.ByID), chromedp.SetValue("#setting-DataIterationBatchSize", "700", chromedp.ByID))
	p.shot("settings-1440-light")
	p.run(chromedp.Click(`#settings-form button[type="submit"]`))
	p.until(`!document.getElementById("settings").open`)
	require.EqualValues(t, 700, r.ferry.Updatable().DataIterationBatchSize)

	// A script.
	p.run(chromedp.Click("#scripts button"))
	p.until(`document.getElementById("scripts").textContent.includes("success")`)
	require.Equal(t, "hello\n", p.eval(`document.querySelector("#scripts pre").textContent`))

	// The copy ends; the cutover needs the word.
	r.release(nil)
	p.until(phase("waiting for the cutover"))
	p.until(`!document.getElementById("cutover").disabled`)
	shots(t, r.url, "waiting-8", phase("waiting for the cutover"))
	p.until(`[...document.querySelectorAll("#tables-body .name")].some((b) => b.textContent === "shop.orders")`)
	p.run(chromedp.Evaluate(`[...document.querySelectorAll("#tables-body .name")].find((b) => b.textContent === "shop.orders").click()`, nil))
	p.until(`document.querySelectorAll('#chunk-map i[data-part="3"]').length === 200`)
	p.shot("detail-1440-light")
	p.run(chromedp.KeyEvent("\x1b"))
	p.until(`!document.getElementById("detail").open`)
	p.click("cutover")
	p.run(chromedp.WaitVisible("#confirm-word", chromedp.ByID))
	require.Equal(t, "true", p.eval(`document.getElementById("confirm-go").disabled`))
	p.shot("confirm-1440-light")
	p.run(chromedp.SendKeys("#confirm-word", "cutover", chromedp.ByID))
	p.until(`!document.getElementById("confirm-go").disabled`)
	require.False(t, r.ferry.CutoverAllowed())
	p.click("confirm-go")
	p.until(phase("done"))
	p.until(`document.getElementById("verification").innerText.includes("equal")`)
	require.NoError(t, <-r.ended)
	p.clean()
	shots(t, r.url, "done-8", phase("done"))
}

// A run that fails is still to be seen, without the values of rows.
func TestAFailedRun(t *testing.T) {
	r := startShop(t, nil)
	p := openTab(t, r.url, 1440, false)
	p.signIn(operateToken)
	p.until(phase("copying"))
	r.release(errFromTest)
	p.until(phase("failed"))
	require.Error(t, <-r.ended)
	p.until(`document.getElementById("alerts").textContent.includes("Duplicate entry '…' for key")`)
	require.NotContains(t, p.eval(`document.documentElement.outerHTML`), "canary-row")
	require.Equal(t, "true", p.eval(`document.getElementById("cutover").disabled && document.getElementById("pause").disabled`))
	p.clean()
	shots(t, r.url, "failed-8", phase("failed"))
}

// A token that may only see cannot change anything, and the page says so. How the run has failed
// stays to be seen when its process has ended with it.
func TestReadOnly(t *testing.T) {
	r := startShop(t, nil)
	p := openTab(t, r.url, 390, true)
	p.signIn(readToken)
	p.until(phase("copying"))
	for _, id := range []string{"pause", "verify", "allow", "cutover", "settings-open"} {
		require.Equal(t, "true", p.eval(`document.getElementById("`+id+`").disabled`), id)
	}
	require.Contains(t, p.eval(`document.getElementById("control-note").textContent`), "not change")
	// Every control has a name, and the keyboard reaches it.
	require.Equal(t, "", p.eval(`[...document.querySelectorAll("button, input, select")].filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.id).join()`))
	p.clean() // the end of the connection is a problem of its own
	r.release(errFromTest)
	require.Error(t, <-r.ended)
	require.NoError(t, r.ferry.Close())
	p.until(`document.getElementById("connection").textContent.includes("no connection since")`)
	require.Contains(t, p.eval(`document.getElementById("phase").textContent`), "failed")
	require.Contains(t, p.eval(`document.getElementById("alerts").textContent`), "Duplicate entry '…' for key")
	require.Contains(t, p.eval(`document.getElementById("alerts").textContent`), "It can be resumed")
	p.shot("ended-390-dark")
	p.click("sign-out")
	p.until(`sessionStorage.getItem("ghostferry-token") === null && !document.getElementById("login").hidden`)
	p.shot("login-390-dark")
}

// The permission is given and taken back by one button, and a comparison that is asked for
// shows which row differs.
func TestPermissionAndVerificationFromThePage(t *testing.T) {
	r := startShop(t, func(f *ghostferry.Ferry) { f.SkipTargetVerification = true }) // or it sees the change below first
	p := openTab(t, r.url, 1440, false)
	p.signIn(operateToken)
	p.until(phase("copying"))
	p.click("allow")
	p.until(`document.getElementById("tiles").textContent.includes("allowed")`)
	require.True(t, r.ferry.CutoverAllowed())
	p.click("allow")
	p.until(`document.getElementById("tiles").textContent.includes("held back")`)
	require.False(t, r.ferry.CutoverAllowed())

	r.release(nil)
	p.until(phase("waiting for the cutover"))
	p.until(`!document.getElementById("verify").disabled`)
	result, err := r.ferry.TargetDB.ExecContext(t.Context(), "UPDATE shop.`"+hostile+"` SET v = 'changed' WHERE id = 2")
	require.NoError(t, err)
	changed, err := result.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, 1, changed)
	p.click("verify")
	p.until(`document.getElementById("mismatches-body").textContent.includes("onerror")`)
	p.until(`document.getElementById("alerts").textContent.includes("1 row differs")`) // and none that is just being written
	require.Equal(t, "0", p.eval(`document.querySelectorAll("#mismatches-body img").length`))
	p.clean()
	shots(t, r.url, "mismatch-8", `document.getElementById("mismatches-body").textContent.includes("onerror")`)
}
