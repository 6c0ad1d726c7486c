package harness

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Change is one transaction of a churn, between its BEGIN and its COMMIT.
type Change func(ctx context.Context, tx *Tx) error

// Tx is a transaction on the source with a source of chance.
type Tx struct {
	*sql.Tx
	Rand *rand.Rand
	ctx  context.Context
}

// Exec runs one statement.
func (tx *Tx) Exec(query string, args ...any) error {
	_, err := tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}

// Churn makes changes on the source until it is stopped: every Change by a connection
// of its own, at a steady rate. Deadlocks, lock timeouts and duplicates roll back and
// are gone over: what the application wanted is not the point, what it committed is.
type Churn struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	committed int
	changed   chan struct{} // closed and replaced at each commit
	err       error
}

// ChurnOptions says how a table is written. The zero value is usable.
type ChurnOptions struct {
	// Every is the time between two transactions of one connection; default 20 ms.
	Every time.Duration
	// Seed is the origin of chance.
	Seed uint64
	// Setup is run on every connection before its first transaction.
	Setup []string
	// Yields: each transaction is followed by at least four times its duration. So a busy
	// machine is written to less, where many connections would leave nobody time to catch up.
	Yields bool
}

// Churn starts the changes.
func (p *Pair) Churn(t *testing.T, o ChurnOptions, changes ...Change) *Churn {
	t.Helper()
	if o.Every == 0 {
		o.Every = 20 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Churn{cancel: cancel, changed: make(chan struct{})}
	for i, change := range changes {
		conn, err := p.SourceDB.Conn(ctx)
		if err == nil {
			for _, stmt := range o.Setup {
				if _, err = conn.ExecContext(ctx, stmt); err != nil {
					break
				}
			}
		}
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(o.Seed, uint64(i)))
		c.wg.Go(func() {
			defer func() {
				// Session settings must not reach another user of the pool.
				_ = conn.Raw(func(any) error { return errBad })
				_ = conn.Close()
			}()
			c.run(ctx, conn, rng, o, change)
		})
	}
	t.Cleanup(func() { _ = c.Stop() })
	return c
}

func (c *Churn) run(ctx context.Context, conn *sql.Conn, rng *rand.Rand, o ChurnOptions, change Change) {
	for wait := o.Every; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		began := time.Now()
		// The transaction is not cut off by Stop: it ends, or it never began.
		committed, err := transact(context.WithoutCancel(ctx), conn, rng, change)
		took := time.Since(began)
		if wait = o.Every - took; o.Yields {
			wait = max(wait, 4*took)
		}
		c.mu.Lock()
		if committed {
			c.committed++
			close(c.changed)
			c.changed = make(chan struct{})
		}
		if err != nil && c.err == nil {
			c.err = err
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func transact(ctx context.Context, conn *sql.Conn, rng *rand.Rand, change Change) (committed bool, err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	if err = change(ctx, &Tx{Tx: tx, Rand: rng, ctx: ctx}); err == nil {
		err = tx.Commit()
	} else {
		_ = tx.Rollback()
	}
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		switch refused.Number {
		case 1062, 1205, 1213: // duplicate, lock wait timeout, deadlock
			return false, nil
		}
	}
	return err == nil, err
}

// Stop ends the changes and returns the first error: a fence for Move.
func (c *Churn) Stop() error {
	c.cancel()
	c.wg.Wait()
	return c.err
}

// Committed returns how many transactions were committed.
func (c *Churn) Committed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.committed
}

// Await returns when n more transactions were committed, or the churn has failed.
func (c *Churn) Await(ctx context.Context, n int) error {
	c.mu.Lock()
	until := c.committed + n
	c.mu.Unlock()
	for {
		c.mu.Lock()
		committed, changed, err := c.committed, c.changed, c.err
		c.mu.Unlock()
		if err != nil || committed >= until {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
