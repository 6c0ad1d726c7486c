//go:build failpoint

package main

import (
	"os"
	"syscall"

	"github.com/ghostferry-go/ghostferry"
)

func armFailpoint() {
	name := os.Getenv("GHOSTFERRY_TENANTS_FAILPOINT")
	ghostferry.OnFailpoint(func(at string) {
		if at == name {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing happens any more
		}
	})
}
