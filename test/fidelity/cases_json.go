package main

import (
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// leafTypes tells the JSON_TYPE of every value within a document.
const leafTypes = `CONCAT(JSON_TYPE(v),
	COALESCE((SELECT JSON_ARRAYAGG(CONCAT(n,JSON_TYPE(l))) FROM JSON_TABLE(v,'$**.*' COLUMNS (n FOR ORDINALITY,l JSON PATH '$')) AS t),''),
	COALESCE((SELECT JSON_ARRAYAGG(CONCAT(n,JSON_TYPE(l))) FROM JSON_TABLE(v,'$**[*]' COLUMNS (n FOR ORDINALITY,l JSON PATH '$')) AS t),''))`

func jsonCases() []*Case {
	const g = "JSON"
	doc := func(name string, list ...string) *Case {
		c := column(g, "JSON", list...)
		c.Name, c.Show = name, []string{leafTypes}
		return c
	}
	typed := func(typ, value string) string {
		return "(SELECT JSON_OBJECT('a',JSON_ARRAY(x,1),'b',x) FROM JSON_TABLE(JSON_ARRAY(" + value + "),'$[*]' COLUMNS (x " + typ + " PATH '$')) t)"
	}
	out := only(servers.MySQL,
		doc("documents", `'{}'`, `'[]'`, `'null'`, `'"null"'`, `'""'`, `'true'`, `'{"a": null}'`, `'{"": 1}'`, `'{"b": 1, "a": 2, "aa": 3}'`, `'[[], [[]], {"a": {}}]'`),
		doc("text and escapes", `JSON_ARRAY('a"b','c\\d','e/f','\n\r\t\b',CHAR(1),CHAR(31),CHAR(127),_utf8mb4 X'f09f9880',_utf8mb4 X'c3a9',_utf8mb4 X'e280a8',' ')`, `JSON_OBJECT('k"ey',1,'k.ey',2,'k''ey',3,'k\\ey',4,'$',5,'?',CAST(6 AS UNSIGNED),_utf8mb4 X'f09f9880',7,'a\nb',CAST(8 AS UNSIGNED))`),
		doc("numbers from text", `'[1, -1, 0, 32767, 32768, -32768, -32769, 2147483647, 2147483648, -2147483648, -2147483649, 9223372036854775807, 9223372036854775808, 18446744073709551615, -9223372036854775808]'`,
			`'[1.0, -0.0, 0.1, 1e100, 1e-7, 1e15, 1e16, 123456789012345678901234567890, 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 0.00001, 1e-15, 1e-16, 100000000000000.0, 999999999999999.9]'`, `'1.0'`, `'-0.0'`, `'1e15'`),
		doc("UNSIGNED INTEGER", `CAST(CAST(5 AS UNSIGNED) AS JSON)`, `JSON_ARRAY(CAST(0 AS UNSIGNED),1,CAST(65536 AS UNSIGNED),CAST(4294967296 AS UNSIGNED),18446744073709551615)`, `JSON_OBJECT('a',CAST(7 AS UNSIGNED),'b',7)`),
		doc("DECIMAL", `CAST(1.50 AS JSON)`, `JSON_OBJECT('a',1.50,'b',1.5e0,'c',CAST(5 AS DECIMAL(10,0)),'d',5)`, `JSON_ARRAY(0.00,-0.01,CAST('99999999999999999999999999999999999.999999999999999999999999999999' AS DECIMAL(65,30)),123456789012345678901234567890)`, `JSON_ARRAY(CAST(0 AS DECIMAL(5,5)),0.5)`),
		doc("DATE, TIME, DATETIME", `JSON_OBJECT('d',DATE'2024-02-29','t',CAST('-838:59:58.5' AS TIME(6)),'n',TIMESTAMP'2024-01-01 00:00:00.000001','text','2024-02-29')`, `CAST(DATE'0001-01-01' AS JSON)`,
			`JSON_ARRAY(CAST('00:00:00.000001' AS TIME(6)),CAST('-00:00:01' AS TIME(6)),'00:00:00.000001','2024-01-01 00:00:00.000001')`, `JSON_ARRAY(CAST('0000-00-00' AS DATE),CAST('0000-00-00 00:00:00' AS DATETIME))`),
		doc("TIMESTAMP", typed("TIMESTAMP(6)", `'2024-01-01 00:00:00.000001'`)),
		doc("binary values", `JSON_ARRAY(X'00ff27','base64:type15:AP8n')`, `CAST(X'' AS JSON)`, `JSON_OBJECT('a',REPEAT(X'01',200))`, `JSON_ARRAY(REPEAT(X'02',70000))`,
			typed("BLOB", "X'00ff'"), typed("TINYBLOB", "X'00ff'"), typed("MEDIUMBLOB", "X'00ff'"), typed("LONGBLOB", "X'00ff'"), typed("BINARY(5)", "X'00ff'"), typed("VARBINARY(5)", "X'00ff'")),
		doc("BIT", typed("BIT(10)", "5"), typed("BIT(64)", "18446744073709551615"), typed("BIT(1)", "1")),
		doc("large and deep", `JSON_ARRAY(REPEAT('x',70000),CAST(1 AS UNSIGNED))`, `JSON_OBJECT('a',JSON_OBJECT('b',JSON_OBJECT('c',JSON_ARRAY(JSON_OBJECT('d',1.50)))))`,
			`CAST(CONCAT(REPEAT('[',99),'1',REPEAT(']',99)) AS JSON)`, `(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 60) SELECT JSON_OBJECTAGG(CONCAT('k',i), CAST(i AS UNSIGNED)) FROM n)`),
	)
	return append(out, only(servers.MariaDB,
		&Case{Group: g, Name: "JSON, which is a LONGTEXT", Columns: "v JSON NULL", Elsewhere: "v LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL", Values: values("NULL", `'{}'`, `'{"a":1, "b" : 1.0}'`, `'{ "a" : 1e2 }'`, `'{"b":1,"a":2,"a":3}'`, `'null'`, `'[1.50]'`)},
	)...)
}
