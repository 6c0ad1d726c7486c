package servers

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// serversEnv names the environment variable with the DSNs of running servers.
func (f Flavour) serversEnv() string {
	if f == MariaDB {
		return "GHOSTFERRY_MARIADB_SERVERS"
	}
	return "GHOSTFERRY_MYSQL_SERVERS"
}

// lease is the use of a running server that somebody else started. It begins with a
// server without schemas and ends with one.
type lease struct {
	db       *sql.DB
	lock     *fileLock
	accounts map[string]bool   // that existed at the beginning
	globals  map[string]string // changed variables and their former values
}

// leaseServer takes the first of the DSNs whose server is free, empty and fits o.
func leaseServer(ctx context.Context, o Options, dsns []string) (*Server, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	var errs []error
	for i, dsn := range dsns {
		c, err := mysql.ParseDSN(dsn)
		if err != nil { // the DSN itself is not for messages: it has a password
			errs = append(errs, fmt.Errorf("DSN number %d: %w", i+1, err))
			continue
		}
		s, err := tryLease(ctx, o, c)
		if err == nil {
			o.logf("%s: %s %s on %s:%d (named by %s)", s.Name, s.Flavour, s.Version, s.Host, s.Port, o.Flavour.serversEnv())
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("servers: none of the servers in %s can be used as %s: %w", o.Flavour.serversEnv(), o.Name, errors.Join(errs...))
}

// tryLease takes this server or says why it cannot be used.
func tryLease(ctx context.Context, o Options, c *mysql.Config) (_ *Server, err error) {
	host, portText, err := net.SplitHostPort(c.Addr)
	if err != nil || c.Net != "tcp" {
		return nil, fmt.Errorf("%s: only TCP addresses with a port can be used", c.Addr)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Addr, err)
	}
	s := &Server{Flavour: o.Flavour, Name: o.Name, Host: host, Port: port, options: o, user: c.User, password: c.Passwd}
	l := &lease{globals: map[string]string{}}
	if l.lock, err = lockAddress(c.Addr); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", c.Addr, err), l.release())
		}
	}()
	if l.db, err = sql.Open("mysql", s.DSN("")); err != nil {
		return nil, err
	}
	var comment string
	err = l.db.QueryRowContext(ctx, "SELECT @@version, @@version_comment").Scan(&s.Version, &comment)
	if err != nil {
		return nil, err
	}
	err = checkVersion(o.Flavour, s.Version+" "+comment, s.Version)
	if err != nil {
		return nil, err
	}
	schemas, err := l.strings(ctx, userSchemas)
	if err != nil {
		return nil, err
	}
	if len(schemas) > 0 {
		return nil, fmt.Errorf("it is not empty (schema %s): tests delete everything, so only empty servers are used", schemas[0])
	}
	err = l.configure(ctx, o)
	if err != nil {
		return nil, err
	}
	s.lease = l
	return s, nil
}

// lockAddress reserves a server for this process.
func lockAddress(addr string) (*fileLock, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	l, err := tryLock(filepath.Join(cache, fmt.Sprintf("server-%x.lock", sha256.Sum256([]byte(addr)))))
	if err == nil && l == nil {
		err = fmt.Errorf("%s: it is in use by another test", addr)
	}
	return l, err
}

const (
	userSchemas = "SELECT schema_name FROM information_schema.schemata " +
		"WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"
	allAccounts = "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user"
)

// configure notes the accounts and sets what the options ask for.
func (l *lease) configure(ctx context.Context, o Options) error {
	accounts, err := l.strings(ctx, allAccounts)
	if err != nil {
		return err
	}
	l.accounts = map[string]bool{}
	for _, a := range accounts {
		l.accounts[a] = true
	}
	rowsQuery := "binlog_annotate_row_events"
	if o.Flavour == MySQL {
		rowsQuery = "binlog_rows_query_log_events"
		mode, err := l.strings(ctx, "SELECT @@GLOBAL.gtid_mode")
		if err != nil {
			return err
		}
		if (mode[0] == "ON") != o.GTID {
			return fmt.Errorf("gtid_mode is %s, which is not what is wanted here: name a server of either kind", mode[0])
		}
		if o.SemiSync {
			_, err := l.db.ExecContext(ctx, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
			var answer *mysql.MySQLError
			const alreadyThere, alreadyThereNew = 1125, 1968
			if err != nil && (!errors.As(err, &answer) || answer.Number != alreadyThere && answer.Number != alreadyThereNew) {
				return err
			}
		}
	}
	if err := l.set(ctx, "local_infile", strconv.FormatBool(o.LocalInfile)); err != nil {
		return err
	}
	if err := l.set(ctx, rowsQuery, strconv.FormatBool(!o.NoRowsQueryEvents)); err != nil {
		return err
	}
	for _, flag := range o.Flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if err := l.set(ctx, strings.ReplaceAll(name, "-", "_"), value); err != nil {
			return fmt.Errorf("flag %s cannot be set on a running server: %w", flag, err)
		}
	}
	return nil
}

var (
	variableName = regexp.MustCompile(`^[a-z_0-9]+$`)
	flagSize     = regexp.MustCompile(`^([0-9]+)([KMG])$`)
	bareValue    = regexp.MustCompile(`^(-?[0-9]+|true|false)$`)
)

// set changes a global variable until the end of the lease.
func (l *lease) set(ctx context.Context, name, value string) error {
	if !variableName.MatchString(name) {
		return fmt.Errorf("%q is no variable", name)
	}
	former, err := l.strings(ctx, "SELECT @@GLOBAL."+name)
	if err != nil {
		return err
	}
	if m := flagSize.FindStringSubmatch(value); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		value = strconv.FormatInt(n<<map[string]int{"K": 10, "M": 20, "G": 30}[m[2]], 10)
	}
	if err := l.assign(ctx, name, value); err != nil {
		return err
	}
	if _, changed := l.globals[name]; !changed {
		l.globals[name] = former[0]
	}
	return nil
}

// assign sets a global variable; words are quoted, numbers must not be.
func (l *lease) assign(ctx context.Context, name, value string) error {
	if !bareValue.MatchString(value) {
		value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
	}
	_, err := l.db.ExecContext(ctx, "SET GLOBAL "+name+" = "+value)
	return err
}

// end restores the variables and deletes the accounts and schemas of the lease. It has
// to finish although the test's context is over, hence its own.
//
//nolint:contextcheck // see above
func (l *lease) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	for name, value := range l.globals {
		errs = append(errs, l.assign(ctx, name, value))
	}
	schemas, err := l.strings(ctx, userSchemas)
	errs = append(errs, err)
	for _, schema := range schemas {
		_, err := l.db.ExecContext(ctx, "DROP DATABASE `"+strings.ReplaceAll(schema, "`", "``")+"`")
		errs = append(errs, err)
	}
	accounts, err := l.strings(ctx, allAccounts)
	errs = append(errs, err)
	for _, account := range accounts {
		if !l.accounts[account] {
			_, err := l.db.ExecContext(ctx, "DROP USER "+account)
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, l.release())...)
}

// release lets the next one use the server.
func (l *lease) release() error {
	var err error
	if l.db != nil {
		err = l.db.Close()
	}
	return errors.Join(err, l.lock.unlock())
}

// strings returns the first column of the query's rows.
func (l *lease) strings(ctx context.Context, query string) ([]string, error) {
	rows, err := l.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// notOurs is the answer to what can only be done with an own server.
func (s *Server) notOurs(what string) error {
	return fmt.Errorf("servers: %s %s: it was not started here but named by %s", what, s.Name, s.Flavour.serversEnv())
}

// namedServers returns the DSNs of the flavour's running servers.
func namedServers(f Flavour) []string { return strings.Fields(os.Getenv(f.serversEnv())) }
