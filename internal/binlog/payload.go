package binlog

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// InnerEvent is one event of a compressed transaction.
type InnerEvent struct {
	Timestamp uint32
	Type      byte
	ServerID  uint32
	Flags     uint16
	Body      []byte // valid during the call only
}

const (
	headerSize = 19
	// MaxEvent is the protocol's limit of one event: that of a packet.
	MaxEvent = 1 << 30
	// maxColumns is the limit of a table's columns, and more.
	maxColumns = 1 << 16
	// payloadMemory bounds what the decompressor holds: the window of the highest level.
	payloadMemory = 128 << 20
)

// Fields of a TRANSACTION_PAYLOAD_EVENT; source: MySQL's payload event documentation.
const (
	payloadEnd         = 0
	payloadCompression = 2

	compressionZstd = 0
	compressionNone = 255
)

// EachPayloadEvent calls f for each event inside a TRANSACTION_PAYLOAD_EVENT, reading
// the payload as a stream, so that a large transaction is never whole in memory. An event
// of more than limit bytes is an error: a small payload may claim and hold anything.
func EachPayloadEvent(body []byte, limit int, f func(InnerEvent) error) error {
	compression := uint64(compressionZstd)
	for {
		kind, rest, ok := packedInt(body)
		if !ok {
			return errTruncated
		}
		body = rest
		if kind == payloadEnd {
			break
		}
		size, rest, ok := packedInt(body)
		if !ok || uint64(len(rest)) < size {
			return errTruncated
		}
		if kind == payloadCompression {
			if compression, _, ok = packedInt(rest); !ok {
				return errTruncated
			}
		}
		body = rest[size:]
	}
	var reader io.Reader = bytes.NewReader(body)
	switch compression {
	case compressionZstd:
		z, err := zstd.NewReader(reader, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(payloadMemory), zstd.WithDecoderMaxWindow(payloadMemory))
		if err != nil {
			return err
		}
		defer z.Close()
		reader = z
	case compressionNone:
	default:
		return fmt.Errorf("compression %d is not known", compression)
	}
	return eachEvent(reader, limit, f)
}

func eachEvent(r io.Reader, limit int, f func(InnerEvent) error) error {
	var header [headerSize]byte
	var body []byte
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := int64(binary.LittleEndian.Uint32(header[9:])) - headerSize
		switch {
		case size < 0:
			return errTruncated
		case size > int64(limit):
			return &eventTooLargeError{size, limit}
		}
		var err error
		if body, err = readBody(r, body[:0], int(size)); err != nil {
			return err
		}
		err = f(InnerEvent{
			Timestamp: binary.LittleEndian.Uint32(header[:]), Type: header[4],
			ServerID: binary.LittleEndian.Uint32(header[5:]), Flags: binary.LittleEndian.Uint16(header[17:]), Body: body,
		})
		if err != nil {
			return err
		}
	}
}

// eventTooLargeError refuses what would take too much memory once it is unwrapped.
type eventTooLargeError struct {
	size  int64
	limit int
}

func (e *eventTooLargeError) Error() string {
	return fmt.Sprintf("an event of %d bytes is in it, and %d are the most that is held in memory", e.size, e.limit)
}

// readBody reads size bytes. Memory grows with what is really there: a damaged header
// may claim anything.
func readBody(r io.Reader, body []byte, size int) ([]byte, error) {
	const step = 1 << 20
	for len(body) < size {
		n := min(size-len(body), max(step, len(body)))
		body = slices.Grow(body, n)[:len(body)+n]
		if _, err := io.ReadFull(r, body[len(body)-n:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errTruncated
			}
			return nil, err
		}
	}
	return body, nil
}

// packedInt reads a length-encoded integer.
func packedInt(data []byte) (v uint64, rest []byte, ok bool) {
	if len(data) == 0 {
		return 0, nil, false
	}
	var n int
	switch first := data[0]; {
	case first < 0xfb:
		return uint64(first), data[1:], true
	case first == 0xfc:
		n = 2
	case first == 0xfd:
		n = 3
	case first == 0xfe:
		n = 8
	default:
		return 0, nil, false
	}
	if len(data) < n+1 {
		return 0, nil, false
	}
	for i := n; i > 0; i-- {
		v = v<<8 | uint64(data[i])
	}
	return v, data[n+1:], true
}

// uncompress reads MariaDB's compressed data: a byte with the algorithm in its upper
// and the number of length bytes in its lower half, the length (big-endian), zlib data.
func uncompress(data []byte, limit int) ([]byte, error) {
	if len(data) < 1 {
		return nil, errTruncated
	}
	n := int(data[0] & 7)
	if data[0]>>4&7 != 0 {
		return nil, fmt.Errorf("compression algorithm %d is not known", data[0]>>4&7)
	}
	if n < 1 || n > 4 || len(data) < 1+n {
		return nil, errTruncated
	}
	size := 0
	for _, b := range data[1 : 1+n] {
		size = size<<8 | int(b)
	}
	if size > limit {
		return nil, &eventTooLargeError{int64(size), limit}
	}
	z, err := zlib.NewReader(bytes.NewReader(data[1+n:]))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, int64(size)+1))
	if err == nil && len(out) != size {
		err = errTruncated
	}
	return out, errors.Join(err, z.Close())
}

// UncompressQuery returns the body of a plain QUERY_EVENT for MariaDB's compressed one,
// whose text may have limit bytes.
func UncompressQuery(body []byte, limit int) ([]byte, error) {
	if len(body) < 13 {
		return nil, errTruncated
	}
	at := 13 + int(binary.LittleEndian.Uint16(body[11:])) + int(body[8]) + 1
	if len(body) < at {
		return nil, errTruncated
	}
	text, err := uncompress(body[at:], limit)
	return append(append([]byte(nil), body[:at]...), text...), err
}

// UncompressRows returns the body of a plain row event (version 1) for MariaDB's
// compressed one: everything up to the images stays as it is. More than limit bytes of
// images are an error.
func UncompressRows(body []byte, update bool, limit int) ([]byte, error) {
	if len(body) < 8 {
		return nil, errTruncated
	}
	columns, rest, ok := packedInt(body[8:])
	if !ok || columns > maxColumns {
		return nil, errTruncated
	}
	bitmaps := (int(columns) + 7) / 8
	if update {
		bitmaps *= 2
	}
	at := len(body) - len(rest) + bitmaps
	if len(body) < at {
		return nil, errTruncated
	}
	rows, err := uncompress(body[at:], limit)
	return append(append([]byte(nil), body[:at]...), rows...), err
}

// ParseHeartbeatV2 reads a HEARTBEAT_LOG_EVENT_V2: fields of type, size and value; 1 is
// the file's name, 2 the position.
func ParseHeartbeatV2(body []byte) (file string, pos uint64, err error) {
	for len(body) > 0 {
		kind, rest, ok := packedInt(body)
		if !ok {
			return "", 0, errTruncated
		}
		if kind == 0 {
			break
		}
		size, rest, ok := packedInt(rest)
		if !ok || uint64(len(rest)) < size {
			return "", 0, errTruncated
		}
		switch kind {
		case 1:
			file = string(rest[:size])
		case 2:
			if pos, _, ok = packedInt(rest); !ok {
				return "", 0, errTruncated
			}
		}
		body = rest[size:]
	}
	if file == "" {
		return "", 0, errTruncated
	}
	return file, pos, nil
}
