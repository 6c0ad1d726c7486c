package ghostferry

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// AdaptiveConfig makes the copy's chunks smaller and its workers fewer while the source
// answers slowly, and lets them grow again when it does not. What is configured otherwise,
// chunk size and workers, is the upper bound.
type AdaptiveConfig struct {
	// MaxSlowdown is by how much the source may answer slower than when it was quietest in
	// this run. Default 1.25.
	MaxSlowdown float64
	// MinWorkers and MinChunkFraction are the lower bounds: of workers, default 1, and of a
	// chunk's size as a share of the configured one, default 0.05.
	MinWorkers       int
	MinChunkFraction float64
	// UpdateInterval is the time between two decisions. Default "500ms".
	UpdateInterval Duration
}

const (
	defaultMaxSlowdown      = 1.25
	defaultMinChunkFraction = 0.05
	defaultPaceInterval     = 500 * time.Millisecond
	// paceProbes is how many probes a decision rests on.
	paceProbes = 10
	// paceRise is added to the pace after a quiet interval, and paceFall multiplies it after
	// a slow one: slow up and quick down, as congestion is controlled elsewhere, finds the
	// greatest pace that the source bears without being told it.
	paceRise, paceFall = 0.1, 0.5
)

// paceProbe has the server time a fixed amount of work of its own: what waits for its CPU,
// as the application's statements do, makes it longer, and what waits on the way does not.
const paceProbe = "SELECT TIMESTAMPDIFF(MICROSECOND, began, SYSDATE(6)) FROM (SELECT SYSDATE(6) AS began, BENCHMARK(20000, 1+1) AS worked) AS probe"

// copyPace says how fast the copy may go: 1 is as configured, 0 its lower bounds. It
// starts at 0, so that the source is first seen as it is without the copy, nearly.
type copyPace struct {
	// immutable
	config AdaptiveConfig
	db     *sql.DB
	logger Logger
	moved  func() // tells the workers

	pace     atomic.Uint64 // float64 bits
	quietest float64       // of the medians so far; owned by run
}

func newCopyPace(config AdaptiveConfig, db *sql.DB, logger Logger, moved func()) *copyPace {
	if config.MaxSlowdown <= 1 {
		config.MaxSlowdown = defaultMaxSlowdown
	}
	if config.MinWorkers <= 0 {
		config.MinWorkers = 1
	}
	if config.MinChunkFraction <= 0 || config.MinChunkFraction > 1 {
		config.MinChunkFraction = defaultMinChunkFraction
	}
	if config.UpdateInterval <= 0 {
		config.UpdateInterval = Duration(defaultPaceInterval)
	}
	return &copyPace{config: config, db: db, logger: logger, moved: moved}
}

// now is the pace, 1 without control.
func (p *copyPace) now() float64 {
	if p == nil {
		return 1
	}
	return math.Float64frombits(p.pace.Load())
}

// workers is how many of the configured workers may work.
func (p *copyPace) workers(configured int) int {
	if p == nil {
		return configured
	}
	least := min(p.config.MinWorkers, configured)
	return least + int(math.Round(p.now()*float64(configured-least)))
}

// chunkFraction is how much of the configured size a chunk may have.
func (p *copyPace) chunkFraction() float64 {
	if p == nil {
		return 1
	}
	return p.config.MinChunkFraction + p.now()*(1-p.config.MinChunkFraction)
}

// run probes the source until the rows are copied or ctx ends. A source that cannot be probed is copied at the
// lower bounds.
func (p *copyPace) run(ctx context.Context, copied <-chan struct{}) error {
	probes := make([]float64, 0, paceProbes)
	failing := false
	for {
		select {
		case <-copied:
			return nil
		default:
		}
		took, err := p.probe(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ends with its context
		}
		switch {
		case err != nil:
			if !failing {
				p.logger.WithError(err).Warn("the source's latency cannot be observed, copying slowly until it can")
			}
			p.set(0)
			probes = probes[:0]
		default:
			probes = append(probes, took)
		}
		failing = err != nil
		if len(probes) == paceProbes {
			p.set(p.next(probes))
			probes = probes[:0]
		}
		if retry.Sleep(ctx, time.Duration(p.config.UpdateInterval)/paceProbes) != nil {
			return nil //nolint:nilerr // it ends with its context
		}
	}
}

func (p *copyPace) probe(ctx context.Context) (microseconds float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	err = p.db.QueryRowContext(ctx, paceProbe).Scan(&microseconds)
	return microseconds, err
}

// next decides by the median, which one long answer does not move.
func (p *copyPace) next(probes []float64) float64 {
	median := max(1, slices.Sorted(slices.Values(probes))[len(probes)/2])
	if p.quietest == 0 || median < p.quietest {
		p.quietest = median
	}
	if median > p.quietest*p.config.MaxSlowdown {
		return p.now() * paceFall
	}
	return min(1, p.now()+paceRise)
}

func (p *copyPace) set(pace float64) {
	if pace == p.now() {
		return
	}
	p.pace.Store(math.Float64bits(pace))
	p.moved()
}

// validate reports what makes no sense.
func (c *AdaptiveConfig) validate() error {
	if c.MaxSlowdown < 0 || c.MaxSlowdown > 0 && c.MaxSlowdown <= 1 {
		return fmt.Errorf("MaxSlowdown is %g: give a factor greater than 1", c.MaxSlowdown)
	}
	if c.MinChunkFraction < 0 || c.MinChunkFraction > 1 {
		return fmt.Errorf("MinChunkFraction is %g: give a share between 0 and 1", c.MinChunkFraction)
	}
	if c.MinWorkers < 0 {
		return fmt.Errorf("MinWorkers is %d, it must not be negative", c.MinWorkers)
	}
	return nil
}
