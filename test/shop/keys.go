package shop

import (
	"context"
	"database/sql"
	"fmt"
)

// keys are the highest keys in use when a writer starts. Every connection makes
// its own new keys from there, so that no two ever make the same one.
type keys struct {
	order, tag int
	customer   int64
}

func readKeys(ctx context.Context, db *sql.DB, database string) (keys, error) {
	var k keys
	for _, q := range []struct {
		query string
		into  any
	}{
		{"SELECT COALESCE(MAX(id), 0) FROM " + qualified(database, "orders"), &k.order},
		{"SELECT COALESCE(MAX(id), 0) FROM " + qualified(database, "customers"), &k.customer},
		// Made names end in the number that made them, see newTag.
		{"SELECT COALESCE(MAX(CAST(SUBSTRING(name, 6) AS UNSIGNED)), 0) FROM " + qualified(database, "tags") + " WHERE name LIKE 'made %'", &k.tag},
	} {
		if err := db.QueryRowContext(ctx, q.query).Scan(q.into); err != nil {
			return keys{}, fmt.Errorf("reading the highest keys: %w", err)
		}
	}
	return k, nil
}

// ownKeys are what one connection remembers of its committed transactions.
type ownKeys struct {
	orders   int          // how many order ids it has made
	tags     int          // how many tag names it has made
	emails   int          // how many customers it has made
	sessions ring[[]byte] // sessions that exist
	made     ring[string] // tags that exist
	tickets  ring[string] // tickets taken from a seat and not yet given to another
	payments ring[uint64] // payments that exist
}

// newOrder returns an order id that nobody else makes.
func (c *connection) newOrder() int {
	c.own.orders++
	return c.w.keys.order + c.number + 1 + (c.own.orders-1)*c.w.config.Connections
}

// newTag returns a tag name that nobody else makes.
func (c *connection) newTag() string {
	c.own.tags++
	return fmt.Sprintf("made %d", c.w.keys.tag+c.number+1+(c.own.tags-1)*c.w.config.Connections)
}

// newEmail returns an address that nobody else makes.
func (c *connection) newEmail() string {
	c.own.emails++
	return fmt.Sprintf("Visitor.%d.%d.%d@shop.example", c.w.keys.customer, c.number, c.own.emails)
}

// ring remembers the last few values put into it; take removes one.
type ring[T any] struct{ values []T }

const ringSize = 256

func (r *ring[T]) put(v T) {
	if len(r.values) == ringSize {
		r.values = r.values[1:]
	}
	r.values = append(r.values, v)
}

func (r *ring[T]) take() (v T, ok bool) {
	if len(r.values) == 0 {
		return v, false
	}
	v, r.values = r.values[0], r.values[1:]
	return v, true
}

// Seeded keys, chosen at random. The rows may have been deleted or renamed since.

func (c *connection) anyCustomer() int64 {
	return lowestCustomer + int64(c.rng.IntN(c.w.shape.Customers))
}
func (c *connection) anyProduct() int  { return 1 + c.rng.IntN(c.w.shape.Products) }
func (c *connection) anyOrder() int    { return 1 + c.rng.IntN(c.w.shape.Orders) }
func (c *connection) anyDocument() int { return 1 + c.rng.IntN(c.w.shape.Documents) }
func (c *connection) anyHall() int     { return c.rng.IntN(c.w.shape.Seats / seatsInHall) }
func (c *connection) anyTag() string   { return tagName(c.rng.IntN(c.w.shape.Tags)) }

func (c *connection) anyPayment() uint64 {
	return paymentID(c.w.config.Shop.Seed, c.rng.IntN(c.w.shape.Payments))
}

func (c *connection) anySession() []byte {
	return sessionID(c.w.config.Shop.Seed, c.rng.IntN(c.w.shape.Sessions))
}

// anyStock prefers few rows: every third choice is one of the ten hottest.
func (c *connection) anyStock() (warehouse, product int) {
	n := c.w.shape.Stock
	if c.rng.IntN(3) == 0 {
		n = 10
	}
	return c.w.shape.stockKey(c.rng.IntN(n))
}
