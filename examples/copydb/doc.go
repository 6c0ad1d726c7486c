// Package copydb moves whole schemas, or chosen tables of them, from one server to
// another with the ghostferry library: it creates the tables, copies and follows the
// rows, cuts over through the host's callbacks, compares both sides and says how it
// ended.
//
// The program in cmd does what most people want. A program with other wishes uses
// [NewFerry], which leaves the library's [ghostferry.Ferry] open for its listeners
// between the steps.
package copydb
