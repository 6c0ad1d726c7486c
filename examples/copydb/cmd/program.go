package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// endTimeout is how long an interrupted process has to end in order.
const endTimeout = 4500 * time.Millisecond

// switchTimeout is how long it has when the application is being sent to the target: what
// the library gives CutoverUnlock and the records of it.
const switchTimeout = time.Minute

// program is one run of the command.
type program struct {
	options        options
	stdout, stderr *os.File
	logger         *logrus.Logger

	keyboard   atomic.Pointer[keyboard] // nil: no single keys; set by watch
	confirming atomic.Bool              // the next key answers whether to cut over
	unattended atomic.Bool              // standard input has ended: no word comes any more

	ferry atomic.Pointer[copydb.CopydbFerry] // nil: there is none yet

	last sync.Once       // the last line is printed once
	quit func(why error) // interrupts the move
}

// catchSignals returns a context that SIGINT and SIGTERM end. A second signal, or too
// long a wait after the first, ends the process: what is on the target is consistent
// at any instant. While the application is being sent to the target it is waited for: nobody
// else can say where it writes.
func (p *program) catchSignals() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	p.quit = cancel
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		select {
		case got := <-signals:
			if p.live(p.stderr) {
				fmt.Fprint(p.stderr, "\r") // over the ^C that the terminal shows
			}
			cancel(fmt.Errorf("received %s: %w", got, ghostferry.ErrInterrupted))
			p.logger.Warnf("received %s, stopping; once more ends the process at once", got)
		case <-ended:
			return
		}
		select {
		case <-signals:
		case <-time.After(endTimeout):
		case <-ended:
			return
		}
		ferry := p.ferry.Load()
		if ferry != nil && ferry.Switching() {
			p.logger.Warn("the application is being sent to the target: the process ends when that is known")
			select {
			case <-time.After(switchTimeout):
			case <-ended:
				return
			}
		}
		if k := p.keyboard.Load(); k != nil {
			k.restore()
		}
		result := copydb.Result{Outcome: copydb.Interrupted, Err: context.Cause(ctx)}
		if ferry != nil {
			result = ferry.ResultNow(context.Cause(ctx))
		}
		os.Exit(p.finish(result))
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(ended)
		cancel(nil)
	}
}

// finish prints the last line and returns the exit status.
func (p *program) finish(result copydb.Result) int {
	p.last.Do(func() {
		if result.Outcome == copydb.Refused { // other errors stand in the log
			fmt.Fprintf(p.stderr, "copydb: %s\n", message(result.Err))
		}
		if hint := hint(result); hint != "" && (p.options.json || result.Outcome != copydb.Interrupted) {
			fmt.Fprintf(p.stderr, "copydb: %s\n", hint)
		}
		if !p.options.json {
			fmt.Fprintln(p.stdout, result)
			return
		}
		line, err := json.Marshal(result)
		if err != nil { // unreachable: the result holds numbers and text
			line = fmt.Appendf(nil, `{"result":%q,"error":%q}`, result.Outcome, err)
		}
		fmt.Fprintf(p.stdout, "%s\n", line)
	})
	return result.Outcome.ExitStatus()
}

// message lists joined errors line by line.
func message(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", "\n        ")
}

// hint says how to go on.
func hint(result copydb.Result) string {
	switch {
	case takenOver(result.Err) && !mayBeOnTarget(result.Err):
		return "another process makes this move now, and its last line says how the move ends: let it finish. Before it has ended do not run this again, least of all with -restart, which takes the move from it and empties the tables"
	case result.Outcome == copydb.Refused:
		if refused, ok := errors.AsType[*copydb.RefusedError](result.Err); ok && refused.Resuming {
			return "this process wrote nothing to the target, where the rows of an earlier run still are"
		}
		return "this process wrote nothing to the target"
	case mayBeOnTarget(result.Err):
		return "look where the application writes. Before that is known do not run this again, nor with -restart: it would overwrite or remove what the application has written to the target"
	case result.Outcome == copydb.Interrupted, result.Outcome == copydb.Failed && ghostferry.Resumable(result.Err):
		return "the same command goes on from here"
	case isOwed(result.Err):
		return "put the named rows of the target in order, then the same command goes on; begin anew with -restart, which empties the tables there, only if the source's log lacks changes"
	case result.Outcome == copydb.Failed, result.Outcome == copydb.Different:
		return "the target's rows cannot be built upon: find the reason, and make sure that the application does not write to the target, then begin anew with -restart, which empties the tables there"
	}
	return ""
}

// takenOver says that another process of the move goes on with it.
func takenOver(err error) bool {
	_, fenced := errors.AsType[*ghostferry.FencedError](err)
	_, begun := errors.AsType[*ghostferry.RunBegunError](err)
	return fenced || begun
}

// isOwed says that other rows of the target keep rows of the source out.
func isOwed(err error) bool {
	_, owed := errors.AsType[*ghostferry.DebtError](err)
	return owed
}

// mayBeOnTarget says that the application may write to the target: because it was sent there, or
// because somebody has written there.
func mayBeOnTarget(err error) bool {
	if e, ok := errors.AsType[*ghostferry.CutoverError](err); ok && e.Traffic != ghostferry.TrafficOnSource {
		return true
	}
	if e, ok := errors.AsType[*ghostferry.LateWriteError](err); ok && e.Switched {
		return true
	}
	_, foreign := errors.AsType[*ghostferry.ForeignWriteError](err)
	return foreign
}

// watch shows how far the move is until stop is called: on a terminal as a block of
// lines below the log, otherwise as log lines. It also takes the word for the cutover.
func (p *program) watch(ferry *copydb.CopydbFerry, stdin io.Reader) (stop func()) {
	var v view = &plainView{logger: p.logger}
	if p.live(p.stderr) {
		live := newLiveView(p.stderr)
		if p.live(stdin) {
			if k := takeKeyboard(stdin.(*os.File)); k != nil { //nolint:errcheck,forcetypeassert // only a file is a terminal
				p.keyboard.Store(k)
				live.keys = p.keyLine
			}
		}
		live.start()
		p.logger.SetOutput(live)
		v = live
	}
	if p.keyboard.Load() != nil {
		go p.listenKeys(stdin, ferry)
	} else {
		go p.listen(stdin, ferry)
	}

	m := &meter{began: time.Now()}
	prompt := !ferry.Ferry.AutomaticCutover
	show := func() {
		s := m.read(time.Now(), ferry.Phase(), ferry.Ferry.Overview(), ferry.Ferry.Progress().Tables)
		if prompt && s.phase == ghostferry.StateWaitingForCutover {
			prompt = false
			p.logger.Warnf("the rows are copied; %s to switch over", p.cutOverBy(ferry.Ferry))
		}
		v.show(s)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(viewInterval)
		defer ticker.Stop()
		for {
			if m.due(time.Now()) {
				show()
			}
			select {
			case <-ticker.C:
			case <-quit:
				show() // how it ended
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		v.close()
		if k := p.keyboard.Load(); k != nil {
			k.restore()
		}
		p.logger.SetOutput(p.stderr)
	}
}

// live says whether a stream belongs to a terminal that shows the view.
func (p *program) live(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && term.IsTerminal(int(p.stderr.Fd()))
}

// listen takes the words on standard input: "cutover", "hold", "pause", "resume", "verify",
// "quit", or their first letters. The end of standard input means nothing: the program may have
// been started without one.
func (p *program) listen(stdin io.Reader, ferry *copydb.CopydbFerry) {
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		if p.live(stdin) {
			fmt.Fprint(p.stderr, "\x1b[A") // back to where the view has left the cursor
		}
		p.obey(strings.TrimSpace(lines.Text()), ferry.Ferry)
	}
	if ferry.Ferry.AutomaticCutover || ferry.Ferry.CutoverAllowed() {
		return
	}
	p.unattended.Store(true)
	reason := lines.Err()
	if reason == nil {
		reason = errors.New("standard input has ended")
	}
	p.logger.Warnf("%v; %s to switch over when the rows are copied", reason, p.cutOverBy(ferry.Ferry))
}

// cutOverBy says how the cutover is started.
func (p *program) cutOverBy(ferry *ghostferry.Ferry) string {
	order := "copydb cutover " + p.options.config
	switch {
	case p.keyboard.Load() != nil:
		return "press c"
	case !p.unattended.Load():
		return `type "cutover" and Enter`
	case ferry.ControlServer != nil:
		return "run " + order + ", or use the page of the control server,"
	}
	return "interrupt, set AutomaticCutover, or ControlServerConfig.Enabled for " + order + ", and run the same command"
}

// obey does what a word says.
func (p *program) obey(word string, ferry *ghostferry.Ferry) {
	switch word {
	case "":
	case "cutover", "c":
		p.logger.Info("cutover asked for")
		ferry.AllowCutover()
	case "hold", "h":
		if ferry.DenyCutover() {
			p.logger.Info("the cutover is held back until it is asked for again")
		} else {
			p.logger.Warn("the cutover is under way and cannot be held back any more: only an interruption gives it up, as long as the application is not being sent to the target")
		}
	case "pause", "p":
		p.logger.Info("paused")
		ferry.Throttler.SetPaused(true)
	case "resume", "r":
		p.logger.Info("the pause is over")
		ferry.Throttler.SetPaused(false)
	case "verify", "v":
		p.verify(ferry)
	case "quit", "q":
		p.quit(fmt.Errorf("quit was asked for: %w", ghostferry.ErrInterrupted))
	default:
		p.logger.Warnf(`%q means nothing here; "cutover" starts the switch-over, "hold" takes that back, and there are "pause", "resume", "verify" and "quit"`, word)
	}
}

func (p *program) verify(ferry *ghostferry.Ferry) {
	state := ferry.OverallState.Load()
	switch {
	case ferry.Verifier == nil:
		p.logger.Warn("this move has no verifier")
	case state == ghostferry.StateStarting, state == ghostferry.StateCopying:
		p.logger.Warn("a verification can begin when the rows are copied")
	default:
		if err := ferry.Verifier.StartInBackground(); err != nil {
			p.logger.WithError(err).Warn("no verification was started")
			return
		}
		p.logger.Info("a verification was started")
	}
}
