package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// ReplicaLagThrottlerConfig says which replicas must not fall behind: of the source, or the
// target's own.
type ReplicaLagThrottlerConfig struct {
	// Name tells it from others in reports; default "replica lag".
	Name string
	// Replicas are asked each; the greatest lag counts.
	Replicas []*DatabaseConfig
	// Query returns a replica's lag in seconds, as one row of one number. Empty means what
	// the replica itself says (SHOW REPLICA STATUS), or the age of HeartbeatTable.
	Query string
	// HeartbeatTable is "schema.table" (or "`schema`.`table`") of a table whose column HeartbeatColumn (default
	// "ts") somebody sets to the primary's UTC time again and again.
	HeartbeatTable, HeartbeatColumn string
	// MaxLag is the greatest lag, in seconds, at which the run does not pause. Default 1.
	MaxLag int
	// UpdateInterval is the time between two looks. Default "1s".
	UpdateInterval Duration
}

// LoadThrottlerConfig says how busy a server may be.
type LoadThrottlerConfig struct {
	// Name tells it from others in reports; default "load".
	Name string
	// Connection is the server.
	Connection *DatabaseConfig
	// MaxThreadsRunning is the greatest number of connections that execute a statement at
	// which the run does not pause; those of the run count, too. 0: not looked at.
	MaxThreadsRunning int
	// MaxHistoryListLength is the same for the transactions that InnoDB has yet to purge.
	MaxHistoryListLength int
	// UpdateInterval is the time between two looks. Default "1s".
	UpdateInterval Duration
}

// QueryThrottlerConfig is a question of the operator's.
type QueryThrottlerConfig struct {
	// Name tells it from others in reports; default "query".
	Name string
	// Connection is the server to ask.
	Connection *DatabaseConfig
	// Query returns one row of one number: the run pauses while it is greater than zero.
	Query string
	// UpdateInterval is the time between two looks. Default "1s".
	UpdateInterval Duration
}

// ReplicaLagThrottler pauses the run while a replica is too far behind.
type ReplicaLagThrottler struct {
	observed
	watchedServers
}

// LoadThrottler pauses the run while a server is too busy.
type LoadThrottler struct {
	observed
	watchedServers
}

// QueryThrottler pauses the run while a query says so.
type QueryThrottler struct {
	observed
	watchedServers
}

// watchedServers are pools that know what they are connected to.
type watchedServers struct {
	servers []*watchedServer
}

type watchedServer struct {
	name string // host:port
	db   *sql.DB

	mu  sync.Mutex
	srv *server.Server // nil until the server was reached
}

func (w *watchedServer) detect(ctx context.Context) (*server.Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.srv != nil {
		return w.srv, nil
	}
	srv, err := server.Detect(ctx, w.db)
	if err == nil {
		w.srv = srv
	}
	return srv, err
}

// Close ends the connections.
func (w *watchedServers) Close() error {
	var errs []error
	for _, s := range w.servers {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// watch opens pools; nothing is connected to yet.
func (w *watchedServers) watch(field string, configs ...*DatabaseConfig) error {
	var faults []error
	for _, c := range configs {
		if bad := validateServer(c, field, "throttler: "); len(bad) > 0 {
			faults = append(faults, bad...)
			continue
		}
		db, err := c.SqlDB(nil)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		db.SetMaxOpenConns(1)
		w.servers = append(w.servers, &watchedServer{name: fmt.Sprintf("%s:%d", c.Host, c.Port), db: db})
	}
	if len(configs) == 0 {
		faults = append(faults, &ConfigError{Field: field, Problem: "throttler: no server to look at", Remedy: "name one, with Host, Port, User and Pass"})
	}
	if len(faults) > 0 {
		return errors.Join(joinErrors(faults), w.Close())
	}
	return nil
}

func newObserved(name, byDefault string, interval Duration) observed {
	if name == "" {
		name = byDefault
	}
	span := time.Duration(interval)
	if span <= 0 {
		span = defaultThrottleInterval
	}
	return observed{name: name, subject: name, interval: span, logger: taggedLogger(nil, "throttler")}
}

// NewReplicaLagThrottler validates the configuration. A lag counts as too great until Run
// has seen it.
func NewReplicaLagThrottler(config *ReplicaLagThrottlerConfig) (*ReplicaLagThrottler, error) {
	t := &ReplicaLagThrottler{observed: newObserved(config.Name, "replica lag", config.UpdateInterval)}
	query := config.Query
	if config.HeartbeatTable != "" {
		if query != "" {
			return nil, &ConfigError{Field: "Query", Problem: "Query and HeartbeatTable exclude each other", Remedy: "keep one of them"}
		}
		var err error
		if query, err = heartbeatQuery(config.HeartbeatTable, config.HeartbeatColumn); err != nil {
			return nil, err
		}
	}
	if err := t.watch("Replicas", config.Replicas...); err != nil {
		return nil, err
	}
	own := int64(max(config.MaxLag, 0))
	if own == 0 {
		own = defaultMaxLag
	}
	t.look = func(ctx context.Context) (func() string, error) {
		var lag float64
		var worst string
		for _, s := range t.servers {
			one, err := s.lag(ctx, query)
			if err != nil {
				return nil, fmt.Errorf("replica %s: %w", s.name, err)
			}
			if one >= lag {
				lag, worst = one, s.name
			}
		}
		return func() string {
			if limit := t.limit(limitOfLag, own); lag > float64(limit) {
				return fmt.Sprintf("replica %s is %g s behind, at most %d s are allowed", worst, lag, limit)
			}
			return ""
		}, nil
	}
	return t, nil
}

func heartbeatQuery(table, column string) (string, error) {
	schema, name, ok := splitTableName(table)
	if !ok {
		return "", &ConfigError{Field: "HeartbeatTable", Problem: fmt.Sprintf("throttler: HeartbeatTable is %q", table), Remedy: "write it as \"schema.table\", or with backticks as \"`schema`.`table`\""}
	}
	if column == "" {
		column = "ts"
	}
	return "SELECT TIMESTAMPDIFF(MICROSECOND, MAX(" + sqlesc.Ident(column) + "), UTC_TIMESTAMP(6)) / 1000000 FROM " + sqlesc.Table(schema, name), nil
}

// splitTableName reads "schema.table", or "`schema`.`table`" with backticks doubled within,
// which names with dots need.
func splitTableName(text string) (schema, table string, ok bool) {
	if !strings.HasPrefix(text, "`") {
		schema, table, _ = strings.Cut(text, ".")
		return schema, table, schema != "" && table != "" && !strings.Contains(table, ".")
	}
	schema, table, found := strings.Cut(text[1:], "`.`")
	if !found || !strings.HasSuffix(table, "`") {
		return "", "", false
	}
	unquote := func(quoted string) string { return strings.ReplaceAll(quoted, "``", "`") }
	schema, table = unquote(schema), unquote(strings.TrimSuffix(table, "`"))
	return schema, table, schema != "" && table != ""
}

// lag is what the query says, or what the replica itself does.
func (w *watchedServer) lag(ctx context.Context, query string) (float64, error) {
	if query != "" {
		return queryNumber(ctx, w.db, query)
	}
	srv, err := w.detect(ctx)
	if err != nil {
		return 0, err
	}
	return srv.ReplicaLag(ctx, w.db)
}

// queryNumber reads one number, given as text so that integers, decimals and floats are read.
func queryNumber(ctx context.Context, db *sql.DB, query string) (float64, error) {
	var text *string
	if err := db.QueryRowContext(ctx, query).Scan(&text); err != nil {
		return 0, err
	}
	if text == nil {
		return 0, errors.New("the lag query returned NULL: replication does not run, or the heartbeat is missing")
	}
	number, err := strconv.ParseFloat(*text, 64)
	if err != nil || math.IsNaN(number) {
		return 0, fmt.Errorf("the lag query returned %q, not a number", *text)
	}
	return number, nil
}

// NewLoadThrottler validates the configuration.
func NewLoadThrottler(config *LoadThrottlerConfig) (*LoadThrottler, error) {
	t := &LoadThrottler{observed: newObserved(config.Name, "load", config.UpdateInterval)}
	if err := t.watch("Connection", config.Connection); err != nil {
		return nil, err
	}
	threadsLimit, historyLimit := int64(config.MaxThreadsRunning), int64(config.MaxHistoryListLength)
	t.look = func(ctx context.Context) (func() string, error) {
		s := t.servers[0]
		srv, err := s.detect(ctx)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", s.name, err)
		}
		threads, err := srv.ThreadsRunning(ctx, s.db)
		var history int64
		if err == nil && t.limit(limitOfHistory, historyLimit) > 0 {
			history, err = srv.HistoryListLength(ctx, s.db)
		}
		if err != nil {
			return nil, err
		}
		return func() string {
			if limit := t.limit(limitOfThreads, threadsLimit); limit > 0 && threads > limit {
				return fmt.Sprintf("%s runs %d threads, at most %d are allowed", s.name, threads, limit)
			}
			if limit := t.limit(limitOfHistory, historyLimit); limit > 0 && history > limit {
				return fmt.Sprintf("the history list of %s has %d entries, at most %d are allowed", s.name, history, limit)
			}
			return ""
		}, nil
	}
	return t, nil
}

// NewQueryThrottler validates the configuration.
func NewQueryThrottler(config *QueryThrottlerConfig) (*QueryThrottler, error) {
	t := &QueryThrottler{observed: newObserved(config.Name, "query", config.UpdateInterval)}
	if config.Query == "" {
		return nil, &ConfigError{Field: "Query", Problem: "throttler: Query is empty", Remedy: "give a query that returns one number, greater than zero to pause"}
	}
	if err := t.watch("Connection", config.Connection); err != nil {
		return nil, err
	}
	t.look = func(ctx context.Context) (func() string, error) {
		n, err := queryNumber(ctx, t.servers[0].db, config.Query)
		if err != nil {
			return nil, err
		}
		return func() string {
			if n > 0 {
				return fmt.Sprintf("the query returned %g", n)
			}
			return ""
		}, nil
	}
	return t, nil
}
