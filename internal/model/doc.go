// Package model is an exhaustive model of the engine: a small explicit-state
// model checker and, in it, the application that writes to the source, the
// binary log, the mover with its copiers, streamer, appliers and verifier, and
// the target. It shares no code with the engine.
//
// A [Config] names what exists (keys, unique values, log length, lanes, chunks)
// and which [Feature] is on; [Explore] visits every state that can be reached,
// checks the invariants in each, and returns the shortest schedule that breaks
// one. A [Mutant] takes one rule of the engine away; the schedules that the
// checker finds for the mutants are kept in testdata and are the reason why the
// rule exists. docs/algorithm.md tells the same in words.
//
// # What a state is
//
// Rows have small keys, at most one unique value (a, b, c or NULL) and a stamp
// that says which change wrote them, so that two images of a row are equal only
// if they are the same version of it. The log holds row changes; a transaction
// is flushed to it (its rows change, its row locks are held, a stream may
// deliver it) and only later engine-committed (plain reads see it, its locks
// are gone), in any order. Transactions that lock rows without reaching the log
// appear only where it matters. A target transaction executes and commits in
// one step except where its COMMIT is lost, where a copier holds source locks
// meanwhile, or where a feature splits it.
//
// # Reductions
//
// Unique values are interchangeable, so an application uses them in the order
// a, b, c of first appearance. While the mover is down and nothing of it is in
// flight, the source stands still: what it could do commutes with the crash.
package model
