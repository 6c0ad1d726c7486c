package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is one line of `go test -json`; see `go doc test2json` and, for the build
// events, `go help buildjson`.
type event struct {
	Action     string
	Package    string
	ImportPath string // instead of Package in build events
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// packageState is what is known of a package whose tests run.
type packageState struct {
	output  map[string][]string  // by test; "" is the package's own
	running map[string]time.Time // since when
	parents map[string]bool      // tests that have subtests: they are not counted
	passed  int
	failed  []string
	skipped int
}

// slowTest is one that takes its time, and how much.
type slowTest struct {
	name    string
	seconds float64
}

// A test that takes slowSeconds is named at the end, unless slowNamed are slower.
const (
	slowSeconds = 5
	slowNamed   = 20
)

// report turns events into text and counts.
type report struct {
	mu       sync.Mutex // guards all below; the progress goroutine reads too
	out      io.Writer
	packages map[string]*packageState
	build    map[string][]string // compiler output by import path
	passed   int
	failed   int
	skipped  int
	slow     []slowTest
	status   int // width of the status line on the terminal
}

func newReport(out io.Writer) *report {
	return &report{out: out, packages: map[string]*packageState{}, build: map[string][]string{}}
}

// read consumes the events until the end of r.
func (t *report) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if jsonErr := json.Unmarshal(line, &e); jsonErr != nil {
				_, _ = t.Write(line) // not an event: go itself has something to say
			} else {
				t.handle(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

func (t *report) handle(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Action {
	case "build-output":
		t.build[e.ImportPath] = append(t.build[e.ImportPath], e.Output)
		return
	case "build-fail":
		t.line(strings.Join(t.build[e.ImportPath], "") + "FAIL " + e.ImportPath + " does not build\n")
		return
	}
	p := t.packages[e.Package]
	if p == nil {
		p = &packageState{output: map[string][]string{}, running: map[string]time.Time{}, parents: map[string]bool{}}
		t.packages[e.Package] = p
	}
	if e.Test == "" {
		t.handlePackage(p, e)
		return
	}
	p.handleTest(e)
	if e.Elapsed >= slowSeconds && !p.parents[e.Test] {
		t.slow = append(t.slow, slowTest{shortPackage(e.Package) + " " + e.Test, e.Elapsed})
	}
}

// shortPackage is the last element of a package's path.
func shortPackage(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// handleTest follows one test. A test with subtests stands for them in the output,
// but only the subtests are counted.
func (p *packageState) handleTest(e event) {
	parent := ""
	if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
		parent = e.Test[:i]
	}
	switch e.Action {
	case "run":
		p.running[e.Test] = time.Now()
		if parent != "" {
			p.parents[parent] = true
		}
	case "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case "pass", "fail", "skip":
		delete(p.running, e.Test)
		switch {
		case e.Action == "skip":
			p.skipped++
		case e.Action == "fail" && (!p.parents[e.Test] || !p.hasFailedChild(e.Test)):
			p.failed = append(p.failed, e.Test)
		case e.Action == "pass" && !p.parents[e.Test]:
			p.passed++
		}
		if e.Action == "pass" {
			delete(p.output, e.Test)
		}
	}
}

// hasFailedChild tells whether a failed subtest already stands for the test.
func (p *packageState) hasFailedChild(test string) bool {
	return slices.ContainsFunc(p.failed, func(f string) bool { return strings.HasPrefix(f, test+"/") })
}

// handlePackage follows the package itself. Its end is the time to tell.
func (t *report) handlePackage(p *packageState, e event) {
	switch e.Action {
	case "output":
		p.output[""] = append(p.output[""], e.Output)
	case "fail":
		// Tests that were running when the binary ended (panic, timeout) have no end
		// of their own; without any, the package itself counts as one failure.
		for test := range p.running {
			if !p.parents[test] {
				p.failed = append(p.failed, test)
			}
		}
		if len(p.failed) == 0 {
			p.failed = append(p.failed, "(the package)")
		}
		t.line(p.failureText())
		t.line(fmt.Sprintf("FAIL %s  %.1f s, %d passed, %d failed: %s\n",
			e.Package, e.Elapsed, p.passed, len(p.failed), strings.Join(p.failed, ", ")))
		t.finish(e.Package, p)
	case "pass":
		t.line(fmt.Sprintf("ok   %s  %.1f s, %d passed\n", e.Package, e.Elapsed, p.passed))
		t.finish(e.Package, p)
	case "skip": // no test files
		t.finish(e.Package, p)
	}
}

// failureText is the output of the package and of its tests that did not pass.
func (p *packageState) failureText() string {
	var text strings.Builder
	for _, test := range slices.Sorted(maps.Keys(p.output)) {
		if test != "" {
			text.WriteString("--- output of " + test + "\n")
		}
		for _, line := range p.output[test] {
			if !strings.HasPrefix(line, "=== ") {
				text.WriteString(line)
			}
		}
	}
	return text.String()
}

func (t *report) finish(name string, p *packageState) {
	t.passed += p.passed
	t.failed += len(p.failed)
	t.skipped += p.skipped
	delete(t.packages, name)
}

// close prints the closing line and says whether the run was good. waitErr is how
// go test itself ended.
func (t *report) close(waitErr error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, p := range t.packages { // ended without a word: killed
		t.handlePackage(p, event{Action: "fail", Package: name})
	}
	slices.SortFunc(t.slow, func(a, b slowTest) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, slow := range t.slow[:min(slowNamed, len(t.slow))] {
		t.line(fmt.Sprintf("slow %6.1f s  %s\n", slow.seconds, slow.name))
	}
	if t.skipped > 0 {
		t.line(fmt.Sprintf("%d skipped\n", t.skipped))
	}
	if waitErr != nil && t.failed == 0 {
		t.failed = 1 // go test failed in a way that no package tells
	}
	t.line(fmt.Sprintf("%d passed, %d failed\n", t.passed, t.failed))
	switch {
	case t.failed > 0:
		return errors.Join(errors.New("tests failed"), waitErr)
	case t.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// reportProgress says now and then which tests run: every second on a terminal, in
// a line that is overwritten; every minute in a log. The returned function ends it.
func (t *report) reportProgress(terminal bool) (stop func()) {
	interval := time.Minute
	if terminal {
		interval = time.Second
	}
	ticker := time.NewTicker(interval)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case now := <-ticker.C:
				t.mu.Lock()
				t.progress(terminal, now)
				t.mu.Unlock()
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (t *report) progress(terminal bool, now time.Time) {
	passed, failed := t.passed, t.failed
	var running []string
	for name, p := range t.packages {
		passed, failed = passed+p.passed, failed+len(p.failed)
		for test, since := range p.running {
			if !p.parents[test] {
				running = append(running, fmt.Sprintf("%s %s (%.0f s)", shortPackage(name), test, now.Sub(since).Seconds()))
			}
		}
	}
	slices.Sort(running)
	if len(running) == 0 {
		running = []string{"none, compiling"}
	}
	text := fmt.Sprintf("%d passed, %d failed so far; running: %s", passed, failed, strings.Join(running, ", "))
	if !terminal {
		t.line(text + "\n")
		return
	}
	const width = 110 // longer lines would wrap and could not be overwritten
	if len(text) > width {
		text = text[:width]
	}
	fmt.Fprintf(t.out, "\r%-*s", t.status, text)
	t.status = len(text)
}

// Write prints what go says outside the events.
func (t *report) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(string(text))
	return len(text), nil
}

// line prints whole lines, first wiping the status line. The caller holds mu.
func (t *report) line(text string) {
	if t.status > 0 {
		fmt.Fprintf(t.out, "\r%*s\r", t.status, "")
		t.status = 0
	}
	fmt.Fprint(t.out, text)
}
