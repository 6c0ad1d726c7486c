package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	defaultMaxLag            = 1
	defaultLagUpdateInterval = time.Second
	lagQueryTimeout          = 10 * time.Second
)

// LagThrottlerConfig says whose lag to watch, and how much of it is too much.
type LagThrottlerConfig struct {
	// Connection is the server to ask. Required.
	Connection *DatabaseConfig
	// MaxLag is the greatest lag at which the run does not pause, in the query's
	// unit. 0 and less mean 1.
	MaxLag int
	// Query returns one row with one number. Required.
	Query string
	// UpdateInterval is a duration between two queries. Default "1s".
	UpdateInterval string
}

// LagThrottler pauses the run while a lag is greater than allowed, while the lag
// cannot be observed, and by hand.
type LagThrottler struct {
	ThrottlerBase
	PauserThrottler

	// DB is the pool that the query is sent to.
	DB *sql.DB

	// immutable
	config         *LagThrottlerConfig
	updateInterval time.Duration
	logger         Logger

	lag   atomic.Pointer[lagSample] // nil until Run has asked once
	since throttleSince
}

// lagSample is what one query said: the lag, or why there is none.
type lagSample struct {
	lag float64
	err error
}

// NewLagThrottler validates the configuration and opens the pool. The lag counts as
// too great until Run has asked for it.
func NewLagThrottler(config *LagThrottlerConfig) (*LagThrottler, error) {
	var faults []error
	add := func(field, problem, remedy string) {
		faults = append(faults, &ConfigError{Field: "LagThrottler." + field, Problem: problem, Remedy: remedy})
	}

	checked := *config
	if checked.Query == "" {
		add("Query", "lag throttler: query is empty", "give a query that returns one number")
	}
	if checked.MaxLag <= 0 {
		checked.MaxLag = defaultMaxLag
	}
	interval := defaultLagUpdateInterval
	if checked.UpdateInterval != "" {
		var err error
		if interval, err = parseDuration("lag throttler: UpdateInterval", checked.UpdateInterval); err != nil {
			add("UpdateInterval", err.Error(), `a duration looks like "500ms" or "2s"`)
		} else if interval == 0 {
			interval = defaultLagUpdateInterval
		}
	}
	faults = append(faults, validateServer(checked.Connection, "LagThrottler.Connection", "lag throttler: ")...)
	if len(faults) > 0 {
		return nil, joinErrors(faults)
	}

	logger := taggedLogger(nil, "throttler")
	db, err := checked.Connection.SqlDB(logger)
	if err != nil {
		return nil, fmt.Errorf("lag throttler: %w", err)
	}
	return &LagThrottler{DB: db, config: &checked, updateInterval: interval, logger: logger}, nil
}

// Throttled says whether the run is paused by hand, the lag is greater than MaxLag, or
// not known.
func (t *LagThrottler) Throttled() bool { return t.ThrottleReason() != "" }

// ThrottleReason says why the run pauses; empty when it does not.
func (t *LagThrottler) ThrottleReason() string {
	if reason := t.PauserThrottler.ThrottleReason(); reason != "" {
		return reason
	}
	sample := t.lag.Load()
	switch {
	case sample == nil:
		return "the lag has not been observed yet"
	case sample.err != nil:
		return fmt.Sprintf("the lag cannot be observed: %v", sample.err)
	case sample.lag > float64(t.config.MaxLag):
		return fmt.Sprintf("the lag is %g, at most %d is allowed", sample.lag, t.config.MaxLag)
	}
	return ""
}

// ThrottleReport says whether it was paused by hand or by the lag, and since when.
func (t *LagThrottler) ThrottleReport() *ThrottleReport {
	if report := t.PauserThrottler.ThrottleReport(); report != nil {
		return report
	}
	why := t.ThrottleReason()
	return t.since.see(why != "", "lag", why)
}

// Run asks for the lag until ctx ends and returns the context's error. A query that
// fails, returns no row or NULL pauses the run until one succeeds: not knowing is no
// reason to go on, nor to give up.
func (t *LagThrottler) Run(ctx context.Context) error {
	for {
		lag, err := t.queryLag(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		before := t.lag.Swap(&lagSample{lag: lag, err: err})
		if err != nil && (before == nil || before.err == nil) {
			t.logger.WithError(err).Warn("the lag cannot be observed, pausing until it can")
		}
		if err == nil && before != nil && before.err != nil {
			t.logger.Info("the lag can be observed again")
		}
		if err := retry.Sleep(ctx, t.updateInterval); err != nil {
			return err
		}
	}
}

func (t *LagThrottler) queryLag(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, lagQueryTimeout)
	defer cancel()

	// As text, so that integers, decimals and floats are all read.
	var text *string
	if err := t.DB.QueryRowContext(ctx, t.config.Query).Scan(&text); err != nil {
		return 0, err
	}
	if text == nil {
		return 0, errors.New("the lag query returned NULL: replication does not run, or the heartbeat is missing")
	}
	lag, err := strconv.ParseFloat(*text, 64)
	if err != nil {
		return 0, fmt.Errorf("the lag query returned %q, not a number", *text)
	}
	return lag, nil
}
