package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// swaps is the schema of the rotator: few unique values that wander among the rows.
const swaps = "swaps"

// slots is how many rows its larger tables have.
const slots = 2000

// swapTables are its tables. Rows of sparse lie far apart, so that there are ranges of
// keys without any.
var swapTables = []string{
	`CREATE TABLE ring (id INT PRIMARY KEY, u VARCHAR(10) COLLATE utf8mb4_unicode_ci NULL, v INT NOT NULL, UNIQUE KEY u (u))`,
	`CREATE TABLE slots (id INT PRIMARY KEY, u INT NOT NULL, v INT NOT NULL, UNIQUE KEY u (u))`,
	`CREATE TABLE places (id BIGINT PRIMARY KEY, a INT NULL, b INT NULL, c CHAR(8) CHARACTER SET ascii NULL, UNIQUE KEY ab (a, b), UNIQUE KEY c (c))`,
	`CREATE TABLE sparse (id BIGINT PRIMARY KEY, v INT NOT NULL)`,
}

// fillSwaps makes the rows.
func fillSwaps(ctx context.Context, conn *sql.Conn) error {
	insert := func(table, format string, rows int, step int64) error {
		for from := 0; from < rows; from += 500 {
			stmt := "INSERT INTO " + table + " VALUES "
			for i := from; i < min(from+500, rows); i++ {
				if i > from {
					stmt += ","
				}
				stmt += fmt.Sprintf(format, int64(i)*step, i)
			}
			if _, err := conn.ExecContext(ctx, stmt); err != nil {
				return err
			}
		}
		return nil
	}
	if err := insert("ring (id, u, v)", "(%d, CONCAT('u', %[2]d), 0)", 20, 1); err != nil {
		return err
	}
	if err := insert("slots (id, u, v)", "(%d, %[2]d, 0)", slots, 1); err != nil {
		return err
	}
	if err := insert("places (id, a, b, c)", "(%d, %[2]d %% 7, %[2]d, CONCAT('c', %[2]d))", slots/4, 3); err != nil {
		return err
	}
	return insert("sparse (id, v)", "(%d, %[2]d)", slots/4, 1_000_003)
}

// rotator is an application of some connections that hand unique values from row to row.
// It forgets nothing that matters when the server dies, and goes on when that is back.
type rotator struct {
	db     *sql.DB
	gate   sync.RWMutex // held for reading by a transaction, for writing while paused
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func startRotator(ctx context.Context, db *sql.DB, seed uint64) *rotator {
	ctx, cancel := context.WithCancel(ctx)
	r := &rotator{db: db, cancel: cancel}
	for i := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, i))
		r.wg.Go(func() { r.run(ctx, rng) })
	}
	return r
}

func (r *rotator) run(ctx context.Context, rng *rand.Rand) {
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.gate.RLock()
		// Conflicts and a dead server are life; what was committed is what counts.
		_ = r.transact(ctx, rng)
		r.gate.RUnlock()
	}
}

func (r *rotator) transact(ctx context.Context, rng *rand.Rand) error {
	tx, err := r.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	for _, stmt := range turn(rng) {
		if _, err := tx.ExecContext(context.WithoutCancel(ctx), stmt); err != nil {
			_ = tx.Rollback()
			return err
		}
	}
	if rng.IntN(20) == 0 {
		return tx.Rollback()
	}
	return tx.Commit()
}

// turn is one transaction.
func turn(rng *rand.Rand) []string {
	a, b := rng.IntN(20), rng.IntN(20)
	x, y := rng.IntN(slots), rng.IntN(slots)
	p, q := 3*rng.IntN(slots/4), 3*rng.IntN(slots/4)
	f := fmt.Sprintf
	switch rng.IntN(11) {
	case 0: // through NULL, in one transaction
		return []string{
			f("SELECT u INTO @u FROM swaps.ring WHERE id=%d FOR UPDATE", a), f("UPDATE swaps.ring SET u=NULL WHERE id=%d", a),
			f("UPDATE swaps.ring SET u=@u, v=v+1 WHERE id=%d", b),
		}
	case 1: // a free value for whoever has none: hand-overs in several transactions
		return []string{f("UPDATE swaps.ring SET u='u%d', v=v+1 WHERE id=%d AND u IS NULL", rng.IntN(6), a)}
	case 2:
		return []string{f("UPDATE swaps.ring SET u=NULL WHERE id=%d", a)}
	case 3: // the same value in another case
		return []string{f("UPDATE swaps.ring SET u=IF(v%%2, UPPER(u), LOWER(u)), v=v+1 WHERE id=%d", a)}
	case 4: // two rows far apart exchange their values
		return []string{
			f("SELECT u INTO @x FROM swaps.slots WHERE id=%d FOR UPDATE", x), f("SELECT u INTO @y FROM swaps.slots WHERE id=%d FOR UPDATE", y),
			f("UPDATE swaps.slots SET u=-1-id WHERE id=%d", x), f("UPDATE swaps.slots SET u=@x WHERE id=%d", y), f("UPDATE swaps.slots SET u=@y, v=v+1 WHERE id=%d", x),
		}
	case 5: // all values of a stretch move by one
		return []string{
			f("UPDATE swaps.slots SET u=-1-u WHERE id BETWEEN %d AND %d", x, x+10),
			f("UPDATE swaps.slots s JOIN (SELECT id, u FROM swaps.slots) o ON o.id=IF(s.id=%d, %d, s.id+1) SET s.u=-1-o.u WHERE s.id BETWEEN %[1]d AND %[2]d AND s.u<0 AND o.u<0", x+10, x),
			f("UPDATE swaps.slots SET u=-1-u WHERE id BETWEEN %d AND %d AND u<0", x, x+10),
		}
	case 6: // a row leaves, another takes what was its
		return []string{
			f("SELECT u INTO @u FROM swaps.slots WHERE id=%d FOR UPDATE", x), f("DELETE FROM swaps.slots WHERE id=%d", x),
			f("INSERT INTO swaps.slots (id, u, v) SELECT %d, @u, 0 FROM DUAL WHERE @u IS NOT NULL", slots+rng.IntN(slots)),
		}
	case 7: // and comes back
		return []string{f("INSERT IGNORE INTO swaps.slots (id, u, v) VALUES (%d, %[1]d, 7)", x)}
	case 8: // two unique keys at once
		return []string{
			f("SELECT a, b, c INTO @a, @b, @c FROM swaps.places WHERE id=%d FOR UPDATE", p), f("UPDATE swaps.places SET a=NULL, c=NULL WHERE id=%d", p),
			f("UPDATE swaps.places SET a=@a, b=@b, c=@c WHERE id=%d", q),
		}
	case 9: // another key for a row
		return []string{f("UPDATE IGNORE swaps.places SET id=id+IF(id%%3=0, 1, -1) WHERE id IN (%d, %d)", p, p+1)}
	default: // many rows, so that a batch needs all lanes
		if rng.IntN(5) > 0 {
			return []string{f("UPDATE swaps.sparse SET v=v+2 WHERE id=%d", 1_000_003*rng.IntN(slots/4))}
		}
		return []string{f("UPDATE swaps.sparse SET v=v+1 WHERE v %% 2 = %d", rng.IntN(2))}
	}
}

// pause returns when no transaction is in flight; none begins until resume.
func (r *rotator) pause() { r.gate.Lock() }

func (r *rotator) resume() { r.gate.Unlock() }

// stop ends the application, which is not paused.
func (r *rotator) stop() {
	r.cancel()
	r.wg.Wait()
}
