package integration

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const refusedSchema = "copydb_refused"

// refusal is a configuration, or a world, in which nothing may be written.
type refusal struct {
	name string
	// world makes what is wrong, and changes the settings where that is what is wrong.
	world func(t *testing.T, p *harness.Pair, s settings)
	// says are parts of the message.
	says []string
}

var refusals = []refusal{
	{"misspelt setting", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["AutomaticCutovr"], s["ControlServer"] = true, settings{}
		s["Source"].(settings)["Hots"] = "x"
	}, []string{"AutomaticCutovr is not a known setting", `did you mean "AutomaticCutover"`, "ControlServer is not", "Source.Hots is not"}},

	{"no source", func(_ *testing.T, _ *harness.Pair, s settings) { delete(s, "Source") }, []string{"source: not configured"}},

	{"unreachable server", func(t *testing.T, _ *harness.Pair, s settings) {
		s["Target"].(settings)["Port"] = closedPort(t)
	}, []string{"target", "127.0.0.1", "connection refused"}},

	{"wrong password", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["Source"].(settings)["Pass"] = "not this one"
	}, []string{"source", "root", "Access denied"}},

	{"no privilege to read the log", func(t *testing.T, p *harness.Pair, s settings) {
		account(t, p.SourceDB, s["Source"].(settings), "SELECT, RELOAD ON *.*")
	}, []string{"REPLICATION SLAVE", "GRANT"}},

	{"no privilege to read a table", func(t *testing.T, p *harness.Pair, s settings) {
		account(t, p.SourceDB, s["Source"].(settings), "REPLICATION SLAVE, REPLICATION CLIENT ON *.*", "SELECT ON copydb_other.*")
	}, []string{refusedSchema, "SELECT"}},

	{"no privilege to write", func(t *testing.T, p *harness.Pair, s settings) {
		account(t, p.TargetDB, s["Target"].(settings), "SELECT ON *.*")
	}, []string{"target", "INSERT", "GRANT", refusedSchema}},

	{"statement format", func(t *testing.T, p *harness.Pair, _ settings) {
		global(t, p.SourceDB, "binlog_format", "'STATEMENT'", "'ROW'")
	}, []string{"binlog_format", "STATEMENT", "SET GLOBAL binlog_format = ROW"}},

	{"minimal row images", func(t *testing.T, p *harness.Pair, _ settings) {
		global(t, p.SourceDB, "binlog_row_image", "'MINIMAL'", "'FULL'")
	}, []string{"binlog_row_image", "MINIMAL", "SET GLOBAL binlog_row_image = FULL"}},

	{"source is the target", func(_ *testing.T, _ *harness.Pair, s settings) { s["Target"] = s["Source"] },
		[]string{"same server"}},

	{"target table with rows", func(t *testing.T, p *harness.Pair, s settings) {
		harness.Exec(t, p.TargetDB, "CREATE DATABASE copydb_refused;\nCREATE TABLE copydb_refused.t (id INT PRIMARY KEY, v INT);\nINSERT INTO copydb_refused.t VALUES (9, 9)")
		s["AllowExistingTargetTable"] = true
	}, []string{"copydb_refused.t", "row"}},

	{"target table that exists", func(t *testing.T, p *harness.Pair, _ settings) {
		harness.Exec(t, p.TargetDB, "CREATE DATABASE copydb_refused;\nCREATE TABLE copydb_refused.t (id INT PRIMARY KEY, v INT)")
	}, []string{"`copydb_refused`.`t`", "1050", "AllowExistingTargetTable"}},

	{"table without a usable key", func(t *testing.T, p *harness.Pair, _ settings) {
		harness.Exec(t, p.SourceDB, "CREATE TABLE copydb_refused.keyless (a INT, UNIQUE KEY (a))")
	}, []string{"`copydb_refused`.`keyless`", "Primary Key", "NOT NULL"}},

	{"filter that selects no schema", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["Databases"] = settings{"Whitelist": []string{"copydb_nowhere"}}
	}, []string{"selects no schema", `Databases: only ["copydb_nowhere"], Tables: all`}},

	{"filter that selects no table", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["Tables"] = settings{"Blacklist": []string{"t"}}
	}, []string{"the table filter selects no table in copydb_refused", `Tables: all but ["t"]`}},

	{"name that no schema has", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["Tables"] = settings{"Whitelist": []string{"t", "orders"}}
	}, []string{"Tables.Whitelist", `"orders"`}},

	{"misspelt name that was to stay", func(t *testing.T, p *harness.Pair, s settings) {
		harness.Exec(t, p.SourceDB, "CREATE TABLE copydb_refused.sessions (id INT PRIMARY KEY)")
		s["Tables"] = settings{"Blacklist": []string{"sesions", "sessions", "user"}} // which the schema mysql has
	}, []string{`Tables.Blacklist names ["sesions" "user"], which no chosen schema has`}},

	{"misspelt schema that was to stay", func(t *testing.T, p *harness.Pair, s settings) {
		stay := []string{"copydb_nowhere", "mysql", "sys"}
		for _, quoted := range harness.Rows(t, p.SourceDB, "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('copydb_refused')") {
			name, err := strconv.Unquote(strings.TrimSuffix(quoted, "|"))
			require.NoError(t, err)
			stay = append(stay, name)
		}
		s["Databases"] = settings{"Blacklist": stay}
	}, []string{`Databases.Blacklist names ["copydb_nowhere"], which the source does not have`}},

	{"misspelt names to be renamed", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["Databases"].(settings)["Rewrites"] = settings{"copydb_refusde": "store"}
		s["Tables"] = settings{"Rewrites": settings{"tt": "u"}}
	}, []string{`Databases.Rewrites names ["copydb_refusde"]`, `Tables.Rewrites names ["tt"]`}},

	{"misspelt names to be renamed by the library's settings", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["DatabaseRewrites"], s["TableRewrites"] = settings{"copydb_refusde": "store"}, settings{"tt": "u"}
	}, []string{`DatabaseRewrites names ["copydb_refusde"]`, `TableRewrites names ["tt"]`}},

	{"two tables with one name on the target", func(t *testing.T, p *harness.Pair, s settings) {
		harness.Exec(t, p.SourceDB, "CREATE TABLE copydb_refused.u (id INT PRIMARY KEY)")
		s["Tables"] = settings{"Rewrites": settings{"u": "t"}}
	}, []string{"copydb_refused.t and copydb_refused.u", "TableRewrites"}},

	{"verifier that does not exist", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["VerifierType"] = "Inlined"
	}, []string{"VerifierType", "'Inlined' is not a known VerifierType"}},

	{"repair by a verifier that repairs nothing", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["VerifierType"], s["OnlineVerifierConfig"] = "Inline", settings{"Repair": true}
	}, []string{`OnlineVerifierConfig.Repair is set and VerifierType is "Inline"`, "-repair"}},

	{"report of no verification", func(_ *testing.T, _ *harness.Pair, s settings) {
		s["VerifierType"], s["VerificationReport"] = "NoVerification", []string{"report.md"}
	}, []string{"VerificationReport", "there would be nothing to report", "-report"}},
}

// Bad input is refused with a message of its own, and nothing is written.
func TestCopydbRefuses(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, c := range refusals {
			t.Run(c.name, func(t *testing.T) {
				refusedWorld(t, p)
				s := copydbSettings(p, []string{refusedSchema}, nil)
				c.world(t, p, s)
				mustBeRefused(t, p, s, c.says...)
			})
		}
	})
}

// A server without a binary log.
func TestCopydbRefusesASourceWithoutLog(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		silent, err := servers.Start(t.Context(), servers.Options{Flavour: p.Flavour, Name: "silent", Flags: []string{"--skip-log-bin", "--skip-log-slave-updates"}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, silent.Stop()) })
		db, err := silent.DB(t.Context())
		require.NoError(t, err)
		without := &harness.Pair{Setting: p.Setting, Source: silent, SourceDB: db, Target: p.Target, TargetDB: p.TargetDB}
		refusedWorld(t, without)
		mustBeRefused(t, without, copydbSettings(without, []string{refusedSchema}, nil), "log_bin", "no binary log", "--log-bin")
	})
}

// A host's filter that fails.
func TestCopydbRefusesAFilterThatFails(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		refusedWorld(t, p)
		before := contents(t, p.TargetDB)
		for _, filter := range []failingFilter{{databases: true}, {databases: false}} {
			config := copydbSettings(p, []string{refusedSchema}, nil).config(t)
			config.TableFilter = filter
			ferry := copydb.NewFerry(config)
			err := ferry.InitializeContext(t.Context())
			require.ErrorIs(t, err, errFilter)
			require.ErrorAs(t, err, new(*copydb.RefusedError))
			require.Equal(t, 1, ferry.Result(err).Outcome.ExitStatus())
			require.NoError(t, ferry.Close())
		}
		require.Equal(t, before, contents(t, p.TargetDB))
	})
}

var errFilter = errors.New("the filter does not know")

type failingFilter struct{ databases bool }

func (f failingFilter) ApplicableDatabases([]string) ([]string, error) {
	if f.databases {
		return nil, errFilter
	}
	return []string{refusedSchema}, nil
}

func (f failingFilter) ApplicableTables([]*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return nil, errFilter
}

// Without arguments, and with files that are not there.
func TestCopydbRefusesItsCommandLine(t *testing.T) {
	for _, args := range [][]string{{}, {"/nowhere.json"}, {"-nonsense", "x.json"}, {"a.json", "b.json"}, {"-restart", "-dryrun", "x.json"}} {
		status, run := runCopydb(t, args...)
		require.Equal(t, 1, status, args)
		require.NotEmpty(t, run.stderr.String())
	}
}

// refusedWorld is one table on the source, and nothing on the target.
func refusedWorld(t *testing.T, p *harness.Pair) {
	t.Helper()
	freshSchemas(t, p, refusedSchema)
	harness.Exec(t, p.SourceDB, "CREATE DATABASE copydb_refused;\nCREATE TABLE copydb_refused.t (id INT PRIMARY KEY, v INT);\nINSERT INTO copydb_refused.t VALUES (1, 1)")
}

func mustBeRefused(t *testing.T, p *harness.Pair, s settings, says ...string) {
	t.Helper()
	before := contents(t, p.TargetDB)
	status, run := runCopydb(t, "-json", s.file(t))
	require.Equal(t, 1, status)
	require.Equal(t, before, contents(t, p.TargetDB), "nothing is written")
	r := run.result()
	require.Equal(t, copydb.Refused, r.Outcome)
	for _, part := range says {
		require.Contains(t, r.Error, part)
	}
	require.Contains(t, run.stderr.String(), "this process wrote nothing to the target\n")

	status, _ = runCopydb(t, "-dryrun", s.file(t))
	require.Equal(t, 1, status, "a dry run sees it, too")
}

// closedPort is one that nobody listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().(*net.TCPAddr).Port
}

// account replaces root in the settings by an account with these grants.
func account(t *testing.T, db *sql.DB, s settings, grants ...string) {
	t.Helper()
	const user = "'copydb_weak'@'%'"
	drop := "DROP USER IF EXISTS " + user
	harness.Exec(t, db, drop+";\nCREATE USER "+user+" IDENTIFIED BY 'weak secret 1'")
	t.Cleanup(func() { harness.Exec(t, db, drop) })
	for _, grant := range grants {
		harness.Exec(t, db, fmt.Sprintf("GRANT %s TO %s", grant, user))
	}
	s["User"], s["Pass"] = "copydb_weak", "weak secret 1"
}

// documentedAccounts replaces root in the settings by accounts as docs/operations.md creates them for
// a move of these schemas.
func documentedAccounts(t *testing.T, p *harness.Pair, s settings, schemas ...string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "\n### Accounts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "```sql\n")
	require.Len(t, blocks, 3)
	block := blocks[1]
	if p.IsMariaDB() {
		block = blocks[2]
	}
	source, target, found := strings.Cut(block, "-- on the target\n")
	require.True(t, found)
	grants := func(statements string) (all []string) {
		for _, found := range regexp.MustCompile("(?m)^GRANT (.* ON (.*)) TO 'ferry'@'%';$").FindAllStringSubmatch(statements, -1) {
			if found[2] != "`shop`.*" {
				all = append(all, found[1])
				continue
			}
			for _, schema := range schemas {
				all = append(all, strings.Replace(found[1], "shop", strings.ReplaceAll(schema, "_", `\_`), 1))
			}
		}
		return all
	}
	account(t, p.SourceDB, s["Source"].(settings), grants(source)...)
	account(t, p.TargetDB, s["Target"].(settings), grants(target)...)
}

// global sets a variable until the end of the test.
func global(t *testing.T, db *sql.DB, name, value, afterwards string) {
	t.Helper()
	harness.Exec(t, db, "SET GLOBAL "+name+" = "+value)
	t.Cleanup(func() { harness.Exec(t, db, "SET GLOBAL "+name+" = "+afterwards) })
}
