package compare

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rendered is a column with the expression that shows every bit of its value.
type rendered struct {
	name       string
	expression string
	form       form
	// ordered says that the server orders the bare column as compareValues orders
	// what the expression shows, so that its index gives the order.
	ordered bool
}

// form is how an expression shows a value.
type form int

const (
	plain  form = iota // text that speaks for itself
	number             // decimal digits with a sign
	hexed              // two hexadecimal digits a byte
)

// render chooses the expression by type. A type that is not listed is shown as
// the bytes it is stored as.
func render(c column) rendered {
	q := quote(c.name)
	r := rendered{name: c.name}
	switch c.dataType {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		r.expression, r.form, r.ordered = q, number, true
	case "decimal", "double":
		r.expression = q // the shortest text that reads back as the same number
	case "float":
		r.expression = "CAST(" + q + " AS DOUBLE)" // a float's own text is rounded
	case "bit":
		r.expression, r.form = q+" + 0", number
	case "date", "datetime", "timestamp", "time", "year":
		r.expression = "CAST(" + q + " AS CHAR)"
	case "enum", "set":
		// The number too: two labels may be spelt alike.
		r.expression = "CONCAT(" + q + " + 0, ' ', HEX(" + q + "))"
	case "json":
		r.expression = "CONCAT(JSON_TYPE(" + q + "), ' ', " + q + ")"
	case "binary", "varbinary":
		r.expression, r.form, r.ordered = "HEX("+q+")", hexed, true
	default:
		r.expression, r.form = "HEX("+q+")", hexed
	}
	return r
}

// orderBy is the expression by which rows are read in the order of compareValues.
func (r rendered) orderBy() string {
	if r.ordered {
		return quote(r.name)
	}
	return "CAST(" + r.expression + " AS BINARY)"
}

// compareValues orders two values as the servers were asked to: NULL first,
// integers by size, all else byte by byte.
func (r rendered) compareValues(a, b []byte) int {
	if a == nil || b == nil {
		return cmp.Compare(notNull(a), notNull(b))
	}
	if r.form == number && r.ordered {
		return compareIntegers(a, b)
	}
	return bytes.Compare(a, b)
}

func notNull(v []byte) int {
	if v == nil {
		return 0
	}
	return 1
}

// compareIntegers compares decimal digits without leading zeros, of any length.
func compareIntegers(a, b []byte) int {
	negative := a[0] == '-'
	if negative != (b[0] == '-') {
		if negative {
			return -1
		}
		return 1
	}
	order := cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b))
	if negative {
		return -order
	}
	return order
}

// show is the value for people.
func (r rendered) show(v []byte) string {
	if v == nil {
		return "NULL"
	}
	if r.form != hexed {
		return string(v)
	}
	raw, err := hex.DecodeString(string(v))
	if err == nil && utf8.Valid(raw) && strings.IndexFunc(string(raw), unprintable) < 0 {
		return strconv.Quote(string(raw))
	}
	return "x'" + string(v) + "'"
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }
