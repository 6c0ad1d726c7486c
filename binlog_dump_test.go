package ghostferry

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

// dumped is a dump of these bytes.
func dumped(data []byte) *dump {
	return &dump{conn: &client.Conn{}, in: bufio.NewReaderSize(bytes.NewReader(data), dumpReadBytes), sequence: 1}
}

// appendPackets appends a payload as a server sends it.
func appendPackets(dst []byte, sequence *byte, payload []byte) []byte {
	for {
		n := min(len(payload), fullPacket)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n)|uint32(*sequence)<<24)
		*sequence++
		dst = append(dst, payload[:n]...)
		if payload = payload[n:]; n < fullPacket {
			return dst
		}
	}
}

// eventOf makes an event with its kind of packet in front.
func eventOf(kind replication.EventType, body []byte, checksum bool) []byte {
	b := make([]byte, 1+replication.EventHeaderSize, 1+replication.EventHeaderSize+len(body)+checksumBytes)
	size := cap(b) - 1
	if !checksum {
		size -= checksumBytes
	}
	b[1+4] = byte(kind)
	binary.LittleEndian.PutUint32(b[1+9:], uint32(size))
	binary.LittleEndian.PutUint32(b[1+13:], 4711) // where it ends
	b = append(b, body...)
	if checksum {
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[1:]))
	}
	return b
}

// An event comes whole however many packets it takes, in memory of its size, which is its own
// when events are kept or it is large; the others may share the reader's.
func TestDumpReadsEventsOfEverySize(t *testing.T) {
	const around = 1 + replication.EventHeaderSize
	sizes := []int{0, 1, 100, 70 << 10}
	for i := range 300 { // the number of packets runs over
		sizes = append(sizes, i)
	}
	dumpEvents(t, true, sizes)
	dumpEvents(t, false, append(sizes, fullPacket-around-1, fullPacket-around, fullPacket-around+1, 2*fullPacket-around, 33<<20))
}

func dumpEvents(t *testing.T, keep bool, sizes []int) {
	t.Helper()
	sequence := byte(1)
	var stream []byte
	const around = 1 + replication.EventHeaderSize
	for i, size := range sizes {
		stream = appendPackets(stream, &sequence, eventOf(replication.XID_EVENT, bytes.Repeat([]byte{byte(i)}, size), false))
	}
	d := dumped(stream)
	d.keep = keep
	var kept []*replication.BinlogEvent
	for i, size := range sizes {
		ev, err := d.next()
		require.NoError(t, err)
		if keep {
			kept = append(kept, ev)
		}
		generic, ok := ev.Event.(*replication.GenericEvent)
		require.True(t, ok)
		require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, size), generic.Data), size)
		require.Equal(t, replication.XID_EVENT, ev.Header.EventType)
		require.EqualValues(t, 4711, ev.Header.LogPos)
		require.Len(t, ev.RawData, replication.EventHeaderSize+size)
		if keep || around+size > dumpReadBytes {
			require.LessOrEqual(t, cap(ev.RawData), len(ev.RawData)+(8<<10), "memory beyond the event")
		}
	}
	for i, ev := range kept {
		require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, sizes[i]), ev.RawData[replication.EventHeaderSize:]), sizes[i])
	}
	_, err := d.next()
	require.ErrorIs(t, err, mysql.ErrBadConn)
}

// formatDescription is one of MySQL 9.7, whose events have checksums or not.
func formatDescription(checksums bool) []byte {
	body := append([]byte{4, 0}, make([]byte, 50)...)
	copy(body[2:], "9.7.4")
	body = append(body, 0, 0, 0, 0, replication.EventHeaderSize)
	body = append(body, make([]byte, 42)...)
	algorithm := byte(0)
	if checksums {
		algorithm = 1
	}
	event := eventOf(replication.FORMAT_DESCRIPTION_EVENT, append(body, algorithm, 0, 0, 0, 0), false)
	end := len(event) - checksumBytes
	binary.LittleEndian.PutUint32(event[end:], crc32.ChecksumIEEE(event[1:end]))
	return event
}

// Events have checksums behind a format description that says so; a wrong one is an error.
func TestDumpChecksChecksums(t *testing.T) {
	rotation := append(binary.LittleEndian.AppendUint64(nil, 4), "binlog.000007"...)
	sequence := byte(1)
	stream := appendPackets(nil, &sequence, eventOf(replication.ROTATE_EVENT, rotation, false)) // made up, before all others
	stream = appendPackets(stream, &sequence, formatDescription(true))
	stream = appendPackets(stream, &sequence, eventOf(replication.XID_EVENT, []byte("12345678"), true))
	stream = appendPackets(stream, &sequence, eventOf(replication.ROTATE_EVENT, rotation, true))
	damaged := eventOf(replication.XID_EVENT, []byte("12345678"), true)
	damaged[25] ^= 1
	stream = appendPackets(stream, &sequence, damaged)
	d := dumped(stream)
	for _, want := range []string{"rotation", "format", "xid", "rotation"} {
		ev, err := d.next()
		require.NoError(t, err)
		switch e := ev.Event.(type) {
		case *replication.RotateEvent:
			require.Equal(t, "rotation", want)
			require.Equal(t, "binlog.000007", string(e.NextLogName))
			require.EqualValues(t, 4, e.Position)
		case *replication.FormatDescriptionEvent:
			require.Equal(t, "format", want)
		case *replication.GenericEvent:
			require.Equal(t, "12345678", string(e.Data))
		}
	}
	_, err := d.next()
	require.ErrorContains(t, err, "the checksum of a XIDEvent that ends at 4711 is wrong")
	sequence = 1
	broken := formatDescription(true)
	broken[30] ^= 1
	_, err = dumped(appendPackets(nil, &sequence, broken)).next()
	require.ErrorContains(t, err, "checksum of a FormatDescriptionEvent")
}

func TestDumpRefusesDamagedPackets(t *testing.T) {
	one := byte(1)
	whole := appendPackets(nil, &one, eventOf(replication.XID_EVENT, []byte("12345678"), false))
	for cut := 1; cut < len(whole); cut++ {
		_, err := dumped(whole[:cut]).next()
		require.ErrorIs(t, err, mysql.ErrBadConn, cut)
		require.Equal(t, mysqlerr.ConnectionLost, mysqlerr.Classify(err))
	}
	one = 1
	short := eventOf(replication.XID_EVENT, []byte("12345678"), false)
	refused := append([]byte{mysql.ERR_HEADER, 0xd4, 0x04}, "no such file"...) // 1236
	for name, c := range map[string]struct {
		payload []byte
		number  byte
		says    string
	}{
		"number":   {eventOf(replication.XID_EVENT, nil, false), 2, "packet 2 where 1 should be"},
		"empty":    {nil, 1, "an empty packet"},
		"kind":     {[]byte{7}, 1, "unknown kind 7"},
		"header":   {make([]byte, 10), 1, "less than its header"},
		"length":   {short[:len(short)-1], 1, "26 bytes of a XIDEvent that has 27"},
		"rotation": {eventOf(replication.ROTATE_EVENT, []byte{1}, false), 1, "a rotation that cannot be read"},
		"format":   {eventOf(replication.FORMAT_DESCRIPTION_EVENT, []byte{4}, false), 1, "a format description that cannot be read"},
		"error":    {[]byte{mysql.ERR_HEADER, 1, 2}, 1, "an error of 3 bytes"},
		"ended":    {[]byte{mysql.EOF_HEADER}, 1, "has ended the stream"},
		"refused":  {refused, 1, "no such file"},
	} {
		number := c.number
		_, err := dumped(appendPackets(nil, &number, c.payload)).next()
		require.ErrorContains(t, err, c.says, name)
		if name == "refused" {
			var told *mysql.MyError
			require.True(t, errors.As(err, &told))
			require.EqualValues(t, mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG, told.Code)
		}
	}
}

// No bytes make a dump panic, or take memory that they do not have.
func FuzzDump(f *testing.F) {
	one := byte(1)
	f.Add(appendPackets(appendPackets(nil, &one, formatDescription(true)), &one, eventOf(replication.XID_EVENT, []byte("12345678"), true)))
	f.Add([]byte{1, 0, 0, 1, mysql.ERR_HEADER})
	f.Add([]byte{0xff, 0xff, 0xff, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, keep := range []bool{false, true} {
			d := dumped(data)
			d.keep = keep
			for ev, err := d.next(); err == nil; ev, err = d.next() {
				if len(ev.RawData) > len(data) {
					t.Fatalf("%d bytes of %d", len(ev.RawData), len(data))
				}
			}
		}
	})
}
