package compare

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
)

// keyRange are the rows of a table whose first key column lies after `after` and
// not after `upTo`, both literals; an empty one means that there is no such end.
// The ranges of a table follow each other, and the outer ones are open, so that
// together they hold all rows of either side, wherever they were cut.
type keyRange struct {
	plan        *plan
	after, upTo string
}

// cut sends the ranges of a table, each of about RangeRows rows of the source.
func (c *comparison) cut(ctx context.Context, p *plan, ranges chan<- keyRange) error {
	send := func(r keyRange) error {
		select {
		case ranges <- r:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	first := p.columns[p.key[0]]
	last := ""
	for p.unique && first.ordered && p.sourceRows > int64(c.options.RangeRows) {
		next, err := c.boundary(ctx, p, first, last)
		if err != nil {
			return err
		}
		if next == "" {
			break
		}
		if err := send(keyRange{p, last, next}); err != nil {
			return err
		}
		last = next
	}
	return send(keyRange{p, last, ""})
}

// boundary returns the key, as a literal, at which a range that begins after the
// given one should end, empty if it should not.
func (c *comparison) boundary(ctx context.Context, p *plan, key rendered, after string) (string, error) {
	var found []byte
	err := c.source.db.QueryRowContext(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT 1 OFFSET %d",
		key.expression, p.source.quoted(), condition(key, after, ""), quote(key.name), c.options.RangeRows-1)).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return literal(key, found), nil
}

func literal(c rendered, value []byte) string {
	if c.form == hexed {
		return "X'" + string(value) + "'"
	}
	return string(value)
}

func condition(c rendered, after, upTo string) string {
	all := []string{"TRUE"}
	if after != "" {
		all = append(all, quote(c.name)+" > "+after)
	}
	if upTo != "" {
		all = append(all, quote(c.name)+" <= "+upTo)
	}
	return strings.Join(all, " AND ")
}

// statement selects the range on one side.
func (r keyRange) statement(t *table) string {
	var columns, order []string
	for _, c := range r.plan.columns {
		columns = append(columns, c.expression)
	}
	for _, i := range r.plan.key {
		order = append(order, r.plan.columns[i].orderBy())
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + t.quoted() +
		" WHERE " + condition(r.plan.columns[r.plan.key[0]], r.after, r.upTo) +
		" ORDER BY " + strings.Join(order, ", ")
}

// stream is one side's rows of a range, in key order.
type stream struct {
	side   string
	plan   *plan
	rows   *sql.Rows
	values []sql.RawBytes
	into   []any
	// key is that of the present row, before that of the row before it.
	key, before [][]byte
	read        int64
	ended       bool
}

func openStream(ctx context.Context, s side, conn *sql.Conn, t *table, r keyRange) (*stream, error) {
	rows, err := conn.QueryContext(ctx, r.statement(t)) //nolint:rowserrcheck // next does
	if err != nil {
		return nil, fmt.Errorf("reading the %s: %w", s.name, err)
	}
	n := len(r.plan.columns)
	st := &stream{side: s.name, plan: r.plan, rows: rows, values: make([]sql.RawBytes, n), into: make([]any, n)}
	st.key, st.before = make([][]byte, len(r.plan.key)), make([][]byte, len(r.plan.key))
	for i := range st.values {
		st.into[i] = &st.values[i]
	}
	err = st.next()
	return st, err
}

func (s *stream) close() {
	if s != nil {
		s.rows.Close()
	}
}

// next goes to the next row and makes sure that the server's order is ours:
// otherwise rows would be called missing that are only elsewhere.
func (s *stream) next() error {
	if !s.rows.Next() {
		s.ended = true
		if err := s.rows.Err(); err != nil {
			return fmt.Errorf("reading the %s: %w", s.side, err)
		}
		return nil
	}
	if err := s.rows.Scan(s.into...); err != nil {
		return fmt.Errorf("reading the %s: %w", s.side, err)
	}
	s.before, s.key = s.key, s.before
	for i, k := range s.plan.key {
		s.key[i] = remember(s.key[i], s.values[k])
	}
	if s.read++; s.read == 1 {
		return nil
	}
	if order := s.plan.compareKeys(s.before, s.key); order > 0 || order == 0 && s.plan.unique {
		return fmt.Errorf("the %s gave row (%s) out of order", s.side, s.plan.showKey(s.values))
	}
	return nil
}

// remember copies a value over an older one, NULL as nil.
func remember(old, value []byte) []byte {
	if value == nil {
		return nil
	}
	if old == nil {
		old = []byte{}
	}
	return append(old[:0], value...)
}

func (p *plan) compareKeys(a, b [][]byte) int {
	for i, k := range p.key {
		if order := p.columns[k].compareValues(a[i], b[i]); order != 0 {
			return order
		}
	}
	return 0
}

// compareRange merges both sides' rows of a range.
func (c *comparison) compareRange(ctx context.Context, source, target *sql.Conn, r keyRange) error {
	var a, b *stream
	var opening errgroup.Group // both at once: a server may have to sort first
	opening.Go(func() (err error) { a, err = openStream(ctx, c.source, source, r.plan.source, r); return err })
	opening.Go(func() (err error) { b, err = openStream(ctx, c.target, target, r.plan.target, r); return err })
	err := opening.Wait()
	defer a.close()
	defer b.close()
	if err != nil {
		return err
	}
	if err := c.merge(r.plan, a, b); err != nil {
		return err
	}
	r.plan.sourceRead.Add(a.read)
	r.plan.targetRead.Add(b.read)
	return nil
}

func (c *comparison) merge(p *plan, a, b *stream) error {
	var equal, reported int64
	defer func() { p.equal.Add(equal) }()
	for !a.ended || !b.ended {
		var order int
		switch {
		case a.ended:
			order = 1
		case b.ended:
			order = -1
		default:
			order = p.compareKeys(a.key, b.key)
		}
		switch {
		case order < 0:
			c.differs(Difference{Table: p.source.String(), Kind: MissingOnTarget, Key: p.showKey(a.values)})
		case order > 0:
			c.differs(Difference{Table: p.source.String(), Kind: MissingOnSource, Key: p.showKey(b.values)})
		default:
			if columns := p.differing(a.values, b.values); columns != nil {
				c.differs(Difference{Table: p.source.String(), Kind: Differs, Key: p.showKey(a.values), Columns: columns})
			} else {
				equal++
			}
		}
		if order <= 0 {
			if err := a.next(); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := b.next(); err != nil {
				return err
			}
		}
		if c.options.OnProgress != nil && (a.read-reported >= 1000 || a.ended) {
			c.options.OnProgress(c.done.Add(a.read-reported), c.total.Load())
			reported = a.read
		}
	}
	return nil
}

// differing compares two rows column by column.
func (p *plan) differing(a, b []sql.RawBytes) []ColumnDifference {
	var found []ColumnDifference
	for i, c := range p.columns {
		if (a[i] == nil) != (b[i] == nil) || !bytes.Equal(a[i], b[i]) {
			found = append(found, ColumnDifference{Name: c.name, Source: c.show(a[i]), Target: c.show(b[i])})
		}
	}
	return found
}

func (p *plan) showKey(values []sql.RawBytes) string {
	parts := make([]string, len(p.key))
	for i, k := range p.key {
		parts[i] = p.columns[k].name + "=" + p.columns[k].show(values[k])
	}
	return strings.Join(parts, ", ")
}
