package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Text in every character set reaches the target as it is stored, also when it is walked with a
// cursor, whose pool is set up for statements in utf8mb4.
func TestCursorsReadTextAsItIsStored(t *testing.T) {
	tables := []string{
		"CREATE TABLE texts (id INT PRIMARY KEY, l VARCHAR(9) CHARACTER SET latin1, u VARCHAR(9) CHARACTER SET utf16, c VARCHAR(9) CHARACTER SET ucs2, s VARCHAR(9) CHARACTER SET sjis, m VARCHAR(9) CHARACTER SET utf8mb4)",
		"CREATE TABLE wide (k VARCHAR(9) CHARACTER SET utf16 PRIMARY KEY, v INT)",
		"CREATE TABLE narrow (k VARCHAR(9) CHARACTER SET latin1, n INT, v INT, PRIMARY KEY (k, n))",
	}
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, tables...)
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO texts VALUES (1,_latin1 0xE9,_utf16 0x00E9,_ucs2 0x00E9,_sjis 0x835C,'é'), (2,'','','','',''), (3,NULL,NULL,NULL,NULL,NULL), (4,_latin1 0x8127,_utf16 0xD83DDE00,_ucs2 0x20AC,_sjis 0x8140,'😀')",
			"INSERT INTO narrow VALUES (_latin1 0xE9,1,1), (_latin1 0xE9,2,2), ('f',1,3), (_latin1 0xFF,1,4), ('z',1,5)")
		var keys []string
		for i := range 40 {
			keys = append(keys, fmt.Sprintf("(_utf16 0x%04X,%d)", 0xE9+7*i, i))
		}
		p.In(t, p.SourceDB, aloneSchema, "INSERT IGNORE INTO wide VALUES "+strings.Join(keys, ","))
		mustBeCopied := func(t *testing.T) {
			t.Helper()
			for _, query := range []string{
				"SELECT id, HEX(l), HEX(u), HEX(c), HEX(s), HEX(m) FROM alone.texts ORDER BY id", "SELECT HEX(k), v FROM alone.wide ORDER BY v", "SELECT HEX(k), n, v FROM alone.narrow ORDER BY v",
			} {
				mustBe(t, query, harness.Rows(t, p.TargetDB, query), harness.Rows(t, p.SourceDB, query))
			}
		}
		size := uint64(2)

		t.Run("literals", func(t *testing.T) {
			c := newParts(t, p, false)
			defer c.close(t)
			d, w := c.iterator(), c.batchWriter()
			d.CursorConfig.BatchSize = &size
			d.AddBatchListener(w.WriteRowBatch)
			if err := d.RunContext(minute(t), c.tables.AsSlice()); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			mustBeCopied(t)
		})
		t.Run("without locks", func(t *testing.T) {
			c := newParts(t, p, false)
			defer c.close(t)
			w := c.batchWriter()
			for _, table := range c.tables {
				p.In(t, p.TargetDB, aloneSchema, "TRUNCATE TABLE "+table.Name)
				if err := (&ghostferry.CursorConfig{DB: c.source, BatchSize: &size}).NewCursorWithoutRowLock(table, nil, nil).Each(w.WriteRowBatch); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			mustBeCopied(t)
		})
		t.Run("a standalone copy", func(t *testing.T) {
			p.In(t, p.TargetDB, aloneSchema, "TRUNCATE TABLE texts", "TRUNCATE TABLE wide", "TRUNCATE TABLE narrow")
			f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) { f.UpdatableConfig.DataIterationBatchSize = size })
			if err := f.InitializeContext(minute(t)); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if err := f.RunStandaloneDataCopyContext(minute(t), f.Tables.AsSlice()); err != nil {
				t.Error(err)
			}
			mustBeCopied(t)
		})
		t.Run("a session of the host's that converts is refused", func(t *testing.T) {
			c := newParts(t, p, false)
			defer c.close(t)
			config := &ghostferry.CursorConfig{DB: c.source, BatchSize: &size}
			_, _, err := config.NewCursor(c.table("texts"), nil, nil).Fetch(c.source)
			if err == nil || !strings.Contains(err.Error(), "column `l` of alone.texts is in latin1") {
				t.Errorf("a pool: %v", err)
			}
			tx, err := c.source.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(t.Context(), "SET character_set_results=NULL"); err != nil {
				t.Fatal(err)
			}
			batch, _, err := config.NewCursor(c.table("texts"), nil, nil).Fetch(tx)
			if err != nil || fmt.Sprintf("%q", batch.Values()[0][1]) != `"\xe9"` {
				t.Errorf("a session that does not: %v, error %v", batch, err)
			}
			if _, err := tx.ExecContext(t.Context(), "SET character_set_results=DEFAULT"); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// A walk ends at its highest key in the server's order, whatever the kind of key.
func TestCursorEndsAtItsHighestKey(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		kinds := []struct {
			decl   string
			values []string // in the server's order
		}{
			{"k DECIMAL(9,2)", []string{"-7", "5", "9", "10", "11.5", "99", "100"}},
			{"k ENUM('z','9','a','10')", []string{"'z'", "'9'", "'a'", "'10'"}},
			{"k SET('z','9','a')", []string{"''", "'z'", "'9'", "'z,9'", "'a'", "'z,9,a'"}},
			{"k TIME(3)", []string{"'-838:59:59'", "'-10:00:00'", "'-9:00'", "'0:00'", "'9:00'", "'100:00'"}},
			{"k DATETIME(3)", []string{"'1000-01-01'", "'2024-02-29'", "'2024-02-29 01:02:03.4'", "'9999-12-31'"}},
			{"k BIT(20)", []string{"0", "9", "10", "255", "256"}},
			{"k BIGINT", []string{"-10", "-9", "0", "9", "10", "100"}},
			{"k VARBINARY(3)", []string{"''", "'10'", "'9'", "'a'"}},
			{"k VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", []string{"''", "'10'", "'9'", "'a'", "'B'", "'c'", "'Z'"}},
			{"k VARCHAR(5) CHARACTER SET latin1 COLLATE latin1_swedish_ci", []string{"'10'", "'a'", "'B'", "'e'", "_latin1 0xE966", "'f'", "'Z'"}},
			{"k VARCHAR(5) CHARACTER SET utf16", []string{"'10'", "'a'", "'B'", "'c'", "'Z'"}},
			{"k VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", []string{"'10'", "'9'", "'B'", "'a'", "'é'"}},
			{"a INT, k VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", []string{"9,'b'", "9,'C'", "10,'a'", "10,'B'", "10,'c'", "100,'A'"}},
		}
		var tables []string
		for i, kind := range kinds {
			key := "k"
			if strings.HasPrefix(kind.decl, "a ") {
				key = "a,k"
			}
			tables = append(tables, fmt.Sprintf("CREATE TABLE t%d (%s, v INT, PRIMARY KEY (%s))", i, kind.decl, key))
		}
		p.Create(t, aloneSchema, append(tables, "CREATE TABLE t13 (k ENUM('2','1') PRIMARY KEY)")...)
		c := newParts(t, p, false)
		defer c.close(t)
		size := uint64(2)
		config := &ghostferry.CursorConfig{DB: c.source, BatchSize: &size, ReadRetries: 1}
		for i, kind := range kinds {
			table := c.table(fmt.Sprintf("t%d", i))
			for n, value := range kind.values {
				p.In(t, p.SourceDB, aloneSchema, fmt.Sprintf("INSERT INTO t%d VALUES (%s,%d)", i, value, n))
				keys, _, err := ghostferry.MaxPaginationKeys(c.source, []*ghostferry.TableSchema{table}, nil)
				if err != nil {
					t.Fatal(err)
				}
				high := keys[table]
				// The rows above it come after it was read.
				rest := kind.values[n+1:]
				for j, above := range rest {
					p.In(t, p.SourceDB, aloneSchema, fmt.Sprintf("INSERT INTO t%d VALUES (%s,%d)", i, above, n+1+j))
				}
				seen := 0
				err = config.NewCursor(table, nil, high).Each(func(b *ghostferry.RowBatch) error {
					for _, row := range b.Values() {
						if got := fmt.Sprint(row[len(row)-1]); got != fmt.Sprint(seen) {
							t.Errorf("%s up to %s: row %s instead of %d", kind.decl, value, got, seen)
						}
						seen++
					}
					return nil
				})
				if err != nil || seen < n+1 || seen > n+2 {
					t.Errorf("%s: %d rows up to %s, the one of number %d, error %v", kind.decl, seen, high, n, err)
				}
				p.In(t, p.SourceDB, aloneSchema, fmt.Sprintf("DELETE FROM t%d WHERE v>%d", i, n))
			}
			if len(table.PKColumns) > 1 {
				continue
			}
			seen := 0
			err := config.NewCursor(table, nil, ghostferry.MaxPaginationKey(&table.Columns[0])).Each(func(b *ghostferry.RowBatch) error {
				seen += b.Size()
				return nil
			})
			if err != nil || seen != len(kind.values) {
				t.Errorf("%s: %d rows up to the key above all, error %v", kind.decl, seen, err)
			}
		}
		for name, key := range map[string]ghostferry.PaginationKey{
			"t1": ghostferry.NewTextKey("y"), "t13": ghostferry.NewTextKey("2"), "t12": ghostferry.NewUint64Key(3),
		} {
			err := config.NewCursor(c.table(name), nil, key).Each(func(*ghostferry.RowBatch) error { return nil })
			if err == nil || !strings.Contains(err.Error(), "is no key of alone."+name) {
				t.Errorf("%s up to %s: %v", name, key, err)
			}
		}
	})
}
