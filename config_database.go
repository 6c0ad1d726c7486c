package ghostferry

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// DefaultNet is the network of a [DatabaseConfig] that names none.
	DefaultNet = "tcp"
	// DefaultMarginalia is the comment of a [DatabaseConfig] that names none.
	DefaultMarginalia = "application:ghostferry"

	// requiredTimeZone keeps TIMESTAMPs the same on both sides.
	requiredTimeZone = "'+00:00'"
	// requiredSQLMode refuses what would silently change a value, makes a backslash
	// an ordinary character, and lets 0 be written into an AUTO_INCREMENT column.
	requiredSQLMode = "'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO'"
	// upstreamSQLMode is accepted in its place, because configurations written for
	// upstream may have it; the stricter one is used.
	upstreamSQLMode = "'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'"

	// connectionCharset carries every character of every other character set.
	connectionCharset = "utf8mb4"

	// maxIdleConnections keeps the connections of copy workers and lanes open
	// between two statements; database/sql would keep two.
	maxIdleConnections = 16
)

// DatabaseConfig is one server.
type DatabaseConfig struct {
	// Host is a name or an address, or the socket's path when Net is "unix".
	Host string
	// Port must not be 0, and is set to 0 for a unix socket.
	Port uint16
	// Net is "tcp" (the default) or "unix".
	Net string
	// User must not be empty.
	User string
	// Pass may be empty.
	Pass string
	// PassFile is a file with the password in place of Pass; a line break at its end is
	// not part of it. It is read for every connection, so that the password can be
	// rotated during a run.
	PassFile string
	// Password returns the password in place of Pass and PassFile. It is called for
	// every connection, from any goroutine. Set in code.
	Password func(ctx context.Context) (string, error) `json:"-"`
	// Collation is the connection's; a utf8mb4 one. Empty means the server's default
	// for utf8mb4.
	Collation string
	// Params are session variables, as SET would take them: text in quotes. autocommit and
	// sql_select_limit are not taken from here: each statement commits, and no read is cut.
	Params map[string]string
	// TLS encrypts the connection; nil means plain. With it a server that does not offer
	// TLS is refused.
	TLS *TLSConfig
	// ServerPublicKeyPath is a PEM file with the server's RSA key. Accounts of
	// caching_sha2_password that log in without TLS over a network need it: the password
	// then travels under that key, and only under it. On the server the key is the status
	// variable Caching_sha2_password_rsa_public_key. Unix sockets and loopback addresses
	// do not need it.
	ServerPublicKeyPath string
	// InsecurePublicKeyRetrieval takes whatever key the server, or somebody between,
	// sends in place of ServerPublicKeyPath.
	InsecurePublicKeyRetrieval bool

	distrustLoopback bool // for tests: loopback is as bad as a network

	// ReadTimeout and WriteTimeout bound reading and writing on the connection, in
	// seconds; 0 means no bound. An ALTER for deferred indexes has no ReadTimeout.
	ReadTimeout  uint64
	WriteTimeout uint64

	// Compress compresses what SQL connections carry, with zlib at its fastest useful level:
	// for links slower than about 200 Mbit/s; it costs processor time on both ends. The
	// stream of the binary log is not compressed by it: MySQL does that at the source with
	// binlog_transaction_compression.
	Compress bool

	// Marginalia is the comment in front of every statement.
	Marginalia string
}

// MySQLConfig is the driver's configuration for this server: utf8mb4 by the driver's
// own option, single statements, affected rows counted as changed, packets as large
// as the server takes. The password is asked for at every connection.
func (c *DatabaseConfig) MySQLConfig() (*mysql.Config, error) {
	config := mysql.NewConfig()
	config.User = c.User
	config.Passwd = c.Pass
	config.Net = c.Net
	if config.Net == "" {
		config.Net = DefaultNet
	}
	config.Addr = c.address()
	config.MaxAllowedPacket = 0
	config.Timeout = dialTimeout
	dial, err := c.dialer(0)
	if err != nil {
		return nil, err
	}
	config.DialFunc = dial
	if c.rotates() {
		err = config.Apply(mysql.BeforeConnect(func(ctx context.Context, config *mysql.Config) (err error) {
			config.Passwd, err = c.password(ctx)
			return err
		}))
		if err != nil {
			return nil, err
		}
	}
	config.ReadTimeout = time.Duration(c.ReadTimeout) * time.Second
	config.WriteTimeout = time.Duration(c.WriteTimeout) * time.Second
	if err := config.Apply(mysql.Charset(connectionCharset, c.Collation)); err != nil {
		return nil, err
	}

	if err := config.Apply(mysql.EnableCompression(c.Compress)); err != nil {
		return nil, err
	}

	config.Params = poolParams(c.Params)

	config.TLS, err = c.tlsConfig()
	return config, err
}

// address is host and port, or the path of a socket.
func (c *DatabaseConfig) address() string {
	if c.Net == "unix" {
		return c.Host
	}
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

// SqlDB opens a pool whose statements carry the marginalia. It does not connect yet.
// The masked DSN is logged at debug level when logger is not nil.
func (c *DatabaseConfig) SqlDB(logger Logger) (*sql.DB, error) {
	config, err := c.MySQLConfig()
	if err != nil {
		return nil, err
	}
	if logger != nil {
		logger.WithField("dsn", MaskedDSN(config)).Debug("connecting to database")
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("connection to %s: %w", config.Addr, err)
	}
	marginalia := c.Marginalia
	if marginalia == "" {
		marginalia = DefaultMarginalia
	}
	db := sql.OpenDB(&boundedConnector{Connector: connector, rotates: c.rotates()}, marginalia)
	db.SetMaxIdleConns(maxIdleConnections)
	return db, nil
}

// MaskedDSN is the DSN with "<masked>" for the password.
func MaskedDSN(c *mysql.Config) string {
	masked := c.Clone()
	if masked.Passwd != "" {
		masked.Passwd = "<masked>"
	}
	return masked.FormatDSN()
}

// Validate fills the defaults and reports every fault, first of host, port, net and
// user, in this order.
func (c *DatabaseConfig) Validate() error {
	return joinErrors(c.validate("", ""))
}

// driverOptions are names that the driver's DSN gives a meaning of its own. As a
// session variable the server would refuse them with a text that helps nobody.
var driverOptions = map[string]string{
	"allowallfiles": "", "allowcleartextpasswords": "", "allowfallbacktoplaintext": "", "allownativepasswords": "",
	"allowoldpasswords": "", "checkconnliveness": "", "clientfoundrows": "", "collation": "Collation", "columnswithalias": "",
	"compress": "Compress", "connectionattributes": "", "interpolateparams": "", "loc": "", "maxallowedpacket": "",
	"multistatements": "", "parsetime": "", "readtimeout": "ReadTimeout", "rejectreadonly": "", "serverpubkey": "",
	"strict": "", "timeout": "", "timetruncate": "", "tls": "TLS", "writetimeout": "WriteTimeout",
}

// validate is Validate with the path of the setting ("Source") and the prefix of the
// texts ("source: ").
func (c *DatabaseConfig) validate(path, prefix string) []error {
	var faults []error
	fault := func(field, problem, remedy string) {
		if path != "" {
			field = path + "." + field
		}
		faults = append(faults, &ConfigError{Field: field, Problem: prefix + problem, Remedy: remedy})
	}

	if c.Host == "" {
		fault("Host", "host is empty", "give the server's name or address, or the path of its socket")
	}
	if c.Port == 0 && c.Net != "unix" {
		fault("Port", "port is 0", "give the server's port, usually 3306")
	}
	switch c.Net {
	case "":
		c.Net = DefaultNet
	case DefaultNet:
	case "unix":
		c.Port = 0
	default:
		fault("Net", fmt.Sprintf("unknown net %q", c.Net), `it is "tcp" or "unix"`)
	}
	if c.User == "" {
		fault("User", "user is empty", "give the account's name")
	}
	if c.PassFile != "" && c.Pass != "" {
		fault("PassFile", "both Pass and PassFile are set", "remove one of them")
	}
	if _, err := c.publicKey(); err != nil {
		fault("ServerPublicKeyPath", err.Error(), "give a PEM file with the server's RSA public key")
	}
	if c.Collation != "" && !strings.HasPrefix(c.Collation, connectionCharset+"_") {
		fault("Collation", fmt.Sprintf("collation %q is not one of %s", c.Collation, connectionCharset),
			"leave it empty: text would not survive a connection with another character set")
	}
	if c.Marginalia == "" {
		c.Marginalia = DefaultMarginalia
	}
	c.validateParams(fault)
	if c.TLS != nil {
		if _, err := c.TLS.BuildConfig(); err != nil {
			faults = append(faults, &ConfigError{Field: joinPath(path, "TLS"), Problem: prefix + "TLS: " + err.Error(), Err: err})
		}
	}
	return faults
}

func (c *DatabaseConfig) validateParams(fault func(field, problem, remedy string)) {
	for _, name := range sortedNames(c.Params) {
		value, field := c.Params[name], "Params."+name
		switch lower := strings.ToLower(name); lower {
		case "charset":
			if value != connectionCharset {
				fault(field, fmt.Sprintf("charset %q is not supported", value), "remove it: connections use "+connectionCharset)
			}
		case "time_zone":
			if value != requiredTimeZone {
				fault(field, fmt.Sprintf("time_zone must be %s, not %s", requiredTimeZone, value), "remove it")
			}
		case "sql_mode":
			if value != requiredSQLMode && value != upstreamSQLMode {
				fault(field, fmt.Sprintf("sql_mode must be %s, not %s", requiredSQLMode, value), "remove it")
			}
		default:
			setting, isOption := driverOptions[lower]
			if !isOption {
				continue
			}
			remedy := "remove it: this option of the driver is not configurable"
			if setting != "" {
				remedy = "use the setting " + setting
			}
			fault(field, fmt.Sprintf("%q is an option of the driver, not a session variable", name), remedy)
		}
	}

	c.Params = sessionParams(c.Params)
}

// sessionParams are the configured session variables with the required ones. The
// charset is left out: the driver has an option of its own for it.
func sessionParams(configured map[string]string) map[string]string {
	params := withoutParams(configured, "charset", "time_zone", "sql_mode")
	params["time_zone"] = requiredTimeZone
	params["sql_mode"] = requiredSQLMode
	return params
}

// poolParams are the session variables of all connections, whatever the server's global values
// are: definitions would be read in part, and the checkpoint written and never committed.
func poolParams(configured map[string]string) map[string]string {
	params := withoutParams(sessionParams(configured), "autocommit", "sql_select_limit")
	params["autocommit"] = "1"
	params["sql_select_limit"] = server.NoSelectLimit
	return params
}

func withoutParams(configured map[string]string, names ...string) map[string]string {
	params := maps.Clone(configured)
	maps.DeleteFunc(params, func(name, _ string) bool { return slices.Contains(names, strings.ToLower(name)) })
	if params == nil {
		params = map[string]string{}
	}
	return params
}

func joinPath(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}
