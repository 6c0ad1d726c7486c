package main

import (
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// road is a way on which a row comes to the target.
type road struct {
	Name string
	// phase is when its change is made: 0 before the start (the copy alone), 1 while the
	// copy stands still before the table, 2 when the table is copied.
	phase int
	kind  change
}

type change int

const (
	none change = iota
	insert
	updateOther
	updateColumn
	remove
)

var roads = []road{
	{"copy", 0, none},
	{"event first: insert", 1, insert},
	{"event first: update of another column", 1, updateOther},
	{"event first: update of the column", 1, updateColumn},
	{"event first: delete", 1, remove},
	{"copy first: insert", 2, insert},
	{"copy first: update of another column", 2, updateOther},
	{"copy first: update of the column", 2, updateColumn},
	{"copy first: delete", 2, remove},
}

// roadRows is the distance between the numbers of two roads' first rows.
const roadRows = 1000

// lastRow is the number of a row that only bounds the copy: what is inserted before it is
// read by the copy, too.
const lastRow = roadRows * 1000

// rowsOf are the values that go by a road, by number: all of them, or those whose turn it is.
func (c *Case) rowsOf(road int) []int {
	var out []int
	for i := range c.Values {
		if !c.Sole || i%len(roads) == road {
			out = append(out, i)
		}
	}
	return out
}

// rowNumber is r of a value on a road.
func rowNumber(road, value int) int { return road*roadRows + value + 1 }

// before is the value that a row has before its column is updated to another one.
func (c *Case) before(value int) []string {
	return c.Values[(value+1)%len(c.Values)]
}

// seed are the statements that fill a table before the move.
func (c *Case) seed(table string) []string {
	var out []string
	for n, road := range roads {
		for _, i := range c.rowsOf(n) {
			switch {
			case road.kind == insert:
			case road.kind == updateColumn && !c.Sole:
				out = append(out, c.insert(table, rowNumber(n, i), c.before(i)))
			default:
				out = append(out, c.insert(table, rowNumber(n, i), c.Values[i]))
			}
		}
	}
	if !c.Sole {
		out = append(out, c.insert(table, lastRow, c.Values[0]))
	}
	return out
}

// changes are the statements of a phase.
func (c *Case) changes(table string, phase int) []string {
	var out []string
	name := sqlesc.Ident(table)
	for n, road := range roads {
		if road.phase != phase || road.kind == none {
			continue
		}
		for _, i := range c.rowsOf(n) {
			where := fmt.Sprintf(" WHERE r=%d", rowNumber(n, i))
			switch road.kind {
			case insert:
				out = append(out, c.insert(table, rowNumber(n, i), c.Values[i]))
			case updateOther:
				out = append(out, "UPDATE "+name+" SET other=other+1"+where)
			case updateColumn:
				if c.Sole {
					// Every other value is a row's already. That a key changes is for the cases
					// of two columns.
					out = append(out, "DELETE FROM "+name+where, c.insert(table, rowNumber(n, i), c.Values[i]))
				} else {
					out = append(out, "UPDATE "+name+" SET "+c.assignments(c.Values[i])+where)
				}
			case remove:
				out = append(out, "DELETE FROM "+name+where)
			}
		}
	}
	return out
}

func (c *Case) insert(table string, r int, value []string) string {
	return fmt.Sprintf("INSERT INTO %s (r,%s,other) VALUES (%d,%s,0)", sqlesc.Ident(table), sqlesc.Idents(c.cols()), r, strings.Join(value, ","))
}

func (c *Case) assignments(value []string) string {
	var parts []string
	for i, col := range c.cols() {
		parts = append(parts, sqlesc.Ident(col)+"="+value[i])
	}
	return strings.Join(parts, ",")
}
