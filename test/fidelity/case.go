package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// Case is one table: a column, or a few, with the values that go by every road. Every
// table also has `r`, the number of the row, and `other`, which changes when the column
// does not.
type Case struct {
	Group, Name string
	// Only is the flavour that has such a table; empty means both.
	Only servers.Flavour
	// Elsewhere are the columns that a target of the other flavour has instead, where it
	// holds the same values in another type.
	Elsewhere string
	// Unheld is the test of what becomes of values that servers of the other flavour cannot
	// hold; it is no case of such a pair.
	Unheld string
	// Columns define the columns beside r and other.
	Columns string
	// Cols are those that are given values; the default is v.
	Cols []string
	// Values are SQL expressions, one for each of Cols, for every value.
	Values [][]string
	// Key is the key's clause; the default is PRIMARY KEY (r).
	Key string
	// Sole: the values alone are the key, so each of them goes by one road, in turn.
	Sole bool
	// Session are statements for the sessions that create and write the table.
	Session []string
	// Show are expressions that tell every bit of the row, beside those by Cols' types.
	Show []string
	// ShowOnly: those by Cols' types are left out.
	ShowOnly bool
	// Table and Schema are names where the name is the case.
	Table, Schema string
	// Refused is the code of the preflight finding that has to name the table.
	Refused string
}

// values makes the values of a single column.
func values(list ...string) [][]string {
	out := make([][]string, len(list))
	for i, v := range list {
		out[i] = []string{v}
	}
	return out
}

func (c *Case) cols() []string {
	if len(c.Cols) == 0 {
		return []string{"v"}
	}
	return c.Cols
}

func (c *Case) key() string {
	if c.Key == "" {
		return "PRIMARY KEY (r)"
	}
	return c.Key
}

// createTable is the statement that creates the table on a flavour, in the schema in use.
func (c *Case) createTable(table string, f servers.Flavour) string {
	columns := c.Columns
	if c.Only != "" && f != c.Only {
		columns = c.Elsewhere
	}
	parts := []string{"r INT NOT NULL", columns, "other INT NOT NULL"}
	if key := c.key(); key != "-" {
		parts = append(parts, key)
	}
	return "CREATE TABLE " + sqlesc.Ident(table) + " (" + strings.Join(parts, ", ") + ")"
}

// has says whether a source of a flavour has the case's types, takes whether a target does.
func (c *Case) has(f servers.Flavour) bool   { return c.Only == "" || c.Only == f }
func (c *Case) takes(f servers.Flavour) bool { return c.has(f) || c.Elsewhere != "" }

// show are the expressions by which a row is judged.
func (c *Case) show() []string {
	out := []string{"other"}
	if c.ShowOnly {
		return append(out, c.Show...)
	}
	for _, col := range c.cols() {
		out = append(out, showExpr(sqlesc.Ident(col), c.typeOf(col)))
	}
	return append(out, c.Show...)
}

// typeOf is the first word of a column's definition.
func (c *Case) typeOf(col string) string {
	for _, prefix := range []string{col + " ", sqlesc.Ident(col) + " "} {
		at := strings.Index(", "+c.Columns, ", "+prefix)
		if at < 0 {
			continue
		}
		rest := c.Columns[at+len(prefix):]
		return strings.ToUpper(rest[:len(rest)-len(strings.TrimLeft(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))])
	}
	return ""
}

// showExpr is an expression that tells a value of a type to the last bit.
func showExpr(ident, typ string) string {
	switch {
	case typ == "FLOAT":
		return "CONCAT(" + ident + "*1e0)" // a FLOAT itself is printed with six digits
	case typ == "BIT" || typ == "ENUM" || typ == "SET":
		return "CONCAT(CAST(" + ident + " AS UNSIGNED),' ',HEX(" + ident + "))"
	case typ == "TIMESTAMP":
		return "CONCAT(UNIX_TIMESTAMP(" + ident + "),' '," + ident + ")"
	case typ == "JSON":
		return "HEX(" + ident + ")"
	case slices.Contains([]string{"INT", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT", "DECIMAL", "DOUBLE", "YEAR",
		"DATE", "TIME", "DATETIME", "UUID", "INET4", "INET6"}, typ):
		return "CONCAT(" + ident + ")"
	}
	return "HEX(" + ident + ")"
}

func (c *Case) String() string { return fmt.Sprintf("%s: %s", c.Group, c.Name) }
