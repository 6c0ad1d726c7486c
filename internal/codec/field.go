package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"
)

// appendField appends the canonical form of one value of a row image and returns how
// many bytes it took. Formats: MySQL's documentation of the row event's field types.
func appendField(dst []byte, c *Column, typ byte, meta uint16, data []byte) ([]byte, int, error) {
	if typ == typeString {
		// The real type hides in the metadata; lengths above 255 borrow two of its bits.
		hi, lo := byte(meta>>8), int(meta&0xff)
		if hi&0x30 != 0x30 {
			return appendString(dst, c, data, lo|int(hi&0x30^0x30)<<4)
		}
		typ = hi
		if typ == typeEnum || typ == typeSet {
			return appendUintLE(dst, data, lo)
		}
		return appendString(dst, c, data, lo)
	}
	switch typ {
	case typeTiny:
		return appendInteger(dst, c, data, 1)
	case typeShort:
		return appendInteger(dst, c, data, 2)
	case typeInt24:
		return appendInteger(dst, c, data, 3)
	case typeLong:
		return appendInteger(dst, c, data, 4)
	case typeLongLong:
		return appendInteger(dst, c, data, 8)
	case typeFloat, typeDouble:
		return appendFloating(dst, typ, data)
	case typeNewDecimal:
		return appendDecimal(dst, data, int(meta>>8), int(meta&0xff))
	case typeYear:
		if len(data) < 1 {
			return nil, 0, errTruncated
		}
		if data[0] == 0 {
			return append(dst, '0'), 1, nil
		}
		return strconv.AppendInt(dst, 1900+int64(data[0]), 10), 1, nil
	case typeDate, typeNewDate:
		return appendDate(dst, data)
	case typeTimestamp2, typeDateTime2, typeTime2:
		return appendTemporal(dst, typ, int(meta), data)
	case typeTimestamp, typeDateTime, typeTime:
		if c.Digits > 0 {
			return appendHiresTemporal(dst, typ, c.Digits, data)
		}
		return appendOldTemporal(dst, typ, data)
	case typeBit:
		return appendBit(dst, data, (int(meta>>8)*8+int(meta&0xff)+7)/8)
	case typeVarchar, typeVarString:
		return appendString(dst, c, data, int(meta))
	case typeBlob, typeTinyBlob, typeMediumBlob, typeLongBlob, typeGeometry, typeVector:
		v, n, err := lengthPrefixed(data, int(meta))
		return append(dst, v...), n, err
	case typeBlobCompressed:
		return appendCompressed(dst, data, int(meta))
	case typeVarcharCompressed:
		size := 1
		if meta > 255 {
			size = 2
		}
		return appendCompressed(dst, data, size)
	case typeJSON:
		v, n, err := lengthPrefixed(data, int(meta))
		if err != nil {
			return nil, 0, err
		}
		dst, err = AppendJSONText(dst, v)
		return dst, n, err
	default:
		return nil, 0, fmt.Errorf("values of type number %d in the binary log are not understood", typ)
	}
}

func appendInteger(dst []byte, c *Column, data []byte, size int) ([]byte, int, error) {
	if len(data) < size {
		return nil, 0, errTruncated
	}
	var u uint64
	for i := size - 1; i >= 0; i-- {
		u = u<<8 | uint64(data[i])
	}
	if c.Kind == Uint {
		return strconv.AppendUint(dst, u, 10), size, nil
	}
	shift := 64 - 8*size
	return strconv.AppendInt(dst, int64(u<<shift)>>shift, 10), size, nil
}

func appendUintLE(dst, data []byte, size int) ([]byte, int, error) {
	if size < 1 || size > 8 || len(data) < size {
		return nil, 0, errTruncated
	}
	var u uint64
	for i := size - 1; i >= 0; i-- {
		u = u<<8 | uint64(data[i])
	}
	return strconv.AppendUint(dst, u, 10), size, nil
}

func appendBit(dst, data []byte, size int) ([]byte, int, error) {
	if size < 1 || size > 8 || len(data) < size {
		return nil, 0, errTruncated
	}
	var u uint64
	for _, b := range data[:size] {
		u = u<<8 | uint64(b)
	}
	return strconv.AppendUint(dst, u, 10), size, nil
}

func appendFloating(dst []byte, typ byte, data []byte) ([]byte, int, error) {
	if typ == typeFloat {
		if len(data) < 4 {
			return nil, 0, errTruncated
		}
		return appendDouble(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(data)))), 4, nil
	}
	if len(data) < 8 {
		return nil, 0, errTruncated
	}
	return appendDouble(dst, math.Float64frombits(binary.LittleEndian.Uint64(data))), 8, nil
}

// appendString reads a value with a length of one byte, or two when the column may
// hold more than 255 bytes.
func appendString(dst []byte, c *Column, data []byte, maxLen int) ([]byte, int, error) {
	size := 1
	if maxLen > 255 {
		size = 2
	}
	v, n, err := lengthPrefixed(data, size)
	if err != nil {
		return nil, 0, err
	}
	switch c.Kind {
	case UUID, Inet4, Inet6:
		dst, err = appendFixed(dst, c.Kind, v)
		return dst, n, err
	}
	dst = append(dst, v...)
	for i := len(v); i < c.FixedLen; i++ { // the log strips the padding of BINARY(n)
		dst = append(dst, 0)
	}
	return dst, n, nil
}

func lengthPrefixed(data []byte, size int) ([]byte, int, error) {
	if size < 1 || size > 4 || len(data) < size {
		return nil, 0, errTruncated
	}
	n := 0
	for i := size - 1; i >= 0; i-- {
		n = n<<8 | int(data[i])
	}
	if n > len(data)-size {
		return nil, 0, errTruncated
	}
	return data[size : size+n], size + n, nil
}

var decimalBytes = [10]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4} // bytes for that many digits

// appendDecimal reads MySQL's packed decimal: groups of nine digits in four
// big-endian bytes, leftover digits in fewer, the sign in the first bit, every bit
// flipped when negative.
func appendDecimal(dst, data []byte, precision, scale int) ([]byte, int, error) {
	intDigits := precision - scale
	if intDigits < 0 {
		return nil, 0, fmt.Errorf("decimal(%d,%d) is not possible", precision, scale)
	}
	size := intDigits/9*4 + decimalBytes[intDigits%9] + scale/9*4 + decimalBytes[scale%9]
	if len(data) < size || size == 0 || size > 32 {
		return nil, 0, errTruncated
	}
	var copied [32]byte
	buf := copied[:size]
	copy(buf, data)
	negative := buf[0]&0x80 == 0
	buf[0] ^= 0x80
	if negative {
		for i := range buf {
			buf[i] = ^buf[i]
		}
		dst = append(dst, '-')
	}
	started := false
	group := func(digits int) {
		n := decimalBytes[digits%10]
		var v uint64
		for _, b := range buf[:n] {
			v = v<<8 | uint64(b)
		}
		buf = buf[n:]
		if !started {
			if v == 0 {
				return
			}
			started = true
			dst = strconv.AppendUint(dst, v, 10)
			return
		}
		dst = appendPadded(dst, v, digits)
	}
	if intDigits%9 > 0 {
		group(intDigits % 9)
	}
	for range intDigits / 9 {
		group(9)
	}
	if !started {
		dst = append(dst, '0')
	}
	if scale > 0 {
		dst = append(dst, '.')
		started = true
		for range scale / 9 {
			group(9)
		}
		if scale%9 > 0 {
			group(scale % 9)
		}
	}
	return dst, size, nil
}

func appendPadded(dst []byte, v uint64, digits int) []byte {
	var b [20]byte
	for i := digits - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, b[:digits]...)
}

func appendDate(dst, data []byte) ([]byte, int, error) {
	if len(data) < 3 {
		return nil, 0, errTruncated
	}
	v := uint64(data[0]) | uint64(data[1])<<8 | uint64(data[2])<<16
	return appendYMD(dst, v>>9, v>>5&15, v&31), 3, nil
}

func appendYMD(dst []byte, y, m, d uint64) []byte {
	dst = append(appendPadded(dst, y, 4), '-')
	dst = append(appendPadded(dst, m, 2), '-')
	return appendPadded(dst, d, 2)
}

func appendHMS(dst []byte, h, m, s uint64) []byte {
	digits := 2
	if h > 99 {
		digits = 3
	}
	dst = append(appendPadded(dst, h, digits), ':')
	dst = append(appendPadded(dst, m, 2), ':')
	return appendPadded(dst, s, 2)
}

// appendFraction appends the fractional digits; v is in units of the stored width
// (two digits a byte).
func appendFraction(dst []byte, v uint64, fsp int) []byte {
	if fsp == 0 {
		return dst
	}
	if fsp%2 == 1 {
		v /= 10
	}
	return appendPadded(append(dst, '.'), v, fsp)
}

func bigEndian(data []byte, n int) uint64 {
	var v uint64
	for _, b := range data[:n] {
		v = v<<8 | uint64(b)
	}
	return v
}

// temporalBytes are the sizes of temporal types, without a fraction. A map that is made for
// each value would take several times as long as the value itself.
var temporalBytes = [...]int{typeTimestamp: 4, typeDateTime: 8, typeTime: 3, typeTimestamp2: 4, typeDateTime2: 5, typeTime2: 3}

// appendTemporal reads the packed temporal types of MySQL 5.6 and later: big-endian
// integer part, then the fraction in (fsp+1)/2 bytes.
func appendTemporal(dst []byte, typ byte, fsp int, data []byte) ([]byte, int, error) {
	if fsp > 6 {
		return nil, 0, fmt.Errorf("%d fractional digits are not possible", fsp)
	}
	frac := (fsp + 1) / 2
	size := temporalBytes[typ] + frac
	if len(data) < size {
		return nil, 0, errTruncated
	}
	switch typ {
	case typeTimestamp2:
		seconds, fraction := bigEndian(data, 4), bigEndian(data[4:], frac)
		return appendFraction(appendUnix(dst, seconds, fraction), fraction, fsp), size, nil
	case typeDateTime2:
		v := bigEndian(data, 5) - 0x8000000000
		ymd, hms := v>>17, v&0x1ffff
		ym := ymd >> 5
		dst = append(appendYMD(dst, ym/13, ym%13, ymd&31), ' ')
		dst = appendHMS(dst, hms>>12, hms>>6&63, hms&63)
		return appendFraction(dst, bigEndian(data[5:], frac), fsp), size, nil
	default:
		// Integer and fraction form one signed number with an offset in the middle.
		v := int64(bigEndian(data, size)) - 0x800000<<(8*frac)
		if v < 0 {
			dst, v = append(dst, '-'), -v
		}
		hms := uint64(v) >> (8 * frac)
		dst = appendHMS(dst, hms>>12&0x3ff, hms>>6&63, hms&63)
		return appendFraction(dst, uint64(v)&(1<<(8*frac)-1), fsp), size, nil
	}
}

// appendUnix renders the seconds of a TIMESTAMP in UTC; zero without a fraction is the zero
// date (MariaDB has values in the first second of 1970).
func appendUnix(dst []byte, seconds, fraction uint64) []byte {
	if seconds == 0 && fraction == 0 {
		return append(dst, "0000-00-00 00:00:00"...)
	}
	return time.Unix(int64(seconds), 0).UTC().AppendFormat(dst, "2006-01-02 15:04:05")
}

// appendOldTemporal reads the types of tables made before MySQL 5.6, which MariaDB
// still writes for columns without fractional digits in old tables.
func appendOldTemporal(dst []byte, typ byte, data []byte) ([]byte, int, error) {
	size := temporalBytes[typ]
	if len(data) < size {
		return nil, 0, errTruncated
	}
	switch typ {
	case typeTimestamp:
		return appendUnix(dst, uint64(binary.LittleEndian.Uint32(data)), 0), size, nil
	case typeDateTime:
		v := binary.LittleEndian.Uint64(data)
		d, t := v/1000000, v%1000000
		dst = append(appendYMD(dst, d/10000, d/100%100, d%100), ' ')
		return appendHMS(dst, t/10000, t/100%100, t%100), size, nil
	default:
		v := int64(int32(uint32(data[0])<<8|uint32(data[1])<<16|uint32(data[2])<<24) >> 8)
		if v < 0 {
			dst, v = append(dst, '-'), -v
		}
		return appendHMS(dst, uint64(v/10000), uint64(v/100%100), uint64(v%100)), size, nil
	}
}
