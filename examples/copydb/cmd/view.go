package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"github.com/sirupsen/logrus"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ghostferry-go/ghostferry"
)

const (
	viewInterval  = 250 * time.Millisecond
	plainInterval = 5 * time.Second

	// maxLiveTables is how many tables have a line; the others share one, so that all fits on a
	// screen of 24 lines.
	maxLiveTables = 10
)

// view shows a status.
type view interface {
	show(status)
	// close leaves the last status on the screen.
	close()
}

// plainView logs a line of totals now and then, and every change of phase at once.
type plainView struct {
	logger logrus.FieldLogger
	next   time.Time
	phase  string
}

func (v *plainView) show(s status) {
	now := time.Now()
	if s.phase == ghostferry.StateStarting || s.phase == v.phase && now.Before(v.next) {
		return
	}
	v.phase, v.next = s.phase, now.Add(plainInterval)
	line := fmt.Sprintf("%s: %s, %s", s.phase, s.rowTotals(), changeTotals(&s.ControlServerOverview))
	for _, f := range facts(&s.ControlServerOverview) {
		line += "; " + f.name + " " + f.text
	}
	v.logger.Info(line)
}

func (v *plainView) close() {}

// liveView keeps a block of lines at the bottom of a terminal; log lines written to it
// appear above.
type liveView struct {
	terminal io.Writer
	keys     func() string // the line below, nil for none; set before start

	screen *mpb.Progress
	bar    *mpb.Bar
	latest atomic.Pointer[status]

	closing atomic.Bool
}

func newLiveView(terminal io.Writer) *liveView {
	v := &liveView{terminal: terminal}
	v.latest.Store(&status{})
	return v
}

// start begins to draw.
func (v *liveView) start() {
	v.screen = mpb.New(mpb.WithOutput(v.terminal), mpb.WithRefreshRate(viewInterval), mpb.WithAutoRefresh())
	last := mpb.BarFillerFunc(func(w io.Writer, at decor.Statistics) error {
		line := v.latest.Load().stateLine()
		if v.keysShown() {
			line = v.keys()
		}
		_, err := io.WriteString(w, fit(line, at.AvailableWidth))
		return err
	})
	above := mpb.BarFillerFunc(func(w io.Writer, at decor.Statistics) error {
		s := v.latest.Load()
		lines := s.lines(at.AvailableWidth)
		if v.keysShown() {
			lines = append(lines, fit(s.stateLine(), at.AvailableWidth))
		}
		for _, line := range slices.Backward(lines) { // above, they are stacked
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				return err
			}
		}
		return nil
	})
	v.bar = v.screen.MustAdd(0, last, mpb.BarExtender(above, true), mpb.BarFillerTrim())
}

// keysShown: there are keys, and they still do something.
func (v *liveView) keysShown() bool { return v.keys != nil && !v.closing.Load() }

func (v *liveView) show(s status) { v.latest.Store(&s) }

func (v *liveView) close() {
	v.closing.Store(true)
	v.bar.Abort(false)
	v.screen.Wait()
}

// Write puts log lines above the block.
func (v *liveView) Write(p []byte) (int, error) { return v.screen.Write(p) }

// stateLine is the last line of the block.
func (s status) stateLine() string {
	if s.phase == ghostferry.StateDone {
		return "done after " + duration(s.elapsed)
	}
	return fmt.Sprintf("%s for %s, running for %s", s.phase, duration(s.inPhase), duration(s.elapsed))
}

// lines are the lines above: tables, the rest of the tables, totals, and the facts beside.
func (s status) lines(width int) []string {
	if len(s.tables) == 0 {
		return nil
	}
	chosen, rest := s.choose()
	names := 0
	for _, table := range chosen {
		names = max(names, runewidth.StringWidth(table.name))
	}
	names = min(names, max(12, width/3))
	var lines []string
	for _, table := range chosen {
		lines = append(lines, fit(table.line(names, width), width))
	}
	if len(rest) > 0 {
		lines = append(lines, fit(restLine(rest), width))
	}
	lines = append(lines, fit(s.rowTotals(), width), fit(changeTotals(&s.ControlServerOverview), width))
	for _, f := range facts(&s.ControlServerOverview) {
		lines = append(lines, wrapped(f.name+": "+f.text, width)...)
	}
	return lines
}

// choose takes the tables that are being copied, then the largest of the others, and
// leaves them in the order of their size, so that lines seldom move.
func (s status) choose() (chosen, rest []tableStatus) {
	order := slices.Clone(s.tables)
	rank := func(t tableStatus) int {
		return slices.Index([]string{ghostferry.TableActionCopying, ghostferry.TableActionWaiting, ghostferry.TableActionCompleted}, t.action)
	}
	slices.SortStableFunc(order, func(a, b tableStatus) int { return rank(a) - rank(b) })
	shown := map[string]bool{}
	for _, table := range order[:min(len(order), maxLiveTables)] {
		shown[table.name] = true
	}
	for _, table := range s.tables {
		if shown[table.name] {
			chosen = append(chosen, table)
		} else {
			rest = append(rest, table)
		}
	}
	return chosen, rest
}

func restLine(rest []tableStatus) string {
	actions := map[string]int{}
	for _, table := range rest {
		actions[table.action]++
	}
	var parts []string
	for _, action := range []string{ghostferry.TableActionCopying, ghostferry.TableActionWaiting, ghostferry.TableActionCompleted} {
		if actions[action] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", actions[action], action))
		}
	}
	return fmt.Sprintf("… %d more: %s", len(rest), strings.Join(parts, ", "))
}

// line is name, bar, percentage, rows and what happens to the table. The bar gives way
// first when the terminal is narrow.
func (t tableStatus) line(names, width int) string {
	name := runewidth.FillRight(runewidth.Truncate(t.name, names, "…"), names)
	done := percent(t.rows, t.estimate)
	rows := count(t.rows)
	switch {
	case t.action == ghostferry.TableActionCompleted:
		done = "100%"
	case t.rows >= t.estimate: // the estimate was too low
		done = "?%"
	default:
		rows += " of about " + count(t.estimate)
	}
	text := fmt.Sprintf("%4s  %s rows, %s", done, rows, t.action)
	const longest = 50 // of the text, so that bars are equally long
	if cells := min(30, width-names-longest-4); cells >= 5 {
		return name + "  " + bar(t, cells) + " " + text
	}
	return name + "  " + text
}

func bar(t tableStatus, cells int) string {
	filled := 0
	switch {
	case t.action == ghostferry.TableActionCompleted:
		filled = cells
	case t.estimate > 0:
		filled = min(cells-1, int(float64(t.rows)*float64(cells)/float64(t.estimate)))
	}
	return strings.Repeat("█", filled) + strings.Repeat("░", cells-filled)
}

// wrapped breaks a text at blanks into the lines of the terminal, two at most: what is cut off is
// in the log, or shown by copydb status.
func wrapped(text string, width int) []string {
	if runewidth.StringWidth(text) <= width {
		return []string{text}
	}
	first := runewidth.Truncate(text, width, "")
	if blank := strings.LastIndexByte(first, ' '); blank > width/2 {
		first = first[:blank]
	}
	return []string{first, fit("  "+strings.TrimSpace(text[len(first):]), width)}
}

// fit cuts a line to the terminal's width.
func fit(line string, width int) string { return runewidth.Truncate(line, width, "…") }

// printable replaces what would move the cursor: names may hold any character.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, text)
}
