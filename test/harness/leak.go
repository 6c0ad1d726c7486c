package harness

import (
	"testing"

	"go.uber.org/goleak"
)

// NoLeak calls f and fails the test when a goroutine started meanwhile is left.
func (p *Pair) NoLeak(t *testing.T, f func()) {
	t.Helper()
	// The pair's own connections have goroutines, and come and go.
	p.closeIdle()
	before := goleak.IgnoreCurrent()
	f()
	p.closeIdle()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func (p *Pair) closeIdle() {
	const usual = 2 // database/sql's own default
	p.SourceDB.SetMaxIdleConns(-1)
	p.TargetDB.SetMaxIdleConns(-1)
	p.SourceDB.SetMaxIdleConns(usual)
	p.TargetDB.SetMaxIdleConns(usual)
}
