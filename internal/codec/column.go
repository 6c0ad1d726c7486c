// Package codec is the one value codec of the engine: a column's value read by
// SELECT and the same value decoded from a row event give the same canonical
// bytes, and canonical bytes become the same SQL literal whichever road they came.
//
// Canonical forms: integers, YEAR, BIT, ENUM (the index) and SET (the bit mask) are
// decimal text; FLOAT and DOUBLE the shortest text that reads back to the same
// double; DECIMAL and temporal values the server's text (TIMESTAMP in UTC);
// character strings the raw bytes in the column's own character set; BINARY(n)
// padded to n with zero bytes; UUID, INET4 and INET6 the server's text; JSON its text with
// the leaves marked that the text does not tell from others (see json_marks.go).
package codec

import (
	"fmt"
	"strings"
)

// Kind is how a column's values are read, compared and written.
type Kind uint8

// The kinds of columns.
const (
	Int       Kind = iota // signed integers
	Uint                  // unsigned integers
	Year                  // YEAR
	Bit                   // BIT(1..64)
	Enum                  // ENUM, by index
	Set                   // SET, by bit mask
	Decimal               // DECIMAL, NUMERIC
	Float                 // FLOAT
	Double                // DOUBLE, REAL
	Date                  // DATE
	Time                  // TIME
	DateTime              // DATETIME
	Timestamp             // TIMESTAMP, in UTC
	Text                  // CHAR, VARCHAR, …TEXT: raw bytes of the column's character set
	Binary                // BINARY, VARBINARY, …BLOB
	JSON                  // MySQL's JSON (MariaDB's is a LONGTEXT)
	Geometry              // spatial types: SRID and WKB, as stored
	Vector                // VECTOR(n): single-precision numbers, as stored
	UUID                  // MariaDB's UUID
	Inet4                 // MariaDB's INET4
	Inet6                 // MariaDB's INET6
)

// Info is what information_schema.columns says of a column.
type Info struct {
	Name             string
	DataType         string // DATA_TYPE, lower case
	ColumnType       string // COLUMN_TYPE, e.g. "int unsigned", "binary(16)"
	Charset          string // CHARACTER_SET_NAME, "" when none
	Collation        string // COLLATION_NAME, "" when none
	Unsigned         bool
	Nullable         bool
	Generated        bool   // virtual or stored generated column
	OctetLength      uint64 // CHARACTER_OCTET_LENGTH
	FractionalDigits int    // DATETIME_PRECISION
}

// Column says how the values of one column are carried.
type Column struct {
	Name      string
	Kind      Kind
	Charset   string
	Collation string
	Nullable  bool
	Generated bool
	// Digits are the fractional digits of a temporal type's seconds.
	Digits int
	// FixedLen is the length in bytes to which BINARY(n) values are padded, else 0.
	FixedLen int
	// Object is true for column types a host sees as []byte rather than as string
	// (…TEXT, …BLOB, JSON, spatial types).
	Object bool
	// Leaves reads the types of a JSON column's leaves; nil: documents are read as text.
	Leaves *LeafTypes
}

// UnsupportedTypeError names a column whose type cannot be carried exactly.
type UnsupportedTypeError struct {
	Column string
	Type   string
}

func (e *UnsupportedTypeError) Error() string {
	return fmt.Sprintf("column `%s` has type %s, which cannot be carried exactly: leave its table out of the move", e.Column, e.Type)
}

// NewColumn derives the codec of a column. The error is an *UnsupportedTypeError.
func NewColumn(info Info) (Column, error) {
	c := Column{
		Name: info.Name, Charset: info.Charset, Collation: info.Collation,
		Nullable: info.Nullable, Generated: info.Generated, Digits: info.FractionalDigits,
	}
	switch strings.ToLower(info.DataType) {
	case "tinyint", "smallint", "mediumint", "int", "integer", "bigint":
		c.Kind = Int
		if info.Unsigned {
			c.Kind = Uint
		}
	case "year":
		c.Kind = Year
	case "bit":
		c.Kind = Bit
	case "enum":
		c.Kind = Enum
	case "set":
		c.Kind = Set
	case "decimal", "numeric":
		c.Kind = Decimal
	case "float":
		c.Kind = Float
	case "double", "real":
		c.Kind = Double
	case "date":
		c.Kind = Date
	case "time":
		c.Kind = Time
	case "datetime":
		c.Kind = DateTime
	case "timestamp":
		c.Kind = Timestamp
	case "char", "varchar":
		c.Kind = Text
	case "tinytext", "text", "mediumtext", "longtext":
		c.Kind, c.Object = Text, true
	case "binary":
		c.Kind, c.FixedLen = Binary, int(info.OctetLength)
	case "varbinary":
		c.Kind = Binary
	case "tinyblob", "blob", "mediumblob", "longblob":
		c.Kind, c.Object = Binary, true
	case "json":
		c.Kind, c.Object = JSON, true
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "geometrycollection":
		c.Kind, c.Object = Geometry, true
	case "vector":
		c.Kind, c.Object = Vector, true
	case "uuid":
		c.Kind = UUID
	case "inet4":
		c.Kind = Inet4
	case "inet6":
		c.Kind = Inet6
	default:
		return Column{}, &UnsupportedTypeError{Column: info.Name, Type: info.ColumnType}
	}
	return c, nil
}

// SelectExpr returns the expression that reads the column, quoted as ident, in a
// form whose text is canonical (or, for doubles, becomes canonical by AppendDriver).
// A plain FLOAT would be printed with six digits; as a double it is exact.
// ENUM and SET are read by number so that both roads agree on members whose
// labels the session's character set cannot express.
func (c *Column) SelectExpr(ident string) string {
	switch c.Kind {
	case Float:
		return ident + "*1e0"
	case Bit, Enum, Set:
		return "CAST(" + ident + " AS UNSIGNED)" // +0 would make a double of a SET
	default:
		return ident
	}
}

// EqualByBytes reports whether two values of the column are the same key value for
// the server exactly when their canonical bytes are equal. Collated strings are
// not: 'A' = 'a', and PAD SPACE ignores trailing blanks.
func (c *Column) EqualByBytes() bool {
	switch c.Kind {
	case Int, Uint, Year, Bit, Enum, Set, Decimal, Date, Time, DateTime, Timestamp, Binary, UUID, Inet4, Inet6:
		return true
	case Text:
		return c.Collation == "utf8mb4_0900_bin" // the only NO PAD binary collation of MySQL
	default:
		return false
	}
}

// OrderedInGo reports whether Compare gives the server's order.
func (c *Column) OrderedInGo() bool {
	switch c.Kind {
	case Int, Uint, Year, Bit, Enum, Set, Date, DateTime, Timestamp, Binary:
		return true
	default:
		return false
	}
}
