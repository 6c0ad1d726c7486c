package codec

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/shopspring/decimal"
)

// AppendLiteral appends the SQL literal of a canonical value; nil is NULL. It needs
// a session with NO_BACKSLASH_ESCAPES, time zone UTC and a client character set in
// which no byte of a multi-byte sequence is a quote (utf8mb4).
func (c *Column) AppendLiteral(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "NULL"...)
	}
	switch c.Kind {
	case Int, Uint, Year, Bit, Enum, Set, Decimal:
		return append(dst, v...)
	case Float, Double, Date, Time, DateTime, Timestamp, UUID, Inet4, Inet6:
		// Quoted, because -0.0 would lose its sign as a number literal.
		dst = append(dst, '\'')
		dst = append(dst, v...)
		return append(dst, '\'')
	case JSON:
		return appendJSONLiteral(dst, v)
	default:
		// A binary string is stored without conversion, whatever the column's
		// character set, and refused (strict mode) where it is not well-formed.
		return appendQuoted(append(dst, "_binary"...), v)
	}
}

// AppendText appends the literal of a value where it is one of several that a string
// function chooses from: a number as a string, whose digits mean the same.
func (c *Column) AppendText(dst, v []byte) []byte {
	switch {
	case v == nil:
		return append(dst, "NULL"...)
	case c.Kind == Int || c.Kind == Uint || c.Kind == Decimal:
		dst = append(append(dst, '\''), v...)
		return append(dst, '\'')
	}
	return c.AppendLiteral(dst, v)
}

// AppendCompared appends the literal of a key value where it is compared with the
// column. A string then needs the column's own character set, so that the column's
// collation decides; hexadecimal, because in some character sets a quote or a
// backslash can be the second byte of a character.
func (c *Column) AppendCompared(dst, v []byte) []byte {
	if v == nil || c.Kind != Text || c.Charset == "" || c.Charset == "binary" {
		return c.AppendLiteral(dst, v)
	}
	dst = append(dst, '_')
	dst = append(dst, c.Charset...)
	dst = append(dst, " X'"...)
	dst = hex.AppendEncode(dst, v)
	return append(dst, '\'')
}

func appendQuoted(dst, v []byte) []byte {
	dst = append(dst, '\'')
	for {
		i := bytes.IndexByte(v, '\'')
		if i < 0 {
			break
		}
		dst = append(dst, v[:i+1]...)
		dst = append(dst, '\'')
		v = v[i+1:]
	}
	dst = append(dst, v...)
	return append(dst, '\'')
}

// AppendDriver appends the canonical form of a value as the SQL driver returned it
// for SelectExpr. It must not be called with nil, which is NULL.
func (c *Column) AppendDriver(dst []byte, v any) ([]byte, error) {
	switch x := v.(type) {
	case []byte:
		if c.Kind == Float || c.Kind == Double {
			f, err := strconv.ParseFloat(string(x), 64)
			if err != nil {
				return nil, fmt.Errorf("column `%s`: %w", c.Name, err)
			}
			return appendDouble(dst, f), nil
		}
		switch c.Kind {
		case Int, Uint, Year, Decimal:
			if !isNumber(x, c.Kind == Decimal) {
				return nil, fmt.Errorf("column `%s`: the query returned bytes that are no number: it has to select what it is given as columns", c.Name)
			}
			x = withoutZeros(x)
		case Bit, Enum, Set:
			// A label may look like a number, and the bytes of a BIT like digits.
			return nil, fmt.Errorf("column `%s`: the query returned its text instead of its number: select CAST(`%[1]s` AS UNSIGNED) AS `%[1]s`, as the columns given to BuildSelect do, and not *", c.Name)
		}
		return append(dst, x...), nil
	case int64:
		return strconv.AppendInt(dst, x, 10), nil
	case uint64:
		return strconv.AppendUint(dst, x, 10), nil
	case float64:
		return appendDouble(dst, x), nil
	case float32:
		return appendDouble(dst, float64(x)), nil
	case string:
		return append(dst, x...), nil
	default:
		return nil, fmt.Errorf("column `%s`: the driver returned a %T", c.Name, v)
	}
}

// isNumber tells whether x, which becomes a literal without quotes, has digits, a minus sign in
// front of them, and a point among them where there may be one.
func isNumber(x []byte, point bool) bool {
	digits := 0
	for i, b := range x {
		switch {
		case '0' <= b && b <= '9':
			digits++
		case b == '-' && i == 0:
		case b == '.' && point:
			point = false
		default:
			return false
		}
	}
	return digits > 0
}

// withoutZeros removes the leading zeros that ZEROFILL shows.
func withoutZeros(x []byte) []byte {
	for len(x) > 1 && x[0] == '0' && x[1] != '.' {
		x = x[1:]
	}
	return x
}

func appendDouble(dst []byte, f float64) []byte {
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// AppendGo appends the canonical form of a value as a host or a row event holds it
// (any Go number, string, []byte, bool, decimal.Decimal or time.Time).
func (c *Column) AppendGo(dst []byte, v any) ([]byte, error) {
	switch x := v.(type) {
	case []byte:
		return c.appendGoBytes(dst, x)
	case string:
		return c.appendGoBytes(dst, []byte(x))
	case int, int8, int16, int32, int64:
		n := toInt64(x)
		if c.Kind == Float || c.Kind == Double {
			return appendDouble(dst, float64(n)), nil
		}
		return strconv.AppendInt(dst, n, 10), nil
	case uint, uint8, uint16, uint32, uint64:
		return strconv.AppendUint(dst, toUint64(x), 10), nil
	case bool:
		if x {
			return append(dst, '1'), nil
		}
		return append(dst, '0'), nil
	case float32:
		return appendDouble(dst, float64(x)), nil
	case float64:
		return appendDouble(dst, x), nil
	case decimal.Decimal:
		return append(dst, x.String()...), nil
	case time.Time:
		return x.UTC().AppendFormat(dst, "2006-01-02 15:04:05.999999"), nil
	default:
		return nil, fmt.Errorf("column `%s`: a %T cannot be written to the database", c.Name, v)
	}
}

func (c *Column) appendGoBytes(dst, x []byte) ([]byte, error) {
	if c.Kind == Float || c.Kind == Double || c.Kind == Decimal {
		return c.AppendDriver(dst, x)
	}
	start := len(dst)
	dst = append(dst, x...)
	for len(dst)-start < c.FixedLen {
		dst = append(dst, 0)
	}
	return dst, nil
}

// ToGo returns a canonical value as hosts see it: int64 or uint64 for numbers,
// float64, decimal.Decimal, string for short strings and temporal values, a fresh
// []byte for objects; nil for NULL.
func (c *Column) ToGo(v []byte) any {
	if v == nil {
		return nil
	}
	switch c.Kind {
	case Int, Year, Enum:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
	case Uint:
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return n
		}
	case Bit, Set:
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return int64(n) // upstream's form: the bit pattern as int64
		}
	case Float:
		if f, err := strconv.ParseFloat(string(v), 64); err == nil {
			return float32(f)
		}
	case Double:
		if f, err := strconv.ParseFloat(string(v), 64); err == nil {
			return f
		}
	case Decimal:
		if d, err := decimal.NewFromString(string(v)); err == nil {
			return d
		}
	}
	if c.Kind == JSON {
		return bytes.Clone(jsonPlain(v))
	}
	if c.Object {
		return bytes.Clone(v)
	}
	return string(v)
}

// Compare orders two canonical non-NULL values as the server does, for columns with
// OrderedInGo.
func (c *Column) Compare(a, b []byte) int {
	switch c.Kind {
	case Int, Uint, Year, Bit, Enum, Set:
		return compareNumbers(a, b)
	default:
		return bytes.Compare(a, b)
	}
}

// compareNumbers orders decimal integers without leading zeros by sign, length and digits.
func compareNumbers(a, b []byte) int {
	negA, negB := len(a) > 0 && a[0] == '-', len(b) > 0 && b[0] == '-'
	switch {
	case negA && !negB:
		return -1
	case !negA && negB:
		return 1
	case negA:
		return compareDigits(b[1:], a[1:])
	default:
		return compareDigits(a, b)
	}
}

func compareDigits(a, b []byte) int {
	if len(a) != len(b) {
		if len(a) < len(b) {
			return -1
		}
		return 1
	}
	return bytes.Compare(a, b)
}

func toInt64(v any) int64 {
	switch x := v.(type) {
	case int:
		return int64(x)
	case int8:
		return int64(x)
	case int16:
		return int64(x)
	case int32:
		return int64(x)
	case int64:
		return x
	}
	return math.MinInt64
}

func toUint64(v any) uint64 {
	switch x := v.(type) {
	case uint:
		return uint64(x)
	case uint8:
		return uint64(x)
	case uint16:
		return uint64(x)
	case uint32:
		return uint64(x)
	case uint64:
		return x
	}
	return 0
}

// ToDriver returns a canonical value as a SELECT by prepared statement would: int64 or
// uint64 for integers, float64, []byte for everything else; nil for NULL. An ENUM
// becomes its label, taken from labels in order.
func (c *Column) ToDriver(v []byte, labels []string) any {
	if v == nil {
		return nil
	}
	switch c.Kind {
	case Int, Uint, Year, Double:
		return c.ToGo(v)
	case Float:
		if f, err := strconv.ParseFloat(string(v), 64); err == nil {
			return f
		}
	case Enum:
		if n, err := strconv.Atoi(string(v)); err == nil && n >= 0 && n <= len(labels) {
			if n == 0 {
				return []byte{}
			}
			return []byte(labels[n-1])
		}
	}
	if c.Kind == JSON {
		v = jsonPlain(v)
	}
	return bytes.Clone(v)
}
