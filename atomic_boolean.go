package ghostferry

import "sync/atomic"

// AtomicBoolean is a flag that goroutines may share. Its zero value is false.
type AtomicBoolean int32

// Set sets the flag.
func (a *AtomicBoolean) Set(b bool) {
	var value int32
	if b {
		value = 1
	}
	atomic.StoreInt32((*int32)(a), value)
}

// Get reads the flag.
func (a *AtomicBoolean) Get() bool { return atomic.LoadInt32((*int32)(a)) != 0 }
