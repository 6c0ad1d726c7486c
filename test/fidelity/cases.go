package main

import (
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// allCases are the cases of every group.
func allCases() []*Case {
	var out []*Case
	for _, group := range [][]*Case{numberCases(), temporalCases(), textCases(), binaryCases(), jsonCases(), otherCases(), keyCases(), nameCases(), nameKeyCases()} {
		out = append(out, group...)
	}
	return out
}

// column is a case of one nullable column, whose first value is NULL.
func column(group, decl string, list ...string) *Case {
	return &Case{Group: group, Name: decl, Columns: "v " + decl + " NULL", Values: values(append([]string{"NULL"}, list...)...)}
}

// compressed is a column of MariaDB that other servers hold uncompressed.
func compressed(decl, charset string, list ...string) *Case {
	c := column("other types", strings.TrimSpace(decl+" COMPRESSED "+charset), list...)
	c.Elsewhere = "v " + decl + " " + charset + " NULL"
	return c
}

func only(f servers.Flavour, cases ...*Case) []*Case {
	for _, c := range cases {
		c.Only = f
	}
	return cases
}

func numberCases() []*Case {
	const g = "numbers"
	var out []*Case
	for _, t := range []struct {
		name string
		bits uint
	}{{"TINYINT", 8}, {"SMALLINT", 16}, {"MEDIUMINT", 24}, {"INT", 32}, {"BIGINT", 64}} {
		high := uint64(1) << (t.bits - 1)
		out = append(out,
			column(g, t.name, "0", "1", "-1", fmt.Sprint(high-1), "-"+fmt.Sprint(high), "-"+fmt.Sprint(high-1)),
			column(g, t.name+" UNSIGNED", "0", "1", fmt.Sprint(high-1), fmt.Sprint(high), fmt.Sprint(high+1), fmt.Sprint(high+(high-1))))
	}
	out = append(out,
		column(g, "INT(9) UNSIGNED ZEROFILL", "0", "42", "4294967295"),
		column(g, "BOOLEAN", "TRUE", "FALSE", "-5"),
		column(g, "DECIMAL(65,30)", "0", "-0.000000000000000000000000000001", "99999999999999999999999999999999999.999999999999999999999999999999",
			"-99999999999999999999999999999999999.999999999999999999999999999999", "12345678901234567890.1", "1e-30"),
		column(g, "DECIMAL(65,0)", "0", strings.Repeat("9", 65), "-"+strings.Repeat("9", 65), "1000000000"),
		column(g, "DECIMAL(30,30)", "0", "0."+strings.Repeat("9", 30), "-0."+strings.Repeat("0", 29)+"1"),
		column(g, "DECIMAL(10,2) UNSIGNED", "0", "99999999.99", "0.01", "1.50"),
		column(g, "DECIMAL(10,2) UNSIGNED ZEROFILL", "0", "99999999.99", "0.01", "1.50"),
		column(g, "DECIMAL(9,4)", "0", "-99999.9999", "0.5"),
		column(g, "FLOAT", "0", "1.1", "-1.1", "16777216", "16777217", "3.4028234e38", "-3.4028234e38", "1.1754944e-38", "1e-45", "0.1"),
		column(g, "FLOAT(10,3)", "0", "1.125", "-9999999", "0.001"),
		column(g, "FLOAT UNSIGNED", "0", "1e30"),
		column(g, "DOUBLE", "0", "0.1", "0.30000000000000004", "1.7976931348623157e308", "-1.7976931348623157e308", "2.2250738585072014e-308",
			"5e-324", "1e15", "1e16", "123456789012345678", "9007199254740993"),
		column(g, "DOUBLE UNSIGNED", "0", "5e-324", "1.7976931348623157e308"),
		column(g, "DOUBLE(20,5)", "0", "-1.00001", "123456789012345.12345"),
		column(g, "BIT(64)", "0", "1", "b'1000000000000000000000000000000000000000000000000000000000000001'", "18446744073709551615"),
	)
	for _, n := range []int{1, 7, 8, 9, 17, 33, 63} {
		out = append(out, column(g, fmt.Sprintf("BIT(%d)", n), "0", "1", fmt.Sprint(uint64(1)<<n-1), fmt.Sprint(uint64(1)<<(n-1))))
	}
	out = append(out, everyBit(g))
	out = append(out, only(servers.MySQL,
		&Case{Group: g, Name: "FLOAT and DOUBLE, negative zero", Columns: "f FLOAT, d DOUBLE", Unheld: "TestOnlineVerifierFindsNegativeZerosAcrossFlavours", Cols: []string{"f", "d"},
			Values: [][]string{{"'-0'", "'-0'"}, {"0", "-0e0"}, {"-0e0", "0"}}},
	)...)
	return out
}

// everyBit is a row of BIT of every width: NULL, no bit, all bits, the first alone.
func everyBit(group string) *Case {
	c := &Case{Group: group, Name: "BIT of all 64 widths", Values: make([][]string, 4)}
	var columns []string
	for n := 1; n <= 64; n++ {
		name := fmt.Sprintf("b%d", n)
		columns, c.Cols = append(columns, fmt.Sprintf("%s BIT(%d)", name, n)), append(c.Cols, name)
		for i, v := range []string{"NULL", "0", fmt.Sprint(^uint64(0) >> (64 - n)), fmt.Sprint(uint64(1) << (n - 1))} {
			c.Values[i] = append(c.Values[i], v)
		}
	}
	c.Columns = strings.Join(columns, ", ")
	return c
}

// everyFraction is a row of each temporal type with every number of fractional digits.
func everyFraction(group string) *Case {
	c := &Case{Group: group, Name: "TIME, DATETIME, TIMESTAMP with 0 to 6 digits", Values: make([][]string, 4)}
	var columns []string
	for n := range 7 {
		for _, typ := range []struct {
			name   string
			values []string
		}{
			{"TIME", []string{"NULL", "'-12:34:56.999999'", "'00:00:00.000001'", "'-838:59:59'"}},
			{"DATETIME", []string{"NULL", "'2024-02-29 12:34:56.123456'", "'0000-00-00'", "'9999-12-31 00:00:00.5'"}},
			{"TIMESTAMP", []string{"NULL", "'2024-02-29 12:34:56.123456'", "'1970-01-01 00:00:01.5'", "'2038-01-19 03:14:06.09'"}},
		} {
			name := fmt.Sprintf("%s%d", strings.ToLower(typ.name), n)
			columns, c.Cols = append(columns, fmt.Sprintf("%s %s(%d) NULL", name, typ.name, n)), append(c.Cols, name)
			for i, v := range typ.values {
				c.Values[i] = append(c.Values[i], v)
			}
		}
	}
	c.Columns = strings.Join(columns, ", ")
	return c
}

func temporalCases() []*Case {
	const g = "dates and times"
	fold := []string{"SET time_zone='Test/Fold'"}
	return []*Case{
		everyFraction(g),
		column(g, "YEAR", "0", "1901", "2155", "1970", "2026"),
		column(g, "DATE", "'0000-00-00'", "'2024-00-00'", "'2024-02-00'", "'0000-01-01'", "'2023-02-30'", "'1000-01-01'", "'9999-12-31'", "'2024-02-29'"),
		column(g, "TIME", "'00:00:00'", "'-00:00:01'", "'838:59:59'", "'-838:59:59'", "'100:00:00'", "'23:59:59'"),
		column(g, "TIME(1)", "'-00:00:00.1'", "'838:59:58.9'", "'-838:59:58.9'", "'00:00:00.9'"),
		column(g, "TIME(3)", "'-00:00:00.001'", "'00:00:00.001'", "'-12:34:56.789'"),
		column(g, "TIME(6)", "'-00:00:00.000001'", "'00:00:00.999999'", "'-838:59:58.999999'", "'-01:00:00.000000'"),
		column(g, "DATETIME", "'0000-00-00 00:00:00'", "'2024-00-00 10:11:12'", "'2023-02-31 23:59:59'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"),
		column(g, "DATETIME(2)", "'2024-01-01 00:00:00.01'", "'9999-12-31 23:59:59.99'"),
		column(g, "DATETIME(5)", "'2024-01-01 00:00:00.00001'", "'0000-00-00 00:00:00'"),
		column(g, "DATETIME(6)", "'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'2024-00-10 00:00:00.5'"),
		column(g, "TIMESTAMP", "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-03-31 02:30:00'"),
		column(g, "TIMESTAMP(3)", "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01.001'", "'2038-01-19 03:14:07.999'"),
		column(g, "TIMESTAMP(6)", "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.999999'"),
		{Group: g, Name: "TIMESTAMP and DATETIME in a session at +05:30", Columns: "v TIMESTAMP(6) NULL, d DATETIME(6)", Cols: []string{"v", "d"},
			Session: []string{"SET time_zone='+05:30'"},
			Values:  [][]string{{"'2024-06-01 05:29:59.5'", "'2024-06-01 05:29:59.5'"}, {"'1970-01-01 05:30:01'", "'0000-00-00'"}}},
		{Group: g, Name: "TIMESTAMP, both sides of a fold", Columns: "v TIMESTAMP NULL, d DATETIME", Cols: []string{"v", "d"}, Session: fold,
			Values: [][]string{{"FROM_UNIXTIME(1729987200)", "NOW()"}, {"FROM_UNIXTIME(1729990799)", "NOW()"}, {"FROM_UNIXTIME(1729990800)", "NOW()"},
				{"FROM_UNIXTIME(1729992600)", "NOW()"}, {"FROM_UNIXTIME(1729994400)", "NOW()"}}},
	}
}

func textCases() []*Case {
	const g = "text"
	x := func(charset, hex string) string { return "_" + charset + " X'" + hex + "'" }
	raw := func(hex string) string { return "_binary X'" + hex + "'" }
	in := func(charset, typ string, list ...string) *Case {
		return column(g, typ+" CHARACTER SET "+charset, append([]string{"''"}, list...)...)
	}
	var out []*Case
	for _, s := range charsets {
		out = append(out, s.ofEveryLength(g))
	}
	out = append(out,
		in("utf8mb4", "VARCHAR(40)", "'a'", "'a '", "' '", "'  a  '", x("utf8mb4", "f09f9880"), "'NULL'", "'\\\\N'", `'\\'`, "'it''s'", "CHAR(0)", "CHAR(1,8,9,10,13,26,127)", x("utf8mb4", "65cc81"), x("utf8mb4", "c3a9"), x("utf8mb4", "efbbbf")),
		in("utf16le", "VARCHAR(20)", x("utf16le", "4100"), x("utf16le", "3dd800de")),
		in("ascii", "VARCHAR(20)", "'abc'", "CHAR(127)"),
		in("koi8r", "VARCHAR(20)", x("koi8r", "c1c2")),
		in("ujis", "VARCHAR(20)", x("ujis", "a4a2"), x("ujis", "8fa2af")),
		in("euckr", "VARCHAR(20)", x("euckr", "b0a1")),
		column(g, "TINYTEXT", "''", "'a'", "REPEAT('x',255)"),
		column(g, "MEDIUMTEXT", "''", "REPEAT('x',70000)", x("utf8mb4", "f09f9880")),
		column(g, "LONGTEXT", "''", "REPEAT('ab',40000)", "'a '"),
		column(g, "VARCHAR(300)", "''", "REPEAT('x',255)", "REPEAT('x',256)", "REPEAT(X'f09f9880',300)"),
		column(g, "CHAR(255)", "''", "REPEAT('x',255)", x("utf8mb4", "f09f9880"), "REPEAT(CONVERT(X'f09f9880' USING utf8mb4),255)"),
		&Case{Group: g, Name: "two character sets in one row", Columns: "a VARCHAR(10) CHARACTER SET latin1, b VARCHAR(10) CHARACTER SET gbk, c VARCHAR(10) CHARACTER SET utf8mb4, d TEXT CHARACTER SET utf16",
			Cols: []string{"a", "b", "c", "d"}, Values: [][]string{{x("latin1", "e9"), x("gbk", "bf5c"), x("utf8mb4", "f09f9880"), x("utf16", "d83dde00")}, {raw("ff"), "''", "NULL", "'x'"}}},
		&Case{Group: g, Name: "TEXT NOT NULL", Columns: "v TEXT NOT NULL", Values: values("''", "' '", "'a'")},
	)
	collated := column(g, "VARCHAR(10) COLLATE utf8mb4_0900_ai_ci", "''", "'a'", "'A'", "'a '", "'á'")
	collated.Elsewhere = "v VARCHAR(10) COLLATE utf8mb4_general_ci NULL"
	return append(out, only(servers.MySQL, in("gb18030", "VARCHAR(20)", x("gb18030", "81308130"), x("gb18030", "bf5c")), collated)...)
}

// setsOfEverySize is a row of a SET of each number of bytes: NULL, empty, the last member,
// all, the first and the last, the first nine.
func setsOfEverySize(group string, list func(n int) string) *Case {
	c := &Case{Group: group, Name: "SET of 1, 8, 9, 16, 17, 24, 25, 32, 33 and 40 members", Values: make([][]string, 6)}
	var columns []string
	for _, n := range []int{1, 8, 9, 16, 17, 24, 25, 32, 33, 40} {
		name := fmt.Sprintf("s%d", n)
		columns, c.Cols = append(columns, name+" SET"+list(n)), append(c.Cols, name)
		last, all := uint64(1)<<(n-1), uint64(1)<<n-1
		for i, v := range []string{"NULL", "''", fmt.Sprint(last), fmt.Sprint(all), fmt.Sprint(last | 1), fmt.Sprint(all & 511)} {
			c.Values[i] = append(c.Values[i], v)
		}
	}
	c.Columns = strings.Join(columns, ", ")
	return c
}

func binaryCases() []*Case {
	const g = "bytes"
	every := "X'"
	for i := range 256 {
		every += fmt.Sprintf("%02x", i)
	}
	every += "'"
	return []*Case{
		column(g, "BINARY(4)", "X''", "X'00'", "X'61'", "X'61000000'", "X'00000001'", "X'61622020'", "X'ffffffff'"),
		column(g, "BINARY(255)", "X''", "REPEAT(X'ff',255)"),
		column(g, "VARBINARY(10)", "X''", "X'00'", "X'0000'", "X'20'", "X'2720'", "X'5c'"),
		column(g, "VARBINARY(300)", "X''", every, "REPEAT(X'00',256)"),
		column(g, "TINYBLOB", "X''", "X'00'", "REPEAT(X'0a',255)"),
		column(g, "BLOB", "X''", every, "X'27'", "REPEAT(X'00',65535)"),
		column(g, "MEDIUMBLOB", "X''", every, "REPEAT(X'5c',70000)"),
		column(g, "LONGBLOB", "X''", every),
		{Group: g, Name: "rows up to the packet limit", Columns: "v LONGBLOB", Values: values(fmt.Sprintf("REPEAT(X'61',%d)", packetLimit-200), fmt.Sprintf("REPEAT(X'27',%d)", packetLimit/2-200)),
			// In parts, because the digits of the whole do not fit a packet.
			Show: []string{"LENGTH(v)", "HEX(LEFT(v,400000))", "HEX(SUBSTR(v,400001,400000))", "HEX(SUBSTR(v,800001,400000))"}, ShowOnly: true},
	}
}

func otherCases() []*Case {
	const g = "other types"
	members := make([]string, 300)
	for i := range members {
		members[i] = fmt.Sprintf("'m%d'", i)
	}
	list := func(n int) string { return "(" + strings.Join(members[:n], ",") + ")" }
	wide, all := make([]string, 1000), make([]string, 1000)
	for i := range wide {
		wide[i], all[i] = fmt.Sprintf("c%d TINYINT DEFAULT %d", i, i%100), fmt.Sprintf("COALESCE(c%d,'NULL')", i)
	}
	point := func(wkt string, srid int) string { return fmt.Sprintf("ST_GeomFromText('%s',%d)", wkt, srid) }
	out := []*Case{
		column(g, "ENUM('a','b','','c''d','e,f')", "'a'", "'c''d'", "''", "'e,f'", "'no such member'", "1", "5"),
		column(g, "ENUM('1','2','3') CHARACTER SET latin1", "'1'", "'3'", "1"),
		column(g, "ENUM('x') CHARACTER SET utf16", "'x'"),
		column(g, "SET('a','b','c''d')", "''", "'a'", "'a,b,c''d'", "'no such member'"),
		{Group: g, Name: "ENUM of 255, 256 and 300 members", Columns: "a ENUM" + list(255) + ", b ENUM" + list(256) + ", c ENUM" + list(300), Cols: []string{"a", "b", "c"},
			Values: [][]string{
				{"NULL", "NULL", "NULL"}, {"1", "1", "1"}, {"255", "255", "255"}, {"'m254'", "256", "256"}, {"128", "'m255'", "257"}, {"'m0'", "'m0'", "300"}, {"'no such member'", "'no such member'", "'no such member'"}}},
		setsOfEverySize(g, list),
		column(g, "SET"+list(64), "''", "'m63'", "'m0,m63'", "18446744073709551615", "'m31,m32'"),
		column(g, "POINT", point("POINT(1 2)", 0), point("POINT(-1.5 1e300)", 0)),
		column(g, "GEOMETRY", point("POINT(10 20)", 4326), point("LINESTRING(0 0,1 1.0000000000000002)", 0), point("POLYGON((0 0,0 1,1 1,0 0))", 3857), point("GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))", 0)),
		column(g, "LINESTRING", point("LINESTRING(0 0,1 1)", 0)),
		column(g, "POLYGON", point("POLYGON((0 0,0 1,1 1,0 0))", 0)),
		column(g, "MULTIPOINT", point("MULTIPOINT(0 0,1 1)", 0)),
		column(g, "MULTILINESTRING", point("MULTILINESTRING((0 0,1 1),(2 2,3 3,4 4.5))", 0)),
		column(g, "MULTIPOLYGON", point("MULTIPOLYGON(((0 0,0 1,1 1,0 0)))", 0)),
		column(g, "GEOMETRYCOLLECTION", point("GEOMETRYCOLLECTION(POINT(1 1))", 0), point("GEOMETRYCOLLECTION EMPTY", 0)),
		{Group: g, Name: "GEOMETRY NOT NULL with a spatial index", Columns: "v GEOMETRY NOT NULL, SPATIAL INDEX (v)", Values: values(point("POINT(1 1)", 0), point("POINT(2 2)", 0))},
		{Group: g, Name: "generated columns, virtual and stored", Columns: "v VARCHAR(20), a INT GENERATED ALWAYS AS (LENGTH(v)) VIRTUAL, b VARCHAR(30) GENERATED ALWAYS AS (CONCAT(v,'!')) STORED, KEY (b)",
			Values: values("NULL", "''", "'abc'"), Show: []string{"a", "HEX(b)"}},
		{Group: g, Name: "generated columns between others", Columns: "a INT GENERATED ALWAYS AS (r+1) STORED, v INT, b INT GENERATED ALWAYS AS (v+1) VIRTUAL",
			Values: values("NULL", "1", "2"), Show: []string{"a", "b"}},
		{Group: g, Name: "invisible columns", Columns: "v INT INVISIBLE, w VARCHAR(10) DEFAULT 'w'", Cols: []string{"v", "w"}, Values: [][]string{{"NULL", "NULL"}, {"1", "'x'"}, {"-1", "''"}}},
		{Group: g, Name: "AUTO_INCREMENT 0 and negative", Columns: "v INT NOT NULL AUTO_INCREMENT", Key: "PRIMARY KEY (v)", Sole: true, Values: values("0", "-1", "-2147483648", "1", "5", "100", "2147483000", "7", "8", "9", "10", "11")},
		{Group: g, Name: "1,000 columns", Columns: "v INT, " + strings.Join(wide, ","), Cols: []string{"v", "c0", "c7", "c8", "c255", "c256", "c500", "c998", "c999"},
			Values: [][]string{{"1", "-128", "1", "NULL", "127", "-1", "NULL", "3", "4"}, {"NULL", "NULL", "-1", "8", "NULL", "0", "5", "-128", "NULL"}, {"2", "0", "7", "9", "1", "NULL", "-5", "NULL", "127"}},
			Show:   []string{"CONCAT_WS(','," + strings.Join(all, ",") + ")"}},
		{Group: g, Name: "columns with defaults", Columns: "v INT DEFAULT 5, t TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP", Values: values("NULL", "5", "6"), Show: []string{"UNIX_TIMESTAMP(t)"}},
	}
	out = append(out, only(servers.MySQL,
		column(g, "VECTOR(3)", "STRING_TO_VECTOR('[1,2,3]')", "STRING_TO_VECTOR('[-0.5,0.00001,3.4e38]')", "STRING_TO_VECTOR('[1]')", "X'0000803f'"),
		column(g, "VECTOR(2000)", "STRING_TO_VECTOR(CONCAT('[',REPEAT('1.5,',1999),'2]'))"),
		column(g, "VECTOR(16383)", "STRING_TO_VECTOR(CONCAT('[',REPEAT('1.5,',16382),'-2]'))", "STRING_TO_VECTOR('[1]')"),
		&Case{Group: g, Name: "generated columns that are NOT NULL", Columns: "v VARCHAR(20) NOT NULL, a INT GENERATED ALWAYS AS (LENGTH(v)) VIRTUAL NOT NULL, b VARCHAR(30) GENERATED ALWAYS AS (CONCAT(v,'!')) STORED NOT NULL",
			Elsewhere: "v VARCHAR(20) NOT NULL, a INT GENERATED ALWAYS AS (LENGTH(v)) VIRTUAL, b VARCHAR(30) GENERATED ALWAYS AS (CONCAT(v,'!')) STORED", Values: values("''", "'abc'", "'é '"), Show: []string{"a", "HEX(b)"}},
		&Case{Group: g, Name: "generated invisible primary key", Columns: "v INT", Elsewhere: "v INT, my_row_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY", Key: "-", Values: values("NULL", "1", "2"), Show: []string{"my_row_id"},
			Session: []string{"/*!80030 SET SESSION sql_generate_invisible_primary_key=ON */"}},
		&Case{Group: g, Name: "GEOMETRY with an SRID", Columns: "v POINT NOT NULL SRID 4326", Elsewhere: "v POINT NOT NULL", Values: values(point("POINT(10 20)", 4326), point("POINT(-10 20)", 4326))},
		&Case{Group: g, Name: "functional index and expression default", Columns: "v VARCHAR(10), w INT DEFAULT (r*2), KEY ((LOWER(v)))", Values: values("NULL", "'A'", "'b'"), Show: []string{"w"}},
	)...)
	return append(out, only(servers.MariaDB,
		column(g, "UUID", "'00112233-4455-6677-8899-aabbccddeeff'", "'123e4567-e89b-12d3-a456-426655440000'", "'123e4567-e89b-12d3-a456-426655440100'", "'00000000-0000-0000-0000-000000000000'",
			"'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'018f6b1e-1234-7abc-8def-112233445566'", "'00112233-4455-1677-0899-aabbccddee00'", "'00112233-4455-0077-8099-aabbccddee00'",
			"'00112233-4455-8077-8099-aabbccddee00'", "'00000000-0000-1000-8000-000000000000'"),
		column(g, "INET4", "'0.0.0.0'", "'255.255.255.255'", "'1.2.3.0'", "'10.0.0.0'"),
		column(g, "INET6", "'::'", "'::1'", "'ff00::'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'", "'::1.2.3.4'", "'1:0:0:2:0:0:0:3'", "'1:0:0:2:0:0:3:4'", "'::2:0:0:0'", "'1::'", "'1:2:3:4:5:6:7:0'", "'1:0:3:4:5:6:7:8'"),
		&Case{Group: g, Name: "TIMESTAMP(6), the first second of 1970", Columns: "v TIMESTAMP(6) NULL", Unheld: "TestFirstSecondOf1970OnMySQL", Values: values("NULL", "'1970-01-01 00:00:00.5'", "'1970-01-01 00:00:00.000001'", "'0000-00-00'")},
		&Case{Group: g, Name: "BLOB with a unique key", Columns: "v BLOB NULL, w VARCHAR(5000), UNIQUE KEY (v,r), UNIQUE KEY (w)", Values: values("NULL", "X''", "X'00'", "REPEAT(X'61',60000)")},
		compressed("VARCHAR(500)", "", "''", "'short'", "REPEAT('long ',90)"),
		compressed("TEXT", "CHARACTER SET latin1", "''", "_binary X'e9ff'", "REPEAT('x',20000)"),
		compressed("LONGBLOB", "", "X''", "X'00ff'", "REPEAT(X'0027',40000)"),
		compressed("VARBINARY(200)", "", "X''", "X'00'", "REPEAT(X'00',200)"),
	)...)
}
