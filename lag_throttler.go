package ghostferry

import (
	"context"
	"fmt"
	"time"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	defaultMaxLag            = 1
	defaultLagUpdateInterval = time.Second
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

	watch observed
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

	db, err := checked.Connection.SqlDB(taggedLogger(nil, "throttler"))
	if err != nil {
		return nil, fmt.Errorf("lag throttler: %w", err)
	}
	t := &LagThrottler{DB: db, watch: newObserved("lag", "", Duration(interval))}
	t.watch.subject = "the lag"
	t.watch.look = func(ctx context.Context) (func() string, error) {
		lag, err := queryNumber(ctx, t.DB, checked.Query)
		if err != nil {
			return nil, err
		}
		return func() string {
			if limit := t.watch.limit(limitOfLag, int64(checked.MaxLag)); lag > float64(limit) {
				return fmt.Sprintf("the lag is %g, at most %d is allowed", lag, limit)
			}
			return ""
		}, nil
	}
	return t, nil
}

// Throttled says whether the run is paused by hand, the lag is greater than MaxLag, or
// not known.
func (t *LagThrottler) Throttled() bool { return t.ThrottleReason() != "" }

// ThrottleReason says why the run pauses; empty when it does not.
func (t *LagThrottler) ThrottleReason() string {
	if reason := t.PauserThrottler.ThrottleReason(); reason != "" {
		return reason
	}
	return t.watch.observedReason()
}

// ThrottleReport says whether it was paused by hand or by the lag, and since when.
func (t *LagThrottler) ThrottleReport() *ThrottleReport {
	if report := t.PauserThrottler.ThrottleReport(); report != nil {
		return report
	}
	return t.watch.ThrottleReport()
}

// Run asks for the lag until ctx ends and returns the context's error. A query that
// fails, returns no row or NULL pauses the run until one succeeds.
func (t *LagThrottler) Run(ctx context.Context) error { return t.watch.Run(ctx) }

// Close ends the connection that the query is sent on.
func (t *LagThrottler) Close() error { return t.DB.Close() }

func (t *LagThrottler) obey(limits *UpdatableConfig) { t.watch.obey(limits) }
