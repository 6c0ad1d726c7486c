// Package mysqlerr answers what a database error means for the caller: may the work be tried
// again, and could the server have seen the statement at all. It knows the errors of
// go-sql-driver/mysql, of go-mysql's replication client, of database/sql and of the network.
package mysqlerr

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	replication "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"
)

// Class is what an error means for the one who got it.
type Class int

const (
	// OK: no error.
	OK Class = iota
	// Deadlock: the whole transaction was rolled back in favour of another one.
	Deadlock
	// LockWait: a lock was not granted in time. The statement was rolled back and the transaction
	// may still be open.
	LockWait
	// Duplicate: a unique key already has the value.
	Duplicate
	// ConnectionLost: the connection is gone or was never made. Whether the statement ran is
	// unknown unless NothingSent says otherwise.
	ConnectionLost
	// ServerBusy: the server is up and refuses for lack of connections, memory or quota.
	ServerBusy
	// ReadOnly: the server, or the account's transactions, must not write at present.
	ReadOnly
	// DiskFull: the server cannot store more until somebody makes room.
	DiskFull
	// PacketTooBig: a statement or row exceeds max_allowed_packet of one side.
	PacketTooBig
	// ShuttingDown: the server is about to stop.
	ShuttingDown
	// Killed: the statement or its connection was killed, or ran past a server-side time limit.
	Killed
	// AccessDenied: wrong credentials or a missing privilege.
	AccessDenied
	// UnknownObject: schema, table or column does not exist.
	UnknownObject
	// Permanent: anything else, an ended context included: trying again gives the same answer.
	Permanent
)

// String returns the class in words, for logs and errors.
func (c Class) String() string {
	names := [...]string{
		OK: "ok", Deadlock: "deadlock", LockWait: "lock wait timeout", Duplicate: "duplicate key",
		ConnectionLost: "connection lost", ServerBusy: "server busy", ReadOnly: "server is read-only",
		DiskFull: "disk full", PacketTooBig: "packet too big", ShuttingDown: "server is shutting down",
		Killed: "statement killed", AccessDenied: "access denied", UnknownObject: "unknown object",
		Permanent: "permanent",
	}
	if c < 0 || int(c) >= len(names) {
		return "unknown class"
	}
	return names[c]
}

// classes maps the numbers of MySQL and MariaDB; the comment gives the server's own name.
var classes = map[uint16]Class{
	1213: Deadlock, // ER_LOCK_DEADLOCK
	1020: Deadlock, // ER_CHECKREAD: MariaDB, innodb_snapshot_isolation: the row changed since the snapshot
	1614: Deadlock, // ER_XA_RBDEADLOCK
	3058: Deadlock, // ER_USER_LOCK_DEADLOCK
	3101: Deadlock, // ER_TRANSACTION_ROLLBACK_DURING_COMMIT: group replication's certification lost

	1205: LockWait, // ER_LOCK_WAIT_TIMEOUT
	1613: LockWait, // ER_XA_RBTIMEOUT
	3572: LockWait, // ER_LOCK_NOWAIT

	1062: Duplicate, // ER_DUP_ENTRY
	1586: Duplicate, // ER_DUP_ENTRY_WITH_KEY_NAME
	1859: Duplicate, // ER_DUP_UNKNOWN_IN_INDEX

	1080: ConnectionLost, // ER_FORCING_CLOSE
	1152: ConnectionLost, // ER_ABORTING_CONNECTION
	1158: ConnectionLost, // ER_NET_READ_ERROR
	1159: ConnectionLost, // ER_NET_READ_INTERRUPTED
	1160: ConnectionLost, // ER_NET_ERROR_ON_WRITE
	1161: ConnectionLost, // ER_NET_WRITE_INTERRUPTED
	1184: ConnectionLost, // ER_NEW_ABORTING_CONNECTION
	1927: ConnectionLost, // ER_CONNECTION_KILLED (MariaDB)
	2002: ConnectionLost, // CR_CONNECTION_ERROR
	2003: ConnectionLost, // CR_CONN_HOST_ERROR
	2006: ConnectionLost, // CR_SERVER_GONE_ERROR
	2013: ConnectionLost, // CR_SERVER_LOST
	2055: ConnectionLost, // CR_SERVER_LOST_EXTENDED
	3169: ConnectionLost, // ER_SESSION_WAS_KILLED
	4031: ConnectionLost, // ER_CLIENT_INTERACTION_TIMEOUT

	1037: ServerBusy, // ER_OUTOFMEMORY
	1038: ServerBusy, // ER_OUT_OF_SORTMEMORY
	1040: ServerBusy, // ER_CON_COUNT_ERROR
	1041: ServerBusy, // ER_OUT_OF_RESOURCES
	1047: ServerBusy, // ER_UNKNOWN_COM_ERROR: Galera's answer while a node is not ready
	1135: ServerBusy, // ER_CANT_CREATE_THREAD
	1203: ServerBusy, // ER_TOO_MANY_USER_CONNECTIONS
	1206: ServerBusy, // ER_LOCK_TABLE_FULL
	1226: ServerBusy, // ER_USER_LIMIT_REACHED
	1637: ServerBusy, // ER_TOO_MANY_CONCURRENT_TRXS
	3168: ServerBusy, // ER_SERVER_ISNT_AVAILABLE

	1036: ReadOnly, // ER_OPEN_AS_READONLY
	1792: ReadOnly, // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
	1836: ReadOnly, // ER_READ_ONLY_MODE
	1874: ReadOnly, // ER_INNODB_READ_ONLY
	3100: ReadOnly, // ER_RUN_HOOK_ERROR: a group replication member that may not write
	3989: ReadOnly, // ER_SCHEMA_READ_ONLY

	3:    DiskFull, // EE_WRITE
	20:   DiskFull, // EE_DISK_FULL
	1021: DiskFull, // ER_DISK_FULL
	1114: DiskFull, // ER_RECORD_FILE_FULL
	1878: DiskFull, // ER_TEMP_FILE_WRITE_FAILURE

	1153: PacketTooBig, // ER_NET_PACKET_TOO_LARGE
	1301: PacketTooBig, // ER_WARN_ALLOWED_PACKET_OVERFLOWED
	2020: PacketTooBig, // CR_NET_PACKET_TOO_LARGE

	1053: ShuttingDown, // ER_SERVER_SHUTDOWN
	1077: ShuttingDown, // ER_NORMAL_SHUTDOWN
	1078: ShuttingDown, // ER_GOT_SIGNAL
	1079: ShuttingDown, // ER_SHUTDOWN_COMPLETE

	1317: Killed, // ER_QUERY_INTERRUPTED
	1969: Killed, // ER_STATEMENT_TIMEOUT (MariaDB)
	3024: Killed, // ER_QUERY_TIMEOUT

	1044: AccessDenied, // ER_DBACCESS_DENIED_ERROR
	1045: AccessDenied, // ER_ACCESS_DENIED_ERROR
	1129: AccessDenied, // ER_HOST_IS_BLOCKED
	1130: AccessDenied, // ER_HOST_NOT_PRIVILEGED
	1142: AccessDenied, // ER_TABLEACCESS_DENIED_ERROR
	1143: AccessDenied, // ER_COLUMNACCESS_DENIED_ERROR
	1227: AccessDenied, // ER_SPECIFIC_ACCESS_DENIED_ERROR
	1251: AccessDenied, // ER_NOT_SUPPORTED_AUTH_MODE
	1370: AccessDenied, // ER_PROCACCESS_DENIED_ERROR
	1524: AccessDenied, // ER_PLUGIN_IS_NOT_LOADED (an authentication plugin, at login)
	1698: AccessDenied, // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
	1820: AccessDenied, // ER_MUST_CHANGE_PASSWORD
	1862: AccessDenied, // ER_MUST_CHANGE_PASSWORD_LOGIN
	3118: AccessDenied, // ER_ACCOUNT_HAS_BEEN_LOCKED
	4151: AccessDenied, // ER_ACCOUNT_HAS_BEEN_LOCKED (MariaDB)

	1049: UnknownObject, // ER_BAD_DB_ERROR
	1051: UnknownObject, // ER_BAD_TABLE_ERROR
	1054: UnknownObject, // ER_BAD_FIELD_ERROR
	1109: UnknownObject, // ER_UNKNOWN_TABLE
	1146: UnknownObject, // ER_NO_SUCH_TABLE
	1932: UnknownObject, // ER_NO_SUCH_TABLE_IN_ENGINE
}

// Classify returns the class of err, however deeply it is wrapped.
func Classify(err error) Class {
	if err == nil {
		return OK
	}
	if number, message := numberAndMessage(err); number != 0 {
		return classifyNumber(number, message)
	}
	// Before the network: context.DeadlineExceeded is a net.Error too, and it is ours.
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Permanent
	}
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return PacketTooBig
	}
	if TLSRefused(err) {
		return Permanent
	}
	if isConnectionLost(err) {
		return ConnectionLost
	}
	return Permanent
}

// classifyNumber settles by the message the few numbers that stand for several things. The parts
// looked at are option names and errno values, which no lc_messages translates.
func classifyNumber(number uint16, message string) Class {
	switch number {
	case 1290: // ER_OPTION_PREVENTS_STATEMENT, also said of --skip-grant-tables and --secure-file-priv
		if strings.Contains(message, "read-only") || strings.Contains(message, "read_only") ||
			strings.Contains(message, "READ-ONLY") || strings.Contains(message, "READ_ONLY") {
			return ReadOnly
		}
	case 1026, 1030, 1180: // ER_ERROR_ON_WRITE, ER_GET_ERRNO, ER_ERROR_DURING_COMMIT
		switch {
		case mentionsErrno(message, "28"): // ENOSPC
			return DiskFull
		case mentionsErrno(message, "149"): // HA_ERR_LOCK_DEADLOCK
			return Deadlock
		}
	}
	if class, ok := classes[number]; ok {
		return class
	}
	return Permanent
}

// mentionsErrno tells whether the number stands in message as a word of its own.
func mentionsErrno(message, number string) bool {
	words := strings.FieldsFunc(message, func(r rune) bool { return r < '0' || r > '9' })
	for _, word := range words {
		if word == number {
			return true
		}
	}
	return false
}

// TLSRefused tells whether a side refused the encryption that the other one offered: a
// certificate that is not to be trusted, no common version, or a server without TLS.
func TLSRefused(err error) bool {
	if err == nil {
		return false
	}
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		operation    *net.OpError
	)
	if errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error") {
		return true // how crypto/tls reports an alert, of a type it does not export
	}
	// The replication client has no error of its own for a server without TLS.
	return errors.As(err, &verification) || errors.As(err, &record) || errors.Is(err, mysql.ErrNoTLS) ||
		strings.Contains(err.Error(), "does not support TLS")
}

func isConnectionLost(err error) bool {
	for _, sentinel := range []error{
		driver.ErrBadConn, sql.ErrConnDone,
		mysql.ErrInvalidConn, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul, mysql.ErrBusyBuffer,
		replication.ErrBadConn, replication.ErrMalformPacket,
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network) || unsent(err)
}

// unsent finds the driver's error for a packet of which nothing could be written. It is not exported,
// and comes as it is where the driver does not say driver.ErrBadConn instead: at the login, and from
// the lines of a LOAD DATA, whose statement the server has.
func unsent(err error) bool {
	switch wrapper := err.(type) { //nolint:errorlint // this is the walk
	case nil:
		return false
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(wrapper.Unwrap(), unsent)
	case interface{ Unwrap() error }:
		return unsent(wrapper.Unwrap())
	}
	return err.Error() == "bad connection"
}

// Number returns the server's error number, 0 when err does not come from a server.
func Number(err error) uint16 {
	number, _ := numberAndMessage(err)
	return number
}

func numberAndMessage(err error) (uint16, string) {
	var fromDriver *mysql.MySQLError
	if errors.As(err, &fromDriver) {
		return fromDriver.Number, fromDriver.Message
	}
	var fromReplication *replication.MyError
	if errors.As(err, &fromReplication) {
		return fromReplication.Code, fromReplication.Message
	}
	return 0, ""
}

// Retryable tells whether the same work may succeed when it is tried again: the whole
// transaction, never the statement alone. Whether it is allowed to, after a lost connection, is
// another question: see NothingSent.
func Retryable(c Class) bool {
	switch c {
	case Deadlock, LockWait, ConnectionLost, ServerBusy, ReadOnly, DiskFull, ShuttingDown, Killed:
		return true
	default:
		return false
	}
}

// NothingSent is true only when it is certain that no byte of the statement reached the server.
// False means "unknown": mysql.ErrInvalidConn after a COMMIT, say, may be a commit that succeeded.
//
// It relies on the driver reporting driver.ErrBadConn for nothing else, which holds as long as its
// RejectReadOnly option is off.
func NothingSent(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

// NoSuchThread is the server's answer to a KILL of a connection that has ended.
const NoSuchThread = 1094 // ER_NO_SUCH_THREAD

// NoSuchKey is the server's answer to a hint that names an index which the table lacks.
const NoSuchKey = 1176 // ER_KEY_DOES_NOT_EXITS

// CheckViolated is MySQL's answer to a row that a CHECK constraint refuses.
const CheckViolated = 3819 // ER_CHECK_CONSTRAINT_VIOLATED

// NeedsQuietTable tells whether an online change of a table's indexes failed for a reason that
// does not hold while nobody writes to it.
func NeedsQuietTable(err error) bool {
	switch Number(err) {
	case 1799, // ER_INNODB_ONLINE_LOG_TOO_BIG: more was written meanwhile than the server keeps
		1845, 1846, // ER_ALTER_OPERATION_NOT_SUPPORTED, … _REASON: not without a lock
		1062, 1859: // ER_DUP_ENTRY, ER_DUP_UNKNOWN_IN_INDEX
		return true
	}
	return false
}
