package ghostferry

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

const (
	// dumpReadBytes is how much of the log is read from the connection at once.
	dumpReadBytes = 64 << 10
	// fullPacket is the length of a packet that another one continues
	// (MySQL internals, "Sending More Than 16Mb").
	fullPacket = 1<<24 - 1
	// eventAtOnce is how much memory is taken for an event by what its header says.
	eventAtOnce   = 256 << 20
	checksumBytes = 4
)

// dump is a connection over which a server sends its binary log. go-mysql logs in; the
// packets are read here, because its client copies each twice, and an event of 32 MB costs it
// 96. One goroutine uses it.
type dump struct {
	conn      *client.Conn
	in        *bufio.Reader
	sequence  byte // of the next packet
	checksums bool // events end in a CRC32, as the last format description says
	// keep: events are kept by whoever gets them. Otherwise each is valid until the next one,
	// and small ones stay where they were read: there are five of them in the shortest transaction.
	keep  bool
	event dumpedEvent // the last one, when it is not kept
	// borrowed is the last packet, when it stays where it was read. Builds for tests write over it
	// (scribbles): who has kept something of an event has that then.
	borrowed []byte
}

// dumpedEvent is an event with what belongs to it in one piece of memory.
type dumpedEvent struct {
	replication.BinlogEvent
	header  replication.EventHeader
	generic replication.GenericEvent
}

// openDump connects as a replica does and asks for the log from a place on.
func (s *BinlogStreamer) openDump(ctx context.Context, link *streamLink, from BinlogCoordinate) (*dump, error) {
	period := s.HeartbeatPeriod
	if period <= 0 {
		period = defaultHeartbeatPeriod
	}
	var err error
	if link.dial, err = s.DBConfig.dialer(2 * period); err != nil {
		return nil, err
	}
	encrypted, err := s.DBConfig.tlsConfig()
	if err != nil {
		return nil, err
	}
	pass, err := s.DBConfig.password(ctx)
	if err != nil {
		return nil, err
	}
	var gtids mysql.GTIDSet
	if from.GTIDSet != "" {
		if gtids, err = mysql.ParseGTIDSet(s.srv.NativeFlavour(), from.GTIDSet); err != nil {
			return nil, &streamError{err}
		}
	}
	conn, err := client.ConnectWithDialer(ctx, "", s.DBConfig.address(), s.DBConfig.User, pass, "", link.connect, func(c *client.Conn) error {
		c.SetTLSConfig(encrypted)
		c.SetAttributes(map[string]string{"_client_role": "binary_log_listener"})
		return nil
	})
	if err != nil {
		return nil, cmp.Or(link.login.refused(), err)
	}
	d := &dump{conn: conn}
	settings := []string{
		// Events have the checksums that they have in the log. What the server makes up before
		// it has sent a format description has none then.
		"SET @master_binlog_checksum='NONE', @source_binlog_checksum='NONE'",
		fmt.Sprintf("SET @master_heartbeat_period=%d, @source_heartbeat_period=%d", period, period),
		// Whoever has the same id is thought to be us before a lost connection, and ended.
		fmt.Sprintf("SET @slave_uuid='%s', @replica_uuid='%[1]s'", uuid.New()),
	}
	if s.srv.IsMariaDB() {
		settings = append(settings, "SET @mariadb_slave_capability=4") // knows GTIDs
		if gtids != nil {
			settings = append(settings, "SET @slave_gtid_strict_mode=1", "SET @slave_connect_state='"+gtids.String()+"'")
		}
	}
	for _, setting := range settings {
		if _, err := conn.Execute(setting); err != nil {
			return nil, fmt.Errorf("preparing the stream (%s): %w", setting, err)
		}
	}
	if err := d.register(s.MyServerId, s.DBConfig); err != nil {
		return nil, fmt.Errorf("registering as a replica: %w", err)
	}
	conn.ResetSequence()
	if err := conn.WritePacket(s.dumpCommand(from, gtids)); err != nil {
		return nil, err
	}
	// Nothing is left in the client's own buffer: the server has answered every command.
	d.in, d.sequence = bufio.NewReaderSize(conn.Conn.Conn, dumpReadBytes), 1
	return d, nil
}

// register is COM_REGISTER_SLAVE: the server lists the replica.
func (d *dump) register(serverID uint32, config *DatabaseConfig) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b := append(make([]byte, 4), mysql.COM_REGISTER_SLAVE)
	b = binary.LittleEndian.AppendUint32(b, serverID)
	for _, text := range []string{host, config.User, ""} { // no password
		text = text[:min(len(text), 255)]
		b = append(append(b, byte(len(text))), text...)
	}
	b = binary.LittleEndian.AppendUint16(b, config.Port)
	b = append(b, make([]byte, 8)...) // rank and the source's id, which nobody uses
	d.conn.ResetSequence()
	if err := d.conn.WritePacket(b); err != nil {
		return err
	}
	_, err = d.conn.ReadOKPacket()
	return err
}

// dumpCommand is COM_BINLOG_DUMP_GTID for a set of MySQL's GTIDs, else COM_BINLOG_DUMP:
// MariaDB takes GTIDs from a variable, and then no file.
func (s *BinlogStreamer) dumpCommand(from BinlogCoordinate, gtids mysql.GTIDSet) []byte {
	b := make([]byte, 4, 64) // begins with room for the packet's header
	if gtids != nil && !s.srv.IsMariaDB() {
		encoded := gtids.Encode()
		b = binary.LittleEndian.AppendUint16(append(b, mysql.COM_BINLOG_DUMP_GTID), 0) // flags
		b = binary.LittleEndian.AppendUint32(b, s.MyServerId)
		b = binary.LittleEndian.AppendUint32(b, 0) // no file name
		b = binary.LittleEndian.AppendUint64(b, fileHeader)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(encoded)))
		return append(b, encoded...)
	}
	var flags uint16
	if (s.own != nil || s.statements) && s.srv.IsMariaDB() {
		flags = replication.BINLOG_SEND_ANNOTATE_ROWS_EVENT // it sends statements only when asked
	}
	var at mysql.Position
	if gtids == nil {
		at = from.Position()
		at.Pos = max(at.Pos, fileHeader)
	}
	b = binary.LittleEndian.AppendUint32(append(b, mysql.COM_BINLOG_DUMP), at.Pos)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint32(b, s.MyServerId)
	return append(b, at.Name...)
}

// next returns the next event, which is valid until the next call unless events are kept.
func (d *dump) next() (*replication.BinlogEvent, error) {
	if scribbles {
		for i := range d.borrowed { // before anything else is read into that memory
			d.borrowed[i] = 0xee
		}
		d.borrowed = nil
	}
	data, err := d.packet()
	if err != nil {
		return nil, err
	}
	switch data[0] {
	case mysql.OK_HEADER:
		return d.read(data[1:])
	case mysql.ERR_HEADER:
		if len(data) < 1+2+6 { // its number and the SQL state
			return nil, fmt.Errorf("%w: the stream has an error of %d bytes, which is less than its header", mysql.ErrBadConn, len(data))
		}
		return nil, d.conn.HandleErrorPacket(data)
	case mysql.EOF_HEADER:
		return nil, fmt.Errorf("%w: the server has ended the stream", mysql.ErrBadConn)
	}
	return nil, fmt.Errorf("the stream has a packet of the unknown kind %d", data[0])
}

// packet reads a packet and those that continue it.
func (d *dump) packet() ([]byte, error) {
	length, err := d.packetHeader()
	if err != nil {
		return nil, err
	}
	if !d.keep && 0 < length && length <= dumpReadBytes {
		data, err := d.in.Peek(length)
		if err != nil {
			return nil, lostStream(err)
		}
		d.borrowed = data
		_, err = d.in.Discard(length) // it stays in the buffer until more is read
		return data, err
	}
	size := length
	if length == fullPacket {
		if size, err = d.wholeSize(); err != nil {
			return nil, err
		}
	}
	data := make([]byte, 0, size)
	for {
		from := len(data)
		if from+length > binlog.MaxEvent {
			return nil, fmt.Errorf("the stream has an event of more than %d bytes", binlog.MaxEvent)
		}
		if from+length > cap(data) {
			data = append(make([]byte, 0, from+length), data...)
		}
		data = data[:from+length]
		if _, err := io.ReadFull(d.in, data[from:]); err != nil {
			return nil, lostStream(err)
		}
		if length < fullPacket {
			break
		}
		if length, err = d.packetHeader(); err != nil {
			return nil, err
		}
	}
	if len(data) == 0 {
		return nil, errors.New("the stream has an empty packet")
	}
	return data, nil
}

// packetHeader reads the length and the sequence number in front of a packet.
func (d *dump) packetHeader() (length int, err error) {
	header, err := d.in.Peek(4)
	if err != nil {
		return 0, lostStream(err)
	}
	word := binary.LittleEndian.Uint32(header)
	if got := byte(word >> 24); got != d.sequence {
		return 0, fmt.Errorf("the stream has packet %d where %d should be", got, d.sequence)
	}
	d.sequence++
	_, err = d.in.Discard(len(header))
	return int(word & fullPacket), err
}

// wholeSize is the size of an event that begins a full packet, by its header: memory for it
// is taken once.
func (d *dump) wholeSize() (int, error) {
	const at = 1 + 9 // behind the kind of packet: time, type, server, size
	begin, err := d.in.Peek(at + 4)
	if err != nil {
		return 0, lostStream(err)
	}
	size := int64(binary.LittleEndian.Uint32(begin[at:])) + 1
	return int(min(max(size, fullPacket), eventAtOnce)), nil
}

// lostStream is the error of a connection that cannot be read any more, whatever the reason: a
// fault of TLS that would be a refusal at its beginning is none hours later.
func lostStream(err error) error {
	return fmt.Errorf("%w: reading the stream: %v", mysql.ErrBadConn, err) //nolint:errorlint // on purpose
}

// read reads an event's header and checks its length and checksum; what else is in it
// is read only where it concerns packets to come.
func (d *dump) read(data []byte) (*replication.BinlogEvent, error) {
	if len(data) < replication.EventHeaderSize {
		return nil, fmt.Errorf("the stream has an event of %d bytes, which is less than its header", len(data))
	}
	ev := &d.event
	if d.keep {
		ev = &dumpedEvent{}
	}
	ev.RawData, ev.Header = data, &ev.header
	if err := ev.header.Decode(data); err != nil {
		return nil, err
	}
	if int64(ev.header.EventSize) != int64(len(data)) {
		return nil, fmt.Errorf("the stream has %d bytes of a %s that has %d", len(data), ev.header.EventType, ev.header.EventSize)
	}
	body := data[replication.EventHeaderSize:]
	if ev.header.EventType == replication.FORMAT_DESCRIPTION_EVENT {
		format := &replication.FormatDescriptionEvent{}
		if err := safely(func() error { return format.Decode(body) }); err != nil {
			return nil, fmt.Errorf("the stream has a format description that cannot be read: %w", err)
		}
		d.checksums = format.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32
		ev.Event = format
	}
	if d.checksums {
		end := len(data) - checksumBytes
		if end < replication.EventHeaderSize || crc32.ChecksumIEEE(data[:end]) != binary.LittleEndian.Uint32(data[end:]) {
			return nil, fmt.Errorf("the checksum of a %s that ends at %d is wrong: it is damaged in the source's log or on its way", ev.header.EventType, ev.header.LogPos)
		}
		body = data[replication.EventHeaderSize:end]
	}
	switch ev.header.EventType {
	case replication.FORMAT_DESCRIPTION_EVENT:
	case replication.ROTATE_EVENT:
		rotate := &replication.RotateEvent{}
		if err := safely(func() error { return rotate.Decode(body) }); err != nil {
			return nil, fmt.Errorf("the stream has a rotation that cannot be read: %w", err)
		}
		ev.Event = rotate
	default:
		ev.generic.Data = body
		ev.Event = &ev.generic
	}
	return &ev.BinlogEvent, nil
}
