//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

func pin(int, int) error {
	return errors.New("processes can be kept on a core on Linux only")
}

func pinnedOutput(*exec.Cmd, int) ([]byte, error) { return nil, errors.ErrUnsupported }
