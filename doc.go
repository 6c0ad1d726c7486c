// Package ghostferry moves MySQL and MariaDB data - a server, some schemas, some
// tables, or one tenant's rows - from a source server to a target server while
// applications keep writing to the source, proves that both sides are equal, and
// hands the switch-over to the host application.
//
// A host builds a [Config], wraps it in a [Ferry], and drives
// Initialize, Start and Run; see docs/algorithm.md for why the target ends equal.
package ghostferry
