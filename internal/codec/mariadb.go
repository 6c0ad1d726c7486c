package codec

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
)

// appendFixed appends the text of a UUID, INET4 or INET6 value as the server prints it.
// The row image has the bytes as they are stored, without trailing zero bytes.
func appendFixed(dst []byte, kind Kind, stored []byte) ([]byte, error) {
	var full [16]byte
	size := len(full)
	if kind == Inet4 {
		size = 4
	}
	if len(stored) > size {
		return nil, fmt.Errorf("%d bytes are too many for a value of %d", len(stored), size)
	}
	copy(full[:], stored)
	switch kind {
	case UUID:
		return appendUUID(dst, full), nil
	case Inet4:
		return netip.AddrFrom4([4]byte(full[:4])).AppendTo(dst), nil
	default:
		return appendInet6(dst, full), nil
	}
}

// appendUUID undoes the order in which MariaDB stores UUIDs of the versions 1 to 5 with
// a variant, the node first, so that those made one after the other are neighbours. The
// others are stored as they are. The first bits of the seventh byte, here the variant,
// and of the ninth, here the version, tell which one it is.
func appendUUID(dst []byte, stored [16]byte) []byte {
	v := stored
	if stored[6]&0x80 != 0 && (stored[8] == 0x80 || stored[8] > 0 && stored[8] < 0x80) {
		copy(v[0:4], stored[12:16])
		copy(v[4:6], stored[10:12])
		copy(v[6:8], stored[8:10])
		copy(v[8:10], stored[6:8])
		copy(v[10:16], stored[0:6])
	}
	for i, part := range [][]byte{v[0:4], v[4:6], v[6:8], v[8:10], v[10:16]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// appendInet6 prints an address as inet_ntop does: the longest run of zero groups, the
// first of equal ones, is "::", and an address that holds one of version 4 ends with it.
func appendInet6(dst []byte, v [16]byte) []byte {
	group := func(i int) uint16 { return uint16(v[2*i])<<8 | uint16(v[2*i+1]) }
	start, length := -1, 1
	for i := 0; i < 8; i++ {
		n := 0
		for i+n < 8 && group(i+n) == 0 {
			n++
		}
		if n > length {
			start, length = i, n
		}
		i += n
	}
	if start == 0 && (length == 6 || length == 5 && group(5) == 0xffff) {
		dst = append(dst, "::"...)
		if length == 5 {
			dst = append(dst, "ffff:"...)
		}
		return netip.AddrFrom4([4]byte(v[12:])).AppendTo(dst)
	}
	for i := 0; i < 8; i++ {
		if i == start {
			dst = append(dst, "::"...)
			i += length - 1
			continue
		}
		if i > 0 && i != start+length {
			dst = append(dst, ':')
		}
		dst = strconv.AppendUint(dst, uint64(group(i)), 16)
	}
	return dst
}

// hiresBytes are the sizes by fractional digits of MariaDB's own temporal types, which it
// had before it took over MySQL's and still makes with mysql56_temporal_format=OFF.
var hiresBytes = map[byte][7]int{
	typeTimestamp: {4, 5, 5, 6, 6, 7, 7},
	typeDateTime:  {5, 6, 6, 7, 7, 7, 8},
	typeTime:      {3, 4, 4, 5, 5, 5, 6},
}

// appendHiresTemporal reads them: big-endian numbers, a TIMESTAMP's seconds and then its
// fraction, of the others one number in units of the last digit, in which TIME is counted
// from a second below its least value. The log calls them by the numbers of the types
// without fractions, and does not tell the digits.
func appendHiresTemporal(dst []byte, typ byte, digits int, data []byte) ([]byte, int, error) {
	if digits > 6 {
		return nil, 0, fmt.Errorf("%d fractional digits are not possible", digits)
	}
	size := hiresBytes[typ][digits]
	if len(data) < size {
		return nil, 0, errTruncated
	}
	unit := uint64(1)
	for range digits {
		unit *= 10
	}
	var fraction uint64
	switch typ {
	case typeTimestamp:
		fraction = bigEndian(data[4:], size-4)
		dst = appendUnix(dst, bigEndian(data, 4), fraction)
	case typeDateTime:
		v := bigEndian(data, size)
		fraction = v % unit
		v /= unit
		days := v / (24 * 60 * 60)
		dst = append(appendYMD(dst, days/32/13, days/32%13, days%32), ' ')
		dst = appendHMS(dst, v/3600%24, v/60%60, v%60)
	default:
		const least = 838*3600 + 59*60 + 59 + 1
		v := int64(bigEndian(data, size)) - int64(least*unit)
		if v < 0 {
			dst, v = append(dst, '-'), -v
		}
		fraction = uint64(v) % unit
		seconds := uint64(v) / unit
		dst = appendHMS(dst, seconds/3600, seconds/60%60, seconds%60)
	}
	return appendPadded(append(dst, '.'), fraction, digits), size, nil
}

// maxDecompressed is the longest value that a column can have.
const maxDecompressed = 1 << 32

// appendCompressed appends the value of a COMPRESSED column: nothing for no bytes; after
// a zero byte the value itself; else the method (8: zlib) in the first byte's upper half,
// in its lower one whether the zlib header is left out and in how many bytes the value's
// length follows, then the compressed value.
func appendCompressed(dst, data []byte, prefix int) ([]byte, int, error) {
	v, n, err := lengthPrefixed(data, prefix)
	if err != nil || len(v) == 0 {
		return dst, n, err
	}
	head := v[0]
	if head == 0 {
		return append(dst, v[1:]...), n, nil
	}
	size := int(head & 7)
	if head>>4 != 8 || size < 1 || size > 4 || len(v) < 1+size {
		return nil, 0, fmt.Errorf("a compressed value begins with %#02x, which is not understood", head)
	}
	length := bigEndian(v[1:], size)
	packed := bytes.NewReader(v[1+size:])
	var plain io.ReadCloser
	if head&8 != 0 {
		plain = flate.NewReader(packed)
	} else if plain, err = zlib.NewReader(packed); err != nil {
		return nil, 0, fmt.Errorf("a compressed value: %w", err)
	}
	defer func() { _ = plain.Close() }()
	start := len(dst)
	out := bytes.NewBuffer(dst)
	if _, err := io.Copy(out, io.LimitReader(plain, maxDecompressed)); err != nil {
		return nil, 0, fmt.Errorf("a compressed value: %w", err)
	}
	if got := uint64(out.Len() - start); got != length {
		return nil, 0, fmt.Errorf("a compressed value has %d bytes and says that it has %d", got, length)
	}
	return out.Bytes(), n, nil
}
