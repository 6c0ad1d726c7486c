package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Masterminds/squirrel"

	"github.com/ghostferry-go/ghostferry"
)

var copiedTables = []string{
	"CREATE TABLE a (id BIGINT PRIMARY KEY, v VARCHAR(20))", "CREATE TABLE b (x INT, y VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin, z INT, PRIMARY KEY (x,y))",
	"CREATE TABLE hollow (id BIGINT PRIMARY KEY)",
}

// fillCopied gives a 450 rows, the first of them below zero, and b 300.
func fillCopied(t *testing.T, c *parts) {
	t.Helper()
	numbers := func(n int) string {
		return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)", n)
	}
	c.onSource(t, "INSERT INTO a (id,v) "+numbers(450)+" SELECT 3*i-30, CONCAT('v',i) FROM n", "INSERT INTO b (x,y,z) "+numbers(300)+" SELECT i DIV 10, CHAR(65+MOD(i,10)), i FROM n")
}

// allKeys reads the keys that a copy should find, by table.
func allKeys(t *testing.T, c *parts) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for table, query := range map[string]string{"a": "SELECT id FROM alone.a ORDER BY id", "b": "SELECT CONCAT(x,' ',y) FROM alone.b ORDER BY x,y"} {
		rows, err := c.SourceDB.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var key string
			if err := rows.Scan(&key); err != nil {
				t.Fatal(err)
			}
			out[table] = append(out[table], key)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// seenRows collects the batches of a copy.
type seenRows struct {
	sync.Mutex
	keys    map[string][]string
	batches map[string][]int
}

func (s *seenRows) listener(t *testing.T) func(*ghostferry.RowBatch) error {
	return func(b *ghostferry.RowBatch) error {
		s.Lock()
		defer s.Unlock()
		if s.keys == nil {
			s.keys, s.batches = map[string][]string{}, map[string][]int{}
		}
		name := b.TableSchema().Name
		var keys []string
		for _, row := range b.Values() {
			if name == "a" {
				keys = append(keys, fmt.Sprint(row[0]))
			} else {
				keys = append(keys, fmt.Sprintf("%v %s", row[0], row[1]))
			}
		}
		if b.Size() != len(keys) || !b.ValuesContainPaginationKey() || b.PaginationKeyIndex() != 0 || b.EstimateByteSize() == 0 {
			t.Errorf("a batch of %s of %d rows says: %d rows, key at %d, %d bytes", name, len(keys), b.Size(), b.PaginationKeyIndex(), b.EstimateByteSize())
		}
		s.keys[name] = append(s.keys[name], keys...)
		s.batches[name] = append(s.batches[name], len(keys))
		return nil
	}
}

// mustHave compares what was seen, in any order of batches.
func (s *seenRows) mustHave(t *testing.T, want map[string][]string) {
	t.Helper()
	for table, keys := range want {
		got := slices.Sorted(slices.Values(s.keys[table]))
		if want := slices.Sorted(slices.Values(keys)); !slices.Equal(got, want) {
			t.Errorf("of %s rows %v were copied instead of %v", table, got, want)
		}
	}
}

// Every row is in one batch, every batch is shown to the listeners in their order, and
// the done listeners come last, once.
func TestIteratorAlone(t *testing.T) {
	onEachMaking(t, copiedTables, func(t *testing.T, c *parts) {
		fillCopied(t, c)
		d := c.iterator()
		d.StateTracker = ghostferry.NewStateTracker(10)
		size := uint64(100)
		d.CursorConfig.BatchSize = &size
		seen, order, done := &seenRows{}, map[*ghostferry.RowBatch]bool{}, &listed{}
		var mu sync.Mutex
		d.AddBatchListener(func(b *ghostferry.RowBatch) error {
			mu.Lock()
			defer mu.Unlock()
			order[b] = true
			return nil
		})
		d.AddBatchListener(func(b *ghostferry.RowBatch) error {
			mu.Lock()
			defer mu.Unlock()
			if !order[b] {
				t.Error("the second listener was called before the first")
			}
			return nil
		})
		d.AddBatchListener(seen.listener(t))
		d.AddDoneListener(func() error {
			done.say("%d rows", len(seen.keys["a"])+len(seen.keys["b"]))
			return errors.New("of no consequence")
		})
		d.AddDoneListener(func() error {
			done.say("again")
			return nil
		})
		ends(t, "the copy", inBackground(func() { d.Run(c.tables.AsSlice()) }))
		c.failed.none(t)
		seen.mustHave(t, allKeys(t, c))
		for table, sizes := range seen.batches {
			if len(sizes) < 3 || slices.Max(sizes) > 100 {
				t.Errorf("batches of %s have %v rows", table, sizes)
			}
		}
		mustBe(t, "done listeners", done.all(), []string{"750 rows", "again"})
		for name, table := range c.tables {
			if !d.StateTracker.IsTableComplete(name) || !d.StateTracker.LastSuccessfulPaginationKey(name, table).IsMax() {
				t.Errorf("%s is not complete", name)
			}
		}
		if high, _ := d.TargetPaginationKeys.Load("alone.a"); fmt.Sprint(high) != "1320" {
			t.Errorf("the highest key of a is %v", high)
		}
	})
}

// Sizes of batches, of all tables and of one, and what is left after an earlier run.
func TestIteratorBatchesAndProgress(t *testing.T) {
	onEachMaking(t, copiedTables, func(t *testing.T, c *parts) {
		fillCopied(t, c)
		d := c.iterator()
		d.StateTracker = ghostferry.NewStateTracker(0)
		d.Concurrency = 1
		d.CursorConfig.BatchSizePerTableOverride = &ghostferry.DataIterationBatchSizePerTableOverride{TableOverride: map[string]map[string]uint64{aloneSchema: {"b": 30}}}
		d.StateTracker.MarkTableAsCompleted("alone.hollow")
		d.StateTracker.UpdateLastSuccessfulPaginationKey("alone.a", ghostferry.NewInt64KeyWithColumn("id", 270), ghostferry.RowStats{NumRows: 100})
		seen := &seenRows{}
		d.AddBatchListener(seen.listener(t))
		d.Run(c.tables.AsSlice())
		c.failed.none(t)
		want := allKeys(t, c)
		want["a"] = want["a"][100:]
		seen.mustHave(t, want)
		if slices.Max(seen.batches["b"]) > 30 || slices.Max(seen.batches["a"]) <= 30 {
			t.Errorf("batches have %v rows", seen.batches)
		}
	})
}

// A listener that fails ends the copy under its table's name: nothing is complete, and
// the listeners for the end are not called.
func TestIteratorFails(t *testing.T) {
	onEachMaking(t, copiedTables, func(t *testing.T, c *parts) {
		fillCopied(t, c)
		broken := errors.New("broken")
		for name, listener := range map[string]func() error{
			"error": func() error { return broken },
			"panic": func() error { panic(broken) },
		} {
			d := c.iterator()
			d.StateTracker = ghostferry.NewStateTracker(0)
			d.AddBatchListener(func(*ghostferry.RowBatch) error { return listener() })
			d.AddBatchListener(func(*ghostferry.RowBatch) error {
				t.Error("a listener behind was called")
				return nil
			})
			d.AddDoneListener(func() error {
				t.Error("a listener for the end was called")
				return nil
			})
			d.Run([]*ghostferry.TableSchema{c.table("a")})
			if err := c.failed.one(t, "data_iterator"); !strings.Contains(err.Error(), "broken") || name == "error" && !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
			*c.failed = failures{}
			if d.StateTracker.IsTableComplete("alone.a") {
				t.Error("the table is complete")
			}
		}

		d := c.iterator()
		d.CursorConfig.ReadRetries = 1
		c.onSource(t, "DROP TABLE a")
		d.Run([]*ghostferry.TableSchema{c.table("a")})
		var table *ghostferry.TableError
		if err := c.failed.one(t, "data_iterator"); !errors.As(err, &table) || table.Table != "a" {
			t.Errorf("a missing table ended the copy with %v", err)
		}
	})
}

// A copy ends with its context, while it is throttled, too, and goes on after a throttle.
func TestIteratorPausesAndIsCancelled(t *testing.T) {
	onEachMaking(t, copiedTables, func(t *testing.T, c *parts) {
		fillCopied(t, c)
		throttler := &ghostferry.PauserThrottler{}
		throttler.SetPaused(true)
		d := c.iterator()
		d.CursorConfig.Throttler = throttler
		d.AddBatchListener(func(*ghostferry.RowBatch) error {
			t.Error("a throttled copy goes on")
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := d.RunContext(ctx, c.tables.AsSlice()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a cancelled copy ended with %v", err)
		}

		d = c.iterator()
		d.CursorConfig.Throttler = throttler
		seen := &seenRows{}
		d.AddBatchListener(seen.listener(t))
		ran := inBackground(func() { d.Run(c.tables.AsSlice()) })
		throttler.SetPaused(false)
		ends(t, "the copy", ran)
		c.failed.none(t)
		seen.mustHave(t, allKeys(t, c))

		ctx, stop := context.WithCancel(t.Context())
		d = c.iterator()
		d.AddBatchListener(func(*ghostferry.RowBatch) error {
			stop()
			return nil
		})
		if err := d.RunContext(ctx, c.tables.AsSlice()); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled copy ended with %v", err)
		}
	})
}

// locked reports whether a row of a is locked on the source.
func locked(t *testing.T, c *parts, id int) bool {
	t.Helper()
	err := c.TryIn(t.Context(), c.SourceDB, aloneSchema, "BEGIN", fmt.Sprintf("SELECT 1 FROM a WHERE id=%d FOR UPDATE NOWAIT", id), "ROLLBACK")
	return err != nil
}

// Without a gate the rows of a batch stay locked until its listeners have returned, and
// no longer; with a gate they are never locked. A cursor locks as it is told.
func TestRowsAreLockedForListeners(t *testing.T) {
	onEachMaking(t, copiedTables, func(t *testing.T, c *parts) {
		c.onSource(t, "INSERT INTO a VALUES (1,'x'),(2,'y')")
		d := c.iterator()
		want := c.ferry == nil
		d.AddBatchListener(func(b *ghostferry.RowBatch) error {
			if got := locked(t, c, 1); got != want {
				t.Errorf("the rows are locked: %v", got)
			}
			return nil
		})
		d.Run([]*ghostferry.TableSchema{c.table("a")})
		c.failed.none(t)
		if locked(t, c, 1) {
			t.Error("the rows are still locked")
		}

		one := uint64(1)
		config := &ghostferry.CursorConfig{DB: c.source, BatchSize: &one, ReadRetries: 1}
		for _, lock := range []bool{true, false} {
			cursor := config.NewCursor(c.table("a"), nil, nil)
			if !lock {
				cursor = config.NewCursorWithoutRowLock(c.table("a"), nil, nil)
			}
			at := 0
			err := cursor.Each(func(*ghostferry.RowBatch) error {
				at++
				if locked(t, c, at) != lock || locked(t, c, 3-at) {
					t.Errorf("with lock %v: at row %d the rows are locked: %v, %v", lock, at, locked(t, c, 1), locked(t, c, 2))
				}
				return nil
			})
			if err != nil || at != 2 {
				t.Errorf("%d rows, error %v", at, err)
			}
		}
	})
}

// A cursor walks between two keys, selects what it is told and how, and says what is
// wrong with a query.
func TestCursorAlone(t *testing.T) {
	onEachMaking(t, copiedTables, func(t *testing.T, c *parts) {
		fillCopied(t, c)
		size := uint64(7)
		config := ghostferry.CursorConfig{DB: c.source, BatchSize: &size, ReadRetries: 2, Throttler: &ghostferry.PauserThrottler{}}
		walk := func(cursor *ghostferry.Cursor) (rows []string, err error) {
			err = cursor.Each(func(b *ghostferry.RowBatch) error {
				if b.Size() > 7 {
					t.Errorf("%d rows in a batch", b.Size())
				}
				for _, row := range b.Values() {
					rows = append(rows, strings.Trim(fmt.Sprintf("%s", row), "[]"))
				}
				return nil
			})
			return rows, err
		}
		key := func(n int64) ghostferry.PaginationKey { return ghostferry.NewInt64KeyWithColumn("id", n) }

		rows, err := walk(config.NewCursor(c.table("a"), key(0), key(30)))
		if err != nil || len(rows) != 14 || rows[0] != "%!s(int64=3) v11" || rows[13] != "%!s(int64=42) v24" {
			t.Errorf("from 0 to 30, in whole batches: %v, error %v", rows, err)
		}
		all := allKeys(t, c)
		if rows, err = walk(config.NewCursor(c.table("a"), nil, nil)); err != nil || len(rows) != len(all["a"]) {
			t.Errorf("the whole table: %d rows, error %v", len(rows), err)
		}
		if rows, err = walk(config.NewCursorWithoutRowLock(c.table("b"), nil, nil)); err != nil || len(rows) != len(all["b"]) {
			t.Errorf("a composite key: %d rows, error %v", len(rows), err)
		}
		if rows, err = walk(config.NewCursor(c.table("hollow"), nil, nil)); err != nil || len(rows) != 0 {
			t.Errorf("an empty table: %v, error %v", rows, err)
		}

		some := config
		some.ColumnsToSelect = []string{"v", "id"}
		if rows, err = walk(some.NewCursor(c.table("a"), key(1317), nil)); err != nil || !slices.Equal(rows, []string{"v450 %!s(int64=1320)"}) {
			t.Errorf("columns as they were asked for: %v, error %v", rows, err)
		}
		some.ColumnsToSelect = []string{"v"}
		if _, err = walk(some.NewCursor(c.table("a"), nil, nil)); err == nil || !strings.Contains(err.Error(), "does not select its pagination key") {
			t.Errorf("without the key: %v", err)
		}

		filtered := config
		filtered.BuildSelect = byOdd{}.BuildSelect
		if rows, err = walk(filtered.NewCursor(c.table("a"), nil, nil)); err != nil || len(rows) != len(all["a"])/2 {
			t.Errorf("with a query of the host: %d rows, error %v", len(rows), err)
		}
		filtered.BuildSelect = func(columns []string, table *ghostferry.TableSchema, _ ghostferry.PaginationKey, size uint64) (squirrel.SelectBuilder, error) {
			return squirrel.Select(columns...).From(ghostferry.QuotedTableName(table)).OrderBy("id").Limit(size), nil
		}
		if _, err = walk(filtered.NewCursor(c.table("a"), nil, nil)); err == nil || !strings.Contains(err.Error(), "does not advance") {
			t.Errorf("a query that does not advance: %v", err)
		}
		broken := errors.New("broken")
		filtered.BuildSelect = byOdd{err: broken}.BuildSelect
		if _, err = walk(filtered.NewCursor(c.table("a"), nil, nil)); !errors.Is(err, broken) {
			t.Errorf("a query that cannot be built: %v", err)
		}
		err = config.NewCursor(c.table("a"), nil, nil).Each(func(*ghostferry.RowBatch) error { return broken })
		var table *ghostferry.TableError
		if !errors.Is(err, broken) || !errors.As(err, &table) || table.Table != "a" {
			t.Errorf("a callback that fails: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = config.NewCursor(c.table("a"), nil, nil).EachContext(ctx, func(context.Context, *ghostferry.RowBatch) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled walk: %v", err)
		}
	})
}
