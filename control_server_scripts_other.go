//go:build !unix

package ghostferry

import "os/exec"

// ownGroup does nothing: there are no process groups, and only the program itself is ended.
func ownGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) error { return nil }
