package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
)

// innerEvent makes an event of a payload.
func innerEvent(kind byte, body string) []byte {
	header := make([]byte, headerSize)
	header[4] = kind
	binary.LittleEndian.PutUint32(header[9:], uint32(headerSize+len(body)))
	return append(header, body...) //nolint:makezero // a header is all zeroes but for these
}

// payloadOf makes the body of a TRANSACTION_PAYLOAD_EVENT.
func payloadOf(tb testing.TB, events ...[]byte) []byte {
	tb.Helper()
	var compressed bytes.Buffer
	w, err := zstd.NewWriter(&compressed)
	if err != nil {
		tb.Fatal(err)
	}
	for _, ev := range events {
		if _, err := w.Write(ev); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return append([]byte{payloadCompression, 1, compressionZstd, payloadEnd}, compressed.Bytes()...)
}

const fuzzLimit = 1 << 20

// A payload gives events of bounded size and an error, or all of its events.
func FuzzPayload(f *testing.F) {
	f.Add(payloadOf(f, innerEvent(2, "BEGIN"), innerEvent(30, strings.Repeat("x", 1000))))
	f.Add([]byte{payloadCompression, 3, 0xfc, 255, 0, payloadEnd, 1, 2})
	f.Add(append([]byte{payloadEnd}, payloadOf(f)[4:]...))
	f.Fuzz(func(t *testing.T, body []byte) {
		total := 0
		_ = EachPayloadEvent(body, fuzzLimit, func(ev InnerEvent) error {
			if len(ev.Body) > fuzzLimit {
				t.Fatalf("an event of %d bytes", len(ev.Body))
			}
			if total += len(ev.Body); total > 64*fuzzLimit {
				return errTruncated
			}
			return nil
		})
	})
}

// The bodies of events are read without a panic, and what was read says the same again.
func FuzzEventBodies(f *testing.F) {
	f.Add(append(make([]byte, 8), 1, 0, 0, 0, 0, 'd', 0, 'S', 'E', 'L'))
	f.Add([]byte{1, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'a', 0xff, 'c'})
	f.Add(taggedEvent(uuid.MustParse(sourceA), "green", 7))
	f.Add(append([]byte{0}, make([]byte, 24)...))
	f.Add([]byte{1, 8, 'b', 'i', 'n', '.', '0', '0', '0', '1', 2, 2, 0xfc, 4, 1, 0})
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 9, 0xff}, 0x01, 5, 'x'))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, parse := range []func([]byte) (Query, error){ParseQuery, ParseLoadQuery} {
			if q, err := parse(body); err == nil {
				q.UpdatedSchemas()
				q.ClientCollation()
				s := ScanStatement(q, true)
				s.MentionsTable("s", "t", q.Schema)
			}
		}
		if g, err := ParseTaggedGTID(body); err == nil {
			mustBeInTheSet(t, g)
		}
		if g, err := ParseGTID(body); err == nil && g.Number > 0 {
			mustBeInTheSet(t, g)
		}
		if g, err := ParseMariaDBGTID(1, body); err == nil && g.GTID.Number > 0 {
			mustBeInTheSet(t, g.GTID)
		}
		if x, err := ParseXAPrepare(body); err == nil {
			if again, err := ParseXA("XA COMMIT " + x.XID); err != nil || again.XID != x.XID {
				t.Fatalf("%+v is read back as %+v (%v)", x, again, err)
			}
		}
		_, _, _ = ParseRotate(body)
		_, _, _ = ParseHeartbeatV2(body)
		_ = ParseRowsQuery(body, false)
		for _, update := range []bool{false, true} {
			if plain, err := UncompressRows(body, update, fuzzLimit); err == nil && len(plain) > len(body)+fuzzLimit {
				t.Fatalf("%d bytes", len(plain))
			}
		}
		if plain, err := UncompressQuery(body, fuzzLimit); err == nil && len(plain) > len(body)+fuzzLimit {
			t.Fatalf("%d bytes", len(plain))
		}
	})
}

func mustBeInTheSet(t *testing.T, g GTID) {
	t.Helper()
	var s GTIDSet
	text := s.With(g)
	again, err := ParseGTIDSet(text, g.MariaDB)
	if err != nil || again.String() != text {
		t.Fatalf("%q is read back as %q (%v)", text, again, err)
	}
}

// A set is read as the replication library reads it, and reads back to itself.
func FuzzGTIDSet(f *testing.F) {
	for _, text := range []string{"", sourceA + ":1-3:5:green:7-9, " + sourceB + ":1", sourceA + ":a:1:2:b:3," + sourceA + ":4", "0-1-5,2-3-9", sourceA + ":9223372036854775806"} {
		f.Add(text, int64(4))
	}
	f.Fuzz(func(t *testing.T, text string, number int64) {
		for _, mariaDB := range []bool{false, true} {
			s, err := ParseGTIDSet(text, mariaDB)
			if err != nil {
				continue
			}
			canonical := s.String()
			again, err := ParseGTIDSet(canonical, mariaDB)
			if err != nil || again.String() != canonical {
				t.Fatalf("%q is read back as %q (%v)", canonical, again, err)
			}
			if mariaDB {
				continue
			}
			theirs, err := mysql.ParseMysqlGTIDSet(canonical)
			if err != nil {
				t.Fatalf("the library refuses %q: %v", canonical, err)
			}
			if number < 1 || number > 1<<62 {
				continue
			}
			g := GTID{SID: uuid.MustParse(sourceA), Tag: "green", Number: number}
			s.Add(g)
			theirs.(*mysql.MysqlGTIDSet).AddGTIDWithTag(g.SID, mysql.NewTag(g.Tag), number)
			if more, err := mysql.ParseMysqlGTIDSet(s.String()); err != nil || !more.Equal(theirs) {
				t.Fatalf("%s with %s is %s (%v)", canonical, g, s, err)
			}
		}
	})
}

// taggedEvent makes the body of a GTID_TAGGED_LOG_EVENT as far as it is read.
func taggedEvent(sid uuid.UUID, tag string, number uint64) []byte {
	body := []byte{2, 0, 0} // version 1, size and last field: not read
	body = appendNumber(appendNumber(body, taggedFlags), 1)
	body = appendNumber(body, taggedSource)
	for _, b := range sid {
		body = appendNumber(body, uint64(b))
	}
	body = appendNumber(appendNumber(body, taggedNumber), number<<1)
	body = appendNumber(appendNumber(body, taggedTag), uint64(len(tag)))
	return append(body, tag...)
}

// appendNumber is the inverse of message.unsigned.
func appendNumber(dst []byte, v uint64) []byte {
	size := 1
	for size < 9 && v>>(7*size) > 0 {
		size++
	}
	if size == 9 {
		return binary.LittleEndian.AppendUint64(append(dst, 0xff), v)
	}
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], v<<size|(1<<(size-1)-1))
	return append(dst, buf[:size]...)
}

// Numbers and ids of every size are read, whatever the size of the whole message.
func TestTaggedGTIDs(t *testing.T) {
	for _, want := range []GTID{
		{SID: uuid.MustParse(sourceA), Tag: "green", Number: 1},
		{SID: uuid.MustParse("ffffffff-ffff-80ff-ffff-7fffffffffff"), Tag: "a_234567890123456789012345678901", Number: 1<<63 - 2},
		{SID: uuid.MustParse(sourceB), Tag: "", Number: 1 << 40},
	} {
		body := taggedEvent(want.SID, want.Tag, uint64(want.Number))
		if g, err := ParseTaggedGTID(append(bytes.Clone(body), 4<<1, 0xff)); err != nil || g != want {
			t.Errorf("%s was read as %s (%v)", want, g, err)
		}
		for n := range body {
			if g, err := ParseTaggedGTID(body[:n]); err == nil {
				t.Errorf("%d bytes of %s were read as %s", n, want, g)
			}
		}
	}
	for _, bad := range [][]byte{taggedEvent(uuid.UUID{}, strings.Repeat("a", maxTag+1), 1), taggedEvent(uuid.UUID{}, "a b", 1), taggedEvent(uuid.UUID{}, "a", 0)} {
		if g, err := ParseTaggedGTID(bad); err == nil {
			t.Errorf("%q was read as %s", bad, g)
		}
	}
}

// Whatever a payload holds, no more than the limit of it is in memory.
func TestPayloadBomb(t *testing.T) {
	const limit = 1 << 20
	claimed := innerEvent(30, "")
	binary.LittleEndian.PutUint32(claimed[9:], 1<<31)
	large := func(n int) []byte { return innerEvent(30, strings.Repeat("\x00", n)) }
	for name, body := range map[string][]byte{
		"one event":                  payloadOf(t, large(50<<20)),
		"after a small one":          payloadOf(t, innerEvent(2, "BEGIN"), large(2<<20)),
		"claimed only":               payloadOf(t, claimed),
		"a frame that claims 64 GiB": {payloadCompression, 1, compressionZstd, payloadEnd, 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := EachPayloadEvent(body, limit, func(InnerEvent) error { return nil })
		runtime.ReadMemStats(&after)
		if !errors.As(err, new(*eventTooLargeError)) && !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		if allocated > 40<<20 { // the window of the decompressor is the most of it
			t.Errorf("%s of %d bytes took %d bytes", name, len(body), allocated)
		}
	}
	// Many events of allowed sizes are no bomb: they are handled one after the other.
	many := make([][]byte, 100)
	for i := range many {
		many[i] = large(limit)
	}
	n := 0
	if err := EachPayloadEvent(payloadOf(t, many...), limit, func(ev InnerEvent) error { n += len(ev.Body); return nil }); err != nil || n != 100*limit {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// The highest level of compression has a window of 128 MiB, whatever the size of the data.
func TestPayloadWithTheLargestWindow(t *testing.T) {
	event := innerEvent(2, "BEGIN")
	body := []byte{payloadCompression, 1, compressionZstd, payloadEnd, 0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, byte(1 | len(event)<<3), byte(len(event) >> 5), 0}
	n := 0
	if err := EachPayloadEvent(append(body, event...), fuzzLimit, func(InnerEvent) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("%d events, %v", n, err)
	}
}
