// Package servers finds, unpacks and starts throwaway MySQL and MariaDB servers
// for tests, the demo and benchmarks. A server listens on a free loopback port,
// keeps its data in a private directory that [Server.Stop] removes, and dies with
// the process that started it. Nothing is installed and no system file changes.
//
// Where the server program comes from, first match wins:
//
//  1. GHOSTFERRY_MYSQL_SERVERS or GHOSTFERRY_MARIADB_SERVERS, the DSNs of running,
//     empty servers, separated by blanks: nothing is started then, each of them is
//     used by one Start at a time and emptied by Stop;
//  2. GHOSTFERRY_MYSQLD or GHOSTFERRY_MARIADBD, the absolute path of a binary;
//  3. an unpacked copy in .servers/ of the repository (all git worktrees share the
//     main checkout's; GHOSTFERRY_SERVERS_DIR names another directory);
//  4. Debian's packages, fetched through a private apt root and unpacked there:
//     MySQL from the unstable suite, MariaDB 10.11 from bookworm;
//  5. mysqld or mariadbd on PATH.
//
// The version of a started server is always asserted: a mysqld that turns out to
// be MariaDB (Debian installs it under that name) is an error, not a surprise.
package servers
