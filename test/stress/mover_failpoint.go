//go:build failpoint

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/ghostferry-go/ghostferry"
)

// failpointEnv is "name:n": the process kills itself when it is at the failpoint for the
// n-th time.
const failpointEnv = "GHOSTFERRY_STRESS_FAILPOINT"

// armFailpoint prepares the process's death, and tells which failpoints there are.
func armFailpoint(tell *teller) {
	if os.Getenv(failpointEnv) == "list" {
		tell.printf("failpoints %s", strings.Join(ghostferry.FailpointNames(), " "))
		return
	}
	name, times, found := strings.Cut(os.Getenv(failpointEnv), ":")
	n, err := strconv.ParseInt(times, 10, 64)
	if !found || err != nil {
		return
	}
	var seen atomic.Int64
	ghostferry.OnFailpoint(func(at string) {
		if at == name && seen.Add(1) == n {
			tell.printf("killed %s", at)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing happens any more
		}
	})
}
