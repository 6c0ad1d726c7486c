package ghostferry

import (
	"fmt"
	"strconv"
)

// RowData is one row: driver or binlog values in column order.
type RowData []interface{}

// GetUint64 returns the integer at an index: any Go integer type (negatives wrap), or
// decimal text in a []byte or string.
func (r RowData) GetUint64(colIdx int) (uint64, error) {
	if colIdx < 0 || colIdx >= len(r) {
		return 0, fmt.Errorf("column %d is not in a row of %d values", colIdx, len(r))
	}
	v := r[colIdx]
	if u, ok := Uint64Value(v); ok {
		return u, nil
	}
	if i, ok := Int64Value(v); ok {
		return uint64(i), nil
	}
	var text string
	switch x := v.(type) {
	case []byte:
		text = string(x)
	case string:
		text = x
	default:
		return 0, fmt.Errorf("column %d holds a %T, not an integer", colIdx, v)
	}
	u, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("column %d: %w", colIdx, err)
	}
	return u, nil
}

// Uint64Value returns the value of a Go unsigned integer.
func Uint64Value(value interface{}) (uint64, bool) {
	switch v := value.(type) {
	case uint64:
		return v, true
	case uint32:
		return uint64(v), true
	case uint16:
		return uint64(v), true
	case uint8:
		return uint64(v), true
	case uint:
		return uint64(v), true
	}
	return 0, false
}

// Int64Value returns the value of a Go signed integer.
func Int64Value(value interface{}) (int64, bool) {
	switch v := value.(type) {
	case int64:
		return v, true
	case int32:
		return int64(v), true
	case int16:
		return int64(v), true
	case int8:
		return int64(v), true
	case int:
		return int64(v), true
	}
	return 0, false
}
