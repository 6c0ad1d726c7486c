package ghostferry

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// rowDigestAlias names the digest of a row in a host's query.
const rowDigestAlias = "__ghostferry_row_digest"

// filteredPage is how many rows of a host's query are compared at once.
const filteredPage = 2000

// filterOf is the filter whose query says which rows of a table are compared; nil: all,
// or those that every statement is about.
func (c *comparer) filterOf(f *fingerprint) CopyFilter {
	if f.layout.scope != nil {
		return nil
	}
	return c.filter
}

// walkFiltered compares the rows that the filter's query selects on both servers, page
// by page. Which rows of the target belong to the move is asked of the same query, made
// for the target's table: the filter is given a table with the target's names.
//
// A table is walked by one worker. An interrupted walk begins again at the range's
// beginning.
func (c *comparer) walkFiltered(ctx context.Context, w *tableWalk, worker *passWorker) error {
	for {
		w.mu.Lock()
		if len(w.mu.ranges) == 0 {
			w.mu.claimed = true
			w.endLocked()
			w.mu.Unlock()
			return nil
		}
		chunk := w.claimedLocked(&walkedChunk{keyRange: w.mu.ranges[0]})
		w.mu.ranges = w.mu.ranges[1:]
		w.mu.Unlock()
		started, held := time.Now(), worker.held
		if err := c.compareFiltered(ctx, w, chunk.keyRange, worker); err != nil {
			return err
		}
		c.tookTime(w.f, time.Since(started)-(worker.held-held))
		w.done(chunk, 0, 0)
	}
}

// compareFiltered compares a range page by page, until the query has no row any more: a page that
// is short says nothing, see [CopyFilter].
func (c *comparer) compareFiltered(ctx context.Context, w *tableWalk, r keyRange, worker *passWorker) error {
	targetTable := c.onTarget(w.f.table)
	for {
		if err := worker.throttle(ctx); err != nil {
			return err
		}
		source, last, err := c.filteredRows(ctx, w.f, c.servers.source, w.f.table, r, filteredPage)
		if err != nil {
			return err
		}
		page := r // behind the source's last row: what only the target has
		if last != nil {
			page.high = last
		}
		target, err := c.filteredUpTo(ctx, w.f, targetTable, page)
		if err != nil {
			return err
		}
		equal := source.digest.equals(target.digest)
		c.count(w, source.digest, target.digest, equal)
		if !equal {
			c.queue.add(w.f, differingKeys(source.byKey(), target.byKey())...)
		}
		if last == nil {
			return nil
		}
		r.low = last
	}
}

// onTarget is a table with the names that it has on the target.
func (c *comparer) onTarget(t *TableSchema) *TableSchema {
	renamed := *t.Table
	renamed.Schema, renamed.Name = c.names.table(t.Schema, t.Name)
	return &TableSchema{
		Table: &renamed, PaginationKeyColumn: t.PaginationKeyColumn, PaginationKeyIndex: t.PaginationKeyIndex,
		columnInfos: t.columnInfos, indexInfos: t.indexInfos, keyColumns: t.keyColumns, keyIndexName: t.keyIndexName,
	}
}

// filteredUpTo reads every selected row of a range of the target.
func (c *comparer) filteredUpTo(ctx context.Context, f *fingerprint, table *TableSchema, r keyRange) (*selectedRows, error) {
	all := &selectedRows{}
	for {
		page, last, err := c.filteredRows(ctx, f, c.servers.target, table, r, filteredPage)
		if err != nil {
			return nil, err
		}
		all.keys, all.digests = append(all.keys, page.keys...), append(all.digests, page.digests...)
		if last == nil || slices.EqualFunc(last, r.high, bytes.Equal) {
			all.digest = chunkDigestOf(uint64(len(all.keys)), all.digests)
			return all, nil
		}
		r.low = last
	}
}

// selectedRows are keys and digests of rows, in the order of the query.
type selectedRows struct {
	keys    []string
	digests []byte
	digest  chunkDigest
}

func (s *selectedRows) byKey() map[string]string {
	rows := make(map[string]string, len(s.keys))
	for i, key := range s.keys {
		rows[key] = string(s.digests[digestSize*i : digestSize*(i+1)])
	}
	return rows
}

// filteredRows runs the filter's query for the rows after the range's beginning. The key is that of
// the last of them, nil when there is none.
func (c *comparer) filteredRows(ctx context.Context, f *fingerprint, reader *fingerprintReader, table *TableSchema, r keyRange, size int) (*selectedRows, keyTuple, error) {
	last := f.layout.belowAll(table)
	if r.low != nil {
		last = f.layout.paginationKey(table, r.low)
	}
	builder, err := c.filter.BuildSelect(f.layout.selectColumns(f, noLeaves), table, last, uint64(size))
	if err != nil {
		return nil, nil, reader.failed(f, err)
	}
	if r.high != nil {
		builder = builder.Where(squirrel.Expr(strings.ReplaceAll(string(f.layout.appendUpTo(nil, r.high)), "?", "??")))
	}
	query, args, err := builder.ToSql()
	if err != nil {
		return nil, nil, reader.failed(f, err)
	}
	rows := &selectedRows{}
	err = reader.read(ctx, func(s querySession, suffix string) error {
		rows.keys, rows.digests = nil, nil
		return queryWith(ctx, s, query+suffix, args, func(names []string, values []driver.Value) error {
			return rows.add(f, names, values)
		})
	})
	n := len(rows.keys)
	if err != nil || n == 0 {
		rows.digest = chunkDigestOf(0, nil)
		return rows, nil, reader.failed(f, err)
	}
	rows.digest = chunkDigestOf(uint64(n), rows.digests)
	end, err := f.layout.endOfPage(table, r.low, n, func(i int) keyTuple { return f.splitKey(rows.keys[i]) })
	if err != nil {
		err = fmt.Errorf("the copy filter's query: %w", err)
	}
	return rows, end, reader.failed(f, err)
}

func (s *selectedRows) add(f *fingerprint, names []string, values []driver.Value) error {
	at := func(name string) (driver.Value, error) {
		for i := range names {
			if strings.EqualFold(names[i], name) {
				return values[i], nil
			}
		}
		return nil, fmt.Errorf("the copy filter's query for %s does not select %s", f.table, name)
	}
	var key []byte
	for _, k := range f.layout.keys {
		value, err := at(f.layout.columns[k].Name)
		if err != nil {
			return err
		}
		part, err := f.layout.columns[k].AppendDriver([]byte{}, value)
		if err != nil {
			return err
		}
		key = codec.AppendKeyPart(key, part)
	}
	digest, err := at(rowDigestAlias)
	if err != nil {
		return err
	}
	own, _ := digest.([]byte)
	compressed := make([]driver.Value, len(f.compressed))
	for i, column := range f.compressed {
		if compressed[i], err = at(f.layout.columns[column].Name); err != nil {
			return err
		}
	}
	whole, err := f.combine(own, compressed)
	if err != nil {
		return err
	}
	if len(whole) != digestSize {
		whole = make([]byte, digestSize) // a row without a digest: of no row of the source
	}
	s.keys, s.digests = append(s.keys, string(key)), append(s.digests, whole...)
	return nil
}

// queryWith runs a query with arguments and calls row for each row.
func queryWith(ctx context.Context, s querySession, query string, args []any, row func(names []string, values []driver.Value) error) error {
	own, ok := s.(*session)
	if !ok {
		return fmt.Errorf("a query with arguments needs a session, not %T", s)
	}
	rows, err := own.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, row)
}

// inScope takes away what the filter says is not part of the move: the row of the
// source, that of the target, or both.
func (c *comparer) inScope(ctx context.Context, f *fingerprint, seen observation) (observation, error) {
	for _, side := range []struct {
		reader *fingerprintReader
		digest *string
	}{{c.servers.source, &seen.source}, {c.servers.target, &seen.target}} {
		if *side.digest == "" {
			continue
		}
		applicable, err := side.reader.applicable(ctx, f, seen.key, c.filter)
		if err != nil {
			return seen, err
		}
		if !applicable {
			*side.digest = ""
		}
	}
	return seen, nil
}

// applicable asks the filter whether the row with a key belongs to the move.
func (r *fingerprintReader) applicable(ctx context.Context, f *fingerprint, key string, filter CopyFilter) (bool, error) {
	rows := codec.NewRows(len(f.layout.columns), 1, 256)
	err := r.reading(ctx, f, func(s querySession, suffix string) error {
		rows = codec.NewRows(len(f.layout.columns), 1, 256)
		stmt := append(s.statement(), "SELECT "+f.layout.selectList+" FROM "+r.tableName(f.table)+r.keyHint(f)+" WHERE "...)
		stmt = append(f.appendKeys(stmt, []string{key}), suffix...)
		return s.query(ctx, stmt, func(values []driver.Value) error {
			for i := range values {
				if err := rows.AddDriver(&f.layout.columns[i], values[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return false, r.failed(f, err)
	}
	for _, ev := range eventsOfRows(&rowEvent{table: f.table, layout: f.layout}, rows, insertRows) {
		applicable, err := filter.ApplicableEvent(ev)
		if err != nil || applicable {
			return applicable, r.failed(f, err)
		}
	}
	return false, nil
}
