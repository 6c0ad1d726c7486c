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
