package faultproxy

import (
	"bufio"
	"fmt"
	"io"
)

// Commands of the protocol that rules can tell apart.
const (
	comQuery          = 0x03
	comBinlogDump     = 0x12
	comBinlogDumpGTID = 0x1e
)

// Capabilities in a client's first packet after which its connection is not parsed.
const (
	clientCompress = 0x20
	clientTLS      = 0x800
	clientZstd     = 1 << 26
)

const (
	headerBytes = 4
	// wholePacket is the length of a packet that is continued in the next one.
	wholePacket = 1<<24 - 1
)

// packet is one packet with its header.
type packet []byte

func (p packet) sequence() byte  { return p[3] }
func (p packet) payload() []byte { return p[headerBytes:] }
func (p packet) continued() bool { return len(p.payload()) == wholePacket }

// readPacket reads a whole packet.
func readPacket(r *bufio.Reader) (packet, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	p := make(packet, headerBytes+length)
	copy(p, header[:])
	if _, err := io.ReadFull(r, p.payload()); err != nil {
		return nil, fmt.Errorf("in the middle of a packet: %w", err)
	}
	return p, nil
}

// leavesProtocol reports whether what follows a client's first packet cannot be parsed:
// TLS, or compression.
func leavesProtocol(first packet) (tls, compressed bool) {
	payload := first.payload()
	if len(payload) < 4 {
		return false, false
	}
	flags := uint32(payload[0]) | uint32(payload[1])<<8 | uint32(payload[2])<<16 | uint32(payload[3])<<24
	const tlsRequestBytes = 32 // the same packet without user and password
	tls = flags&clientTLS != 0 && len(payload) == tlsRequestBytes
	return tls, !tls && flags&(clientCompress|clientZstd) != 0
}

// errorPacket is a server's answer that a command failed.
func errorPacket(sequence byte, number uint16) packet {
	const text = "#HY000refused by the proxy"
	payload := append([]byte{0xff, byte(number), byte(number >> 8)}, text...)
	return append(packet{byte(len(payload)), byte(len(payload) >> 8), 0, sequence}, payload...)
}
