package harness

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// errBad makes a pool drop the connection.
var errBad = driver.ErrBadConn

// IsMariaDB reports whether the pair is of MariaDB.
func (p *Pair) IsMariaDB() bool { return p.Flavour == servers.MariaDB }

// Create makes a schema anew on both servers, with the same tables. Statements name
// tables without a schema.
func (p *Pair) Create(t *testing.T, schema string, ddl ...string) {
	t.Helper()
	p.forgetRuns(t)
	for _, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
		p.In(t, db, "", append([]string{
			"DROP DATABASE IF EXISTS `" + schema + "`",
			"CREATE DATABASE `" + schema + "` DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
			"USE `" + schema + "`",
		}, ddl...)...)
	}
}

// forgetRuns removes the checkpoints of earlier tests from the target.
func (p *Pair) forgetRuns(t *testing.T) {
	t.Helper()
	if _, err := p.TargetDB.ExecContext(t.Context(), "DROP DATABASE IF EXISTS _ghostferry"); err != nil {
		t.Fatal(err)
	}
}

// In runs statements on one connection of its own, in a schema when one is named.
func (p *Pair) In(t *testing.T, db *sql.DB, schema string, statements ...string) {
	t.Helper()
	if err := p.TryIn(t.Context(), db, schema, statements...); err != nil {
		t.Fatal(err)
	}
}

// TryIn is In for any goroutine.
func (p *Pair) TryIn(ctx context.Context, db *sql.DB, schema string, statements ...string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Raw(func(any) error { return errBad })
		_ = conn.Close()
	}()
	if schema != "" {
		statements = append([]string{"USE `" + schema + "`"}, statements...)
	}
	for _, stmt := range statements {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%s: %w", stmt, err)
		}
	}
	return nil
}

// Count returns the rows of a table.
func Count(t *testing.T, db *sql.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Keys returns the primary keys of a batch's rows as text.
func Keys(batch *ghostferry.RowBatch) []string {
	columns := batch.TableSchema().PKColumns
	if len(columns) == 0 {
		columns = []int{batch.PaginationKeyIndex()}
	}
	keys := make([]string, 0, batch.Size())
	for _, row := range batch.Values() {
		var b strings.Builder
		for _, c := range columns {
			fmt.Fprintf(&b, "%v,", row[c])
		}
		keys = append(keys, b.String())
	}
	return keys
}

// Rows returns the rows of a query, each as one text; of a long value it has the digest.
func Rows(t *testing.T, db *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values := make([]any, len(names))
	for i := range values {
		values[i] = new(sql.RawBytes)
	}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, v := range values {
			switch raw := *v.(*sql.RawBytes); { //nolint:errcheck,forcetypeassert // made above
			case raw == nil:
				b.WriteString("NULL|")
			case len(raw) > 1000:
				fmt.Fprintf(&b, "%d bytes %x|", len(raw), sha256.Sum256(raw))
			default:
				fmt.Fprintf(&b, "%q|", raw)
			}
		}
		out = append(out, b.String())
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// querier is a pool or one of its connections.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// A Process is a session of a server.
type Process struct {
	ID                int
	User, State, Info string // Info is the statement that runs
}

// Processes lists a server's sessions. (MySQL fails to list them in information_schema while
// one of them runs a statement that holds binary values.)
func Processes(ctx context.Context, db querier) (list []Process, err error) {
	rows, err := db.QueryContext(ctx, "SHOW FULL PROCESSLIST")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var one Process
		var state, info sql.NullString
		cells := make([]any, len(columns)) // MariaDB has one more
		for i := range cells {
			cells[i] = new(sql.RawBytes)
		}
		cells[0], cells[1], cells[6], cells[7] = &one.ID, &one.User, &state, &info
		if err := rows.Scan(cells...); err != nil {
			return nil, err
		}
		one.State, one.Info = state.String, info.String
		list = append(list, one)
	}
	return list, rows.Err()
}

// KillConnections ends all connections of an account, as a server that restarts would.
// Those of the pool are given up beforehand, so that nobody is handed one that ends.
func (p *Pair) KillConnections(t *testing.T, db *sql.DB, user string) {
	t.Helper()
	p.CloseIdle()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var own int
	if err := conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&own); err != nil {
		t.Fatal(err)
	}
	list, err := Processes(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		if one.User == user && one.ID != own {
			_, _ = conn.ExecContext(t.Context(), fmt.Sprintf("KILL %d", one.ID)) // it may be gone already
		}
	}
}
