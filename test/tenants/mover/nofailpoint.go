//go:build !failpoint

package main

func armFailpoint() {}
