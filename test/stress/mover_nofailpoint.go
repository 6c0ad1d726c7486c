//go:build !failpoint

package main

// armFailpoint does nothing without the build tag "failpoint".
func armFailpoint(*teller) {}
