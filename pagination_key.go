package ghostferry

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// PaginationKey is a row's place in the order in which its table is walked.
// A key is immutable.
type PaginationKey interface {
	// SQLValue is the key as a statement's argument.
	SQLValue() interface{}
	// ColumnName is the key's column, or empty when nobody said.
	ColumnName() string
	// Compare returns -1, 0 or 1. Keys of different kinds are ordered by the kind's
	// name, so that Compare is a total order and never panics. Only for the integer
	// and binary kinds is it the server's order too.
	Compare(other PaginationKey) int
	// NumericPosition places the key on a line, for progress estimates only.
	NumericPosition() float64
	// String is the key as text that identifies the row within its table.
	String() string
	// MarshalJSON gives {"type","value","column"}.
	MarshalJSON() ([]byte, error)
	// IsMax says whether the key is the greatest of its kind.
	IsMax() bool
}

// Names of the kinds of keys in JSON.
const (
	keyTypeUint64    = "uint64"
	keyTypeInt64     = "int64"
	keyTypeBinary    = "binary"
	keyTypeText      = "text"
	keyTypeComposite = "composite"
)

// Uint64Key is an integer key that is not negative. Uint64Keys can be compared by ==.
type Uint64Key struct {
	// Column is the key's column, may be empty.
	Column string
	// Value is the key.
	Value uint64
}

// NewUint64Key returns a key that does not know its column.
func NewUint64Key(value uint64) Uint64Key { return Uint64Key{Value: value} }

// NewUint64KeyWithColumn returns a key of a column.
func NewUint64KeyWithColumn(column string, value uint64) Uint64Key {
	return Uint64Key{Column: column, Value: value}
}

// SQLValue is the value as uint64.
func (k Uint64Key) SQLValue() interface{} { return k.Value }

// ColumnName is the key's column, or empty.
func (k Uint64Key) ColumnName() string { return k.Column }

// Compare orders by value, Int64Keys included.
func (k Uint64Key) Compare(other PaginationKey) int {
	switch o := other.(type) {
	case Uint64Key:
		return cmp.Compare(k.Value, o.Value)
	case Int64Key:
		return -o.Compare(k)
	}
	return compareKinds(k, other)
}

// NumericPosition is the value.
func (k Uint64Key) NumericPosition() float64 { return float64(k.Value) }

// String is the value in decimal.
func (k Uint64Key) String() string { return strconv.FormatUint(k.Value, 10) }

// IsMax is true for 2^64-1.
func (k Uint64Key) IsMax() bool { return k.Value == math.MaxUint64 }

// MarshalJSON gives {"type":"uint64","value":123,"column":"id"}.
func (k Uint64Key) MarshalJSON() ([]byte, error) {
	return marshalKey(keyTypeUint64, k.Value, k.Column)
}

// Int64Key is a signed integer key. The engine uses it for negative values only, so
// that a value has one form; Compare orders it among Uint64Keys by value.
type Int64Key struct {
	// Column is the key's column, may be empty.
	Column string
	// Value is the key.
	Value int64

	begins bool // no row has it: a walk begins after it
}

// NewInt64Key returns a key that does not know its column.
func NewInt64Key(value int64) Int64Key { return Int64Key{Value: value} }

// NewInt64KeyWithColumn returns a key of a column.
func NewInt64KeyWithColumn(column string, value int64) Int64Key {
	return Int64Key{Column: column, Value: value}
}

// SQLValue is the value as int64.
func (k Int64Key) SQLValue() interface{} { return k.Value }

// ColumnName is the key's column, or empty.
func (k Int64Key) ColumnName() string { return k.Column }

// Compare orders by value, Uint64Keys included.
func (k Int64Key) Compare(other PaginationKey) int {
	switch o := other.(type) {
	case Int64Key:
		return cmp.Compare(k.Value, o.Value)
	case Uint64Key:
		if k.Value < 0 {
			return -1
		}
		return cmp.Compare(uint64(k.Value), o.Value)
	}
	return compareKinds(k, other)
}

// NumericPosition is the value.
func (k Int64Key) NumericPosition() float64 { return float64(k.Value) }

// String is the value in decimal.
func (k Int64Key) String() string { return strconv.FormatInt(k.Value, 10) }

// IsMax is true for 2^63-1.
func (k Int64Key) IsMax() bool { return k.Value == math.MaxInt64 }

// MarshalJSON gives {"type":"int64","value":-123,"column":"id"}.
func (k Int64Key) MarshalJSON() ([]byte, error) {
	return marshalKey(keyTypeInt64, k.Value, k.Column)
}

// BinaryKey is a byte-string key: BINARY, VARBINARY, or text under a binary
// collation.
type BinaryKey struct {
	// Column is the key's column, may be empty.
	Column string
	// Value is the key's bytes; do not change them.
	Value []byte

	begins bool // no row has it: a walk begins after it
}

// NewBinaryKey copies the bytes into a key that does not know its column.
func NewBinaryKey(value []byte) BinaryKey { return NewBinaryKeyWithColumn("", value) }

// NewBinaryKeyWithColumn copies the bytes into a key of a column.
func NewBinaryKeyWithColumn(column string, value []byte) BinaryKey {
	return BinaryKey{Column: column, Value: append(make([]byte, 0, len(value)), value...)}
}

// SQLValue is the bytes.
func (k BinaryKey) SQLValue() interface{} { return k.Value }

// ColumnName is the key's column, or empty.
func (k BinaryKey) ColumnName() string { return k.Column }

// Compare orders by bytes.
func (k BinaryKey) Compare(other PaginationKey) int {
	if o, ok := other.(BinaryKey); ok {
		return bytes.Compare(k.Value, o.Value)
	}
	return compareKinds(k, other)
}

// NumericPosition is the first eight bytes as a big-endian number, padded with zeros.
func (k BinaryKey) NumericPosition() float64 { return positionOfBytes(k.Value) }

// String is the bytes in lower-case hexadecimal.
func (k BinaryKey) String() string { return hex.EncodeToString(k.Value) }

// IsMax is true when there are bytes and all of them are 0xFF.
func (k BinaryKey) IsMax() bool {
	for _, b := range k.Value {
		if b != 0xFF {
			return false
		}
	}
	return len(k.Value) > 0
}

// MarshalJSON gives {"type":"binary","value":"<hex>","column":"uuid"}.
func (k BinaryKey) MarshalJSON() ([]byte, error) {
	return marshalKey(keyTypeBinary, hex.EncodeToString(k.Value), k.Column)
}

// TextKey is a key whose order only the server knows: text under a collation,
// decimals, dates and times. Its value is the canonical text of the column.
type TextKey struct {
	// Column is the key's column, may be empty.
	Column string
	// Value is the canonical text.
	Value string

	begins bool // no row has it: a walk begins after it
}

// NewTextKey returns a key that does not know its column.
func NewTextKey(value string) TextKey { return TextKey{Value: value} }

// NewTextKeyWithColumn returns a key of a column.
func NewTextKeyWithColumn(column, value string) TextKey {
	return TextKey{Column: column, Value: value}
}

// SQLValue is the text as string.
func (k TextKey) SQLValue() interface{} { return k.Value }

// ColumnName is the key's column, or empty.
func (k TextKey) ColumnName() string { return k.Column }

// Compare orders by bytes. That is not the server's order: it tells equal texts from
// different ones and makes listings stable, and must not be used to walk a table.
func (k TextKey) Compare(other PaginationKey) int {
	if o, ok := other.(TextKey); ok {
		return strings.Compare(k.Value, o.Value)
	}
	return compareKinds(k, other)
}

// NumericPosition is the number that the text is, or else its first eight bytes as
// a big-endian number.
func (k TextKey) NumericPosition() float64 {
	if position, err := strconv.ParseFloat(k.Value, 64); err == nil && !math.IsNaN(position) && !math.IsInf(position, 0) {
		return position
	}
	return positionOfBytes([]byte(k.Value))
}

// String is the text.
func (k TextKey) String() string { return k.Value }

// IsMax is always false: no text is known to be the greatest.
func (k TextKey) IsMax() bool { return false }

// MarshalJSON gives {"type":"text","value":"a","column":"code"}; a value that is not
// valid UTF-8, which JSON cannot carry, is given as {"type":"text","hex":"ff"}.
func (k TextKey) MarshalJSON() ([]byte, error) {
	if !utf8.ValidString(k.Value) {
		return json.Marshal(keyJSON{Type: keyTypeText, Hex: hex.EncodeToString([]byte(k.Value)), Column: k.Column})
	}
	return marshalKey(keyTypeText, k.Value, k.Column)
}

// CompositeKey is a key of several columns, in the key's column order.
type CompositeKey struct {
	// Parts are the keys of the single columns; do not change them.
	Parts []PaginationKey
}

// NewCompositeKey returns a key of the given parts.
func NewCompositeKey(parts ...PaginationKey) CompositeKey { return CompositeKey{Parts: parts} }

// SQLValue is a []interface{} of the parts' values: one argument for each column.
func (k CompositeKey) SQLValue() interface{} {
	values := make([]interface{}, len(k.Parts))
	for i, part := range k.Parts {
		values[i] = part.SQLValue()
	}
	return values
}

// ColumnName is the parts' columns, separated by commas.
func (k CompositeKey) ColumnName() string {
	names := make([]string, 0, len(k.Parts))
	for _, part := range k.Parts {
		if name := part.ColumnName(); name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Compare orders by the first differing part; a beginning of a key comes before it.
func (k CompositeKey) Compare(other PaginationKey) int {
	o, ok := other.(CompositeKey)
	if !ok {
		return compareKinds(k, other)
	}
	for i := 0; i < len(k.Parts) && i < len(o.Parts); i++ {
		if order := k.Parts[i].Compare(o.Parts[i]); order != 0 {
			return order
		}
	}
	return cmp.Compare(len(k.Parts), len(o.Parts))
}

// NumericPosition is the first part's.
func (k CompositeKey) NumericPosition() float64 {
	if len(k.Parts) == 0 {
		return 0
	}
	return k.Parts[0].NumericPosition()
}

var compositeEscaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`)

// String is the parts' texts separated by commas; commas and backslashes within a
// part are escaped by a backslash, so that different keys have different texts.
func (k CompositeKey) String() string {
	texts := make([]string, len(k.Parts))
	for i, part := range k.Parts {
		texts[i] = compositeEscaper.Replace(part.String())
	}
	return strings.Join(texts, ",")
}

// splitComposite takes the text of a composite key apart again.
func splitComposite(text string) []string {
	parts := []string{""}
	for i := 0; i < len(text); i++ {
		last := len(parts) - 1
		switch {
		case text[i] == ',':
			parts = append(parts, "")
		case text[i] == '\\' && i+1 < len(text):
			i++
			fallthrough
		default:
			parts[last] += text[i : i+1]
		}
	}
	return parts
}

// IsMax is true when every part is the greatest of its kind.
func (k CompositeKey) IsMax() bool {
	for _, part := range k.Parts {
		if !part.IsMax() {
			return false
		}
	}
	return len(k.Parts) > 0
}

// MarshalJSON gives {"type":"composite","value":[…]} with the parts' own forms.
func (k CompositeKey) MarshalJSON() ([]byte, error) {
	parts := k.Parts
	if parts == nil {
		parts = []PaginationKey{}
	}
	return marshalKey(keyTypeComposite, parts, "")
}

// keyJSON is the written form of every kind of key.
type keyJSON struct {
	Type   string      `json:"type"`
	Value  interface{} `json:"value,omitempty"`
	Hex    string      `json:"hex,omitempty"`
	Column string      `json:"column,omitempty"`
}

func marshalKey(kind string, value interface{}, column string) ([]byte, error) {
	return json.Marshal(struct {
		Type   string      `json:"type"`
		Value  interface{} `json:"value"`
		Column string      `json:"column,omitempty"`
	}{kind, value, column})
}

// UnmarshalPaginationKey reads what MarshalJSON of any kind of key wrote, and the
// bare integers of older state dumps.
func UnmarshalPaginationKey(data []byte) (PaginationKey, error) {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] != '{' {
		key, err := integerKeyFromText("", string(data))
		if err != nil {
			return nil, fmt.Errorf("pagination key %.40s is neither a key object nor an integer: %w", data, err)
		}
		return key, nil
	}

	var raw struct {
		Type   string          `json:"type"`
		Value  json.RawMessage `json:"value"`
		Hex    *string         `json:"hex"`
		Column string          `json:"column"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("pagination key: %w", err)
	}

	key, err := unmarshalKeyValue(raw.Type, raw.Value, raw.Hex, raw.Column)
	if err != nil {
		return nil, fmt.Errorf("pagination key of type %s: %w", raw.Type, err)
	}
	if key == nil {
		return nil, fmt.Errorf("unknown key type: %s", raw.Type)
	}
	return key, nil
}

// unmarshalKeyValue returns a nil key for an unknown type.
func unmarshalKeyValue(kind string, value json.RawMessage, hexText *string, column string) (PaginationKey, error) {
	if len(value) == 0 && hexText == nil {
		value = json.RawMessage("null")
	}
	switch kind {
	case keyTypeUint64:
		number, err := strconv.ParseUint(string(value), 10, 64)
		return NewUint64KeyWithColumn(column, number), err
	case keyTypeInt64:
		number, err := strconv.ParseInt(string(value), 10, 64)
		return NewInt64KeyWithColumn(column, number), err
	case keyTypeBinary:
		text, err := requiredString(value)
		if err != nil {
			return nil, err
		}
		raw, err := hex.DecodeString(text)
		return BinaryKey{Column: column, Value: raw}, err
	case keyTypeText:
		if hexText != nil {
			raw, err := hex.DecodeString(*hexText)
			return NewTextKeyWithColumn(column, string(raw)), err
		}
		text, err := requiredString(value)
		return NewTextKeyWithColumn(column, text), err
	case keyTypeComposite:
		var raws []json.RawMessage
		if err := json.Unmarshal(value, &raws); err != nil {
			return nil, err
		}
		parts := make([]PaginationKey, len(raws))
		for i, raw := range raws {
			part, err := UnmarshalPaginationKey(raw)
			if err != nil {
				return nil, fmt.Errorf("part %d: %w", i+1, err)
			}
			parts[i] = part
		}
		return CompositeKey{Parts: parts}, nil
	}
	return nil, nil
}

func requiredString(value json.RawMessage) (string, error) {
	var text *string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", err
	}
	if text == nil {
		return "", fmt.Errorf("value is missing")
	}
	return *text, nil
}

// integerKeyFromText reads a decimal integer into the one key kind for its value.
func integerKeyFromText(column, text string) (PaginationKey, error) {
	if strings.HasPrefix(text, "-") {
		number, err := strconv.ParseInt(text, 10, 64)
		return integerKey(column, number), err
	}
	number, err := strconv.ParseUint(text, 10, 64)
	return NewUint64KeyWithColumn(column, number), err
}

// integerKey gives negative values an Int64Key and all others a Uint64Key.
func integerKey(column string, number int64) PaginationKey {
	if number < 0 {
		return NewInt64KeyWithColumn(column, number)
	}
	return NewUint64KeyWithColumn(column, uint64(number))
}

func positionOfBytes(value []byte) float64 {
	if len(value) == 0 {
		return 0
	}
	var head [8]byte
	copy(head[:], value)
	return float64(binary.BigEndian.Uint64(head[:]))
}

// compareKinds orders keys that have no common order, by the names of their kinds.
func compareKinds(a, b PaginationKey) int {
	if b == nil {
		return 1
	}
	if order := strings.Compare(kindName(a), kindName(b)); order != 0 {
		return order
	}
	return strings.Compare(a.String(), b.String())
}

func kindName(key PaginationKey) string {
	switch key.(type) {
	case BinaryKey:
		return keyTypeBinary
	case CompositeKey:
		return keyTypeComposite
	case Uint64Key, Int64Key:
		return "integer"
	case TextKey:
		return keyTypeText
	}
	return fmt.Sprintf("%T", key)
}
