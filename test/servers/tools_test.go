package servers_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// tool runs a tool to its end and returns what it wrote to stdout.
func tool(t *testing.T, name servers.Tool, stdin []byte, args ...string) []byte {
	t.Helper()
	argv, env, err := servers.ToolCommand(t.Context(), name)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), argv[0], slices.Concat(argv[1:], args)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s%s", name, out, stderr.String())
	return out
}

// Every tool works over TCP, on MySQL with an account that the server has not cached:
// caching_sha2_password then asks for the password itself.
func testTools(t *testing.T, s *servers.Server) {
	db := open(t, s)
	execute(t, db, "CREATE DATABASE sbtest")
	// One account a tool, so that each does the whole handshake.
	login := func(name servers.Tool) []string {
		user := strings.ReplaceAll(string(name), "-", "_")
		execute(t, db, "CREATE USER "+user+" IDENTIFIED BY 'throwaway'")
		execute(t, db, "GRANT ALL ON *.* TO "+user)
		return []string{"--host=127.0.0.1", fmt.Sprintf("--port=%d", s.Port), "--user=" + user, "--password=throwaway"}
	}
	rows := func(table string) string { return text(t, db, "SELECT COUNT(*) FROM "+table) }

	var bench []string
	for _, arg := range login(servers.Sysbench) {
		bench = append(bench, strings.Replace(arg, "--", "--mysql-", 1))
	}
	tool(t, servers.Sysbench, nil, append(bench, "oltp_read_write", "--table-size=500", "--tables=1", "prepare")...)
	require.Equal(t, "500", rows("sbtest.sbtest1"))

	dump := tool(t, servers.Mysqldump, nil, append(login(servers.Mysqldump), "--single-transaction", "sbtest")...)
	execute(t, db, "CREATE DATABASE dumped")
	tool(t, servers.MysqlClient, dump, append(login(servers.MysqlClient), "dumped")...)
	require.Equal(t, "500", rows("dumped.sbtest1"))

	dir := t.TempDir()
	tool(t, servers.Mydumper, nil, append(login(servers.Mydumper), "--database=sbtest", "--outputdir="+dir, "--threads=2")...)
	tool(t, servers.Myloader, nil, append(login(servers.Myloader), "--database=loaded", "--directory="+dir, "--threads=2")...)
	require.Equal(t, "500", rows("loaded.sbtest1"))

	binlog := servers.Mysqlbinlog
	if s.Flavour == servers.MariaDB {
		binlog = servers.MariaDBBinlog
	}
	out := tool(t, binlog, nil, append(login(binlog), "--read-from-remote-server", "--verbose", "binlog.000001")...)
	require.True(t, bytes.Contains(out, []byte("### INSERT INTO `dumped`.`sbtest1`")), "%s does not decode row events", binlog)
	execute(t, db, "DROP DATABASE sbtest", "DROP DATABASE dumped", "DROP DATABASE loaded")
}
