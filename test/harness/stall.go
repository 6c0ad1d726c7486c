package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Stall is a transaction that is in the source's binary log, hence streamed, and not yet
// visible on the source: it waits for a semi-synchronous replica that does not exist.
type Stall struct {
	p    *Pair
	done chan error
}

// semiSync returns the prefix of the variables: the flavours differ in their words.
func (p *Pair) semiSync() (prefix, noReplica string) {
	if p.IsMariaDB() {
		return "rpl_semi_sync_master_", "wait_no_slave"
	}
	return "rpl_semi_sync_source_", "wait_no_replica"
}

// Stall runs statements as one transaction on the source and returns when they are in
// its log. Until Release every other commit on the source waits, too.
func (p *Pair) Stall(t *testing.T, schema string, statements ...string) *Stall {
	t.Helper()
	prefix, noReplica := p.semiSync()
	set := "SET GLOBAL " + prefix
	p.In(t, p.SourceDB, "",
		set+"wait_point='AFTER_SYNC'", set+noReplica+"=ON",
		// The first commit after the very first ON does not wait (MySQL 9.7).
		set+"timeout=1", set+"enabled=ON", "DROP DATABASE IF EXISTS _nobody", set+"enabled=OFF",
		set+"timeout=600000", set+"enabled=ON")
	before := p.LogEnd(t)
	s := &Stall{p: p, done: make(chan error, 1)}
	go func() {
		s.done <- p.TryIn(context.Background(), p.SourceDB, schema, append(append([]string{"BEGIN"}, statements...), "COMMIT")...)
	}()
	t.Cleanup(func() { p.endStall() })
	Await(t, "the transaction is in the log", func() bool {
		select {
		case err := <-s.done:
			t.Fatalf("the transaction did not stall: %v", err)
		default:
		}
		return p.LogEnd(t) != before
	})
	return s
}

func (p *Pair) endStall() {
	prefix, _ := p.semiSync()
	_, _ = p.SourceDB.Exec("SET GLOBAL " + prefix + "enabled=OFF")
}

// Release lets the transaction become visible and returns when it is.
func (s *Stall) Release() error {
	s.p.endStall()
	return <-s.done
}

// LogEnd returns the end of the source's log as file:position.
func (p *Pair) LogEnd(t *testing.T) string {
	t.Helper()
	file, pos, err := p.SourceLogEnd(t.Context())
	if err != nil {
		t.Fatalf("the end of the source's log: %v", err)
	}
	return fmt.Sprintf("%s:%d", file, pos)
}

// Await returns when the condition holds, and fails the test when it does not within a
// minute. What is waited for happens in a server, which gives no signal.
func Await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting until %s: %v", what, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// AwaitBlockedRead returns when a read of the mover waits on the source for a stalled
// transaction: for its GTID, for its row locks, or by opening one snapshot after the other.
func (p *Pair) AwaitBlockedRead(t *testing.T) {
	t.Helper()
	if p.IsMariaDB() {
		begun := p.begun(t)
		Await(t, "the mover has opened snapshots", func() bool { return p.begun(t) > begun+5 })
		return
	}
	waits := "WAIT_FOR_EXECUTED_GTID_SET"
	if !p.GTID {
		waits = "FOR SHARE"
	}
	Await(t, "a read of the mover waits", func() bool {
		list, err := Processes(t.Context(), p.SourceDB)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(one Process) bool { return strings.Contains(one.Info, waits) })
	})
}

// RowLockAwaited reports whether a statement on the source, a MySQL, waits for a row that another
// transaction has locked.
func (p *Pair) RowLockAwaited(t *testing.T) bool {
	t.Helper()
	return Count(t, p.SourceDB, "performance_schema.global_status WHERE VARIABLE_NAME='Innodb_row_lock_current_waits' AND VARIABLE_VALUE>0") > 0
}

func (p *Pair) begun(t *testing.T) (n int) {
	t.Helper()
	var name string
	if err := p.SourceDB.QueryRow("SHOW GLOBAL STATUS LIKE 'Com_begin'").Scan(&name, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
