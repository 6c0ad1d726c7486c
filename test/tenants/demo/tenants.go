package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// columns are those of tables that all tenants share: with a key that is unique among
// tenants, one that begins with the tenant, and a further unique value.
var columns = map[string]string{
	"customers": `(id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, tenant_id INT NOT NULL, email VARCHAR(80) NOT NULL, name VARCHAR(60) NOT NULL,
  UNIQUE KEY by_email (email), KEY by_tenant (tenant_id))`,
	"orders": `(id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, tenant_id INT NOT NULL, customer BIGINT UNSIGNED, total DECIMAL(10,2) NOT NULL,
  state VARCHAR(12) NOT NULL, placed DATETIME(3) NOT NULL, note VARCHAR(120), KEY by_tenant (tenant_id, id))`,
	"lines": `(tenant_id INT NOT NULL, id INT NOT NULL, sku VARBINARY(20) NOT NULL, quantity INT NOT NULL, PRIMARY KEY (tenant_id, id), KEY by_sku (sku))`,
}

var tableNames = []string{"customers", "orders", "lines"}

const (
	tenants = 8
	stays   = 9 // a tenant of the source that does not move
	// idSpace is how far apart the ids of two tenants begin.
	idSpace = 10_000_000
)

// others are the tenants of the target, whose rows are there beforehand.
var others = []int{101, 102, 103}

func table(name string) string { return "`tenants`.`" + name + "`" }

// createTables makes the schema.
func createTables(ctx context.Context, db *sql.DB) error {
	statements := []string{"CREATE DATABASE tenants DEFAULT CHARACTER SET utf8mb4"}
	for _, name := range tableNames {
		statements = append(statements, "CREATE TABLE "+table(name)+" "+columns[name])
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// seed gives a tenant its rows: a fifth are customers, two fifths orders and lines each.
func seed(ctx context.Context, db *sql.DB, tenant, rows int) error {
	numbers := func(n int) string {
		return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) ", n)
	}
	customers, orders := (rows+4)/5, (rows*2+4)/5
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := allowDepth(ctx, conn); err != nil {
		return err
	}
	for _, statement := range []string{
		fmt.Sprintf("INSERT INTO %s (id,tenant_id,email,name) %s SELECT %d+i, %d, CONCAT('c',i,'@t%d.example'), CONCAT('Jürgen ',i) FROM n", table("customers"), numbers(customers), tenant*idSpace, tenant, tenant),
		fmt.Sprintf("INSERT INTO %s (id,tenant_id,customer,total,state,placed,note) %s SELECT %d+i, %d, %d+1+i MOD %d, i/7, 'placed', FROM_UNIXTIME(1.7e9+i), REPEAT('x',i MOD 90) FROM n", table("orders"), numbers(orders), tenant*idSpace, tenant, tenant*idSpace, customers),
		fmt.Sprintf("INSERT INTO %s (tenant_id,id,sku,quantity) %s SELECT %d, i, CONCAT('sku-',i MOD 1000), 1+i MOD 5 FROM n", table("lines"), numbers(orders), tenant),
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("filling tenant %d: %w", tenant, err)
		}
	}
	return nil
}

// allowDepth lets recursive queries count far.
func allowDepth(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SET SESSION cte_max_recursion_depth = 100000000"); err == nil {
		return nil
	}
	_, err := conn.ExecContext(ctx, "SET SESSION max_recursive_iterations = 100000000") // MariaDB
	return err
}

// applications write to all tenants until they are locked out, one by one.
type applications struct {
	db     *sql.DB
	rows   int
	cancel context.CancelFunc
	ended  sync.WaitGroup

	transactions, passed atomic.Int64
	failed               chan error // capacity 1: the first

	// Each tenant's lock is held shared by a transaction that changes its rows.
	locks [tenants + 2]struct {
		sync.RWMutex
		out bool // guarded by the lock
	}
}

// pause is between two transactions of one application.
const pause = 4 * time.Millisecond

func startApplications(ctx context.Context, db *sql.DB, rows int) *applications {
	ctx, cancel := context.WithCancel(ctx)
	a := &applications{db: db, rows: rows, cancel: cancel, failed: make(chan error, 1)}
	for tenant := 1; tenant <= stays; tenant++ {
		a.ended.Go(func() {
			if err := a.write(ctx, tenant); err != nil && ctx.Err() == nil {
				select {
				case a.failed <- fmt.Errorf("the application of tenant %d: %w", tenant, err):
				default:
				}
			}
		})
	}
	return a
}

// lockOut ends a tenant's writes; when it returns none is under way.
func (a *applications) lockOut(tenant int) {
	a.locks[tenant].Lock()
	defer a.locks[tenant].Unlock()
	a.locks[tenant].out = true
}

// stop ends all and returns the first failure.
func (a *applications) stop() error {
	a.cancel()
	a.ended.Wait()
	select {
	case err := <-a.failed:
		return err
	default:
		return nil
	}
}

func (a *applications) write(ctx context.Context, tenant int) error {
	rng := rand.New(rand.NewPCG(uint64(tenant), 1))
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		other := tenant
		if rng.IntN(10) == 0 {
			other = 1 + rng.IntN(stays)
		}
		if err := a.transact(ctx, rng, tenant, other); err != nil {
			return err
		}
	}
}

// transact makes one transaction for a tenant; when other is another one, rows pass from
// one to the other. It does nothing for a tenant that is locked out.
func (a *applications) transact(ctx context.Context, rng *rand.Rand, tenant, other int) error {
	first, second := min(tenant, other), max(tenant, other)
	a.locks[first].RLock()
	defer a.locks[first].RUnlock()
	if second != first {
		a.locks[second].RLock()
		defer a.locks[second].RUnlock()
	}
	if a.locks[tenant].out || a.locks[other].out {
		return nil
	}
	id := func() int { return tenant*idSpace + 1 + rng.IntN(a.rows/5) }
	type change struct {
		query string
		args  []any
	}
	var changes []change
	do := func(query string, args ...any) { changes = append(changes, change{query, args}) }
	switch {
	case other != tenant:
		customer := id()
		do("UPDATE "+table("customers")+" SET tenant_id=? WHERE id=? AND tenant_id IN (?,?)", other, customer, tenant, other)
		do("UPDATE "+table("orders")+" SET tenant_id=?, note='passed on' WHERE id=? AND tenant_id IN (?,?)", other, id(), tenant, other)
		a.passed.Add(1)
	default:
		do("UPDATE "+table("orders")+" SET state=?, total=total+1 WHERE id=? AND tenant_id=?", []string{"paid", "sent", "done"}[rng.IntN(3)], id(), tenant)
		do("UPDATE "+table("customers")+" SET email=CONCAT('new',?,'@',id,'.example') WHERE id=? AND tenant_id=?", rng.IntN(1000), id(), tenant)
		do("INSERT INTO "+table("orders")+" (id,tenant_id,total,state,placed) VALUES (?,?,1,'placed',NOW(3)) ON DUPLICATE KEY UPDATE total="+table("orders")+".total",
			tenant*idSpace+a.rows+rng.IntN(a.rows), tenant)
		do("DELETE FROM "+table("lines")+" WHERE tenant_id=? AND id=?", tenant, 1+rng.IntN(a.rows/5))
		do("INSERT INTO "+table("lines")+" (tenant_id,id,sku,quantity) VALUES (?,?,'sku-new',1) ON DUPLICATE KEY UPDATE quantity=quantity+1", tenant, 1+rng.IntN(a.rows/5))
	}
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, c := range changes {
		if _, err := tx.ExecContext(ctx, c.query, c.args...); err != nil {
			if retryable(err) {
				return nil
			}
			return fmt.Errorf("%s: %w", c.query, err)
		}
	}
	a.transactions.Add(1)
	return tx.Commit()
}
