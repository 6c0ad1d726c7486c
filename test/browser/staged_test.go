//go:build browser

package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

// staged is a page that shows overviews of a test's own: moments of a run that last too short to
// be looked at.
type staged struct {
	*tab
	server   *ghostferry.ControlServer
	overview atomic.Pointer[ghostferry.ControlServerOverview]
	lacks    atomic.Pointer[[]string] // fields that an older server does not know
	tables   atomic.Pointer[ghostferry.ControlServerTables]
	shown    int
}

func stage(t *testing.T) *staged {
	t.Helper()
	f := &ghostferry.Ferry{Config: &ghostferry.Config{ControlServerConfig: controlled()}, Throttler: &ghostferry.PauserThrottler{}}
	server := &ghostferry.ControlServer{Config: f.ControlServerConfig, F: f}
	require.NoError(t, server.Initialize())
	s := &staged{server: server}
	s.stage(ghostferry.ControlServerOverview{State: ghostferry.StateStarting})
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/overview":
			_, _ = w.Write(s.document(s.overview.Load()))
		case "/api/events":
			s.stream(w, r)
		case "/api/mismatches":
			answer := ghostferry.ControlServerMismatches{Total: s.overview.Load().Verification.Mismatches}
			for n := range min(answer.Total, 200) {
				answer.Mismatches = append(answer.Mismatches, ghostferry.OnlineVerifierMismatch{Table: "shop.orders", Key: strconv.Itoa(n)})
			}
			_ = json.NewEncoder(w).Encode(answer)
		default:
			server.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(serving.Close)
	s.tab = openTab(t, serving.URL+"/", 1440, false)
	t.Cleanup(s.close) // before the server waits for its stream
	s.signIn(operateToken)
	return s
}

// show returns when the page shows an overview.
func (s *staged) show(o ghostferry.ControlServerOverview) {
	s.t.Helper()
	s.stage(o)
	s.until(text("footer") + `.includes("` + s.overview.Load().GhostferryVersion + `")`)
}

func (s *staged) stage(o ghostferry.ControlServerOverview) {
	s.shown++
	if o.RunID == "" {
		o.RunID = "staged"
	}
	o.GhostferryVersion, o.Role = fmt.Sprintf("(staged %d)", s.shown), "operate"
	o.CurrentTime = time.Unix(1_800_000_000+int64(s.shown), 0) // a point of the charts each
	if o.Phase == "" {
		o.Phase = o.State
	}
	s.overview.Store(&o)
}

func (s *staged) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, _ = fmt.Fprintf(w, "event: overview\ndata: %s\n\n", s.document(s.overview.Load()))
		if tables := s.tables.Load(); tables != nil {
			_, _ = fmt.Fprintf(w, "event: tables\ndata: %s\n\n", s.document(tables))
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// document is an answer without the fields that are lacking, wherever they are.
func (s *staged) document(answer any) []byte {
	data, _ := json.Marshal(answer)
	if lacks := s.lacks.Load(); lacks != nil {
		for _, field := range *lacks {
			data = regexp.MustCompile(`"`+field+`":[^,}]*,`).ReplaceAll(data, nil)
		}
	}
	return data
}

// text is what an element says.
func text(id string) string { return `document.getElementById("` + id + `").textContent` }

// The page says that the cutover has begun when the writers are being stopped, no earlier, and
// beside each button that is off why it is.
func TestTheWordsBesideTheControls(t *testing.T) {
	s := stage(t)
	online := ghostferry.ControlServerVerification{Type: "Online"}
	for _, moment := range []struct {
		overview ghostferry.ControlServerOverview
		note     string
		off      map[string]string
	}{
		{ghostferry.ControlServerOverview{State: ghostferry.StateCopying, Verification: online},
			"will wait for your word", map[string]string{"verify": "not copied yet", "cutover": "not copied yet"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateVerifyBeforeCutover, CutoverAllowed: true, Verification: online},
			"begins by itself", map[string]string{"verify": "compares by itself", "cutover": "allowed already"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateCutover, CutoverPhase: ghostferry.PhaseReady, CutoverAllowed: true},
			"begins by itself", map[string]string{"verify": "compares nothing", "cutover": "allowed already"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateCutover, CutoverPhase: ghostferry.PhaseReady},
			"waits for your word", map[string]string{"verify": "compares nothing"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateCutover, CutoverPhase: ghostferry.PhaseFence, CutoverAllowed: true},
			"has begun", map[string]string{"verify": "compares nothing", "allow": "under way", "cutover": "under way"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateCutover, CutoverPhase: ghostferry.PhaseAbort, CutoverAllowed: true},
			"being given up", map[string]string{"verify": "compares nothing", "allow": "under way", "cutover": "under way"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateCutover, CutoverPhase: ghostferry.PhaseUnfenced, CutoverAllowed: true},
			"was given up", map[string]string{"verify": "compares nothing", "cutover": "allowed already"}},
		{ghostferry.ControlServerOverview{State: ghostferry.StateDone},
			"has ended", map[string]string{"pause": "has ended", "verify": "has ended", "allow": "has ended", "cutover": "has ended", "settings-open": "has ended"}},
	} {
		s.show(moment.overview)
		require.Contains(t, s.eval(text("control-note")), moment.note)
		for _, id := range []string{"pause", "verify", "allow", "cutover", "settings-open"} {
			why := s.eval(`document.getElementById("` + id + `").disabled ? document.getElementById(document.getElementById("` + id + `").getAttribute("aria-describedby")).innerText : ""`)
			if moment.off[id] == "" {
				require.Empty(t, why, "%s while %q", id, moment.note)
			} else {
				require.Contains(t, why, moment.off[id], "%s while %q", id, moment.note)
			}
		}
	}
	s.clean()
}

// A reader that speaks is told a new phase and a failure, and neither every number nor again what
// it has been told.
func TestWhatIsAnnounced(t *testing.T) {
	s := stage(t)
	copying := ghostferry.ControlServerOverview{State: ghostferry.StateCopying, Verification: ghostferry.ControlServerVerification{Type: "Online", Mismatches: 1}}
	s.show(copying)
	// What is added to a live region, or changed in it, is said, unless something between says no.
	s.run(chromedp.Evaluate(`window.said = [];
		new MutationObserver((changes) => changes.forEach((change) => {
			const at = change.target.nodeType === Node.ELEMENT_NODE ? change.target : change.target.parentElement;
			const role = at?.closest("[role=alert], [role=status], [role=log], [aria-live]");
			if (role && role.getAttribute("aria-live") !== "off") said.push(...[...change.addedNodes].map((node) => node.textContent));
		})).observe(document.body, { childList: true, subtree: true, characterData: true });`, nil))
	copying.Verification.Mismatches, copying.RowsCopied, copying.BinlogRowsApplied = 2, 1000, 50
	s.show(copying)
	s.until(text("alerts") + `.includes("2 rows differ")`)
	require.Empty(t, s.eval(`said.join("|")`))

	copying.Phase, copying.Failed, copying.Error = "failed", true, "the disk of the target is full"
	s.show(copying)
	said := s.eval(`said.join("|")`)
	require.Contains(t, said, "failed")
	require.Contains(t, said, "the disk of the target is full")
	require.NotContains(t, said, "differ")
	s.clean()
}

// Of many rows that differ the first are shown, and how many there are.
func TestMoreRowsDifferThanAreShown(t *testing.T) {
	s := stage(t)
	differing := func(rows int) ghostferry.ControlServerOverview {
		return ghostferry.ControlServerOverview{State: ghostferry.StateCopying, Verification: ghostferry.ControlServerVerification{Type: "Online", Mismatches: rows}}
	}
	s.show(differing(200))
	s.until(`document.querySelectorAll("#mismatches-body tr").length === 200`)
	require.Equal(t, "true", s.eval(`document.getElementById("mismatches-more").hidden`))
	s.show(differing(1234))
	s.until(text("mismatches-more") + `.includes("The first 200 of 1,234 rows are shown")`)
	require.Equal(t, "false", s.eval(`document.getElementById("mismatches-more").hidden`))
	s.clean()
}

// A setting of 0 is shown as that, with what it means; a run that goes on cannot go back to it.
func TestSettingsOfZero(t *testing.T) {
	s := stage(t)
	s.show(ghostferry.ControlServerOverview{State: ghostferry.StateCopying, Settings: ghostferry.UpdatableConfig{DataIterationConcurrency: 4, BinlogApplyLanes: 8, MaxThreadsRunning: 30}})
	s.click("settings-open")
	for name, want := range map[string]string{"DataIterationBatchSize": "0", "DataIterationConcurrency": "4", "MaxWriteBlock": "0", "MaxLag": "0", "MaxThreadsRunning": "30"} {
		require.Equal(t, want, s.eval(`document.getElementById("setting-`+name+`").value`), name)
	}
	require.Contains(t, s.eval(`document.getElementById(document.getElementById("setting-MaxLag").getAttribute("aria-describedby")).innerText`), "each throttler's own")
	s.run(chromedp.SetValue("#setting-MaxThreadsRunning", "0", chromedp.ByID), chromedp.Click(`#settings-form button[type="submit"]`))
	s.until(text("settings-error") + `.includes("Threads_running limit: 0")`)
	require.Equal(t, "true", s.eval(`document.getElementById("settings").open`))
	s.shot("settings-zero-1440-light")
	s.clean()
}

// A text is a 0 if it says nothing else.
func TestSettingsOfSomeUnits(t *testing.T) {
	s := stage(t)
	s.show(ghostferry.ControlServerOverview{State: ghostferry.StateCopying})
	set := func(value string) {
		s.click("settings-open")
		s.run(chromedp.SetValue("#setting-MaxWriteBlock", value, chromedp.ByID), chromedp.Click(`#settings-form button[type="submit"]`))
	}
	set("0h0m0.25s")
	s.until(`!document.getElementById("settings").open`)
	require.Equal(t, ghostferry.Duration(250*time.Millisecond), s.server.F.Updatable().MaxWriteBlock)
	set("0h0m")
	s.until(text("settings-error") + `.includes("(like 500ms): 0 is for")`)
	s.clean()
}

// That the process before has failed is told while the next one goes on with its run, and neither
// of the one after that nor of another run.
func TestTheProcessBefore(t *testing.T) {
	s := stage(t)
	for n, process := range []struct {
		run          string
		failed, told bool
	}{
		{"shop", true, false},
		{"shop", false, true},
		{"shop", true, false},
		{"stock", true, false},
		{"stock", false, true},
		{"stock", false, false},
	} {
		began := time.Unix(1_800_000_000+int64(n), 0)
		o := ghostferry.ControlServerOverview{RunID: process.run, State: ghostferry.StateCopying, StartTime: &began}
		if process.failed {
			o.Failed, o.Phase, o.Error, o.DoneTime = true, "failed", "the disk of the target is full", &began
		}
		s.show(o)
		require.Equal(t, strconv.FormatBool(process.told), s.eval(text("alerts")+`.includes("The process before this one has failed")`), "process %d", n)
	}
	s.clean()
}

// A page that was opened before an older version took its run over shows what that one tells.
func TestAnOlderServer(t *testing.T) {
	s := stage(t)
	s.lacks.Store(&[]string{"RowsCopiedBefore", "RowsWrittenBefore", "Resumable"})
	s.tables.Store(&ghostferry.ControlServerTables{Total: 1, Matching: 1, Tables: []ghostferry.ControlServerTable{
		{Name: "shop.orders", Status: ghostferry.TableActionCopying, RowsWritten: 1000, RowsEstimate: 4000, Fraction: 0.25},
	}})
	s.show(ghostferry.ControlServerOverview{
		State: ghostferry.StateCopying, Phase: "failed", Failed: true, Error: "the disk of the target is full",
		TablesTotal: 1, TablesCopying: 1, RowsCopied: 1000, RowsRemaining: 3000,
	})
	require.Equal(t, "1,000 of about 4,000 rows", s.eval(text("overall-rows")))
	require.Contains(t, s.eval(text("alerts")), "the disk of the target is full")
	require.NotContains(t, s.eval(text("alerts")), "resumed")
	s.until(text("tables-body") + `.includes("1,000 of ≈ 4,000")`)
	s.run(chromedp.Click(`#tables-body .name`))
	s.until(text("detail-tiles") + `.includes("1,000about 4,000 at the start")`)
	require.NotContains(t, s.eval(`document.body.innerText`), "NaN")
	s.clean()
}

// A value that is known for a moment only is drawn within its chart, also at its end.
func TestALonePointOfAChart(t *testing.T) {
	s := stage(t)
	s.show(ghostferry.ControlServerOverview{State: ghostferry.StateCopying})
	lag := 0.7
	s.show(ghostferry.ControlServerOverview{State: ghostferry.StateCopying, ApplyLagSeconds: &lag})
	s.until(`document.querySelector("#chart-lag .line") !== null`)
	require.Equal(t, "true", s.eval(`(({ x, width }) => x >= 0 && width > 0 && x + width <= 360)(document.querySelector("#chart-lag .line").getBBox())`))
	s.clean()
}
