package compare_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCompare seeds two equal schemas and then makes the smallest change that
// each type of column allows: the comparison must find exactly the changed rows
// and columns.
func TestCompare(t *testing.T) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			server, err := servers.Start(ctx, servers.Options{Flavour: flavour})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, server.Stop()) })
			db, err := server.DB(ctx)
			require.NoError(t, err)
			j := &judged{T: t, ctx: ctx, db: db, flavour: flavour}

			for _, schema := range []string{"here", "there"} {
				require.NoError(t, shop.CreateSchema(ctx, db, schema))
				_, err := shop.Seed(ctx, db, shop.Options{Database: schema, Seed: 11, Rows: 2000})
				require.NoError(t, err)
			}
			t.Run("equal", j.equal)
			t.Run("changed values", j.changedValues)
			t.Run("missing rows", j.missingRows)
			t.Run("odd tables", j.oddTables)
			t.Run("definitions", j.definitions)
			t.Run("nothing", j.nothing)
		})
	}
}

// judged is the pair of schemas under comparison.
type judged struct {
	*testing.T
	ctx     context.Context
	db      *sql.DB
	flavour servers.Flavour
}

func (j *judged) compare(t *testing.T, o compare.Options) *compare.Report {
	t.Helper()
	o.Databases = map[string]string{"here": "there"}
	o.RangeRows = 150 // so that tables are cut
	report, err := compare.Compare(j.ctx, j.db, j.db, o)
	require.NoError(t, err)
	return report
}

func (j *judged) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := j.db.ExecContext(j.ctx, statement, args...)
	require.NoError(t, err, statement)
}

// reset makes a table of the target equal to the source's again.
func (j *judged) reset(t *testing.T) {
	t.Helper()
	j.exec(t, "DROP DATABASE there")
	require.NoError(t, shop.CreateSchema(j.ctx, j.db, "there"))
	_, err := shop.Seed(j.ctx, j.db, shop.Options{Database: "there", Seed: 11, Rows: 2000})
	require.NoError(t, err)
	require.True(t, j.compare(t, compare.Options{}).Equal())
}

func (j *judged) equal(t *testing.T) {
	var told int64
	report := j.compare(t, compare.Options{Workers: 1, OnProgress: func(done, total int64) {
		require.LessOrEqual(t, done, total)
		told = done
	}})
	require.Empty(t, report.Differences)
	require.True(t, report.Equal())
	require.EqualValues(t, shop.ShapeOf(2000).Rows(), report.Rows())
	require.Equal(t, report.Rows(), told)
	require.Len(t, report.Tables, len(shop.Tables()))
}

// keyOf is how a table's rows are named in a report, in SQL.
var keyOf = map[string]string{
	"customers": "CONCAT('id=', id)", "products": "CONCAT('id=', id)", "orders": "CONCAT('id=', id)",
	"order_lines": "CONCAT('order_id=', order_id, ', line_no=', line_no)",
	"payments":    "CONCAT('id=', id)", "sessions": "CONCAT('id=x\\'', HEX(id), '\\'')",
	"stock": "CONCAT('warehouse=', warehouse, ', product_id=', product_id)",
	"seats": "CONCAT('id=', id)", "documents": "CONCAT('id=', id)", "tags": "CONCAT('name=\"', name, '\"')",
	"events_empty": "CONCAT('id=', id)",
}

// A change is made to one row of the target that satisfies where.
type change struct{ table, column, value, where string }

var changes = []change{
	{"customers", "email", "UPPER(email)", "id = -20"},
	{"customers", "name", "CONCAT(name, ' ')", "name NOT LIKE '% '"},
	{"customers", "name", "UPPER(name)", "BINARY name <> BINARY UPPER(name)"},
	{"customers", "remark", "''", "remark IS NULL"},
	{"customers", "remark", "NULL", "remark = ''"},
	{"customers", "remark", "REPLACE(remark, 'é', 'e')", "remark LIKE BINARY '%café%'"},
	{"customers", "country", "'de'", "country = 'DE'"},
	{"customers", "segment", "segment % 4 + 1", "id = 0"},
	{"customers", "interests", "interests ^ 32", "id = 1"},
	{"customers", "born", "born + 1", "born IS NOT NULL AND id > 5"},
	{"customers", "born", "NULL", "born = 0"},
	{"customers", "calls_at", "'-838:59:58.999'", "id = -25"},
	{"customers", "calls_at", "ADDTIME(calls_at, '0:0:0.001')", "calls_at BETWEEN '01:00:00' AND '20:00:00'"},
	{"customers", "flags", "flags ^ 1", "id = 3"},
	{"customers", "flags", "flags ^ 1024", "id = 4"},
	{"customers", "score", "NULL", "score IS NOT NULL AND id > 20"},
	{"customers", "created_at", "created_at + INTERVAL 1 MICROSECOND", "id = 0"},
	{"customers", "created_at", "'2038-01-19 03:14:07.999998'", "id = -24"},
	{"products", "attributes", `JSON_SET(attributes, '$.note', 'null')`, "JSON_EXTRACT(attributes, '$.colour') IS NOT NULL AND id > 20"},
	{"products", "price", "price + 0.0001", "id = 10"},
	{"products", "price", "'-99999999.9998'", "id = 2"},
	{"products", "weight", "NULL", "weight IS NOT NULL AND id > 25"},
	{"products", "on_sale", "1 - on_sale", "id = 17"},
	{"products", "released", "released + INTERVAL 1 DAY", "released IS NOT NULL AND id > 9"},
	{"products", "title", "CONCAT('!', title)", "id = 30"},
	{"orders", "customer_id", "customer_id + 1", "id = 5"},
	{"orders", "status", "status % 6 + 1", "id = 6"},
	{"orders", "total", "total - 0.01", "id = 7"},
	{"orders", "placed_at", "placed_at + INTERVAL 1000 MICROSECOND", "id = 8"},
	{"orders", "detail", "'null'", "detail IS NULL"},
	{"orders", "detail", "JSON_SET(detail, '$.steps', JSON_ARRAY(JSON_ARRAY()))", "detail IS NOT NULL"},
	{"orders", "remark", "REPLACE(remark, '\\\\', '/')", "remark LIKE '%back%'"},
	{"order_lines", "product_id", "product_id + 1", "order_id = 77 AND line_no = 2"},
	{"order_lines", "discount", "0", "discount IS NULL"},
	{"order_lines", "gift_text", "REPLACE(gift_text, 'ü', 'u')", "gift_text LIKE '%Müller%'"},
	{"payments", "reference", "18446744073709551614", "id = 0"},
	{"payments", "amount", "amount + 0.000001", "id = 9223372036854775808"},
	{"payments", "paid_at", "'9999-12-31 23:59:59.999998'", "id = 18446744073709551615"},
	{"payments", "receipt", "CONCAT(receipt, X'00')", "receipt IS NOT NULL"},
	{"sessions", "token", "CONCAT(LEFT(token, LENGTH(token) - 1), CHAR(ASCII(RIGHT(token, 1)) ^ 128))", "hits = 4294967295"},
	{"sessions", "hits", "4294967294", "hits = 4294967295"},
	{"stock", "on_hand", "on_hand + 0.001", "warehouse = -1 AND product_id = 1"},
	{"stock", "counted_at", "NULL", "counted_at IS NOT NULL"},
	{"stock", "moved_at", "'2025-01-01'", "moved_at IS NULL"},
	{"seats", "ticket", "LOWER(ticket)", "id = -4999"},
	{"seats", "position", "1000", "id = -4990"},
	{"documents", "body", "NULL", "body = ''"},
	{"documents", "body", "CONCAT(LEFT(body, LENGTH(body) - 1), CHAR(ASCII(RIGHT(body, 1)) ^ 1))", "id = 1"},
	{"documents", "summary", "CONCAT(summary, ' ')", "summary IS NOT NULL"},
	{"documents", "thumb", "CONCAT(thumb, X'20')", "thumb IS NOT NULL"},
	{"documents", "digest", "CONCAT(LEFT(digest, 31), CHAR(ASCII(RIGHT(digest, 1)) ^ 1))", "id = 3"},
	{"documents", "kind", "CONCAT(kind, ' ')", "id = 4"},
	{"tags", "label", "LOWER(label)", "BINARY label <> BINARY LOWER(label) AND name LIKE 'amber%'"},
	{"tags", "uses", "-uses - 1", "name = 'birch 17'"},
}

func (j *judged) changedValues(t *testing.T) {
	defer j.reset(t)
	want := found{}
	for _, c := range changes {
		key := j.firstKey(t, c.table, c.where)
		j.exec(t, "UPDATE there."+c.table+" SET "+c.column+" = "+c.value+" WHERE "+keyOf[c.table]+" = ?", key)
		want.add(c.table, key, compare.Differs, c.column)
		switch c.table + "." + c.column {
		case "orders." + c.column:
			want.add(c.table, key, compare.Differs, "updated_at") // ON UPDATE
		case "products.price":
			want.add(c.table, key, compare.Differs, "gross")
		case "products.title":
			want.add(c.table, key, compare.Differs, "title_key")
		}
	}
	// The neighbours of floating-point numbers.
	for i, column := range []string{"products.weight", "sessions.ratio", "customers.score", "order_lines.discount"} {
		table, column, _ := strings.Cut(column, ".")
		key := j.firstKey(t, table, column+" NOT IN (0) AND "+column+" < 1000 ORDER BY 1 DESC")
		var value float64
		require.NoError(t, j.db.QueryRowContext(j.ctx, "SELECT CAST("+column+" AS DOUBLE) FROM there."+table+" WHERE "+keyOf[table]+" = ?", key).Scan(&value))
		next := math.Nextafter(value, math.Inf(1))
		if i >= 2 {
			next = float64(math.Nextafter32(float32(value), float32(math.Inf(1))))
		}
		j.exec(t, fmt.Sprintf("UPDATE there.%s SET %s = %.17e WHERE %s = ?", table, column, next, keyOf[table]), key)
		want.add(table, key, compare.Differs, column)
	}
	// 1 and 1.0 in JSON. MySQL takes them for equal and would not change the row
	// if nothing else changed.
	key := j.firstKey(t, "products", "JSON_EXTRACT(attributes, '$.dims.deep.er[0].a') = 1")
	j.exec(t, `UPDATE there.products SET on_sale = 1 - on_sale, attributes = REPLACE(attributes, '{"a": 1}', '{"a": 1.0}') WHERE `+keyOf["products"]+" = ?", key)
	want.add("products", key, compare.Differs, "attributes", "on_sale")
	if j.flavour == servers.MySQL { // MariaDB has no minus zero
		j.exec(t, "UPDATE there.products SET weight = 0e0 WHERE id = 2")
		want.add("products", "id=2", compare.Differs, "weight")
	}

	report := j.compare(t, compare.Options{})
	require.False(t, report.Equal())
	require.Equal(t, want, collect(report))
	rows := int64(shop.ShapeOf(2000).Rows())
	require.Equal(t, rows-int64(len(want)), report.Rows())

	few := j.compare(t, compare.Options{MaxDifferences: 3})
	require.Len(t, few.Differences, 3)
	require.Equal(t, report.DifferenceCount, few.DifferenceCount)
	require.Contains(t, report.Differences[0].String(), "here.customers (id=-")
}

// missingRows deletes and adds first, middle and last rows on either side.
func (j *judged) missingRows(t *testing.T) {
	defer j.reset(t)
	want := found{}
	for table, key := range keyOf {
		if table == "events_empty" {
			continue
		}
		for _, order := range []string{" ORDER BY 1", " ORDER BY 1 DESC"} {
			gone := j.firstKey(t, table, "TRUE"+order)
			j.exec(t, "DELETE FROM there."+table+" WHERE "+key+" = ?", gone)
			want.add(table, gone, compare.MissingOnTarget)
		}
	}
	j.exec(t, "INSERT INTO there.events_empty (id, happened_at) VALUES (-7, NOW()), (7, NOW())")
	want.add("events_empty", "id=-7", compare.MissingOnSource)
	want.add("events_empty", "id=7", compare.MissingOnSource)
	j.exec(t, "INSERT INTO there.orders (id, customer_id, status, total, placed_at) VALUES (-9223372036854775808, 1, 1, 1, NOW()), (9223372036854775807, 1, 1, 1, NOW())")
	want.add("orders", "id=-9223372036854775808", compare.MissingOnSource)
	want.add("orders", "id=9223372036854775807", compare.MissingOnSource)
	// The same key to the server, but not the same bytes.
	j.exec(t, "UPDATE there.tags SET name = 'BIRCH 1' WHERE name = 'Birch 1'")
	want.add("tags", `name="Birch 1"`, compare.MissingOnTarget)
	want.add("tags", `name="BIRCH 1"`, compare.MissingOnSource)
	j.exec(t, "UPDATE there.tags SET name = 'amber 16  ' WHERE name = 'amber 16'")
	want.add("tags", `name="amber 16"`, compare.MissingOnTarget)
	want.add("tags", `name="amber 16  "`, compare.MissingOnSource)
	// Another key of a composite one.
	j.exec(t, "UPDATE there.order_lines SET line_no = 200 WHERE order_id = 40 AND line_no = 1")
	want.add("order_lines", "order_id=40, line_no=1", compare.MissingOnTarget)
	want.add("order_lines", "order_id=40, line_no=200", compare.MissingOnSource)

	report := j.compare(t, compare.Options{})
	require.False(t, report.Equal())
	require.Equal(t, want, collect(report))
}

// oddTables are compared too: without a key, with NULLs in their unique key, with
// decimal and long collated keys, and with rows that occur twice.
func (j *judged) oddTables(t *testing.T) {
	defer j.reset(t)
	for _, schema := range []string{"here", "there"} {
		j.exec(t, "CREATE TABLE "+schema+".no_key (a INT NULL, b VARCHAR(20) NULL, UNIQUE KEY (a))")
		j.exec(t, "INSERT INTO "+schema+".no_key VALUES (1,'x'),(NULL,'y'),(NULL,'y'),(NULL,NULL),(NULL,'')")
		j.exec(t, "CREATE TABLE "+schema+".decimal_key (d DECIMAL(10,2) NOT NULL PRIMARY KEY, v INT NULL)")
		j.exec(t, "INSERT INTO "+schema+".decimal_key VALUES (-10.50,1),(-9.25,2),(0,3),(9,4),(10,5),(100,6)")
		j.exec(t, "CREATE TABLE "+schema+".long_key (k VARCHAR(700) NOT NULL, v INT, UNIQUE KEY (k)) DEFAULT CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC")
		j.exec(t, "INSERT INTO "+schema+".long_key VALUES (CONCAT(REPEAT('é', 690), 'b'), 1), (CONCAT(REPEAT('é', 690), 'a'), 2), (CONCAT(REPEAT('É', 690), 'c'), 3)")
		j.exec(t, "CREATE TABLE "+schema+".`o``dd na.me` (`k``ey` INT PRIMARY KEY, `gap ped` GEOMETRY, `日本` TIME(6))")
		j.exec(t, "INSERT INTO "+schema+".`o``dd na.me` VALUES (1, ST_GeomFromText('POINT(1 2)'), '-1:2:3.000004')")
	}
	require.True(t, j.compare(t, compare.Options{}).Equal())

	j.exec(t, "DELETE FROM there.no_key WHERE b = 'y' LIMIT 1")
	j.exec(t, "UPDATE there.no_key SET b = NULL WHERE b = ''")
	j.exec(t, "UPDATE there.decimal_key SET v = 0 WHERE d = 10")
	j.exec(t, "UPDATE there.long_key SET v = 0 WHERE k LIKE '%a'")
	j.exec(t, "UPDATE there.`o``dd na.me` SET `gap ped` = ST_GeomFromText('POINT(1 2.0000000000000004)')")
	report := j.compare(t, compare.Options{})
	require.Equal(t, found{
		"decimal_key d=10.00: differs":                              {"v"},
		"no_key a=NULL, b=\"y\": missing on target":                 nil,
		"no_key a=NULL, b=\"\": missing on target":                  nil,
		"no_key a=NULL, b=NULL: missing on source":                  nil,
		"long_key k=\"" + strings.Repeat("é", 690) + "a\": differs": {"v"},
		"o`dd na.me k`ey=1: differs":                                {"gap ped"},
	}, collect(report))
	for _, table := range []string{"no_key", "decimal_key", "long_key", "`o``dd na.me`"} {
		j.exec(t, "DROP TABLE here."+table)
	}
}

func (j *judged) definitions(t *testing.T) {
	defer j.reset(t)
	j.exec(t, "DROP TABLE there.events_empty")
	j.exec(t, "CREATE TABLE there.extra (id INT PRIMARY KEY)")
	j.exec(t, "ALTER TABLE there.seats DROP INDEX place")
	j.exec(t, "ALTER TABLE there.tags DROP COLUMN uses")
	j.exec(t, "ALTER TABLE there.stock MODIFY reserved BIGINT NOT NULL DEFAULT 0")
	report := j.compare(t, compare.Options{})
	require.False(t, report.Equal())
	kinds := map[string]compare.Kind{}
	for _, d := range report.Differences {
		kinds[strings.TrimPrefix(d.Table, "here.")] = d.Kind
	}
	require.Equal(t, map[string]compare.Kind{
		"events_empty": compare.MissingOnTarget, "extra": compare.MissingOnSource,
		"seats": compare.DefinitionDiffers, "tags": compare.DefinitionDiffers, "stock": compare.DefinitionDiffers,
	}, kinds)
	only := j.compare(t, compare.Options{Tables: func(_, table string) bool { return table == "orders" }})
	require.True(t, only.Equal())
	require.Len(t, only.Tables, 1)
}

func (j *judged) nothing(t *testing.T) {
	_, err := compare.Compare(j.ctx, j.db, j.db, compare.Options{Databases: map[string]string{"misspelt": "there too"}})
	require.ErrorContains(t, err, "neither side has a table")
	require.False(t, (&compare.Report{}).Equal())
}

func (j *judged) firstKey(t *testing.T, table, where string) (key string) {
	t.Helper()
	if !strings.Contains(where, "ORDER BY") {
		where += " ORDER BY 1"
	}
	err := j.db.QueryRowContext(j.ctx, "SELECT "+keyOf[table]+" FROM here."+table+" WHERE "+where+" LIMIT 1").Scan(&key)
	require.NoError(t, err, "%s has no row where %s", table, where)
	return key
}

// found maps "table key: kind" to the columns that differ.
type found map[string][]string

func (f found) add(table, key string, kind compare.Kind, columns ...string) {
	name := fmt.Sprintf("%s %s: %s", table, key, kind)
	f[name] = append(f[name], columns...)
	slices.Sort(f[name])
	f[name] = slices.Compact(f[name])
}

func collect(r *compare.Report) found {
	f := found{}
	for _, d := range r.Differences {
		name := strings.TrimPrefix(d.Table, "here.") + " " + d.Key + ": " + string(d.Kind)
		if _, twice := f[name]; twice {
			name += ", twice"
		}
		f[name] = nil
		for _, c := range d.Columns {
			f[name] = append(f[name], c.Name)
		}
		slices.Sort(f[name])
	}
	return f
}
