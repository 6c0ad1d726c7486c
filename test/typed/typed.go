// Package typed is one column of every type of the servers, each with two values that are
// as near to each other as can be.
package typed

import (
	"fmt"
	"strings"
)

// Value is a column's definition with a value and another one, in SQL.
type Value struct{ Decl, Value, Other string }

// Values are those of both flavours.
var Values = []Value{
	{"TINYINT", "-128", "-127"},
	{"TINYINT UNSIGNED", "255", "254"},
	{"SMALLINT", "-32768", "32767"},
	{"SMALLINT UNSIGNED", "65535", "65534"},
	{"MEDIUMINT", "-8388608", "-8388607"},
	{"MEDIUMINT UNSIGNED", "16777215", "0"},
	{"INT", "1", "-1"},
	{"INT UNSIGNED", "4294967295", "4294967294"},
	{"INT(8) ZEROFILL", "42", "43"},
	{"BIGINT", "-9223372036854775808", "-9223372036854775807"},
	{"BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614"},
	{"DECIMAL(65,30)", "12345678901234567890.000000000000000000000000000001", "12345678901234567890.000000000000000000000000000002"},
	{"DECIMAL(5,0)", "-1", "1"},
	{"FLOAT", "1.1", "1.1000001"},
	{"FLOAT", "16777216", "16777218"},
	{"FLOAT(10,2)", "1.25", "1.26"},
	{"DOUBLE", "0.1", "0.10000000000000002"},
	{"DOUBLE", "1.7976931348623157e308", "1.7976931348623155e308"},
	{"DOUBLE", "5e-324", "1e-323"},
	{"BIT(1)", "1", "0"},
	{"BIT(64)", "9223372036854775809", "9223372036854775808"},
	{"ENUM('a','b','')", "1", "2"},
	{"ENUM('1','2','3')", "'1'", "'2'"},
	{"SET(" + sixtyFourMembers() + ")", "9223372036854775809", "9223372036854775808"},
	{"YEAR", "2155", "1901"},
	{"DATE", "'9999-12-31'", "'9999-12-30'"},
	{"DATE", "'0000-00-00'", "'0001-01-01'"},
	{"DATETIME", "'2024-02-29 23:59:59'", "'2024-02-29 23:59:58'"},
	{"DATETIME(6)", "'1000-01-01 00:00:00.123456'", "'1000-01-01 00:00:00.123457'"},
	{"TIMESTAMP NULL", "'1970-01-01 00:00:01'", "'1970-01-01 00:00:02'"},
	{"TIMESTAMP(6) NULL", "'2037-01-01 00:00:00.000001'", "'2037-01-01 00:00:00.000002'"},
	{"TIME", "'-838:59:59'", "'838:59:59'"},
	{"TIME(3)", "'-00:00:00.001'", "'00:00:00.001'"},
	{"CHAR(10)", "'a'", "'A'"},
	{"CHAR(10) CHARACTER SET latin1", "_latin1 X'e9'", "'e'"},
	{"VARCHAR(10)", "'a'", "'a '"},
	{"VARCHAR(10)", "''", "' '"},
	{"VARCHAR(10)", "'N'", "'NULL'"},
	{"VARCHAR(10) CHARACTER SET utf8mb4", "'😀'", "'😁'"},
	{"VARCHAR(10) CHARACTER SET utf8mb3", "'é'", "'É'"},
	{"VARCHAR(10) CHARACTER SET latin1", "_latin1 X'80'", "_latin1 X'81'"},
	{"VARCHAR(10) CHARACTER SET utf16", "'aé'", "'aè'"},
	{"VARCHAR(10) CHARACTER SET ucs2", "'a'", "'b'"},
	{"VARCHAR(10) CHARACTER SET gbk", "_gbk X'bf5c'", "_gbk X'bf5d'"},
	{"VARCHAR(10) CHARACTER SET sjis", "_sjis X'835c'", "_sjis X'835d'"},
	{"TINYTEXT", "'a'", "'A'"},
	{"TEXT CHARACTER SET latin1", "_latin1 X'e9'", "_latin1 X'e8'"},
	{"MEDIUMTEXT", "'a'", "'a\n'"},
	{"LONGTEXT", "REPEAT('ab', 3000)", "CONCAT(REPEAT('ab', 2999), 'aB')"},
	{"BINARY(4)", "X'00010000'", "X'00010001'"},
	{"VARBINARY(10)", "X'00'", "X'0000'"},
	{"TINYBLOB", "X''", "X'00'"},
	{"BLOB", "X'ff00'", "X'ff01'"},
	{"MEDIUMBLOB", "X'27'", "X'5c'"},
	{"LONGBLOB", "REPEAT(X'00', 9000)", "REPEAT(X'00', 8999)"},
	{"JSON", `'{"a": [1, 2]}'`, `'{"a": [1, 3]}'`},
	{"JSON", `'null'`, `'"null"'`},
	{"POINT", "ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(2 1)')"},
	{"GEOMETRY", "ST_GeomFromText('LINESTRING(0 0,1 1)')", "ST_GeomFromText('LINESTRING(0 0,1 1.0000000000000002)')"},
}

// NegativeZeros are values that MariaDB cannot store.
var NegativeZeros = []Value{{"FLOAT", "'-0'", "0"}, {"DOUBLE", "'-0'", "0"}}

func sixtyFourMembers() string {
	members := make([]string, 64)
	for i := range members {
		members[i] = fmt.Sprintf("'m%d'", i)
	}
	return strings.Join(members, ",")
}
