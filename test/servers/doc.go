// Package servers finds, unpacks and starts throwaway MySQL and MariaDB servers
// for tests, the demo and benchmarks. A server listens on a free loopback port,
// keeps its data in a private directory that [Server.Stop] removes, and dies with
// the process that started it. Nothing is installed and no system file changes.
//
// Where the server program comes from, first match wins:
//
//  1. GHOSTFERRY_MYSQLD or GHOSTFERRY_MARIADBD, the absolute path of a binary;
//  2. an unpacked copy in .servers/ of the repository (all git worktrees share the
//     main checkout's; GHOSTFERRY_SERVERS_DIR names another directory);
//  3. Debian's packages, fetched through a private apt root and unpacked there:
//     MySQL from the unstable suite, MariaDB 10.11 from bookworm;
//  4. mysqld or mariadbd on PATH.
//
// The version of a started server is always asserted: a mysqld that turns out to
// be MariaDB (Debian installs it under that name) is an error, not a surprise.
package servers
