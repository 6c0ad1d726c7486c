package main

import (
	"io"
	"os"
	"os/signal"
	"sync"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// keyHelp are the keys of a move on a terminal, in the order of the line that shows them.
var keyHelp = []struct{ key, word, what string }{
	{"p", "pause", "copy and apply stand still until r"},
	{"r", "resume", "the pause is over"},
	{"c", "cut over", "lets the switch-over begin when the rows are copied; asks first"},
	{"h", "hold", "takes that back, until the writers are being stopped"},
	{"v", "verify", "starts a verification, when the rows are copied"},
	{"q", "quit", "ends this process; the same command goes on"},
	{"?", "help", "this list"},
}

const (
	keysLine    = "p pause  r resume  c cut over  h hold  v verify  q quit  ? help"
	confirmLine = "cut over as soon as the rows are copied? y: yes, any other key: no"
)

// keyboard takes single keys from a terminal, which for that does not wait for the end of a
// line. Restore puts it back.
type keyboard struct {
	terminal *os.File
	restore  func() // idempotent
}

// takeKeyboard returns nil where there is no terminal to take, or it is not ours now.
func takeKeyboard(terminal *os.File) *keyboard {
	undo, err := singleKeys(terminal)
	if err != nil {
		return nil
	}
	k := &keyboard{terminal: terminal}
	// A shell that has stopped us may have changed the terminal's mode.
	continued := make(chan os.Signal, 1)
	notifyContinued(continued)
	ended := make(chan struct{})
	var mu sync.Mutex // of the terminal's mode
	go func() {
		for {
			select {
			case <-continued:
				mu.Lock()
				select {
				case <-ended:
				default:
					_, _ = singleKeys(terminal) // if that fails, keys need Enter from now on
				}
				mu.Unlock()
			case <-ended:
				return
			}
		}
	}()
	k.restore = sync.OnceFunc(func() {
		signal.Stop(continued)
		mu.Lock()
		defer mu.Unlock()
		close(ended)
		undo()
	})
	return k
}

// listenKeys obeys keys until the terminal ends.
func (p *program) listenKeys(terminal io.Reader, ferry *copydb.CopydbFerry) {
	var buf [64]byte
	for {
		n, err := terminal.Read(buf[:])
		if err != nil {
			return
		}
		// More at once is what was pasted, or a key with a name: it might hold any letter.
		if n == 1 {
			p.press(buf[0], ferry)
		}
	}
}

// press does what a key says.
func (p *program) press(key byte, ferry *copydb.CopydbFerry) {
	asked := p.confirming.Swap(false)
	switch {
	case asked && (key == 'y' || key == 'Y'):
		p.obey("cutover", ferry.Ferry)
	case asked && key != 'h': // which takes back one that was asked for before
		p.logger.Info("no cutover")
	case key == 'c':
		p.confirming.Store(true)
	case key == '?':
		for _, k := range keyHelp {
			p.logger.Infof("%s  %-8s  %s", k.key, k.word, k.what)
		}
	case key == 'p', key == 'r', key == 'h', key == 'v', key == 'q':
		p.obey(string(key), ferry.Ferry)
	}
}

// keyLine is the line below the view.
func (p *program) keyLine() string {
	if p.confirming.Load() {
		return confirmLine
	}
	return keysLine
}
