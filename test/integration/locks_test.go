package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// collisions counts the errors by which work on the target failed and was repeated.
type collisions struct {
	deadlocks, lockWaits atomic.Int64
	first                sync.Once
	waited               chan struct{} // closed by the first lock wait
}

func (c *collisions) Levels() []logrus.Level { return logrus.AllLevels }

func (c *collisions) Fire(entry *logrus.Entry) error {
	err, _ := entry.Data[logrus.ErrorKey].(error)
	if !strings.Contains(entry.Message, "collided with others") {
		return nil
	}
	switch mysqlerr.Number(err) {
	case 1213:
		c.deadlocks.Add(1)
	case 1205:
		c.lockWaits.Add(1)
		c.first.Do(func() { close(c.waited) })
	}
	return nil
}

// trap makes deadlocks with what the mover writes to a table, and is never their victim: it
// has changed more rows. It locks the last row, waits until somebody waits for that, and
// then takes the rows before.
func trap(ctx context.Context, db *sql.DB, heavy, table string, last int) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		_ = conn.Close()
	}()
	for _, stmt := range []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN",
		"INSERT INTO " + heavy + " WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<400) SELECT id FROM n",
	} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	// Between the two phases of a batch the row is not there, and nothing would be locked.
	for locked := 0; locked == 0; {
		if err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id=%d FOR UPDATE", table, last)).Scan(&locked); err != nil {
			return err
		}
	}
	for waiting := 0; waiting == 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(150 * time.Millisecond): // the server renews the table only when nobody has asked for 100 ms
		}
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state='LOCK WAIT'").Scan(&waiting); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, fmt.Sprintf("SELECT * FROM %s WHERE id<%d FOR UPDATE", table, last))
	return err
}

// F12: a row that the copy is to insert is locked on the target for longer than a lock
// wait, and then deadlocks hit the apply again and again. Each time the whole batch is
// written again: nothing is lost, no change counts twice, and the repetitions are counted.
func TestF12StormOfLockConflicts(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const rows, storm = 40, 6
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		p.Create(t, "lock_storm", "CREATE TABLE t (id INT PRIMARY KEY, v INT, u INT, UNIQUE KEY (u))")
		p.In(t, p.SourceDB, "lock_storm", fmt.Sprintf("INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<%d) SELECT id, 0, id FROM n", rows))
		p.In(t, p.TargetDB, "", "DROP DATABASE IF EXISTS lock_storm_heavy", "CREATE DATABASE lock_storm_heavy", "CREATE TABLE lock_storm_heavy.h (id INT PRIMARY KEY)")
		t.Cleanup(func() { _ = p.TryIn(context.Background(), p.TargetDB, "", "DROP DATABASE IF EXISTS lock_storm_heavy") })
		seen := &collisions{waited: make(chan struct{})}
		logger := (&recordingLogger{}).logger()
		logger.(*logrus.Logger).AddHook(seen)
		f := &ghostferry.Ferry{Config: p.Config("lock_storm")}
		f.Config.AutomaticCutover, f.Config.Logger = false, logger
		mustStart(t, ctx, f)

		lock, err := p.TargetDB.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = lock.Exec("INSERT INTO lock_storm.t VALUES (20, 1, 1000)")
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- harness.RunStarted(ctx, f, func() error { return nil }) }()
		await(t, seen.waited, ran)
		require.NoError(t, lock.Rollback())
		awaitRows(t, p.TargetDB, "lock_storm.t", rows, f)

		changes := 0
		for n := 0; seen.deadlocks.Load() < storm; n++ {
			require.Less(t, n, 20*storm, "the trap makes no deadlocks")
			caught := make(chan error, 1)
			go func() { caught <- trap(ctx, p.TargetDB, "lock_storm_heavy.h", "lock_storm.t", rows) }()
			// Two transactions: a batch of which only the first arrived would show.
			p.In(t, p.SourceDB, "lock_storm", "UPDATE t SET v=v+1", fmt.Sprintf("UPDATE t SET u=u+IF(u>%d, -%d, %d) ORDER BY id LIMIT 1", 5000, 10000, 10000), "UPDATE t SET v=v+1 WHERE id>1")
			changes += rows + 1 + rows - 1
			for done := false; !done; {
				select {
				case err := <-caught:
					if mysqlerr.Classify(err) != mysqlerr.Deadlock {
						require.NoError(t, err)
					}
					done = true
				case <-time.After(100 * time.Millisecond): // the batch came before the trap
					p.In(t, p.SourceDB, "lock_storm", "UPDATE t SET v=v+1")
					changes += rows
				case err := <-ran:
					require.NoError(t, err)
				}
			}
		}
		f.AllowCutover()
		require.NoError(t, <-ran)
		progress := f.Progress()
		require.NoError(t, f.Close())
		p.MustEqual(t, "lock_storm")
		require.EqualValues(t, changes, progress.BinlogRowsApplied)
		require.EqualValues(t, rows, progress.RowsCopied)
		require.GreaterOrEqual(t, waitsFor(progress, "conflict"), uint64(storm+1))
		t.Logf("%d deadlocks, %d lock waits, %d repetitions", seen.deadlocks.Load(), seen.lockWaits.Load(), waitsFor(progress, "conflict"))
	})
}

// waitsFor is how often parts of a run have waited for a cause.
func waitsFor(progress *ghostferry.Progress, cause string) uint64 {
	for _, w := range progress.Waits {
		if w.Cause == cause {
			return w.Count
		}
	}
	return 0
}

// lockedSource moves a table with a row that a transaction of the source keeps changed, and
// returns when everything is on the target that can be read meanwhile.
func lockedSource(t *testing.T, ctx context.Context, p *harness.Pair, lock func()) (f *ghostferry.Ferry, log *recordingLogger, ran <-chan error) {
	t.Helper()
	rollbackPrepared(t, p)
	p.Create(t, "locked_rows", "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE o (id INT PRIMARY KEY, v INT)")
	for _, table := range []string{"t", "o"} {
		p.In(t, p.SourceDB, "locked_rows", "INSERT INTO "+table+" WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<200) SELECT id, 0 FROM n")
	}
	log = &recordingLogger{}
	f = shopFerry(p, "locked_rows", 20)
	f.Config.AutomaticCutover, f.Config.Logger, f.Config.DataIterationConcurrency = false, log.logger(), 2
	mustStart(t, ctx, f)
	lock()
	ended := make(chan error, 1)
	go func() { ended <- harness.RunStarted(ctx, f, func() error { return nil }) }()
	p.In(t, p.SourceDB, "locked_rows", "UPDATE t SET v=v+1 WHERE id IN (1, 49, 51, 200)")
	harness.Await(t, "the other rows are copied, and changed", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the run ended: %v", err)
		default:
		}
		unlocked := harness.Count(t, p.TargetDB, "locked_rows.t WHERE id NOT BETWEEN 30 AND 70")
		return unlocked == 159 && harness.Count(t, p.TargetDB, "locked_rows.o") == 200 &&
			harness.Count(t, p.TargetDB, "locked_rows.t WHERE id IN (1, 200) AND v=1") == 2
	})
	return f, log, ended
}

// F13: an application keeps a row of the source locked. All other chunks are copied and
// followed meanwhile, where reads need no locks the row's old image, too; when the row is
// released, it arrives.
func TestF13LockedSourceRow(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var tx *sql.Tx
		f, log, ran := lockedSource(t, ctx, p, func() {
			var err error
			tx, err = p.SourceDB.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.Exec("UPDATE locked_rows.t SET v=100 WHERE id=50")
			require.NoError(t, err)
		})
		if locksToRead(p) {
			harness.Await(t, "the chunk was read again", func() bool { return waitsFor(f.Progress(), "row_lock") > 1 })
			require.Zero(t, harness.Count(t, p.TargetDB, "locked_rows.t WHERE id=50"))
			require.Equal(t, 1, log.count("rows of the source are locked by another transaction;"), log.messages())
		}
		require.NoError(t, tx.Commit())
		f.AllowCutover()
		require.NoError(t, <-ran)
		require.NoError(t, f.Close())
		p.MustEqual(t, "locked_rows")
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "locked_rows.t WHERE id=50 AND v=100"))
	})
}

// F13: the same with an XA transaction that stays prepared. Where reads need no locks the
// cutover is refused (see also TestXAPreparedAtCutover), elsewhere the copy after a while;
// either names the transaction, and the same configuration goes on when it is decided.
func TestF13PreparedSourceRow(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		f, _, ran := lockedSource(t, ctx, p, func() {
			p.In(t, p.SourceDB, "locked_rows", xaGroup("'keeps'", "UPDATE t SET v=100 WHERE id=50")...)
		})
		if locksToRead(p) {
			harness.Await(t, "the chunk was read again", func() bool { return waitsFor(f.Progress(), "row_lock") > 0 })
			cancel()
			mustBeInterrupted(t, <-ran)
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			f = shopFerry(p, "locked_rows", 20)
			f.Config.MaxOutageSeconds = 2
			err := harness.Move(ctx, f, func() error { return nil })
			locked, ok := errors.AsType[*ghostferry.RowsLockedError](err)
			require.True(t, ok, err)
			require.Equal(t, []string{"X'6b65657073',X'',1"}, locked.XIDs)
			require.ErrorContains(t, err, "`locked_rows`.`t`")
			require.ErrorContains(t, err, "XA RECOVER")
			require.True(t, ghostferry.Resumable(err))
		} else {
			f.AllowCutover()
			err := <-ran
			undecided, ok := errors.AsType[*ghostferry.PreparedTransactionsError](err)
			require.True(t, ok, err)
			require.Equal(t, []string{"X'6b65657073',X'',1"}, undecided.XIDs)
			require.True(t, ghostferry.Resumable(err))
		}
		require.NoError(t, f.Close())
		require.Zero(t, harness.Count(t, p.TargetDB, "locked_rows.t WHERE v=100"))

		p.In(t, p.SourceDB, "locked_rows", "XA COMMIT 'keeps'")
		f = shopFerry(p, "locked_rows", 20)
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, "locked_rows")
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "locked_rows.t WHERE id=50 AND v=100"))
	})
}

// locksToRead says whether reads of the source wait for row locks.
func locksToRead(p *harness.Pair) bool { return !p.GTID }
