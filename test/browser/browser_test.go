//go:build browser

package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// pageTimeout bounds every step in the browser.
const pageTimeout = 90 * time.Second

var chromium struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func TestMain(m *testing.M) {
	path, env, err := servers.BrowserCommand(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Env(env...), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-gpu", true), chromedp.WSURLReadTimeout(2*time.Minute))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	chromium.ctx, chromium.cancel = chromedp.NewContext(allocator)
	code := 1
	if err := chromedp.Run(chromium.ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chromium does not start:", err)
	} else {
		code = m.Run()
	}
	chromium.cancel()
	stop()
	harness.Stop()
	os.Exit(code)
}

// tab is a tab of its own with nothing stored, and what went wrong in it.
type tab struct {
	t   *testing.T
	ctx context.Context
	// close closes it; a browser has six connections to a server, and every open page keeps
	// one of them.
	close func()

	mu       sync.Mutex
	problems []string
}

// openTab opens an address; dark and width are what a person would have.
func openTab(t *testing.T, url string, width int64, dark bool) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(chromium.ctx)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	p := &tab{t: t, ctx: ctx, close: sync.OnceFunc(func() { cancel(); closeTab() })}
	t.Cleanup(p.close)
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			p.problem(e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError && !strings.Contains(e.Entry.Text, "401") {
				p.problem(e.Entry.Text)
			}
		}
	})
	theme := "light"
	if dark {
		theme = "dark"
	}
	require.NoError(t, chromedp.Run(ctx)) // opens the tab, which lives as long as this context
	p.run(log.Enable(), runtime.Enable(),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
		emulation.SetDeviceMetricsOverride(width, 900, 1, width < 600), chromedp.Navigate(url))
	return p
}

func (p *tab) problem(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, text)
}

func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	require.NoError(p.t, chromedp.Run(ctx, actions...))
}

// signIn types the token, as a person does.
func (p *tab) signIn(token string) {
	p.t.Helper()
	p.run(chromedp.WaitVisible("#token", chromedp.ByID), chromedp.SendKeys("#token", token+"\r", chromedp.ByID), chromedp.WaitVisible("#run", chromedp.ByID))
	p.until(`document.getElementById("connection").dataset.live === "yes"`)
}

// until waits for an expression to be true in the page.
func (p *tab) until(expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	var ok bool
	err := chromedp.Run(ctx, chromedp.Poll(expression, &ok, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(0)))
	if err != nil {
		p.t.Fatalf("never true: %s (%v); the page says: %.600s", expression, err, p.eval(`document.body.innerText`))
	}
}

// eval returns an expression's value as text.
func (p *tab) eval(expression string) string {
	p.t.Helper()
	var value string
	p.run(chromedp.Evaluate(`String(`+expression+`)`, &value))
	return value
}

func (p *tab) click(id string) {
	p.t.Helper()
	p.run(chromedp.Click("#"+id, chromedp.ByID))
}

// shot keeps a picture of the whole page.
func (p *tab) shot(name string) {
	p.t.Helper()
	var picture []byte
	p.run(chromedp.FullScreenshot(&picture, 100))
	require.NoError(p.t, os.MkdirAll("out", 0o755))
	require.NoError(p.t, os.WriteFile(filepath.Join("out", name+".png"), picture, 0o644))
}

// clean fails the test if a script failed, the policy refused something, or the page is
// wider than its window.
func (p *tab) clean() {
	p.t.Helper()
	wide := p.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`)
	require.Equal(p.t, "0", wide, "the page is wider than the window")
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(p.t, p.problems)
}

// shots takes the pictures of one state: two widths, dark and light.
func shots(t *testing.T, url, name, ready string) {
	t.Helper()
	for _, width := range []int64{390, 1440} {
		for _, dark := range []bool{false, true} {
			theme := map[bool]string{false: "light", true: "dark"}[dark]
			p := openTab(t, url, width, dark)
			p.signIn(readToken)
			p.until(ready)
			p.until(`document.querySelector("#chart-copy text") !== null`)
			p.shot(fmt.Sprintf("%s-%d-%s", name, width, theme))
			p.clean()
			p.close()
		}
	}
}
