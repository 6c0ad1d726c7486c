// Package compare tells whether two servers hold the same rows, by reading all of
// them: every table of both sides in key order, row beside row, column beside
// column, each value in a form that shows every bit of it. It is the judge of the
// mover and therefore shares nothing with it.
//
// Both sides must be quiet while they are compared, and be of one flavour: MySQL
// and MariaDB differ in how they show some types.
package compare

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// Options say what to compare. Databases is required.
type Options struct {
	// Databases maps each schema of the source to the one that must equal it on
	// the target. Tables must have the same names on both sides.
	Databases map[string]string
	// Tables, if set, says which tables to compare; it is given names on the source.
	Tables func(schema, table string) bool
	// Workers is the number of ranges compared at once, each over one connection
	// to either side. Default: the number of processors plus one.
	Workers int
	// RangeRows is the size of the ranges into which a table is cut if the first
	// column of its key is a number or binary. Default: 40,000.
	RangeRows int
	// MaxDifferences is how many differences Report.Differences holds at most;
	// all are counted. Default: 1,000.
	MaxDifferences int
	// OnProgress, if set, is told now and then how many rows of the source have
	// been compared and how many it has. It is called from several goroutines at
	// once and must not block.
	OnProgress func(done, total int64)
}

func (o Options) withDefaults() Options {
	if o.Workers == 0 {
		o.Workers = runtime.NumCPU() + 1
	}
	if o.RangeRows == 0 {
		o.RangeRows = 40_000
	}
	if o.MaxDifferences == 0 {
		o.MaxDifferences = 1000
	}
	return o
}

// Compare reads both servers and reports every difference. An error means that
// the comparison could not be made; then nothing is known.
func Compare(ctx context.Context, source, target *sql.DB, o Options) (*Report, error) {
	c := &comparison{
		options: o.withDefaults(),
		source:  side{name: "source", db: source},
		target:  side{name: "target", db: target},
	}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("comparing source and target: %w", err)
	}
	return &c.report.Report, nil
}

// side is one of the two servers.
type side struct {
	name string
	db   *sql.DB
}

type comparison struct {
	// immutable
	options        Options
	source, target side

	total, done atomic.Int64 // rows of the source

	report struct {
		sync.Mutex
		Report
	}
}

func (c *comparison) run(ctx context.Context) error {
	plans, err := c.planTables(ctx)
	if err != nil {
		return err
	}
	if len(plans) == 0 {
		return errors.New("neither side has a table to compare: check the schema names")
	}
	for _, step := range []func(context.Context, *plan) error{c.count, c.check} {
		if err := c.each(ctx, plans, step); err != nil {
			return err
		}
	}
	for _, p := range plans {
		c.total.Add(p.sourceRows)
	}
	// Large tables first, so that no worker is left with one at the end.
	slices.SortStableFunc(plans, func(a, b *plan) int { return int(b.sourceRows - a.sourceRows) })
	if err := c.compareRows(ctx, plans); err != nil {
		return err
	}
	for _, p := range plans {
		c.conclude(p)
	}
	c.report.sort()
	return nil
}

// planTables pairs the tables of both sides. A table that only one side has is
// reported and not planned.
func (c *comparison) planTables(ctx context.Context) ([]*plan, error) {
	var plans []*plan
	for _, schema := range slices.Sorted(maps.Keys(c.options.Databases)) {
		onSource, err := readTables(ctx, c.source, schema)
		if err != nil {
			return nil, err
		}
		onTarget, err := readTables(ctx, c.target, c.options.Databases[schema])
		if err != nil {
			return nil, err
		}
		for _, name := range allNames(onSource, onTarget) {
			if c.options.Tables != nil && !c.options.Tables(schema, name) {
				continue
			}
			s, t := onSource[name], onTarget[name]
			switch {
			case t == nil:
				c.differs(Difference{Table: schema + "." + name, Kind: MissingOnTarget, Detail: "the whole table"})
			case s == nil:
				c.differs(Difference{Table: schema + "." + name, Kind: MissingOnSource, Detail: "the whole table"})
			default:
				p, difference := newPlan(s, t)
				if difference != "" {
					c.differs(Difference{Table: schema + "." + name, Kind: DefinitionDiffers, Detail: difference})
				}
				if p != nil {
					plans = append(plans, p)
				}
			}
		}
	}
	return plans, nil
}

func allNames(a, b map[string]*table) []string {
	names := maps.Clone(a)
	maps.Copy(names, b)
	return slices.Sorted(maps.Keys(names))
}

// each runs a step for all tables, some at once.
func (c *comparison) each(ctx context.Context, plans []*plan, do func(context.Context, *plan) error) error {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(c.options.Workers)
	for _, p := range plans {
		workers.Go(func() error {
			if err := do(ctx, p); err != nil {
				return fmt.Errorf("table %s: %w", p.source, err)
			}
			return nil
		})
	}
	return workers.Wait()
}

// noSuchIndex is the answer to a hint that names an index which is missing, INVISIBLE or IGNORED.
const noSuchIndex = 1176

// count counts the rows of a table on both sides, by every index: an index that
// disagrees with its table is corrupt.
func (c *comparison) count(ctx context.Context, p *plan) error {
	for _, s := range []struct {
		side  side
		table *table
		rows  *int64
	}{{c.source, p.source, &p.sourceRows}, {c.target, p.target, &p.targetRows}} {
		if err := s.side.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+s.table.quoted()).Scan(s.rows); err != nil {
			return fmt.Errorf("counting rows on the %s: %w", s.side.name, err)
		}
		for _, index := range s.table.countable() {
			var entries int64
			query := "SELECT COUNT(*) FROM " + s.table.quoted() + " FORCE INDEX (" + quote(index) + ")"
			err := s.side.db.QueryRowContext(ctx, query).Scan(&entries)
			if answer, ok := errors.AsType[*mysql.MySQLError](err); ok && answer.Number == noSuchIndex {
				continue // it is hidden from queries
			}
			if err != nil {
				return fmt.Errorf("counting entries of index %s on the %s: %w", index, s.side.name, err)
			}
			if entries != *s.rows {
				c.differs(Difference{Table: p.source.String(), Kind: CountDiffers,
					Detail: fmt.Sprintf("on the %s index %s has %d entries, the table %d rows", s.side.name, index, entries, *s.rows)})
			}
		}
	}
	return nil
}

// check lets the target look for damage in a table that it has just been given.
func (c *comparison) check(ctx context.Context, p *plan) error {
	rows, err := c.target.db.QueryContext(ctx, "CHECK TABLE "+p.target.quoted())
	if err != nil {
		return fmt.Errorf("checking it on the target: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, operation, kind, text string
		if err := rows.Scan(&name, &operation, &kind, &text); err != nil {
			return fmt.Errorf("checking it on the target: %w", err)
		}
		if kind != "status" || text != "OK" {
			c.differs(Difference{Table: p.source.String(), Kind: Damaged, Detail: kind + ": " + text})
		}
	}
	return rows.Err()
}

// compareRows cuts the tables into ranges while workers compare those cut already.
func (c *comparison) compareRows(ctx context.Context, plans []*plan) error {
	workers, ctx := errgroup.WithContext(ctx)
	ranges := make(chan keyRange)
	workers.Go(func() error {
		defer close(ranges)
		for _, p := range plans {
			if err := c.cut(ctx, p, ranges); err != nil {
				return fmt.Errorf("table %s: cutting it into ranges: %w", p.source, err)
			}
		}
		return nil
	})
	for range c.options.Workers {
		workers.Go(func() error { return c.compareRanges(ctx, ranges) })
	}
	return workers.Wait()
}

func (c *comparison) compareRanges(ctx context.Context, ranges <-chan keyRange) error {
	source, err := c.source.connect(ctx)
	if err != nil {
		return err
	}
	defer discard(source)
	target, err := c.target.connect(ctx)
	if err != nil {
		return err
	}
	defer discard(target)
	for r := range ranges {
		if err := c.compareRange(ctx, source, target, r); err != nil {
			return fmt.Errorf("table %s: %w", r.plan.source, err)
		}
	}
	return nil
}

// conclude adds a table to the report, and checks that the ranges covered it.
func (c *comparison) conclude(p *plan) {
	for _, s := range []struct {
		side          side
		counted, read int64
	}{{c.source, p.sourceRows, p.sourceRead.Load()}, {c.target, p.targetRows, p.targetRead.Load()}} {
		if s.counted != s.read {
			c.differs(Difference{Table: p.source.String(), Kind: CountDiffers,
				Detail: fmt.Sprintf("the %s counts %d rows but %d were read: is somebody writing?", s.side.name, s.counted, s.read)})
		}
	}
	c.report.Lock()
	defer c.report.Unlock()
	c.report.Tables = append(c.report.Tables, TableReport{
		Table: p.source.String(), SourceRows: p.sourceRows, TargetRows: p.targetRows, EqualRows: p.equal.Load(),
	})
}

func (c *comparison) differs(d Difference) {
	c.report.Lock()
	defer c.report.Unlock()
	c.report.DifferenceCount++
	if len(c.report.Differences) < c.options.MaxDifferences {
		c.report.Differences = append(c.report.Differences, d)
	}
}

// connect returns a connection on which both servers show values alike.
func (s side) connect(ctx context.Context) (*sql.Conn, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to the %s: %w", s.name, err)
	}
	// Sort keys longer than the default of 1,024 bytes count in full; a server
	// waits while the other one is read.
	const session = "SET SESSION time_zone = '+00:00', sql_mode = '', max_sort_length = 65536, net_write_timeout = 3600"
	for _, statement := range []string{session, "SET NAMES utf8mb4"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			discard(conn)
			return nil, fmt.Errorf("preparing a connection to the %s: %w", s.name, err)
		}
	}
	return conn, nil
}

// discard closes a connection for good: its session settings are not what the
// owner of the pool expects.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}
