//go:build linux || darwin || freebsd

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// singleKeys has a terminal hand over each key as it is pressed, without showing it. Signals
// (^C, ^Z) and the output stay as they are. It fails when the process is in the background,
// which would be stopped for that.
func singleKeys(terminal *os.File) (undo func(), err error) {
	fd := int(terminal.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return nil, errors.New("not the terminal's process")
	}
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	mode := *before
	mode.Lflag &^= unix.ICANON | unix.ECHO
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, setTermios, &mode); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
}

func notifyContinued(c chan<- os.Signal) { signal.Notify(c, syscall.SIGCONT) }
