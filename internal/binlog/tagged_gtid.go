package binlog

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Fields of a GTID_TAGGED_LOG_EVENT in their order; those that follow do not matter here.
const (
	taggedFlags = iota
	taggedSource
	taggedNumber
	taggedTag
)

// maxTag is how long a tag may be.
const maxTag = 32

// ParseTaggedGTID reads a GTID_TAGGED_LOG_EVENT (MySQL 8.3 and later). It is a message of
// numbers of variable length: version, size, last field that must be understood, then
// each field with its number; source: MySQL's documentation of mysql::serialization.
func ParseTaggedGTID(body []byte) (GTID, error) {
	var g GTID
	r := &message{data: body}
	r.unsigned() // version
	if size := r.unsigned(); size > uint64(len(body)) {
		return GTID{}, errTruncated
	}
	r.unsigned()
	r.field(taggedFlags)
	r.unsigned()
	r.field(taggedSource)
	for i := range g.SID {
		b := r.unsigned()
		if b > 0xff {
			return GTID{}, fmt.Errorf("%d is no byte of a source's id", b)
		}
		g.SID[i] = byte(b)
	}
	r.field(taggedNumber)
	g.Number = r.signed()
	r.field(taggedTag)
	size := r.unsigned()
	if r.failed || size > maxTag || uint64(len(r.data)) < size {
		return GTID{}, errTruncated
	}
	g.Tag = string(r.data[:size])
	if g.Number < 1 || !isTag(g.Tag) {
		return GTID{}, fmt.Errorf("%q with number %d is no transaction", g.Tag, g.Number)
	}
	return g, nil
}

// isTag reports whether a tag is as the server writes it.
func isTag(tag string) bool {
	if len(tag) > maxTag {
		return false
	}
	for i, c := range []byte(tag) {
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// message reads numbers; failed says that there was one too few, or another field than
// expected.
type message struct {
	data   []byte
	failed bool
}

// unsigned reads a number of one to nine bytes, least significant first: the ones at the
// end of the first byte count the bytes that follow it.
func (m *message) unsigned() uint64 {
	if len(m.data) == 0 {
		m.failed = true
		return 0
	}
	size := bits.TrailingZeros8(^m.data[0]) + 1
	if len(m.data) < size {
		m.failed, m.data = true, nil
		return 0
	}
	var buf [16]byte
	copy(buf[:], m.data[:size])
	m.data = m.data[size:]
	low, high := binary.LittleEndian.Uint64(buf[:]), binary.LittleEndian.Uint64(buf[8:])
	shift := min(size, 8) // nine bytes: the first is all ones
	return low>>shift | high<<(64-shift)
}

// signed reads a number with its sign in the lowest bit.
func (m *message) signed() int64 {
	v := m.unsigned()
	if v&1 == 0 {
		return int64(v >> 1)
	}
	return -int64(v>>1) - 1
}

func (m *message) field(number uint64) {
	if m.unsigned() != number {
		m.failed = true
	}
}
