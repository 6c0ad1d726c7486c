//go:build !failpoint

package ghostferry

// failpoint marks a step between two others, at which tests kill the process. Without
// the build tag "failpoint" it is empty and is compiled away (failpoint_on.go).
func failpoint(string) {}
