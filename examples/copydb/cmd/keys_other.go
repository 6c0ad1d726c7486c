//go:build !linux && !darwin && !freebsd

package main

import (
	"errors"
	"os"
)

// singleKeys is not known here: words and Enter do it.
func singleKeys(*os.File) (undo func(), err error) { return nil, errors.ErrUnsupported }

func notifyContinued(chan<- os.Signal) {}
