package harness

import (
	"testing"

	"go.uber.org/goleak"
)

// NoLeak calls f and fails the test when a goroutine started meanwhile is left.
func (p *Pair) NoLeak(t *testing.T, f func()) {
	t.Helper()
	// The pair's own connections have goroutines, and come and go.
	p.CloseIdle()
	before := goleak.IgnoreCurrent()
	f()
	p.CloseIdle()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// CloseIdle closes the pair's own connections that nobody uses.
func (p *Pair) CloseIdle() {
	const usual = 2 // database/sql's own default
	p.SourceDB.SetMaxIdleConns(-1)
	p.TargetDB.SetMaxIdleConns(-1)
	p.SourceDB.SetMaxIdleConns(usual)
	p.TargetDB.SetMaxIdleConns(usual)
}
