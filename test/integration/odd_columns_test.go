package integration

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Columns that few tables have arrive exactly by both roads: rows copied, and rows inserted,
// changed and deleted when the copy is complete.
func TestOddColumns(t *testing.T) {
	const schema = "odd_columns"
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ddl := []string{
			"CREATE TABLE zeros (id INT PRIMARY KEY, d DECIMAL(10,2) ZEROFILL, e DECIMAL(65,30) ZEROFILL, i BIGINT(9) ZEROFILL)",
			"CREATE TABLE zero_key (d DECIMAL(8,2) ZEROFILL PRIMARY KEY, v INT)",
		}
		rows := []string{
			"INSERT INTO zeros VALUES (1,0,0,0), (2,1.5,1e-30,42), (3,99999999.99,12345678901234567890.5,7), (4,10,2,3)",
			"INSERT INTO zero_key VALUES (0,1), (0.05,2), (1,3), (10.5,4), (999999.99,5)",
		}
		changes := []string{
			"INSERT INTO zeros VALUES (11,0,0,0), (12,1.5,1e-30,42), (13,0.01,99999999999999999999999999999999999,1)",
			"UPDATE zeros SET i=i+1 WHERE id=2", "UPDATE zeros SET d=100.1, e=100.1 WHERE id=3", "DELETE FROM zeros WHERE id=4",
			"UPDATE zero_key SET v=v+10 WHERE d=0.05", "UPDATE zero_key SET d=d+20 WHERE d=1", "DELETE FROM zero_key WHERE d=10.5", "INSERT INTO zero_key VALUES (0.5,6), (123456,7)",
		}
		tables := []string{"zeros", "zero_key"}
		if !p.IsMariaDB() {
			// A primary key as the server generates it, which it hides from who does not ask for it.
			ddl = append(ddl, "CREATE TABLE hidden_key (my_row_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY, k INT NOT NULL UNIQUE, v INT)")
			rows = append(rows, "INSERT INTO hidden_key (my_row_id,k,v) VALUES (7,1,1), (9,2,1), (11,3,1)")
			changes = append(changes, "INSERT INTO hidden_key (k,v) VALUES (4,1)", "UPDATE hidden_key SET v=2 WHERE k=2", "DELETE FROM hidden_key WHERE k=3")
			for _, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
				global(t, db, "show_gipk_in_create_table_and_information_schema", "OFF", "ON")
			}
		}
		if p.IsMariaDB() {
			ddl = append(ddl,
				"CREATE TABLE first_second (id INT PRIMARY KEY, a TIMESTAMP(1) NULL, b TIMESTAMP(6) NULL, v INT)",
				"CREATE TABLE long_unique (id INT PRIMARY KEY, b BLOB, c VARCHAR(5000), v INT, UNIQUE (b), UNIQUE (c))",
			)
			rows = append(rows, "SET time_zone='+00:00'",
				"INSERT INTO first_second VALUES (1,'1970-01-01 00:00:00.5','1970-01-01 00:00:00.000001',1), (2,'0000-00-00','1970-01-01 00:00:01',1), (3,NULL,NULL,1)",
				"INSERT INTO long_unique VALUES (1,'a',REPEAT('a',5000),1), (2,'b','b',1), (3,NULL,NULL,1), (4,REPEAT('x',60000),'',1), (5,'e','e',1)")
			changes = append(changes, "SET time_zone='+00:00'",
				"INSERT INTO first_second VALUES (11,'1970-01-01 00:00:00.9','1970-01-01 00:00:00.999999',1), (12,'0000-00-00','0000-00-00',1)",
				"UPDATE first_second SET v=2 WHERE id<3", "UPDATE first_second SET a='1970-01-01 00:00:00.1' WHERE id=3",
				"INSERT INTO long_unique VALUES (11,'k',REPEAT('k',5000),1), (12,NULL,NULL,1)", "UPDATE long_unique SET v=2", "DELETE FROM long_unique WHERE id=5",
				"START TRANSACTION", "UPDATE long_unique SET b='free' WHERE id=1", "UPDATE long_unique SET b='a' WHERE id=2", "UPDATE long_unique SET b='b' WHERE id=1", "COMMIT")
			ddl = append(ddl, "CREATE TABLE checked (id INT PRIMARY KEY, v INT, doc JSON, CONSTRAINT positive CHECK (v > 0))")
			rows = append(rows, "SET check_constraint_checks=0", "INSERT INTO checked VALUES (1,-1,'{}'), (2,2,'no document'), (3,3,'[]'), (4,-4,NULL)")
			changes = append(changes, "SET check_constraint_checks=0", "INSERT INTO checked VALUES (11,-11,'none')", "UPDATE checked SET v=-3 WHERE id=3", "DELETE FROM checked WHERE id=4")
			tables = append(tables, "first_second", "long_unique", "checked")
		}
		p.Create(t, schema, ddl...)
		p.In(t, p.SourceDB, schema, append([]string{"SET sql_mode=''"}, rows...)...)
		f := &ghostferry.Ferry{Config: p.Config(schema)}
		require.NoError(t, harness.Move(ctx, f, func() error {
			return p.TryIn(ctx, p.SourceDB, schema, append([]string{"SET sql_mode=''"}, changes...)...)
		}))
		require.NoError(t, f.Close())
		for _, table := range tables {
			mustHaveEqualRows(t, p, schema+"."+table)
		}
		if !p.IsMariaDB() {
			require.Equal(t, []string{`"7,1,1"|`, `"9,2,2"|`, `"12,4,1"|`}, harness.Rows(t, p.TargetDB, "SELECT CONCAT_WS(',',my_row_id,k,v) FROM odd_columns.hidden_key ORDER BY my_row_id"))
		}
	})
}

// MariaDB's temporal types of its own, in tables made with mysql56_temporal_format=OFF: the log
// calls them by the numbers of types without fractions.
func TestOldTemporalsOfMariaDB(t *testing.T) {
	const schema = "old_temporals"
	p := harness.Shared(t, flavours()[1])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	columns, null := "id INT PRIMARY KEY, v INT", ""
	var times, datetimes, timestamps []string
	for digits := range 7 {
		columns += fmt.Sprintf(", t%[1]d TIME(%[1]d) NULL, d%[1]d DATETIME(%[1]d) NULL, s%[1]d TIMESTAMP(%[1]d) NULL", digits)
		null += ",NULL,NULL,NULL"
	}
	times = []string{"00:00:00", "-838:59:59.999999", "838:59:59.999999", "-00:00:00.1", "-00:00:00.000001", "12:34:56.789123", "-01:00:00"}
	datetimes = []string{"0000-00-00", "9999-12-31 23:59:59.999999", "1000-01-01", "2024-00-00 01:02:03.5", "2023-02-31 23:59:59.000001", "2024-02-29 12:34:56.789123", "2024-01-01 00:00:00.9"}
	timestamps = []string{"0000-00-00", "2038-01-19 03:14:07.999999", "1970-01-01 00:00:01", "1970-01-01 00:00:00.1", "2024-03-31 02:30:00.000001", "2024-02-29 12:34:56.789123", "2001-09-09 01:46:40.5"}
	insert := func(from int) (statements []string) {
		for i := range times {
			values := fmt.Sprintf("%d,1", from+i)
			for range 7 {
				values += fmt.Sprintf(",'%s','%s','%s'", times[i], datetimes[i], timestamps[i])
			}
			statements = append(statements, "INSERT INTO old VALUES ("+values+")")
		}
		return append(statements, fmt.Sprintf("INSERT INTO old VALUES (%d,1%s)", from+len(times), null))
	}
	session := []string{"SET sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00'"}
	p.Create(t, schema, "CREATE TABLE old ("+columns+")")
	global(t, p.SourceDB, "mysql56_temporal_format", "OFF", "ON")
	p.In(t, p.SourceDB, schema, append(append(session, "DROP TABLE old", "CREATE TABLE old ("+columns+")"), insert(1)...)...)
	require.Equal(t, 7*3, harness.Count(t, p.SourceDB, "information_schema.COLUMNS WHERE TABLE_SCHEMA='"+schema+"' AND COLUMN_TYPE LIKE '%mariadb-5.3%'"))
	f := &ghostferry.Ferry{Config: p.Config(schema)}
	require.NoError(t, harness.Move(ctx, f, func() error {
		changes := append(insert(21), "UPDATE old SET v=2 WHERE id<5", "UPDATE old SET t6='-00:00:00.000009', d1='2024-12-31 23:59:59.9', s3=NULL WHERE id=5", "DELETE FROM old WHERE id=6")
		return p.TryIn(ctx, p.SourceDB, schema, append(session, changes...)...)
	}))
	require.NoError(t, f.Close())
	mustHaveEqualRows(t, p, schema+".old")
}

// A unique key in MySQL's utf8mb4_0900_bin becomes one in MariaDB's collation of the same
// order and equality, and the reverse.
func TestCopydbNamesACollationForTheOtherFlavour(t *testing.T) {
	const schema = "exact_texts"
	here := harness.Shared(t, flavours()[0])
	there := harness.Shared(t, flavours()[1])
	for collation, pair := range map[string][2]*harness.Pair{"utf8mb4_0900_bin": {here, there}, "utf8mb4_nopad_bin": {there, here}} {
		source, target := pair[0], pair[1]
		p := &harness.Pair{Setting: harness.Setting{Name: "across"}, Source: source.Source, SourceDB: source.SourceDB, Target: target.Target, TargetDB: target.TargetDB}
		freshSchemas(t, p, schema)
		p.In(t, p.SourceDB, "", "CREATE DATABASE "+schema+" CHARACTER SET utf8mb4 COLLATE "+collation,
			"CREATE TABLE "+schema+".t (k VARCHAR(20) PRIMARY KEY, v VARCHAR(20) DEFAULT 'x "+collation+"' COMMENT '"+collation+"', UNIQUE KEY (v))",
			"INSERT INTO "+schema+".t VALUES ('a','1'),('A','2'),('a ','3'),('','4'),('\t','5'),('é','6'),('e','7'),('😀','8'),('\uFFFD','9')")
		status, _ := runCopydb(t, copydbSettings(p, []string{schema}, nil).file(t))
		require.Zero(t, status, collation)
		const rows = "SELECT HEX(k), HEX(v) FROM " + schema + ".t ORDER BY k"
		require.Len(t, harness.Rows(t, p.TargetDB, rows), 9)
		require.Equal(t, harness.Rows(t, p.SourceDB, rows), harness.Rows(t, p.TargetDB, rows))
		require.Contains(t, definition(t, p.TargetDB, schema, "t"), "'x "+collation+"'")
	}
}
