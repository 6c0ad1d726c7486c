package ghostferry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Duration is a time span that configurations write as a text like "300ms" or "5s".
type Duration time.Duration

// MarshalText writes the span as UnmarshalText reads it; zero is the empty text.
func (d Duration) MarshalText() ([]byte, error) {
	if d == 0 {
		return nil, nil
	}
	return []byte(time.Duration(d).String()), nil
}

// UnmarshalText reads a span like "300ms"; the empty text is zero.
func (d *Duration) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = 0
		return nil
	}
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is not a duration: write it like "300ms" or "5s"`, text)
	}
	*d = Duration(span)
	return nil
}

// maxWorkers bounds workers and lanes: each has a connection to either server.
const maxWorkers = 256

// UpdatableConfig is what can be changed during a run, by [Config.Update]; [Config.Updatable]
// tells what is in force. In all fields zero means the default at the start, and no change in
// an update.
type UpdatableConfig struct {
	// DataIterationBatchSize is the greatest number of rows of a batch. By default the size
	// follows from DataIterationChunkBytes and the rows' size.
	DataIterationBatchSize uint64
	// DataIterationConcurrency is how many chunks are copied side by side, 256 at most.
	// Default: Config.DataIterationConcurrency. A number set here stays.
	DataIterationConcurrency int64 `json:",omitempty"`
	// BinlogApplyLanes is how many connections apply changes side by side, 256 at most.
	// Default: Config.BinlogApplyLanes.
	BinlogApplyLanes int64 `json:",omitempty"`
	// MaxWriteBlock is how long Ferry.Cutover may keep the writers of the source waiting
	// before it gives up, lets them go on and tries again later; the commit has it once more, and
	// three seconds at least. Negative, and by default:
	// as long as it takes.
	MaxWriteBlock Duration `json:",omitempty"`
	// MaxLag is the limit of throttlers that watch a lag, in their query's unit: seconds,
	// as a rule. Default: that of each throttler.
	MaxLag int64 `json:",omitempty"`
	// MaxThreadsRunning is the limit of throttlers that watch a server's Threads_running.
	// Default: that of each throttler. Negative: no limit.
	MaxThreadsRunning int64 `json:",omitempty"`
	// MaxHistoryListLength is the limit of throttlers that watch the length of InnoDB's
	// history list. Default: that of each throttler. Negative: no limit.
	MaxHistoryListLength int64 `json:",omitempty"`
	// LogLevel is that of the run's logger: "debug", "info", "warn" or "error". It applies
	// to Config.Logger, which others may use as well, unless Config.LogLevel gave the run
	// a level of its own. Default: Config.LogLevel.
	LogLevel string `json:",omitempty"`
}

// Validate reports what Update would not take over.
func (c *UpdatableConfig) Validate() error {
	var faults []error
	for _, number := range []struct {
		name  string
		value int64
	}{{"DataIterationConcurrency", c.DataIterationConcurrency}, {"BinlogApplyLanes", c.BinlogApplyLanes}} {
		if number.value < 0 || number.value > maxWorkers {
			faults = append(faults, fmt.Errorf("%s is %d, it must be between 1 and %d", number.name, number.value, maxWorkers))
		}
	}
	if c.MaxLag < 0 {
		faults = append(faults, fmt.Errorf("MaxLag is %d, it must not be negative", c.MaxLag))
	}
	if _, ok := ParseLogLevel(c.LogLevel); c.LogLevel != "" && !ok {
		faults = append(faults, fmt.Errorf("LogLevel %q is unknown: it is debug, info, warn or error", c.LogLevel))
	}
	return errors.Join(faults...)
}

// BatchSize reads DataIterationBatchSize; safe while Update is called.
func (c *UpdatableConfig) BatchSize() uint64 {
	return atomic.LoadUint64(&c.DataIterationBatchSize)
}

func (c *UpdatableConfig) workers() int { return int(atomic.LoadInt64(&c.DataIterationConcurrency)) }
func (c *UpdatableConfig) lanes() int   { return int(atomic.LoadInt64(&c.BinlogApplyLanes)) }

// maxWriteBlock is the budget; 0 means none.
func (c *UpdatableConfig) maxWriteBlock() time.Duration {
	return max(0, time.Duration(atomic.LoadInt64((*int64)(&c.MaxWriteBlock))))
}

// Updatable returns the values that are in force; safe while Update is called.
func (c *Config) Updatable() UpdatableConfig {
	u := &c.UpdatableConfig
	now := UpdatableConfig{
		DataIterationBatchSize:   u.BatchSize(),
		DataIterationConcurrency: atomic.LoadInt64(&u.DataIterationConcurrency),
		BinlogApplyLanes:         atomic.LoadInt64(&u.BinlogApplyLanes),
		MaxWriteBlock:            Duration(atomic.LoadInt64((*int64)(&u.MaxWriteBlock))),
		MaxLag:                   atomic.LoadInt64(&u.MaxLag),
		MaxThreadsRunning:        atomic.LoadInt64(&u.MaxThreadsRunning),
		MaxHistoryListLength:     atomic.LoadInt64(&u.MaxHistoryListLength),
	}
	if logger := logrusOf(c.Logger); logger != nil {
		now.LogLevel = logger.GetLevel().String()
	}
	return now
}

// Update takes over the values that are not zero, and leaves out those that Validate
// reports. It may be called at any time during a run, from any goroutine: the next batch,
// chunk, cutover or look at a limit obeys it.
func (c *Config) Update(updatedConfig UpdatableConfig) {
	u := &c.UpdatableConfig
	if within(updatedConfig.DataIterationConcurrency) {
		atomic.StoreInt32(&c.workersChosen, 1)
	}
	if updatedConfig.DataIterationBatchSize != 0 {
		atomic.StoreUint64(&u.DataIterationBatchSize, updatedConfig.DataIterationBatchSize)
	}
	for _, number := range []struct {
		to       *int64
		value    int64
		accepted bool
	}{
		{&u.DataIterationConcurrency, updatedConfig.DataIterationConcurrency, within(updatedConfig.DataIterationConcurrency)},
		{&u.BinlogApplyLanes, updatedConfig.BinlogApplyLanes, within(updatedConfig.BinlogApplyLanes)},
		{(*int64)(&u.MaxWriteBlock), int64(updatedConfig.MaxWriteBlock), true},
		{&u.MaxLag, updatedConfig.MaxLag, updatedConfig.MaxLag > 0},
		{&u.MaxThreadsRunning, updatedConfig.MaxThreadsRunning, true},
		{&u.MaxHistoryListLength, updatedConfig.MaxHistoryListLength, true},
	} {
		if number.value != 0 && number.accepted {
			atomic.StoreInt64(number.to, number.value)
		}
	}
	if level, ok := ParseLogLevel(updatedConfig.LogLevel); ok {
		if logger := logrusOf(c.Logger); logger != nil {
			logger.SetLevel(level.logrusLevel())
		}
	}
	if c.updates != nil {
		c.updates.tell()
	}
}

// setFoundWorkers sets a number of workers that nobody has chosen, and reports whether that is
// still so.
func (c *Config) setFoundWorkers(from, to int) bool {
	if atomic.LoadInt32(&c.workersChosen) != 0 || !atomic.CompareAndSwapInt64(&c.UpdatableConfig.DataIterationConcurrency, int64(from), int64(to)) {
		return false
	}
	if from != to && c.updates != nil {
		c.updates.tell()
	}
	return true
}

func within(workers int64) bool { return workers > 0 && workers <= maxWorkers }

// fillUpdatable makes UpdatableConfig what is in force.
func (c *Config) fillUpdatable() {
	u := &c.UpdatableConfig
	if u.DataIterationConcurrency == 0 {
		u.DataIterationConcurrency = int64(c.DataIterationConcurrency)
	}
	if u.BinlogApplyLanes == 0 {
		u.BinlogApplyLanes = int64(c.BinlogApplyLanes)
	}
	if c.updates == nil {
		c.updates = &updateHub{changed: make(chan struct{})}
	}
}

// updateHub tells goroutines that settings have changed.
type updateHub struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
}

func (h *updateHub) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait returns a channel that is closed by the next change. Take it before the settings
// are read. A nil hub never tells.
func (h *updateHub) wait() <-chan struct{} {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}
