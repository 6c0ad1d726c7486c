// Package trace checks real runs against the model of the algorithm.
//
// Its tests exist with the build tag "trace" only (go test -tags trace ./test/trace, part
// of make test): they move tables between real servers while rows change, kill the mover,
// go on, cut over, and then have internal/model accept or reject what the engine told it
// did, step by step.
package trace
