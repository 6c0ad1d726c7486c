package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

var errJSON = errors.New("the JSON document in the row image is malformed")

// Type bytes of MySQL's binary JSON; source: the format described in MySQL's
// json_binary.h.
const (
	jsonSmallObject = 0
	jsonLargeObject = 1
	jsonSmallArray  = 2
	jsonLargeArray  = 3
	jsonLiteral     = 4
	jsonInt16       = 5
	jsonUint16      = 6
	jsonInt32       = 7
	jsonUint32      = 8
	jsonInt64       = 9
	jsonUint64      = 10
	jsonDouble      = 11
	jsonString      = 12
	jsonOpaque      = 15

	jsonMaxDepth = 100 // MySQL's own limit
)

// AppendJSONText appends the canonical form of a binary JSON document. An empty document, which
// old servers store for an invalid value, is the JSON null.
func AppendJSONText(dst, doc []byte) ([]byte, error) {
	if len(doc) == 0 {
		return append(dst, "null"...), nil
	}
	d := jsonDocument{unread: len(doc)}
	return d.appendValue(dst, doc[0], doc[1:], 0)
}

// jsonDocument is a document that is being read. No byte of it belongs to two values:
// without this bound a small document whose elements all point to one child, and so on
// downwards, would become a text without end.
type jsonDocument struct{ unread int }

// take counts bytes that no other value has.
func (d *jsonDocument) take(n int) error {
	if d.unread -= n; d.unread < 0 {
		return errJSON
	}
	return nil
}

func (d *jsonDocument) appendValue(dst []byte, typ byte, data []byte, depth int) ([]byte, error) {
	if depth > jsonMaxDepth {
		return nil, errJSON
	}
	switch typ {
	case jsonSmallObject, jsonLargeObject, jsonSmallArray, jsonLargeArray:
		return d.appendContainer(dst, typ, data, depth)
	case jsonString, jsonOpaque:
		opaque := typ == jsonOpaque
		if opaque {
			if len(data) < 1 {
				return nil, errJSON
			}
			typ, data = data[0], data[1:]
		}
		s, err := jsonBytes(data)
		if err == nil {
			err = d.take(len(s))
		}
		switch {
		case err != nil:
			return nil, err
		case opaque:
			return appendJSONOpaque(dst, typ, s)
		}
		return appendJSONString(dst, s), nil
	}
	return appendJSONScalar(dst, typ, data)
}

// jsonScalarBytes are the sizes of scalars, 0 for what is none; an array, as temporalBytes is.
var jsonScalarBytes = [...]int{jsonLiteral: 1, jsonInt16: 2, jsonUint16: 2, jsonInt32: 4, jsonUint32: 4, jsonInt64: 8, jsonUint64: 8, jsonDouble: 8}

func appendJSONScalar(dst []byte, typ byte, data []byte) ([]byte, error) {
	if int(typ) >= len(jsonScalarBytes) || jsonScalarBytes[typ] == 0 || len(data) < jsonScalarBytes[typ] {
		return nil, errJSON
	}
	switch typ {
	case jsonLiteral:
		switch data[0] {
		case 0:
			return append(dst, "null"...), nil
		case 1:
			return append(dst, "true"...), nil
		case 2:
			return append(dst, "false"...), nil
		}
		return nil, errJSON
	case jsonInt16:
		return strconv.AppendInt(dst, int64(int16(binary.LittleEndian.Uint16(data))), 10), nil
	case jsonUint16:
		return appendJSONUnsigned(dst, uint64(binary.LittleEndian.Uint16(data))), nil
	case jsonInt32:
		return strconv.AppendInt(dst, int64(int32(binary.LittleEndian.Uint32(data))), 10), nil
	case jsonUint32:
		return appendJSONUnsigned(dst, uint64(binary.LittleEndian.Uint32(data))), nil
	case jsonInt64:
		return strconv.AppendInt(dst, int64(binary.LittleEndian.Uint64(data)), 10), nil
	case jsonUint64:
		return appendJSONUnsigned(dst, binary.LittleEndian.Uint64(data)), nil
	default:
		f := math.Float64frombits(binary.LittleEndian.Uint64(data))
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, errJSON
		}
		return appendJSONDouble(dst, f), nil
	}
}

func appendJSONUnsigned(dst []byte, u uint64) []byte {
	if u <= math.MaxInt64 {
		dst = append(dst, jsonMark, markUnsigned)
	}
	return strconv.AppendUint(dst, u, 10)
}

// appendJSONDouble prints a double as the server does: the shortest digits that read back
// to it, without an exponent from 1e-15 up to 1e15, and always so that it is read as a
// double again.
func appendJSONDouble(dst []byte, f float64) []byte {
	var buf [32]byte
	short := strconv.AppendFloat(buf[:0], math.Abs(f), 'e', -1, 64)
	if math.Signbit(f) {
		dst = append(dst, '-')
	}
	mantissa, exponent, _ := bytes.Cut(short, []byte{'e'})
	digits := len(mantissa)
	if digits > 1 {
		digits-- // the point
	}
	exp, _ := strconv.Atoi(string(exponent))
	if f == 0 || exp >= -15 && (exp < 15 || digits > exp+1) {
		dst = strconv.AppendFloat(dst, math.Abs(f), 'f', -1, 64)
		if digits <= exp+1 || f == 0 {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	return strconv.AppendInt(append(append(dst, mantissa...), 'e'), int64(exp), 10)
}

// appendContainer: element count and byte size, then for objects the key
// entries (offset, 2-byte length), the value entries (type, offset or inlined
// value), the keys and the values. Small containers use 2-byte, large 4-byte offsets.
func (d *jsonDocument) appendContainer(dst []byte, typ byte, data []byte, depth int) ([]byte, error) {
	width := 2
	if typ == jsonLargeObject || typ == jsonLargeArray {
		width = 4
	}
	object := typ == jsonSmallObject || typ == jsonLargeObject
	if len(data) < 2*width {
		return nil, errJSON
	}
	count, size := offsetAt(data, 0, width), offsetAt(data, width, width)
	if size > len(data) || count > size {
		return nil, errJSON
	}
	data = data[:size]
	entries := 2 * width
	keys := entries
	open, end := byte('['), byte(']')
	if object {
		entries += count * (width + 2)
		open, end = '{', '}'
	}
	header := entries + count*(1+width)
	if header > size || d.take(header) != nil {
		return nil, errJSON
	}
	dst = append(dst, open)
	for i := range count {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if object {
			at := keys + i*(width+2)
			off, n := offsetAt(data, at, width), offsetAt(data, at+width, 2)
			if off+n > size || d.take(n) != nil {
				return nil, errJSON
			}
			dst = append(appendJSONString(dst, data[off:off+n]), ": "...)
		}
		at := entries + i*(1+width)
		value := data[at+1:]
		if !jsonInlined(data[at], width) {
			off := offsetAt(data, at+1, width)
			if off > size {
				return nil, errJSON
			}
			value = data[off:]
		}
		var err error
		if dst, err = d.appendValue(dst, data[at], value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, end), nil
}

func jsonInlined(typ byte, width int) bool {
	switch typ {
	case jsonLiteral, jsonInt16, jsonUint16:
		return true
	case jsonInt32, jsonUint32:
		return width == 4
	}
	return false
}

func offsetAt(data []byte, at, width int) int {
	if width == 2 {
		return int(binary.LittleEndian.Uint16(data[at:]))
	}
	return int(binary.LittleEndian.Uint32(data[at:]))
}

// jsonBytes reads a byte string whose length is packed seven bits a byte.
func jsonBytes(data []byte) ([]byte, error) {
	n := 0
	for i := 0; i < 5 && i < len(data); i++ {
		n |= int(data[i]&0x7f) << (7 * i)
		if data[i]&0x80 == 0 {
			if n > len(data)-i-1 {
				return nil, errJSON
			}
			return data[i+1 : i+1+n], nil
		}
	}
	return nil, errJSON
}

const hexDigits = "0123456789abcdef"

func appendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, b := range s {
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b == '\n':
			dst = append(dst, `\n`...)
		case b == '\r':
			dst = append(dst, `\r`...)
		case b == '\t':
			dst = append(dst, `\t`...)
		case b == '\b':
			dst = append(dst, `\b`...)
		case b == '\f':
			dst = append(dst, `\f`...)
		case b < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"')
}

// appendJSONOpaque renders values that JSON text has no form for the way the server
// prints them: decimals as numbers, temporal values and bytes as strings.
func appendJSONOpaque(dst []byte, typ byte, v []byte) ([]byte, error) {
	switch typ {
	case typeNewDecimal:
		if len(v) < 2 {
			return nil, errJSON
		}
		dst = append(dst, jsonMark, markDecimal)
		dst, _, err := appendDecimal(dst, v[2:], int(v[0]), int(v[1]))
		return dst, err
	case typeDate, typeDateTime, typeTimestamp, typeTime:
		if len(v) < 8 {
			return nil, errJSON
		}
		return appendJSONTemporal(dst, typ, int64(binary.LittleEndian.Uint64(v))), nil
	}
	start := len(dst) + 3
	dst = append(appendOpaqueText(append(dst, jsonMark, markOpaque, '"'), typ, v), '"')
	_, _, err := parseOpaque(dst[start : len(dst)-1])
	return dst, err
}

var temporalMarks = [...]byte{typeDate: markDate, typeTime: markTime, typeDateTime: markDateTime, typeTimestamp: markTimestamp}

// appendJSONTemporal unpacks the 64-bit form: 24 bits of microseconds below the time
// and date parts.
func appendJSONTemporal(dst []byte, typ byte, packed int64) []byte {
	dst = append(dst, jsonMark, temporalMarks[typ], '"')
	if packed < 0 {
		dst, packed = append(dst, '-'), -packed
	}
	micros, v := uint64(packed)&0xffffff, uint64(packed)>>24
	if typ == typeTime {
		dst = appendHMS(dst, v>>12&0x3ff, v>>6&63, v&63)
		return append(appendPadded(append(dst, '.'), micros, 6), '"')
	}
	ymd, hms := v>>17, v&0x1ffff
	ym := ymd >> 5
	dst = appendYMD(dst, ym/13, ym%13, ymd&31)
	if typ != typeDate {
		dst = appendHMS(append(dst, ' '), hms>>12, hms>>6&63, hms&63)
		dst = appendPadded(append(dst, '.'), micros, 6)
	}
	return append(dst, '"')
}
