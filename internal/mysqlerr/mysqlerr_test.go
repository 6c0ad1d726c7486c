package mysqlerr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	replication "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

func fromServer(number uint16, message string) error {
	return &mysql.MySQLError{Number: number, Message: message}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Class
	}{
		{nil, OK},
		{fromServer(1213, "Deadlock found"), Deadlock},
		{fromServer(1205, "Lock wait timeout exceeded"), LockWait},
		{fromServer(1062, "Duplicate entry"), Duplicate},
		{fromServer(1586, "Duplicate entry"), Duplicate},
		{fromServer(2006, "gone away"), ConnectionLost},
		{fromServer(1040, "Too many connections"), ServerBusy},
		{fromServer(1203, "User x already has more than 'max_user_connections'"), ServerBusy},
		{fromServer(1290, "The MySQL server is running with the --super-read-only option so it cannot execute this statement"), ReadOnly},
		{fromServer(1290, "The MariaDB server is running with the --read-only option so it cannot execute this statement"), ReadOnly},
		{fromServer(1290, "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement"), Permanent},
		{fromServer(1836, "Running in read-only mode"), ReadOnly},
		{fromServer(1114, "The table 't' is full"), DiskFull},
		{fromServer(1030, `Got error 28 "No space left on device" from storage engine InnoDB`), DiskFull},
		{fromServer(1026, "Error writing file './binlog.000001' (Errcode: 28 - No space left on device)"), DiskFull},
		{fromServer(1180, `Got error 149 "Lock deadlock; Retry transaction" during COMMIT`), Deadlock},
		{fromServer(1030, `Got error 128 "Out of memory in engine" from storage engine InnoDB`), Permanent},
		{fromServer(1153, "Got a packet bigger than 'max_allowed_packet' bytes"), PacketTooBig},
		{mysql.ErrPktTooLarge, PacketTooBig},
		{fromServer(1053, "Server shutdown in progress"), ShuttingDown},
		{fromServer(1317, "Query execution was interrupted"), Killed},
		{fromServer(3024, "maximum statement execution time exceeded"), Killed},
		{fromServer(1045, "Access denied for user"), AccessDenied},
		{fromServer(1142, "INSERT command denied"), AccessDenied},
		{fromServer(1146, "Table doesn't exist"), UnknownObject},
		{fromServer(1064, "syntax"), Permanent},
		{&replication.MyError{Code: 1045, Message: "Access denied"}, AccessDenied},
		{&replication.MyError{Code: 1236, Message: "Could not find first log file"}, Permanent},
		{replication.ErrBadConn, ConnectionLost},
		{driver.ErrBadConn, ConnectionLost},
		{mysql.ErrInvalidConn, ConnectionLost},
		{sql.ErrConnDone, ConnectionLost},
		{io.EOF, ConnectionLost},
		{io.ErrUnexpectedEOF, ConnectionLost},
		{os.ErrDeadlineExceeded, ConnectionLost}, // of a socket, not of a context
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, ConnectionLost},
		{&net.DNSError{Err: "no such host", Name: "db"}, ConnectionLost},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, Permanent},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, Permanent},
		{mysql.ErrNoTLS, Permanent},
		{context.Canceled, Permanent},
		{context.DeadlineExceeded, Permanent},
		{sql.ErrTxDone, Permanent},
		{sql.ErrNoRows, Permanent},
		{errors.New("something else"), Permanent},
	} {
		require.Equal(t, c.want, Classify(c.err), "%v", c.err)
		if c.err != nil {
			require.Equal(t, c.want, Classify(fmt.Errorf("copy shop.orders: %w", c.err)), "wrapped %v", c.err)
		}
	}
}

// severed answers with a server's greeting, and takes nothing.
type severed struct{ net.Conn }

func (severed) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

// A login whose connection is reset has an error of the driver's own that nobody can name.
func TestLoginThatIsReset(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	greeting := append([]byte("\x0a11\x00\x01\x00\x00\x00"), "12345678\x00"...) // protocol 10, a version, a thread, salt
	greeting = append(greeting, 0xff, 0xf7, 45, 2, 0, 0xff, 0x81, 21)           // capabilities, charset, status, salt's length
	greeting = append(append(greeting, make([]byte, 10)...), "123456789012\x00mysql_native_password\x00"...)
	go func() { _, _ = there.Write(append([]byte{byte(len(greeting)), 0, 0, 0}, greeting...)) }()
	config := mysql.NewConfig()
	config.Logger = &mysql.NopLogger{}
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return severed{here}, nil }
	connector, err := mysql.NewConnector(config)
	require.NoError(t, err)
	_, err = connector.Connect(t.Context())
	require.Error(t, err)
	for _, err := range []error{err, fmt.Errorf("detect: %w", err), errors.Join(errors.New("other"), err)} {
		require.Equal(t, ConnectionLost, Classify(err), "%v", err)
		require.False(t, NothingSent(err), "lines of a LOAD DATA have it, too")
	}
	require.Equal(t, Permanent, Classify(errors.New("a bad connection")))
}

func TestNumber(t *testing.T) {
	require.EqualValues(t, 1213, Number(fmt.Errorf("x: %w", fromServer(1213, ""))))
	require.EqualValues(t, 1236, Number(&replication.MyError{Code: 1236}))
	require.Zero(t, Number(io.EOF))
	require.Zero(t, Number(nil))
}

func TestRetryable(t *testing.T) {
	for _, c := range []Class{Deadlock, LockWait, ConnectionLost, ServerBusy, ReadOnly, DiskFull, ShuttingDown, Killed} {
		require.True(t, Retryable(c), "%v", c)
	}
	for _, c := range []Class{OK, Duplicate, PacketTooBig, AccessDenied, UnknownObject, Permanent, Class(99)} {
		require.False(t, Retryable(c), "%v", c)
	}
}

func TestNothingSent(t *testing.T) {
	require.True(t, NothingSent(fmt.Errorf("x: %w", driver.ErrBadConn)))
	require.True(t, NothingSent(sql.ErrConnDone))
	for _, err := range []error{nil, mysql.ErrInvalidConn, io.EOF, replication.ErrBadConn, fromServer(2013, ""), context.Canceled} {
		require.False(t, NothingSent(err), "%v", err)
	}
}

func TestClassNames(t *testing.T) {
	for c := OK; c <= Permanent; c++ {
		require.NotEmpty(t, c.String())
	}
	require.Equal(t, "unknown class", Class(-1).String())
	require.Equal(t, "unknown class", (Permanent + 1).String())
}
