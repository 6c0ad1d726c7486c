package main

import (
	"fmt"
	"log"
	"sync"
)

// failures is an error handler that returns: it keeps the first fatal error for whoever
// waits, instead of ending the process.
type failures struct {
	mu    sync.Mutex
	fatal error
}

func newFailures() *failures { return &failures{} }

// ReportError tells about an error that does not end the run.
func (f *failures) ReportError(from string, err error) { log.Printf("%s: %v", from, err) }

// Fatal is called with the error that ended the run.
func (f *failures) Fatal(from string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fatal == nil {
		f.fatal = fmt.Errorf("%s: %w", from, err)
	}
}

func (f *failures) first() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fatal
}
