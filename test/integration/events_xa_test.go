package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// xaGroup is an XA transaction up to its PREPARE.
func xaGroup(xid string, changes ...string) []string {
	return append(append([]string{"XA START " + xid}, changes...), "XA END "+xid, "XA PREPARE "+xid)
}

// rollbackPrepared ends what a test that failed has left: it would block the next.
func rollbackPrepared(t *testing.T, p *harness.Pair) {
	t.Helper()
	for _, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
		rows, err := db.QueryContext(t.Context(), "XA RECOVER")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		var statements []string
		for rows.Next() {
			var format, gtrid, bqual int
			var data string
			if err := rows.Scan(&format, &gtrid, &bqual, &data); err != nil {
				t.Fatal(err)
			}
			statements = append(statements, fmt.Sprintf("XA ROLLBACK X'%x',X'%x',%d", data[:gtrid], data[gtrid:gtrid+bqual], format))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		p.In(t, db, "", statements...)
	}
}

// marker returns when everything logged so far is on the target.
func (r *following) marker(id int) {
	r.t.Helper()
	r.p.In(r.t, r.p.SourceDB, eventSchema, fmt.Sprintf("INSERT INTO moved (id) VALUES (%d)", id))
	r.arrives(id)
}

// target returns what a query finds there.
func (r *following) target(query string) string {
	r.t.Helper()
	return strings.Join(harness.Rows(r.t, r.p.TargetDB, query), "")
}

// The rows of an XA transaction reach the target when it is committed, by whatever
// session and in whatever file, and never when it is rolled back.
func TestXA(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		r := follow(t, p)
		in := func(statements ...string) {
			t.Helper()
			p.In(t, p.SourceDB, eventSchema, statements...)
		}
		before := "SELECT id, v, name FROM refused.moved WHERE id < 900 ORDER BY id"
		rows := r.target(before)

		in(xaGroup("'a','b',7", "UPDATE moved SET v=50 WHERE id=1", "INSERT INTO moved (id,name) VALUES (20,'x'),(21,'y')")...)
		in(xaGroup("'c'", "UPDATE moved SET id=30 WHERE id=2", "DELETE FROM moved WHERE id=1000")...)
		in("FLUSH BINARY LOGS")
		in(xaGroup("'elsewhere'", "INSERT INTO spare (id) VALUES (98)")...)
		in(append(xaGroup("'empty'", "DO 1"), "XA COMMIT 'empty'")...)
		in(append(xaGroup("'gone'", "INSERT INTO moved (id) VALUES (22)"), "XA ROLLBACK 'gone'")...)
		in("XA START 'never'", "INSERT INTO moved (id) VALUES (23)", "XA END 'never'", "XA ROLLBACK 'never'")
		in(xaGroup("'late'", "INSERT INTO moved (id) VALUES (24)")...)
		r.marker(1001)
		if got := r.target(before); got != rows {
			t.Errorf("prepared changes are on the target: %s", got)
		}
		in("XA COMMIT 'a','b',7", "XA ROLLBACK 'late'", "XA COMMIT 'c'", "XA COMMIT 'elsewhere'")
		in("XA START 'once'", "INSERT INTO moved (id,v) VALUES (40,1)", "UPDATE moved SET v=2 WHERE id=40", "XA END 'once'", "XA COMMIT 'once' ONE PHASE")
		// The same name again, and rows that the first one changed.
		in(append(xaGroup("'c'", "UPDATE moved SET v=v+1 WHERE id IN (1,30)", "SAVEPOINT s", "DELETE FROM moved", "ROLLBACK TO s"), "XA COMMIT 'c'")...)
		r.marker(1002)
		if got := r.target(before); got == rows || strings.Contains(got, `"22"|`) || strings.Contains(got, `"24"|`) {
			t.Errorf("the target has %s", got)
		}
		r.mustGoOn()
		mustHaveEqualRows(t, p, eventSchema+".moved")
	})
}

// XA transactions whose rows are too many to keep are read from the log again, and
// compressed ones are unwrapped.
func TestLargeXA(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		r := follow(t, p)
		large := func(first int) string {
			return fmt.Sprintf("INSERT INTO moved (id,b) WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 199) SELECT %d+i, REPEAT(CHAR(65+i%%20),60000) FROM n", first)
		}
		compressed := "SET SESSION binlog_transaction_compression=ON"
		if p.IsMariaDB() {
			compressed = "SET GLOBAL log_bin_compress=ON"
			defer p.In(t, p.SourceDB, "", "SET GLOBAL log_bin_compress=OFF")
		}
		p.In(t, p.SourceDB, eventSchema, xaGroup("'big'", large(3100), "UPDATE moved SET v=4 WHERE id=1", "INSERT INTO spare (id) VALUES (96)")...)
		p.In(t, p.SourceDB, "", "FLUSH BINARY LOGS")
		p.In(t, p.SourceDB, eventSchema, append([]string{compressed}, xaGroup("'packed'", large(3400), "UPDATE moved SET v=5 WHERE id=2")...)...)
		p.In(t, p.SourceDB, eventSchema, xaGroup("'small'", "INSERT INTO moved (id) VALUES (3999)")...)
		r.marker(1001)
		if n := harness.Count(t, p.TargetDB, eventSchema+".moved WHERE id >= 3000"); n != 0 {
			t.Errorf("%d prepared rows are on the target", n)
		}
		p.In(t, p.SourceDB, eventSchema, "XA COMMIT 'packed'", "XA COMMIT 'big'", "UPDATE moved SET v=6 WHERE id=3150", "XA COMMIT 'small'")
		once := []string{"XA START 'once'", large(3700), "XA END 'once'", "XA COMMIT 'once' ONE PHASE"}
		p.In(t, p.SourceDB, eventSchema, once...)
		r.mustGoOn()
		mustHaveEqualRows(t, p, eventSchema+".moved")
	})
}

// interrupt ends a run that follows, and returns its state.
func (r *following) interrupt() string {
	r.t.Helper()
	r.stop()
	mustBeInterrupted(r.t, <-r.ran)
	state, err := r.f.SerializeStateToJSON()
	if err != nil {
		r.t.Fatal(err)
	}
	return state
}

// again goes on from the checkpoint, or from a state when one is given.
func (r *following) again(state string) *following {
	r.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(stop)
	next := &following{t: r.t, p: r.p, f: r.next(state), ran: make(chan error, 1), stop: stop}
	mustStart(r.t, ctx, next.f)
	if !next.f.Resuming() {
		r.t.Fatal("the run does not resume")
	}
	go func() { next.ran <- next.f.RunContext(ctx) }()
	return next
}

// next is the Ferry of the next process of the run.
func (r *following) next(state string) *ghostferry.Ferry {
	r.t.Helper()
	c := r.p.Config(eventSchema)
	c.TableFilter, c.AutomaticCutover, c.VerifierType = r.f.TableFilter, false, ""
	if state != "" {
		c.Checkpoint = "off"
		c.StateToResumeFrom = new(ghostferry.SerializableState)
		if err := c.StateToResumeFrom.UnmarshalJSON([]byte(state)); err != nil {
			r.t.Fatal(err)
		}
	}
	return &ghostferry.Ferry{Config: c}
}

// A run that is interrupted between PREPARE and decision finds the prepared rows again,
// also where transactions overlap, and again when it is interrupted once more.
func TestXAAcrossResume(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		for _, from := range []string{"checkpoint", "state"} {
			t.Run(from, func(t *testing.T) {
				r := follow(t, p)
				in := func(statements ...string) {
					t.Helper()
					p.In(t, p.SourceDB, eventSchema, statements...)
				}
				next := func() {
					t.Helper()
					state := r.interrupt()
					if from == "checkpoint" {
						state = ""
					}
					r = r.again(state)
				}
				// a is committed while b, which began later, is not.
				in(xaGroup("'a'", "INSERT INTO moved (id,v) VALUES (20,1)", "UPDATE moved SET v=10 WHERE id=1")...)
				in("INSERT INTO moved (id,v) VALUES (50,1)")
				in(xaGroup("'b'", "INSERT INTO moved (id) VALUES (21)", "UPDATE moved SET id=25 WHERE id=2")...)
				in(xaGroup("'c'", "INSERT INTO moved (id) VALUES (22)")...)
				in(xaGroup("'spare'", "INSERT INTO spare (id) VALUES (95)")...)
				in("XA COMMIT 'a'", "UPDATE moved SET v=v+1 WHERE id=20", "UPDATE moved SET v=v+1 WHERE id=50", "FLUSH BINARY LOGS")
				r.marker(1001)
				next()
				in("UPDATE moved SET v=v+1 WHERE id=20", "XA COMMIT 'spare'")
				r.marker(1002)
				if n := harness.Count(t, p.TargetDB, eventSchema+".moved WHERE id IN (21,22,25)"); n != 0 {
					t.Errorf("%d prepared rows are on the target", n)
				}
				in(xaGroup("'d'", "INSERT INTO moved (id) VALUES (23)")...)
				in("XA COMMIT 'b'")
				r.marker(1003)
				next()
				in("XA ROLLBACK 'c'")
				in("XA COMMIT 'd'", "UPDATE moved SET v=7 WHERE id IN (21,23,25)")
				r.marker(1004)
				next()
				r.mustGoOn()
				mustHaveEqualRows(t, p, eventSchema+".moved")
			})
		}
	})
}

// At the stop position no transaction with changes of moved tables may be prepared: its
// COMMIT would come after the target has taken over.
func TestXAPreparedAtCutover(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		r := follow(t, p)
		p.In(t, p.SourceDB, eventSchema, xaGroup("'open'", "UPDATE moved SET v=8 WHERE id=1")...)
		p.In(t, p.SourceDB, eventSchema, xaGroup("'spare'", "INSERT INTO spare (id) VALUES (94)")...)
		r.f.AllowCutover()
		if err := r.f.WaitUntilRowCopyIsCompleteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.f.FlushBinlogAndStopStreamingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := <-r.ran
		var undecided *ghostferry.PreparedTransactionsError
		if !errors.As(err, &undecided) || !ghostferry.Resumable(err) || len(undecided.XIDs) != 1 || undecided.XIDs[0] != "X'6f70656e',X'',1" ||
			len(undecided.Tables) != 1 || undecided.Tables[0] != eventSchema+".moved" || undecided.Coordinate != r.f.StopCoordinate() {
			t.Fatalf("the run ended with %v", err)
		}
		p.In(t, p.SourceDB, eventSchema, "XA COMMIT 'open'")
		r = r.again("")
		r.mustGoOn()
		mustHaveEqualRows(t, p, eventSchema+".moved")
		p.In(t, p.SourceDB, eventSchema, "XA COMMIT 'spare'")
		if err := r.f.CheckLateWrites(t.Context()); err == nil || errors.As(err, new(*ghostferry.LateWriteError)) {
			t.Log(err) // the connections are closed; what counts is that spare is not ours
		}
	})
}

// A start waits for transactions that are prepared, and refuses when they stay so.
func TestXAPreparedBeforeTheStart(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		rollbackPrepared(t, p)
		p.Create(t, "xa_start", "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "xa_start", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		p.In(t, p.SourceDB, "xa_start", xaGroup("'early'", "UPDATE t SET v=20 WHERE id=2", "INSERT INTO t VALUES (4,4)", "DELETE FROM t WHERE id=3")...)
		f := &ghostferry.Ferry{Config: p.Config("xa_start")}
		if err := f.InitializeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !p.GTID { // the refusal takes seconds: once is enough
			err := f.StartContext(t.Context())
			var undecided *ghostferry.PreparedTransactionsError
			if !errors.As(err, &undecided) || len(undecided.XIDs) != 1 || !strings.Contains(err.Error(), "X'6561726c79',X'',1") {
				t.Fatalf("the start ended with %v", err)
			}
		} // and may be called again
		var committed error
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(200 * time.Millisecond) // the start waits meanwhile
			committed = p.TryIn(context.WithoutCancel(t.Context()), p.SourceDB, "", "XA COMMIT 'early'")
		})
		if err := f.StartContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if committed != nil {
			t.Fatal(committed)
		}
		if err := harness.RunStarted(t.Context(), f, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		mustHaveEqualRows(t, p, "xa_start.t")
	})
}

// A COMMIT whose rows the stream, or the watch on the target, has not seen ends the run, unless
// nothing was read yet.
func TestXACommitOfUnknownRows(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	const unseeing = "A long pass word, 7!"
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			rollbackPrepared(t, p)
			p.Create(t, "xa_unknown", "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v INT)")
			p.In(t, p.SourceDB, "xa_unknown", "INSERT INTO t VALUES (1,1)")
			c := p.Config("xa_unknown")
			db, account := p.SourceDB, c.Source
			if side == "target" {
				db, account = p.TargetDB, c.Target
			}
			p.In(t, db, "xa_unknown", "DROP USER IF EXISTS unseeing", "CREATE USER unseeing IDENTIFIED BY '"+unseeing+"'",
				"GRANT ALL ON *.* TO unseeing", "REVOKE XA_RECOVER_ADMIN ON *.* FROM unseeing")
			p.In(t, db, "xa_unknown", xaGroup("'unseen'", "INSERT INTO t VALUES (2,2)")...)
			account.User, account.Pass = "unseeing", unseeing
			c.AutomaticCutover = false
			f := &ghostferry.Ferry{Config: c}
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			mustStart(t, ctx, f)
			copied := make(chan struct{})
			f.DataIterator.AddDoneListener(func() error { close(copied); return nil })
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(ctx) }()
			<-copied
			p.In(t, db, "", "XA COMMIT 'unseen'")
			var refused *ghostferry.UnsupportedEventError
			if err := <-ran; !errors.As(err, &refused) || !strings.Contains(err.Error(), "X'756e7365656e',X'',1") || !strings.Contains(err.Error(), "prepared on the "+side) || ghostferry.Resumable(err) {
				t.Fatalf("the run ended with %v", err)
			}
		})
	}
}

// An XA transaction of somebody else on the target is noticed when it is committed, also when the
// process that has seen its rows is gone, and when it is still prepared at the end. One that was
// prepared before the watch began may have changed anything, unless it is committed before the copy.
func TestForeignXAOnTheTarget(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		in := func(statements ...string) {
			t.Helper()
			p.In(t, p.TargetDB, eventSchema, statements...)
		}
		end := func() (end gomysql.Position) {
			t.Helper()
			statement, unused := "SHOW MASTER STATUS", make([]sql.NullString, 2)
			into := []any{&end.Name, &end.Pos, &unused[0], &unused[1]}
			if !p.IsMariaDB() {
				statement, into = "SHOW BINARY LOG STATUS", append(into, new(sql.NullString))
			}
			if err := p.TargetDB.QueryRowContext(t.Context(), statement).Scan(into...); err != nil {
				t.Fatal(err)
			}
			return end
		}
		// prepared is interrupted when the watch has passed three groups, of which one is committed
		// and stands before the place that the others hold back; and goes on, twice.
		prepared := func() *following {
			t.Helper()
			r := follow(t, p)
			in(xaGroup("'done'", "INSERT INTO spare (id) VALUES (94)")...)
			in(xaGroup("'spare'", "INSERT INTO spare (id) VALUES (95)")...)
			in(xaGroup("'foreign'", "UPDATE moved SET v=99 WHERE id=1")...)
			in("XA COMMIT 'done'")
			r.marker(1001)
			passed := end()
			harness.Await(t, "the watch has seen the groups", func() bool {
				return r.f.TargetVerifier.BinlogStreamer.GetLastStreamedBinlogPosition().Compare(passed) >= 0
			})
			r.interrupt()
			r = r.again("")
			r.interrupt()
			r = r.again("")
			in("XA COMMIT 'spare'")
			r.marker(1002)
			return r
		}

		r := prepared()
		in("XA COMMIT 'foreign'")
		select {
		case err := <-r.ran:
			var foreign *ghostferry.ForeignWriteError
			if !errors.As(err, &foreign) || foreign.Key != "1" || foreign.Change != "update" {
				t.Fatalf("the run ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the commit was not noticed")
		}

		r = prepared()
		r.f.AllowCutover()
		if err := r.f.WaitUntilRowCopyIsCompleteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.f.FlushBinlogAndStopStreamingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-r.ran; err != nil {
			t.Fatal(err)
		}
		err := r.f.StopTargetVerifierContext(t.Context())
		var undecided *ghostferry.PreparedTransactionsError
		if !errors.As(err, &undecided) || !undecided.Target || !ghostferry.Resumable(err) || !strings.Contains(err.Error(), "the target has prepared XA transactions (X'666f726569676e',X'',1)") {
			t.Fatalf("the watch ended with %v", err)
		}
		in("XA ROLLBACK 'foreign'")
	})
}

// XA transactions and others change the same rows while a run copies, is interrupted and
// goes on.
func TestXAHistory(t *testing.T) {
	onOneSetting(t, xaHistory)
}

func xaHistory(t *testing.T, p *harness.Pair) {
	const rows = 800
	rollbackPrepared(t, p)
	p.Create(t, "xa_history", "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v INT, u INT NULL, pad VARCHAR(200), UNIQUE KEY (u))", "CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, v INT)")
	for _, table := range []string{"t (id,v,u,pad) SELECT i, 0, i, REPEAT('x',100)", "plain SELECT i, 0"} {
		p.In(t, p.SourceDB, "xa_history", "SET SESSION "+recursionLimit(p)+"=10000", "INSERT INTO "+table+fmt.Sprintf(" FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i FROM n) q", rows))
	}
	writers, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 8)
	for w := range 4 {
		wg.Go(func() {
			if err := xaWriter(writers, p, w, rows); err != nil {
				failed <- err
			}
		})
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	for _, events := range []int{10, 150} {
		f := &ghostferry.Ferry{Config: p.Config("xa_history")}
		f.Config.AutomaticCutover = false
		f.UpdatableConfig.DataIterationBatchSize = 100
		mustStart(t, ctx, f)
		run, interrupt := context.WithCancel(ctx)
		seen := 0
		f.BinlogStreamer.AddEventListener(func(events_ []ghostferry.DMLEvent) error {
			if seen += len(events_); seen > events {
				interrupt()
			}
			return nil
		})
		mustBeInterrupted(t, harness.RunStarted(run, f, nil))
		interrupt()
	}
	f := &ghostferry.Ferry{Config: p.Config("xa_history")}
	f.UpdatableConfig.DataIterationBatchSize = 100
	err := harness.Move(ctx, f, func() error {
		cancel()
		wg.Wait()
		return nil
	})
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p.MustEqual(t, "xa_history")
}

// openXA is a prepared transaction. Its connection is kept on MariaDB, which does not know
// the transaction while it takes it over from a session that ends.
type openXA struct {
	xid  string
	conn *sql.Conn
}

// xaWriter makes XA transactions, some of them side by side, until the context ends;
// then it decides what is left.
func xaWriter(ctx context.Context, p *harness.Pair, w, rows int) error {
	random := rand.New(rand.NewPCG(uint64(w), 7))
	free := context.WithoutCancel(ctx)
	var open []openXA
	decide := func(n int) error {
		for ; len(open) > n; open = open[1:] {
			verb := []string{"COMMIT", "COMMIT", "ROLLBACK"}[random.IntN(3)]
			_, err := open[0].conn.ExecContext(free, "XA "+verb+" "+open[0].xid)
			if err := errors.Join(err, endSession(open[0].conn)); err != nil {
				return err
			}
		}
		return nil
	}
	for n := 0; ctx.Err() == nil; n++ {
		id := func() int { return 4*random.IntN(rows/4) + w + 1 } // rows of its own: others would wait for a prepared lock
		changes := []string{
			fmt.Sprintf("UPDATE t SET v=v+1 WHERE id=%d", id()),
			fmt.Sprintf("UPDATE t SET u=%d WHERE id=%d", 100000+w+4*n, id()),
			fmt.Sprintf("DELETE FROM plain WHERE id=%d", id()),
			fmt.Sprintf("REPLACE INTO plain VALUES (%d,%d)", id(), n),
			fmt.Sprintf("UPDATE plain SET id=%d WHERE id=%d", 4*(rows+n)+w, id()),
		}
		random.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
		changes = changes[:1+random.IntN(3)]
		x := openXA{xid: fmt.Sprintf("'w%d-%d'", w, n)}
		var err error
		if x.conn, err = p.SourceDB.Conn(free); err != nil {
			return err
		}
		plain := random.IntN(3) == 0
		statements := []string{"USE xa_history", "SET SESSION innodb_lock_wait_timeout=1", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"}
		if plain {
			statements = append(append(append(statements, "BEGIN"), changes...), "COMMIT")
		} else {
			statements = append(statements, xaGroup(x.xid, changes...)...)
		}
		for _, stmt := range statements {
			if _, err = x.conn.ExecContext(free, stmt); err != nil {
				break
			}
		}
		if err == nil && !plain && (p.IsMariaDB() || random.IntN(2) == 0) {
			open = append(open, x)
		} else if err2 := endSession(x.conn); err2 != nil {
			return err2
		} else if err == nil && !plain { // decided by another session
			if x.conn, err = p.SourceDB.Conn(free); err != nil {
				return err
			}
			open = append(open, x)
		}
		var refused *mysql.MySQLError
		if err != nil && (!errors.As(err, &refused) || !slices.Contains([]uint16{1205, 1213, 1613, 1614}, refused.Number)) {
			return err
		}
		if err := decide(random.IntN(3)); err != nil {
			return err
		}
	}
	return decide(0)
}

// endSession closes a connection for good.
func endSession(conn *sql.Conn) error {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	if err := conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}
