package preflight_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/preflight"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A pair of servers of each flavour serves all tests of the package.
var pairs = map[servers.Flavour][2]*servers.Server{}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
			wg.Go(func() {
				source, target, err := servers.StartPair(context.Background(),
					servers.Options{Flavour: flavour, GTID: true}, servers.Options{Flavour: flavour, GTID: true})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				pairs[flavour] = [2]*servers.Server{source, target}
			})
		}
		wg.Wait()
		for _, pair := range pairs {
			defer pair[0].Stop()
			defer pair[1].Stop()
		}
		if len(pairs) != 2 {
			return 1
		}
		return m.Run()
	}())
}

// world is a source with tables and a target without, as seen by root, and accounts that have the
// documented privileges and no others.
type world struct {
	source, target *sql.DB // root
	in             preflight.Input
}

// sourceGrants and targetGrants are the documented minimum.
func sourceGrants(s *server.Server) []string {
	grants := []string{"SELECT ON `shop\\_1`.*", strings.Join(s.BinlogPrivileges(), ", ") + " ON *.*"}
	if !s.IsMariaDB() {
		grants = append(grants, "XA_RECOVER_ADMIN ON *.*")
	}
	return grants
}

func targetGrants(s *server.Server) []string {
	shop := "SELECT, INSERT, UPDATE, DELETE, CREATE"
	if s.TriggersNeedPrivilege() {
		shop += ", TRIGGER"
	}
	return []string{shop + " ON `shop\\_1`.*", "SELECT, INSERT, UPDATE, DELETE, CREATE ON `ghostferry`.*"}
}

var definitions = []string{
	"CREATE TABLE `shop_1`.customers (id INT PRIMARY KEY, email VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin UNIQUE, " +
		"note VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, tag INT DEFAULT 7) ENGINE=InnoDB",
	"CREATE TABLE `shop_1`.`odd``name.x` (a INT NOT NULL, b BIGINT UNSIGNED NOT NULL, c INT GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (a, b)) ENGINE=InnoDB",
}

func onBoth(t *testing.T, f func(t *testing.T, w *world)) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			f(t, newWorld(t, pairs[flavour][0], pairs[flavour][1]))
		})
	}
}

func newWorld(t *testing.T, source, target *servers.Server) *world {
	w := &world{source: open(t, source.DSN("")), target: open(t, target.DSN(""))}
	exec(t, w.source, "DROP DATABASE IF EXISTS `shop_1`", "CREATE DATABASE `shop_1`")
	exec(t, w.target, "DROP DATABASE IF EXISTS `shop_1`", "DROP DATABASE IF EXISTS ghostferry")
	exec(t, w.source, definitions...)
	w.in = preflight.Input{
		Tables: []preflight.Table{
			{Schema: "shop_1", Name: "customers", TargetSchema: "shop_1", TargetName: "customers", KeyColumns: []string{"id"}},
			{Schema: "shop_1", Name: "odd`name.x", TargetSchema: "shop_1", TargetName: "odd`name.x", KeyColumns: []string{"a", "b"}},
		},
		CheckpointOn: true, CheckpointSchema: "ghostferry", CreateTables: true,
	}
	w.detect(t)
	w.in.Source = account(t, w.source, source, sourceGrants(w.in.SourceServer)...)
	w.in.Target = account(t, w.target, target, targetGrants(w.in.TargetServer)...)
	return w
}

// withTarget creates the target's tables as the source has them.
func (w *world) withTarget(t *testing.T) {
	exec(t, w.target, "CREATE DATABASE `shop_1`")
	exec(t, w.target, definitions...)
	w.in.CreateTables = false
}

func (w *world) detect(t *testing.T) {
	var err error
	w.in.SourceServer, err = server.Detect(t.Context(), w.source)
	require.NoError(t, err)
	w.in.TargetServer, err = server.Detect(t.Context(), w.target)
	require.NoError(t, err)
}

func declared(check, code string) bool {
	for _, c := range preflight.Checks() {
		if c.Name == check && slices.Contains(c.Codes, code) {
			return true
		}
	}
	return false
}

// setGlobal sets a global variable until the test ends.
func (w *world) setGlobal(t *testing.T, db *sql.DB, name, value string) {
	var old string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT @@GLOBAL."+name).Scan(&old))
	exec(t, db, "SET GLOBAL "+name+" = "+value)
	t.Cleanup(func() {
		if _, err := strconv.ParseFloat(old, 64); err != nil {
			old = "'" + old + "'"
		}
		_, err := db.Exec("SET GLOBAL " + name + " = " + old)
		require.NoError(t, err)
	})
	w.detect(t)
}

func (w *world) run(t *testing.T) *preflight.Report {
	t.Helper()
	report, err := preflight.Run(t.Context(), w.in)
	require.NoError(t, err)
	for _, f := range report.Findings {
		check, code, _ := strings.Cut(f.Code, ".")
		require.Equal(t, f.Check, check)
		require.True(t, code == preflight.Unchecked || declared(check, code), "code %s is not in the list", f.Code)
		require.NotEmpty(t, f.What)
		require.NotEmpty(t, f.Remedy)
	}
	return report
}

// clean runs the checks and expects nothing but notes.
func (w *world) clean(t *testing.T, because ...any) {
	t.Helper()
	report := w.run(t)
	require.Zero(t, report.Count(preflight.Error)+report.Count(preflight.Warning), fmt.Sprint(append([]any{report.Table()}, because...)...))
}

// finds runs the checks and expects exactly one finding beside notes, in the given words. The code
// may be that of the check alone.
func (w *world) finds(t *testing.T, severity preflight.Severity, code, subject, what, remedy string) {
	t.Helper()
	report := w.run(t)
	f := w.only(t, report)
	require.Equal(t, severity, f.Severity, report.Table())
	if strings.Contains(code, ".") {
		require.Equal(t, code, f.Code)
	} else {
		require.Equal(t, code, f.Check)
	}
	require.Contains(t, f.Subject, subject)
	require.Contains(t, f.What, what)
	require.Contains(t, f.Remedy, remedy)
	require.Equal(t, severity == preflight.Error, report.Err() != nil)
}

// only returns the one finding that is not a note.
func (w *world) only(t *testing.T, report *preflight.Report) preflight.Finding {
	t.Helper()
	require.Equal(t, 1, report.Count(preflight.Error)+report.Count(preflight.Warning), report.Table())
	return report.Findings[0]
}

// one makes a single table of the source the whole move.
func (w *world) one(t *testing.T, name, definition string, key ...string) {
	t.Helper()
	exec(t, w.source, "CREATE TABLE `shop_1`."+name+" ("+definition+") ENGINE=InnoDB")
	w.in.Tables = []preflight.Table{{Schema: "shop_1", Name: name, TargetSchema: "shop_1", TargetName: name, KeyColumns: key}}
}

// fails is finds of an error.
func (w *world) fails(t *testing.T, check, subject, problem, remedy string) {
	t.Helper()
	w.finds(t, preflight.Error, check, subject, problem, remedy)
}

func open(t *testing.T, dsn string) *sql.DB {
	db, err := sql.Open("mysql", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// account makes the account mover anew with exactly these grants.
func account(t *testing.T, root *sql.DB, s *servers.Server, grants ...string) *sql.DB {
	exec(t, root, "DROP USER IF EXISTS mover", "CREATE USER mover IDENTIFIED BY 'secret'")
	for _, grant := range grants {
		exec(t, root, "GRANT "+grant+" TO mover")
	}
	config := mysql.NewConfig()
	config.User, config.Passwd = "mover", "secret"
	config.Net, config.Addr = "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	return open(t, config.FormatDSN())
}

func pairOf(w *world) [2]*servers.Server {
	return pairs[servers.Flavour(w.in.SourceServer.NativeFlavour())]
}

// has expects a finding in a report, in the given words.
func (w *world) has(t *testing.T, report *preflight.Report, code, subject, what string) {
	t.Helper()
	for _, f := range report.Findings {
		if f.Code == code && f.Subject == subject && strings.Contains(f.What, what) {
			return
		}
	}
	require.Failf(t, "a finding is missing", "%s of %s: %s\n%s", code, subject, what, report.Table())
}

// definition is how the source defines a table.
func (w *world) definition(t *testing.T, table string) (definition string) {
	t.Helper()
	require.NoError(t, w.source.QueryRowContext(t.Context(), "SHOW CREATE TABLE `shop_1`."+table).Scan(&table, &definition))
	return definition
}

// logFile is the name of the source's newest binary log.
func (w *world) logFile(t *testing.T) string {
	t.Helper()
	end, err := w.in.SourceServer.LogEnd(t.Context(), w.source)
	require.NoError(t, err)
	return end.File
}

// set is a server on which one variable has a value that the servers at hand cannot be given:
// it answers for it where it is asked for, and everything else is the real server's.
type set struct {
	server.Querier
	name, value string
}

func (s set) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if strings.HasPrefix(query, "SHOW GLOBAL VARIABLES ") && strings.Contains(query, "'"+s.name+"'") {
		query = "SELECT '" + s.name + "' AS Variable_name, '" + s.value + "' AS Value"
	}
	return s.Querier.QueryContext(ctx, query, args...)
}
