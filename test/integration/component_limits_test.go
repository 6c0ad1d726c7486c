package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	sq "github.com/Masterminds/squirrel"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// batchBytes is how many bytes a batch has.
func batchBytes(b *ghostferry.RowBatch) (n int) {
	for _, row := range b.Values() {
		for _, v := range row {
			if raw, ok := v.([]byte); ok {
				n += len(raw)
			}
		}
	}
	return n
}

// hostQuery is a CopyFilter whose query a test makes.
type hostQuery struct {
	everyRow
	query func(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) sq.SelectBuilder
}

func (f hostQuery) BuildSelect(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
	return f.query(columns, table, last, size), nil
}

const (
	mostBatchBytes = 4 << 20 // beside the row that exceeds it
	largerRow      = 600_000
)

// fillLarge makes a table with 40 rows of 600 kB, one of 3 MB, and small ones before and behind.
func fillLarge(t *testing.T, p *harness.Pair) (rows int) {
	t.Helper()
	p.Create(t, aloneSchema, "CREATE TABLE blobs (id INT PRIMARY KEY, b MEDIUMBLOB)")
	p.In(t, p.SourceDB, aloneSchema, "INSERT INTO blobs SELECT a.n, 'a' FROM "+digits("a"),
		fmt.Sprintf("INSERT INTO blobs SELECT 100+a.n*10+b.n, REPEAT('b', %d) FROM %s JOIN %s WHERE a.n < 4", largerRow, digits("a"), digits("b")),
		"INSERT INTO blobs VALUES (200, REPEAT('c', 3000000)), (201, REPEAT('c', 3000000))", "INSERT INTO blobs SELECT 300+a.n*10+b.n, 'd' FROM "+digits("a")+" JOIN "+digits("b"))
	return 10 + 40 + 2 + 100
}

// The batches of a cursor are bounded in bytes, whatever they are in rows, and grow again when
// rows have become smaller.
func TestCursorBatchesAreBoundedInBytes(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		rows := fillLarge(t, p)
		c := newParts(t, p, false)
		defer c.close(t)
		size := uint64(100)
		obedient := ghostferry.CursorConfig{DB: c.source, BatchSize: &size, ReadRetries: 1}
		stubborn := obedient
		stubborn.BuildSelect = func(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, _ uint64) (sq.SelectBuilder, error) {
			return ghostferry.DefaultBuildSelect(columns, table, last, 1000), nil
		}
		for name, cursor := range map[string]*ghostferry.Cursor{
			"locking": obedient.NewCursor(c.table("blobs"), nil, nil), "without locks": obedient.NewCursorWithoutRowLock(c.table("blobs"), nil, nil),
			"a query that does not obey": stubborn.NewCursor(c.table("blobs"), nil, nil),
		} {
			seen, grown, largest := 0, 0, 0
			err := cursor.Each(func(b *ghostferry.RowBatch) error {
				seen, largest = seen+b.Size(), max(largest, batchBytes(b))
				if id, ok := b.Values()[b.Size()-1][0].(int64); ok && id >= 300 {
					grown = max(grown, b.Size())
				}
				return nil
			})
			if err != nil || seen != rows || largest > mostBatchBytes+3_000_000 || largest < mostBatchBytes/2 || grown < 30 {
				t.Errorf("%s: %d of %d rows, at most %d bytes and at the end %d rows in a batch, error %v", name, seen, rows, largest, grown, err)
			}
		}

		cursor := obedient.NewCursor(c.table("blobs"), ghostferry.NewInt64Key(99), nil)
		batch, _, err := cursor.Fetch(c.source)
		if err != nil || batch.Size() != mostBatchBytes/largerRow+1 {
			t.Errorf("Fetch returns %d rows, error %v", batch.Size(), err)
		}
	})
}

// So are those of a host's query.
func TestBatchesOfHostQueriesAreBoundedInBytes(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		rows := fillLarge(t, p)
		f := &ghostferry.Ferry{Config: p.Config(aloneSchema)}
		f.Config.CopyFilter = everyRow{}
		f.UpdatableConfig.DataIterationBatchSize = 1000
		if err := f.InitializeContext(minute(t)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if err := f.StartContext(minute(t)); err != nil {
			t.Fatal(err)
		}
		seen, largest := 0, 0
		f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
			seen, largest = seen+b.Size(), max(largest, batchBytes(b))
			return nil
		})
		if err := harness.RunStarted(minute(t), f, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if seen != rows || largest > mostBatchBytes+3_000_000 {
			t.Errorf("%d of %d rows, at most %d bytes in a batch", seen, rows, largest)
		}
		p.MustEqual(t, aloneSchema)
	})
}

// A host's query that does not heed the last key, or the order of keys, is an error: the table would
// be read for ever, or rows left out.
func TestHostQueriesThatDoNotAdvance(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, test := range []struct {
			name, key, want string
			query           func(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) sq.SelectBuilder
		}{
			{"the same page again", "INT", "does not advance", func(columns []string, table *ghostferry.TableSchema, _ ghostferry.PaginationKey, size uint64) sq.SelectBuilder {
				return sq.Select(columns...).From(ghostferry.QuotedTableName(table)).OrderBy("id").Limit(size)
			}},
			{"the same page again, in the server's order", "DECIMAL(5)", "does not advance", func(columns []string, table *ghostferry.TableSchema, _ ghostferry.PaginationKey, size uint64) sq.SelectBuilder {
				return sq.Select(columns...).From(ghostferry.QuotedTableName(table)).OrderBy("id").Limit(size)
			}},
			{"backwards", "INT", "in the order of the pagination key", func(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) sq.SelectBuilder {
				return sq.Select(columns...).From(ghostferry.QuotedTableName(table)).Where(sq.Gt{"id": last.SQLValue()}).OrderBy("id DESC").Limit(size)
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				p.Create(t, aloneSchema, "CREATE TABLE a (id "+test.key+" PRIMARY KEY)")
				p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1),(2),(3),(4),(5)")
				f := &ghostferry.Ferry{Config: p.Config(aloneSchema)}
				f.Config.CopyFilter = hostQuery{query: test.query}
				f.UpdatableConfig.DataIterationBatchSize = 2
				err := harness.Move(minute(t), f, func() error { return nil })
				var table *ghostferry.TableError
				if !errors.As(err, &table) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("the error is %v", err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// A host's query that selects `*` is refused where that gives labels and bytes instead of the numbers
// that are written, and copies what it gives as it is.
func TestHostQueriesOfStar(t *testing.T) {
	refused := map[string]string{"ENUM('2','1')": "'1'", "SET('2','1')": "'1'", "BIT(8)": "0x31"}
	carried := map[string]string{"DECIMAL(9,2)": "-1.5", "BIGINT UNSIGNED": "18446744073709551615", "YEAR": "2024"}
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, values := range []map[string]string{refused, carried} {
			for decl, value := range values {
				p.Create(t, aloneSchema, "CREATE TABLE a (id INT PRIMARY KEY, v "+decl+")")
				p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1,"+value+")")
				c := newParts(t, p, false)
				w := c.batchWriter()
				config := &ghostferry.CursorConfig{DB: c.source, BuildSelect: func(_ []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
					return ghostferry.DefaultBuildSelect([]string{"*"}, table, last, size), nil
				}}
				err := config.NewCursor(c.table("a"), nil, nil).Each(w.WriteRowBatch)
				if _, ok := refused[decl]; ok {
					if err == nil || !strings.Contains(err.Error(), "column `v`: the query returned its text instead of its number") {
						t.Errorf("%s: the error is %v, the row %v", decl, err, harness.Rows(t, p.TargetDB, "SELECT id, v+0 FROM alone.a"))
					}
				} else if err != nil {
					t.Errorf("%s: %v", decl, err)
				} else {
					p.MustEqual(t, aloneSchema)
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				c.close(t)
			}
		}
	})
}

// Where only the end of a batch is looked for, a host's query is given the key's columns, unless it
// cannot do without the others.
func TestHostQueriesOfKeys(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, condition := range []string{"WHERE", "HAVING"} {
			p.Create(t, aloneSchema, "CREATE TABLE a (k ENUM('x','y'), id INT, v INT, PRIMARY KEY (id,k))")
			p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES ('x',1,1),('y',1,1),('x',2,1),('y',2,1),('x',3,1)")
			var mu sync.Mutex
			var asked []int
			f := &ghostferry.Ferry{Config: p.Config(aloneSchema)}
			f.UpdatableConfig.DataIterationBatchSize = 2
			f.VerifierType = ghostferry.VerifierTypeNoVerification
			f.Config.CopyFilter = hostQuery{query: func(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) sq.SelectBuilder {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, len(columns))
				builder := ghostferry.DefaultBuildSelect(columns, table, last, size)
				if condition == "HAVING" {
					return builder.Having("v=1")
				}
				return builder.Where("v=1")
			}}
			if err := harness.Move(minute(t), f, func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			want := []int{2, 3, 2, 3, 2, 3}
			if condition == "HAVING" {
				want = []int{2, 3, 3, 3, 3, 3, 3}
			}
			if !slices.Equal(asked, want) {
				t.Errorf("%s: so many columns were asked for: %v", condition, asked)
			}
			p.MustEqual(t, aloneSchema)
		}
	})
}
