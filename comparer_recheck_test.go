package ghostferry

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// What is left to compare holds a row that differs at any moment: it goes from a range into the
// queue, from there to the rows that are looked up, to the suspects, and back.
func TestWhatIsLeftAtAnyMoment(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT)")
		const differing, others = 10, 3000
		mustExec(t, db, fmt.Sprintf("INSERT INTO %s.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i, i FROM n", verifySource, differing))
		c, err := newTestVerifier(t, db).core()
		require.NoError(t, err)
		f := c.prints[0]
		c.queue.take()
		pass := func() {
			for id := range others { // without rows: it takes a moment to look at all of them
				c.queue.add(f, encodedKey(1000+id))
			}
			require.NoError(t, c.run(t.Context(), &c.counters.before, func(ctx context.Context) error {
				_, err := c.pass(ctx, false)
				return err
			}))
		}

		var left atomic.Int64 // a key that differs, from when it is queued on
		var missed atomic.Int64
		var readers sync.WaitGroup
		done := make(chan struct{})
		for range 3 { // one waits for another whenever a pass lets go of the lock
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if id := left.Load(); id > 0 && !c.unfinished().holds(f, encodedKey(id)) {
						missed.Add(1)
					}
				}
			})
		}
		for id := range differing {
			c.queue.addRange(f, keyRange{low: keyAt(id), high: keyAt(id + 1)})
			left.Store(int64(id) + 1)
			pass() // finds it
			pass() // looks it up, and again
			pass()
		}
		close(done)
		readers.Wait()
		require.Zero(t, missed.Load())
	})
}

// minuteLate takes a minute to bring changes to the target.
type minuteLate struct{}

func (minuteLate) WaitUntilApplied(context.Context, BinlogCoordinate) error {
	time.Sleep(time.Minute)
	return nil
}

// throttledUntil is a throttler that lets go at a time.
type throttledUntil struct {
	PauserThrottler
	end time.Time
}

func (t *throttledUntil) Throttled() bool { return time.Now().Before(t.end) }

// twoSeconds is a comparer that has one key to compare, which takes two seconds, after changes and a
// throttler have been waited for.
func twoSeconds() *comparer {
	f := &fingerprint{table: &TableSchema{Table: &schema.Table{}}, layout: &tableLayout{keys: []int{0}, keyBytes: true}}
	reader := &fingerprintReader{read: func(context.Context, func(querySession, string) error) error {
		time.Sleep(time.Second)
		return nil // no row
	}}
	c := newComparer(nil, nil, rewrites{}, []*fingerprint{f})
	c.servers = &verifiedServers{source: reader, target: reader}
	c.logger = quietLogger()
	c.applied, c.logEnd = minuteLate{}, func(context.Context) (BinlogCoordinate, error) { return BinlogCoordinate{}, nil }
	c.throttler = &throttledUntil{end: time.Now().Add(10 * time.Minute)}
	c.queue.add(f, encodedKey(1))
	return c
}

// What the cutover's comparison does not wait for, a throttler and changes on their way, does not
// count as the time that it takes, in a rehearsal neither.
func TestTimeOfTheCutoverIsOfComparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, took, err := twoSeconds().rehearse(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, keys)
		require.Equal(t, 2*time.Second, took)
	})
	for limit, allowed := range map[time.Duration]bool{3 * time.Second: true, time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			c := twoSeconds()
			c.maxDowntime = limit
			err := c.shrink(t.Context())
			if allowed {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "(took 2s)")
			}
		})
	}
}
