package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	sqlwrapper "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// everyByte is an expression for the 256 bytes in order.
func everyByte() string {
	var b strings.Builder
	b.WriteString("X'")
	for i := range 256 {
		fmt.Fprintf(&b, "%02X", i)
	}
	return b.String() + "'"
}

// Values that a file format could bend, in every type that LOAD DATA carries.
var bulkValues = []string{
	`CREATE TABLE bends (
		id BIGINT NOT NULL PRIMARY KEY, unsigned_ BIGINT UNSIGNED NULL, d DECIMAL(65,30) NULL, f FLOAT NULL, g DOUBLE NULL,
		dt DATE NULL, t TIME(6) NULL, dtt DATETIME(6) NULL, ts TIMESTAMP(6) NULL,
		utf VARCHAR(200) CHARACTER SET utf8mb4 NULL, latin VARCHAR(300) CHARACTER SET latin1 NULL, wide VARCHAR(100) CHARACTER SET ucs2 NULL,
		han VARCHAR(100) CHARACTER SET gbk NULL, fixed CHAR(20) NULL, bytes VARBINARY(300) NULL, padded BINARY(8) NULL, big LONGBLOB NULL,
		made BIGINT AS (id DIV 2) STORED)`,
	"CREATE TABLE marked (id INT NOT NULL PRIMARY KEY, mark ENUM('1','2','zero') NOT NULL, flags SET('a','b') NOT NULL, bits BIT(9) NOT NULL, y YEAR NOT NULL)",
}

func seedBends(t *testing.T, p *harness.Pair) {
	t.Helper()
	seedBendsIn(t, p, "bulk_load")
}

func seedBendsIn(t *testing.T, p *harness.Pair, schema string) {
	t.Helper()
	insert := "INSERT INTO bends (id, unsigned_, d, f, g, dt, t, dtt, ts, utf, latin, wide, han, fixed, bytes, padded, big) VALUES "
	p.In(t, p.SourceDB, schema,
		"SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone='+00:00'",
		insert+"(0, 18446744073709551615, -0.000000000000000000000000000001, -0.0, -0.0, '0000-00-00', '-838:59:59', '0000-00-00 00:00:00', '1970-01-01 00:00:01.000001', '', '', '', '', '', '', '', '')",
		insert+"(-9223372036854775808, 0, 99999999999999999999999999999999999.999999999999999999999999999999, 3.4028234e38, 5e-324, '2024-02-31', '838:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.999999',"+
			" 'a\\tb\\nc\\\\d\\re\\0f\\Zg', "+everyByte()+", _utf8mb4'tab\\tline\\n', X'B0A1815C', 'N', "+everyByte()+", X'00', "+everyByte()+")",
		insert+"(1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
		insert+`(2, 1, 1, 0.1, 0.1, '2000-01-01', '00:00:00', '2000-01-01', '2000-01-01', '\\N', 'NULL', '"quoted",', '''', '\\', '\\N', 'N', REPEAT('\\\t\n', 100000))`,
		insert+"(3, 1, 0, 16777217, 1e308, '2000-01-01', '00:00:00.000001', '2000-01-01', '2000-01-01', _utf8mb4 X'F09F9880', X'E9', 'x', 'x', '  lead', ' ', '', X'0A')",
		"INSERT INTO marked VALUES (1,'2','a,b',b'000000001',0),(2,3,'',b'111111111',1901),(3,1,'b',0,2155)")
}

// loads is how many LOAD DATA statements the target has executed.
func loads(t *testing.T, p *harness.Pair) string {
	t.Helper()
	return harness.Rows(t, p.TargetDB, "SHOW GLOBAL STATUS LIKE 'Com_load'")[0]
}

// sent counts what a proxy is given that matches, and lets it pass.
func sent(proxy *faultproxy.Proxy, match faultproxy.Match) *atomic.Int64 {
	var n atomic.Int64
	proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
		if match(m) {
			n.Add(1)
		}
		return false
	}})
	return &n
}

// LOAD DATA is taken where the target allows it and the configuration does not forbid it, and
// carries every value as it is. Elsewhere no such statement is sent at all. What the plan
// says is what is done.
func TestCopyByLoadData(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, c := range []struct {
			name, setting, allowed string
			loads                  bool
		}{
			{"by default", "", "ON", true},
			{"switched off", "off", "ON", false},
			{"not allowed by the target", "", "OFF", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				ctx := minute(t)
				global(t, p.TargetDB, "local_infile", c.allowed, "ON")
				p.Create(t, "bulk_load", bulkValues...)
				seedBends(t, p)
				f, proxy := proxiedTarget(t, p, "bulk_load")
				f.BulkLoad = c.setting
				loaded := sent(proxy, faultproxy.Query("^LOAD "))
				plan, err := f.Plan(ctx)
				require.NoError(t, err)
				require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
				require.NoError(t, f.Close())
				p.MustEqual(t, "bulk_load")

				require.Equal(t, c.loads, loaded.Load() > 0, "%d times LOAD DATA", loaded.Load())
				by := map[string]string{}
				for _, table := range plan.Tables {
					by[table.Table] = table.CopiedBy
				}
				want := map[string]string{"bends": "INSERT", "marked": "INSERT"}
				if c.loads {
					want["bends"] = "LOAD DATA"
				}
				require.Equal(t, want, by)
			})
		}
	})
}

// A target, or something before it, that does not take LOAD DATA after all gets the table's
// rows by INSERT from then on.
func TestLoadDataIsRefused(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		numbers := []uint16{1047, 1148, 1153, 1235, 3948, 4166}
		for _, number := range harness.Share(numbers, slices.Index(flavours(), p.Setting), len(flavours())) {
			p.Create(t, "bulk_load", bulkValues...)
			seedBends(t, p)
			before := loads(t, p)
			f, proxy := proxiedTarget(t, p, "bulk_load")
			f.DataIterationConcurrency, f.UpdatableConfig.DataIterationBatchSize = 1, 5
			proxy.On(faultproxy.Rule{Match: faultproxy.Query("^LOAD DATA"), Do: faultproxy.Refuse, Error: number})
			require.NoError(t, harness.Move(ctx, f, func() error { return nil }), number)
			require.NoError(t, f.Close())
			require.Len(t, proxy.Faults(), 1, number)
			require.Equal(t, before, loads(t, p), "no chunk has tried LOAD DATA again after error %d", number)
			p.MustEqual(t, "bulk_load")
		}
	})
}

// What LOAD DATA would skip or bend with a warning only is an error, as it is by INSERT, and
// nothing of the batch is written. A row that is there already is left as it is. On MariaDB a
// constraint is no obstacle.
func TestLoadDataHidesNoError(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		short := "Check constraint 'short' is violated.: rows are moved as they are on the source: ALTER TABLE `bulk_load`.`rows_` ALTER CHECK … NOT ENFORCED"
		if p.IsMariaDB() {
			short = ""
		}
		for name, test := range map[string]struct{ change, problem, second string }{
			"narrower column": {"ALTER TABLE rows_ MODIFY v VARCHAR(2) NOT NULL", "Data too long", ""},
			"constraint":      {"ALTER TABLE rows_ ADD CONSTRAINT short CHECK (CHAR_LENGTH(v) < 4)", short, "2,2,bb"},
			"smaller integer": {"ALTER TABLE rows_ MODIFY n TINYINT NOT NULL", "Out of range", ""},
			"duplicate":       {"INSERT INTO rows_ VALUES (2,7,'z')", "", "2,7,z"},
		} {
			for by, setting := range map[string]string{"LOAD DATA": "", "INSERT": "off"} {
				t.Run(name+" by "+by, func(t *testing.T) {
					p.Create(t, "bulk_load", "CREATE TABLE rows_ (id INT NOT NULL PRIMARY KEY, n INT NOT NULL, v VARCHAR(20) NOT NULL)")
					p.In(t, p.TargetDB, "bulk_load", test.change)
					tables, err := ghostferry.LoadTables(&sqlwrapper.DB{DB: p.SourceDB}, harness.Schemas{"bulk_load"}, nil, nil, nil, nil)
					require.NoError(t, err)
					w := &ghostferry.BatchWriter{DB: &sqlwrapper.DB{DB: p.TargetDB}, WriteRetries: 1, BulkLoad: setting}
					before := loads(t, p)
					err = w.WriteRowBatch(ghostferry.NewRowBatch(tables["bulk_load.rows_"], []ghostferry.RowData{
						{int64(1), int64(1), []byte("a")}, {int64(2), int64(2), []byte("bb")}, {int64(3), int64(300), []byte("cccccc")},
					}, 0))
					require.NoError(t, w.Close())
					require.Equal(t, setting == "", loads(t, p) != before, "LOAD DATA was used")
					want := []string{`"1,1,a"|`, `"` + test.second + `"|`, `"3,300,cccccc"|`}
					if test.problem == "" {
						require.NoError(t, err)
					} else {
						require.ErrorContains(t, err, test.problem)
						want = nil
					}
					require.Equal(t, want, harness.Rows(t, p.TargetDB, "SELECT CONCAT_WS(',',id,n,v) FROM bulk_load.rows_ ORDER BY id"))
				})
			}
		}
	})
}
