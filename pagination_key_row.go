package ghostferry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/shopspring/decimal"
)

// maxBinaryKeySize bounds the bytes that MaxPaginationKey makes.
const maxBinaryKeySize = 4096

// keyKind is how a column's values become keys.
type keyKind int

const (
	keyKindInteger keyKind = iota
	keyKindBinary
	keyKindText
)

// keyKindOf chooses the kind from the column's type: byte strings and text under a
// binary (or no) collation are compared by bytes, other text, decimals and temporal
// values only by the server, and everything else counts as an integer.
func keyKindOf(column *schema.TableColumn) keyKind {
	switch column.Type {
	case schema.TYPE_BINARY:
		return keyKindBinary
	case schema.TYPE_STRING:
		if isBinaryCollation(column.Collation) && !isServerOrdered(column.RawType) {
			return keyKindBinary
		}
		return keyKindText
	case schema.TYPE_DECIMAL, schema.TYPE_DATETIME, schema.TYPE_TIMESTAMP, schema.TYPE_DATE, schema.TYPE_TIME,
		schema.TYPE_ENUM, schema.TYPE_SET:
		return keyKindText
	}
	return keyKindInteger
}

func isBinaryCollation(collation string) bool {
	return collation == "" || collation == "binary" || strings.HasSuffix(collation, "_bin")
}

// isServerOrdered is true for MariaDB's types that look like text without a collation
// and have an order of their own.
func isServerOrdered(rawType string) bool {
	switch strings.ToLower(rawType) {
	case "uuid", "inet4", "inet6":
		return true
	}
	return false
}

// MinPaginationKey is the key that hosts start a walk from: 0 or no bytes. It is not
// below every row: a signed column can hold negative values, and 0 and the empty
// string are values too. The copy itself therefore starts without a key.
func MinPaginationKey(column *schema.TableColumn) PaginationKey {
	switch keyKindOf(column) {
	case keyKindBinary:
		return NewBinaryKeyWithColumn(column.Name, nil)
	case keyKindText:
		return NewTextKeyWithColumn(column.Name, "")
	}
	return NewUint64KeyWithColumn(column.Name, 0)
}

// MaxPaginationKey is a key that no row lies above: 2^64-1, or bytes of 0xFF up to
// the column's size (at most 4096). Text kinds have no such key and get the same
// bytes, good for display only.
func MaxPaginationKey(column *schema.TableColumn) PaginationKey {
	kind := keyKindOf(column)
	if kind == keyKindInteger {
		return NewUint64KeyWithColumn(column.Name, ^uint64(0))
	}
	size := min(column.MaxSize, maxBinaryKeySize)
	if size == 0 {
		size = maxBinaryKeySize
	}
	top := bytes.Repeat([]byte{0xFF}, int(size))
	if kind == keyKindText {
		return NewTextKeyWithColumn(column.Name, string(top))
	}
	return BinaryKey{Column: column.Name, Value: top}
}

// NewPaginationKeyFromRow makes the key of a row from the value at an index. The
// value may come from a query or from the binary log; an index outside the row, NULL
// and a value that does not fit the column are errors.
func NewPaginationKeyFromRow(rowData RowData, index int, column *schema.TableColumn) (PaginationKey, error) {
	if index < 0 || index >= len(rowData) {
		return nil, fmt.Errorf("key column %s: index %d is outside a row of %d values", column.Name, index, len(rowData))
	}
	value := rowData[index]

	switch keyKindOf(column) {
	case keyKindBinary:
		raw, err := bytesOfKeyValue(value)
		if err != nil {
			return nil, fmt.Errorf("key column %s: %w", column.Name, err)
		}
		// The binary log leaves out the trailing zero bytes of BINARY(n), a query
		// does not; a key must not depend on where it came from.
		if column.Type == schema.TYPE_BINARY && uint(len(raw)) < column.FixedSize {
			raw = append(raw, make([]byte, int(column.FixedSize)-len(raw))...)
		}
		return BinaryKey{Column: column.Name, Value: raw}, nil
	case keyKindText:
		text, err := textOfKeyValue(value, column)
		if err != nil {
			return nil, fmt.Errorf("key column %s: %w", column.Name, err)
		}
		return NewTextKeyWithColumn(column.Name, text), nil
	}

	key, err := integerKeyFromValue(value, column)
	if err != nil {
		return nil, fmt.Errorf("key column %s: %w", column.Name, err)
	}
	return key, nil
}

func integerKeyFromValue(value interface{}, column *schema.TableColumn) (PaginationKey, error) {
	switch v := value.(type) {
	case int:
		return integerKey(column.Name, int64(v)), nil
	case int8:
		return integerKey(column.Name, int64(v)), nil
	case int16:
		return integerKey(column.Name, int64(v)), nil
	case int32:
		return integerKey(column.Name, int64(v)), nil
	case int64:
		return integerKey(column.Name, v), nil
	case uint:
		return NewUint64KeyWithColumn(column.Name, uint64(v)), nil
	case uint8:
		return NewUint64KeyWithColumn(column.Name, uint64(v)), nil
	case uint16:
		return NewUint64KeyWithColumn(column.Name, uint64(v)), nil
	case uint32:
		return NewUint64KeyWithColumn(column.Name, uint64(v)), nil
	case uint64:
		return NewUint64KeyWithColumn(column.Name, v), nil
	case []byte:
		if column.Type == schema.TYPE_BIT {
			return bitKey(column.Name, v)
		}
		return integerKeyFromText(column.Name, string(v))
	case string:
		if column.Type == schema.TYPE_BIT {
			return bitKey(column.Name, []byte(v))
		}
		return integerKeyFromText(column.Name, v)
	}
	return nil, unfitKeyValue(value, "an integer")
}

// bitKey reads the big-endian bytes that a query gives for a BIT column.
func bitKey(column string, raw []byte) (PaginationKey, error) {
	if len(raw) == 0 || len(raw) > 8 {
		return nil, fmt.Errorf("%d bytes are no value of a BIT column", len(raw))
	}
	var full [8]byte
	copy(full[8-len(raw):], raw)
	return NewUint64KeyWithColumn(column, binary.BigEndian.Uint64(full[:])), nil
}

func bytesOfKeyValue(value interface{}) ([]byte, error) {
	switch v := value.(type) {
	case []byte:
		if v == nil {
			return nil, unfitKeyValue(nil, "bytes")
		}
		return append(make([]byte, 0, len(v)), v...), nil
	case string:
		return []byte(v), nil
	}
	return nil, unfitKeyValue(value, "bytes")
}

// textOfKeyValue gives a value the text that a query gives it: in the binary log
// decimals are numbers, and ENUM and SET are the numbers of their values.
func textOfKeyValue(value interface{}, column *schema.TableColumn) (string, error) {
	switch v := value.(type) {
	case []byte:
		if v == nil {
			return "", unfitKeyValue(nil, "text")
		}
		return string(v), nil
	case string:
		return v, nil
	case decimal.Decimal:
		return v.StringFixed(max(0, -v.Exponent())), nil
	case int64:
		switch column.Type {
		case schema.TYPE_ENUM:
			return enumText(v, column.EnumValues)
		case schema.TYPE_SET:
			return setText(v, column.SetValues)
		}
	}
	return "", unfitKeyValue(value, "text")
}

func enumText(number int64, values []string) (string, error) {
	if number < 0 || number > int64(len(values)) {
		return "", fmt.Errorf("ENUM value %d is not one of %d values", number, len(values))
	}
	if number == 0 { // what an invalid value was stored as
		return "", nil
	}
	return values[number-1], nil
}

func setText(bits int64, values []string) (string, error) {
	if len(values) < 64 && uint64(bits)>>len(values) != 0 {
		return "", fmt.Errorf("SET value %d has bits beyond its %d values", bits, len(values))
	}
	var members []string
	for i, value := range values {
		if bits&(1<<i) != 0 {
			members = append(members, value)
		}
	}
	return strings.Join(members, ","), nil
}

func unfitKeyValue(value interface{}, wanted string) error {
	if value == nil {
		return fmt.Errorf("NULL cannot be a pagination key")
	}
	return fmt.Errorf("a value of Go type %T is not %s", value, wanted)
}
