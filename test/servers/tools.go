package servers

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Tool is a client program for tests and benchmarks.
type Tool string

// The tools that ToolCommand knows. All but Mysqlbinlog are Debian stable's and use
// MariaDB's client library, which speaks caching_sha2_password too.
const (
	MysqlClient   Tool = "mysql"
	Mysqldump     Tool = "mysqldump"
	Mydumper      Tool = "mydumper"
	Myloader      Tool = "myloader"
	Sysbench      Tool = "sysbench"
	Mysqlbinlog   Tool = "mysqlbinlog"    // of MySQL, for MySQL's binary logs
	MariaDBBinlog Tool = "mariadb-binlog" // for MariaDB's binary logs
)

// ToolCommand returns the words of a command line that run the tool, to be followed
// by the tool's arguments, and what has to be added to the environment. The tool comes
// from Debian's packages, unpacked beside the servers (fetched the first time, with a
// line on stderr), else from PATH. Scripts of sysbench are found by their bare name,
// such as oltp_read_write.
func ToolCommand(ctx context.Context, t Tool) (argv, env []string, err error) {
	set := toolPackages()
	switch t {
	case MysqlClient, Mysqldump, Mydumper, Myloader, Sysbench, MariaDBBinlog:
	case Mysqlbinlog:
		set = serverPackages(MySQL)
	default:
		return nil, nil, fmt.Errorf("servers: unknown tool %q", t)
	}
	o, err := Options{Flavour: MySQL}.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	prefix, err := set.ensure(ctx, o)
	if err != nil {
		path, pathErr := exec.LookPath(string(t))
		if pathErr != nil {
			return nil, nil, fmt.Errorf("servers: no %s: it can be had neither from Debian's packages (%w) nor from PATH: install it", t, err)
		}
		o.logf("%s cannot be unpacked (%v): using %s", t, err, path)
		return []string{path}, nil, nil
	}
	argv, err = prefixCommand(prefix, filepath.Join("usr/bin", string(t)))
	if err != nil {
		return nil, nil, err
	}
	if plugins, _ := filepath.Glob(filepath.Join(prefix, "usr/lib/*/libmariadb3/plugin")); len(plugins) > 0 {
		// Where the client library looks for authentication methods.
		env = append(env, "MARIADB_PLUGIN_DIR="+plugins[0])
	}
	if t == Sysbench {
		env = append(env, "LUA_PATH="+filepath.Join(prefix, "usr/share/sysbench/?.lua")+";;")
	}
	return argv, env, nil
}
