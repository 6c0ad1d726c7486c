package shop

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Account is what an application logs in with: it may read and write the rows of
// its database, and a read-only server refuses it.
type Account struct {
	Name, Password string
	// Database is the schema it may use.
	Database string
}

// Create makes the account on a server.
func (a Account) Create(ctx context.Context, db *sql.DB) error {
	user := literal(a.Name) + "@'%'"
	for _, statement := range []string{
		"CREATE USER " + user + " IDENTIFIED BY " + literal(a.Password),
		"GRANT SELECT, INSERT, UPDATE, DELETE ON " + quote(a.Database) + ".* TO " + user,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("creating the account %s: %w", a.Name, err)
		}
	}
	return nil
}

// Open returns a pool of the account's connections. It does not connect yet.
func (a Account) Open(host string, port int) *sql.DB {
	c := mysql.NewConfig()
	c.Net, c.Addr = "tcp", net.JoinHostPort(host, strconv.Itoa(port))
	c.User, c.Passwd = a.Name, a.Password
	c.InterpolateParams = true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		panic(err) // a configuration made of constants and an address is valid
	}
	return sql.OpenDB(connector)
}

func literal(s string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
}
