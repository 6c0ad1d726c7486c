// Package ghostferry moves MySQL and MariaDB data - a server, some schemas, some
// tables, or one tenant's rows - from a source server to a target server while
// applications keep writing to the source, proves that both sides are equal, and
// hands the switch-over to the host application.
//
// A host builds a [Config] and wraps it in a [Ferry]. [Ferry.Preflight] and [Ferry.Plan] say
// what stands in the way and what is going to happen, and write nothing. Then:
//
//   - [Ferry.InitializeContext] connects and checks, and finds out whether an earlier run goes on.
//   - [Ferry.StartContext] begins to read the binary log: from here on no change is missed.
//   - [Ferry.RunContext] copies, follows and compares until a cutover ends it. It blocks.
//   - [Ferry.Cutover], beside it, waits until little is left, has the host stop the writers of
//     the source, waits for their last changes and the comparison, and has the host send the
//     application to the target. Its error is a [*CutoverError], which says where the
//     application writes, or what kept it from trying.
//   - [Ferry.Close] closes what the run had open.
//
// An interrupted run goes on from its checkpoint on the target by the same calls; [Resumable]
// tells from an error whether that is of use. Meanwhile [Ferry.Progress], [Ferry.Overview] and the
// control server tell where it is. docs/algorithm.md says why the target ends equal.
package ghostferry
