package main

import (
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// keyed are two cases: the column alone is the key, each value going by one road, and the
// column is the first of two, every value going by every road, where it changes, too.
func keyed(decl string, list ...string) []*Case {
	const g = "keys"
	return []*Case{
		{Group: g, Name: decl, Columns: "v " + decl + " NOT NULL", Key: "PRIMARY KEY (v)", Sole: true, Values: values(list...)},
		{Group: g, Name: decl + ", INT", Columns: "v " + decl + " NOT NULL", Key: "PRIMARY KEY (v,r)", Values: values(list...)},
	}
}

// texts are different under every collation, and of every kind that collations treat apart.
var texts = []string{"''", "'a'", "'b'", "'Zebra'", "'ab'", "CONCAT('a',CHAR(9))", "CONCAT('q',CHAR(1))", "'a b'", "'10'", "'9'", "'-'", "'%'", "'ß'", "'é'", "'日本'", "'a''b'", "'c\\\\'", "'aé'"}

func keyCases() []*Case {
	const g = "keys"
	var out []*Case
	add := func(cases ...*Case) { out = append(out, cases...) }
	add(keyed("TINYINT", "-128", "-1", "0", "1", "127", "2", "3", "4", "5", "6")...)
	add(keyed("INT", "-2147483648", "-1", "0", "1", "2147483647", "2", "3", "1000000", "-1000000", "42")...)
	add(keyed("BIGINT", "-9223372036854775808", "-1", "0", "1", "2", "3", "1000000000000000000", "9223372036854775807", "9223372036854775806", "4")...)
	add(keyed("BIGINT UNSIGNED", "0", "1", "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551614", "2", "3", "4", "5")...)
	add(keyed("MEDIUMINT UNSIGNED", "0", "8388607", "8388608", "16777215", "1", "2", "3", "4", "5", "6")...)
	add(keyed("DECIMAL(20,5)", "0", "-1.5", "1.50000", "99999999999999.99999", "-99999999999999.99999", "0.00001", "10", "9", "2", "3")...)
	add(keyed("DATE", "'0000-00-00'", "'2024-02-29'", "'9999-12-31'", "'2024-00-00'", "'1000-01-01'", "'2023-02-30'", "'2024-01-01'", "'2024-01-02'", "'2024-01-03'", "'2024-01-04'")...)
	add(keyed("DATETIME(6)", "'0000-00-00 00:00:00'", "'2024-02-29 00:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'2024-01-01'", "'2024-01-02'", "'2024-01-03'", "'2024-01-04'", "'2024-01-05'", "'2024-01-06'")...)
	add(keyed("TIMESTAMP(3)", "'1970-01-01 00:00:01.001'", "'2038-01-19 03:14:07.999'", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00'", "'2024-01-01'", "'2024-01-02'", "'2024-01-03'", "'2024-01-04'", "'2024-01-05'")...)
	add(keyed("TIME(2)", "'-838:59:59'", "'-00:00:00.01'", "'00:00:00'", "'838:59:59'", "'100:00:00'", "'-100:00:00'", "'99:00:00'", "'01:00:00'", "'02:00:00'", "'03:00:00'")...)
	add(keyed("YEAR", "0", "1901", "2155", "2000", "2001", "2002", "2003", "2004", "2005")...)
	add(keyed("BIT(9)", "0", "1", "511", "256", "2", "3", "4", "5", "6")...)
	add(keyed("ENUM('z','y','x','w','v','u','t','s','r','q')", "'z'", "'y'", "'x'", "'w'", "'v'", "'u'", "'t'", "'s'", "'r'")...)
	add(keyed("SET('a','b','c','d')", "''", "'a'", "'b'", "'a,b'", "'d'", "'a,b,c,d'", "'c'", "'a,d'", "'b,d'")...)
	add(keyed("BINARY(4)", "X''", "X'00000001'", "X'ffffffff'", "X'61'", "X'6120'", "X'27'", "X'5c'", "X'80'", "X'0a'")...)
	add(keyed("BINARY(16)", "X'00'", "X'00112233445566778899aabbccddeeff'", "X'ff'", "X'0100'", "X'ffffffffffffffffffffffffffffffff'", "X'11'", "X'12'", "X'13'", "X'14'")...)
	add(keyed("VARBINARY(20)", "X''", "X'00'", "X'0000'", "X'61'", "X'6120'", "X'27'", "X'5c'", "X'ff'", "X'41'", "X'0a'")...)
	for _, collation := range []string{"utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_unicode_520_ci"} {
		add(keyed("VARCHAR(20) COLLATE "+collation, texts...)...)
	}
	add(keyed("CHAR(10) COLLATE utf8mb4_bin", texts...)...)
	add(keyed("CHAR(10) COLLATE utf8mb4_unicode_ci", texts...)...)
	add(keyed("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci", "''", "'a'", "'b'", "_binary X'e9'", "_binary X'80'", "_binary X'ff'", "'c'", "'d'", "'ab'", "CONCAT('a',CHAR(1))")...)
	add(keyed("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin", "''", "'a'", "'A'", "_binary X'e9'", "_binary X'80'", "_binary X'ff'", "'c'", "'d'", "'ab'", "_binary X'27'")...)
	add(keyed("VARCHAR(10) CHARACTER SET gbk", "''", "_gbk X'bf5c'", "_gbk X'bf60'", "_gbk X'8140'", "'a'", "'b'", "'c'", "'d'", "'e'")...)
	add(keyed("VARCHAR(10) CHARACTER SET utf16", "''", "_utf16 X'd83dde00'", "'a'", "'b'", "'c'", "'d'", "'e'", "'f'", "'g'")...)
	add(
		&Case{Group: g, Name: "unique NOT NULL key, no primary key", Columns: "v VARCHAR(10) NOT NULL, w INT NULL, UNIQUE KEY (w)", Key: "UNIQUE KEY (v,r)", Values: values("''", "'a'", "'b'")},
		&Case{Group: g, Name: "five columns", Columns: "v BIGINT UNSIGNED NOT NULL, w VARCHAR(5) NOT NULL, x DATE NOT NULL, y DECIMAL(5,2) NOT NULL", Cols: []string{"v", "w", "x", "y"}, Key: "PRIMARY KEY (w,v,x,y,r)",
			Values: [][]string{{"18446744073709551615", "''", "'0000-00-00'", "-1.5"}, {"0", "'a'", "'2024-02-29'", "0"}, {"1", "'A '", "'9999-12-31'", "999.99"}}},
		&Case{Group: g, Name: "three columns of mixed kinds", Columns: "v INT NOT NULL, w BINARY(3) NOT NULL", Cols: []string{"v", "w"}, Key: "PRIMARY KEY (v,w,r)", Values: [][]string{{"-1", "X''"}, {"0", "X'616263'"}, {"1", "X'ff'"}}},
		&Case{Group: g, Name: "two columns, one an ENUM", Columns: "v ENUM('b','a') NOT NULL, w SET('x','y') NOT NULL", Cols: []string{"v", "w"}, Key: "PRIMARY KEY (v,w,r)", Values: [][]string{{"'a'", "''"}, {"'b'", "'x,y'"}, {"'a'", "'y'"}}},
		&Case{Group: g, Name: "case-only and trailing-space changes under ci and PAD SPACE", Columns: "v VARCHAR(10) COLLATE utf8mb4_general_ci NOT NULL", Key: "PRIMARY KEY (v,r)", Values: values("'a'", "'A'", "'a '", "'A  '", "'á'")},
		&Case{Group: g, Name: "sparse", Columns: "v BIGINT NOT NULL", Key: "PRIMARY KEY (v)", Sole: true, Values: values("1", "2", "3", "1000000000000000000", "1000000000000000001", "4", "500000000000000000", "5", "6", "7")},
		&Case{Group: g, Name: "an invisible column", Columns: "v INT NOT NULL INVISIBLE DEFAULT 0", Key: "PRIMARY KEY (v,r)", Values: values("1", "2", "-3")},
		&Case{Group: g, Name: "FLOAT", Columns: "v FLOAT NOT NULL", Key: "PRIMARY KEY (v)", Values: values("1"), Sole: true, Refused: "key"},
		&Case{Group: g, Name: "DOUBLE", Columns: "v DOUBLE NOT NULL", Key: "PRIMARY KEY (v)", Values: values("1"), Sole: true, Refused: "key"},
		&Case{Group: g, Name: "FLOAT, and a unique INT beside it", Columns: "v FLOAT NOT NULL", Key: "PRIMARY KEY (v), UNIQUE KEY (r)", Sole: true,
			Values: values("0", "1.1", "-1.1", "16777217", "3.4028234e38", "1.17549435e-38", "0.1", "0.3", "1e10", "-3.4028234e38")},
		&Case{Group: g, Name: "a prefix of a column, and a unique INT beside it", Columns: "v VARCHAR(20) NOT NULL", Key: "PRIMARY KEY (v(2)), UNIQUE KEY (r)", Sole: true,
			Values: values("''", "'aa'", "'ba'", "'ca'", "'da'", "'ea'", "'fa'", "'ga'", "'ha'", "'ia'")},
		&Case{Group: g, Name: "none", Columns: "v INT", Key: "-", Values: values("1"), Refused: "key"},
		&Case{Group: g, Name: "nullable unique only", Columns: "v INT NULL", Key: "UNIQUE KEY (v)", Values: values("1"), Sole: true, Refused: "key"},
		&Case{Group: g, Name: "a prefix of a column", Columns: "v VARCHAR(20) NOT NULL", Key: "PRIMARY KEY (v(5))", Values: values("'a'"), Sole: true, Refused: "key"},
	)
	exact := keyed("VARCHAR(20) COLLATE utf8mb4_0900_bin", append(texts, "'A'", "'a '")...)
	for _, c := range exact {
		c.Elsewhere = "v VARCHAR(20) COLLATE utf8mb4_nopad_bin NOT NULL"
	}
	mysql := append(keyed("VARCHAR(20) COLLATE utf8mb4_0900_ai_ci", texts...), exact...)
	mysql = append(mysql, keyed("VARCHAR(20) COLLATE utf8mb4_0900_as_cs", append(texts, "'A'", "'a '")...)...)
	mysql = append(mysql,
		&Case{Group: g, Name: "a stored generated column in the key", Columns: "v INT NOT NULL, k INT GENERATED ALWAYS AS (v*1000000+r) STORED NOT NULL", Key: "PRIMARY KEY (k)", Values: values("1", "2", "-3"), Show: []string{"k"}},
		&Case{Group: g, Name: "a virtual generated column, unique", Columns: "v INT NOT NULL, k BIGINT GENERATED ALWAYS AS (v*1000000+r) VIRTUAL NOT NULL", Key: "UNIQUE KEY (k)", Values: values("1", "2", "-3"), Show: []string{"k"}},
	)
	add(only(servers.MySQL, mysql...)...)
	maria := append(keyed("UUID", "'00112233-4455-6677-8899-aabbccddeeff'", "'123e4567-e89b-12d3-a456-426655440000'", "'123e4568-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
		"'018f6b1e-1234-7abc-8def-112233445566'", "'123e4567-e89b-42d3-a456-426655440000'", "'123e4567-e89b-12d3-a456-426655440001'", "'018f6b1e-1234-7abc-8def-112233445567'"),
		keyed("INET6", "'::'", "'::1'", "'ff00::'", "'2001:db8::1'", "'::ffff:1.2.3.4'", "'1::'", "'2::'", "'3::'", "'4::'")...)
	maria = append(maria, keyed("INET4", "'0.0.0.0'", "'1.2.3.4'", "'255.255.255.255'", "'10.0.0.0'", "'9.0.0.0'", "'1.0.0.0'", "'2.0.0.0'", "'3.0.0.0'", "'4.0.0.0'")...)
	nopad := keyed("VARCHAR(20) COLLATE utf8mb4_nopad_bin", append(texts, "'A'", "'a '")...)
	for _, c := range nopad {
		c.Elsewhere = "v VARCHAR(20) COLLATE utf8mb4_0900_bin NOT NULL"
	}
	maria = append(append(maria, nopad...), keyed("VARCHAR(20) COLLATE utf8mb4_general_nopad_ci", append(texts, "'a '")...)...)
	add(only(servers.MariaDB, maria...)...)
	add(&Case{Group: g, Name: "four columns of mixed kinds", Columns: "v VARCHAR(6) COLLATE utf8mb4_general_ci NOT NULL, w DECIMAL(6,2) NOT NULL, x VARBINARY(4) NOT NULL", Cols: []string{"v", "w", "x"}, Key: "PRIMARY KEY (x,v,w,r)",
		Values: [][]string{{"''", "-1.5", "X''"}, {"'a'", "0", "X'00'"}, {"'A '", "9999.99", "X'0000'"}, {"'é'", "-9999.99", "X'ff27'"}}})
	return out
}

// nameCases have ordinary rows under names that somebody may forget to quote, or split.
func nameCases() []*Case {
	const g = "names"
	var out []*Case
	for i, name := range []string{"back`tick", "`", "a.b", ".", "quo'te", `dou"ble`, "per%cent%s", "under_score%", "new\nline", "tab\there", "back\\slash", "sp ace", "select", "order", "ключ", "日本", "semi;colon", "--", "/*", "?", "MixedCase", "#hash", "@at", "$dollar", strings.Repeat("x", 64), strings.Repeat("é", 64), "1", "NULL"} {
		column := name
		if strings.HasSuffix(name, " ") || i == 0 {
			column = "c`1"
		}
		q := "`" + strings.ReplaceAll(column, "`", "``") + "`"
		out = append(out, &Case{Group: g, Name: fmt.Sprintf("%q", name), Table: name, Columns: q + " INT NULL, UNIQUE KEY " + q + " (" + q + ",r)", Cols: []string{column}, Values: values("NULL", "1", "2")})
	}
	for _, schema := range []string{"sche`ma.x", "quo'te%s\"", "Schéma ёж"} {
		out = append(out, &Case{Group: g, Name: fmt.Sprintf("in schema %q", schema), Schema: schema, Table: "t.able`", Columns: "v INT NULL", Values: values("NULL", "1", "2")})
	}
	return out
}
