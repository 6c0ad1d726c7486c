package main

import (
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// namesOfKey are the columns of a key that nameKeyCases give to a table; with r it has the
// most columns that keys have to have.
const namesOfKey = 4

// nameKeyCases have the columns of nameCases in their primary keys.
func nameKeyCases() []*Case {
	var names []string
	for _, c := range nameCases() {
		if c.Schema == "" {
			names = append(names, c.Cols[0])
		}
	}
	var out []*Case
	for from := 0; from < len(names); from += namesOfKey {
		c := &Case{Group: "names", Cols: names[from:min(from+namesOfKey, len(names))], Values: make([][]string, 3)}
		c.Name, c.Key = fmt.Sprintf("key of %q", c.Cols), "PRIMARY KEY ("+sqlesc.Idents(c.Cols)+",r)"
		for i, name := range c.Cols {
			if i > 0 {
				c.Columns += ", "
			}
			c.Columns += sqlesc.Ident(name) + " INT NOT NULL"
			for row := range c.Values {
				c.Values[row] = append(c.Values[row], fmt.Sprint(row-i))
			}
		}
		out = append(out, c)
	}
	return out
}
