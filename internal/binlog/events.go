// Package binlog reads the bodies of binary log events that a mover must understand:
// which transaction, which statement, where the log goes on. Row images are read by
// package codec. Layouts: MySQL's and MariaDB's replication protocol documentation.
package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

var errTruncated = errors.New("the event is shorter than its layout")

// IgnorableFlag marks events that a reader may skip without understanding them.
const IgnorableFlag = 0x80

// GTID names one transaction. MySQL: source id, tag and number; MariaDB: domain,
// server and sequence. The zero GTID is anonymous.
type GTID struct {
	SID    uuid.UUID
	Tag    string
	Number int64

	MariaDB bool
	Domain  uint32
	Server  uint32
}

// IsZero reports whether the transaction is anonymous.
func (g GTID) IsZero() bool { return g.Number == 0 }

func (g GTID) String() string {
	switch {
	case g.IsZero():
		return ""
	case g.MariaDB:
		return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Number)
	case g.Tag != "":
		return fmt.Sprintf("%s:%s:%d", g.SID, g.Tag, g.Number)
	default:
		return fmt.Sprintf("%s:%d", g.SID, g.Number)
	}
}

// ParseGTID reads a GTID_EVENT or ANONYMOUS_GTID_EVENT: flags, 16 bytes of source id,
// 8 bytes of number.
func ParseGTID(body []byte) (GTID, error) {
	if len(body) < 25 {
		return GTID{}, errTruncated
	}
	g := GTID{Number: int64(binary.LittleEndian.Uint64(body[17:]))}
	copy(g.SID[:], body[1:17])
	return g, nil
}

// MariaDB GTID event flags.
const (
	mariaStandalone = 1
	mariaPreparedXA = 64
)

// MariaDBGroup is what MariaDB's GTID_EVENT says of the group of events that it begins.
type MariaDBGroup struct {
	GTID GTID
	// Standalone: no COMMIT or XID event ends the group (DDL).
	Standalone bool
	// PreparedXA: the group holds the changes of an XA transaction up to its PREPARE.
	PreparedXA bool
}

// ParseMariaDBGTID reads MariaDB's GTID_EVENT: sequence (8), domain (4), flags (1).
func ParseMariaDBGTID(serverID uint32, body []byte) (MariaDBGroup, error) {
	if len(body) < 13 {
		return MariaDBGroup{}, errTruncated
	}
	return MariaDBGroup{
		GTID: GTID{
			MariaDB: true, Server: serverID,
			Number: int64(binary.LittleEndian.Uint64(body)),
			Domain: binary.LittleEndian.Uint32(body[8:]),
		},
		Standalone: body[12]&mariaStandalone != 0,
		PreparedXA: body[12]&mariaPreparedXA != 0,
	}, nil
}

// ParseRotate reads a ROTATE_EVENT: position (8), name of the next file.
func ParseRotate(body []byte) (file string, pos uint64, err error) {
	if len(body) < 9 {
		return "", 0, errTruncated
	}
	return string(body[8:]), binary.LittleEndian.Uint64(body), nil
}

// ParseRowsQuery reads the statement text of a ROWS_QUERY_EVENT (one length byte that
// does not matter, then the text) or of MariaDB's ANNOTATE_ROWS_EVENT (the text alone).
func ParseRowsQuery(body []byte, mariadb bool) []byte {
	if !mariadb && len(body) > 0 {
		body = body[1:]
	}
	return body
}

// LeadingComment is the comment that a statement begins with, from /* to */; empty when there is
// none, nil for no statement.
func LeadingComment(statement []byte) []byte {
	if bytes.HasPrefix(statement, []byte("/*")) {
		if end := bytes.Index(statement[2:], []byte("*/")); end >= 0 {
			return statement[:2+end+2]
		}
	}
	return statement[:0]
}
