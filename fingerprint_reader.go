package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// digestSize is the size of a row's digest in bytes: SHA-256.
	digestSize = 32
	// digestMemory is the group_concat_max_len of verification sessions, the bytes of row
	// digests that one statement may gather: those of half a million rows.
	digestMemory = 16 << 20
	// noDigest stands for the digest of a row of the target that has none.
	noDigest = "none"
	// fingerprintAttempts is how often a read is tried when the reason may pass.
	fingerprintAttempts = 10
)

// fingerprintReader reads digests of rows from one of the two servers. The servers
// compute them, over every column, so that rows themselves do not travel. It is safe
// for concurrent use.
type fingerprintReader struct {
	side string // "source" or "target", for errors
	// lenient gives a row without a digest the digest noDigest, which no row of the
	// source has, instead of failing: a NULL where the source's column cannot have one.
	lenient bool
	// read runs f on a session that sees everything it has to see; f may run again.
	// suffix is what a SELECT needs at its end.
	read func(ctx context.Context, f func(s *session, suffix string) error) error
	// tableName returns the quoted name of a table on this server.
	tableName func(t *TableSchema) string
	close     func()
}

// newSourceFingerprints reads through the barrier of the reader's gate. It uses
// sessions of its own.
func newSourceFingerprints(db *sql.DB, srv *server.Server, g *gate) (*fingerprintReader, *sourceReader) {
	reader := newSourceReader(db, srv, g)
	reader.pool.open = withDigestMemory(reader.pool.open)
	return &fingerprintReader{
		side: "source",
		read: func(ctx context.Context, f func(s *session, suffix string) error) error {
			return retryRead(ctx, func(ctx context.Context) error { return reader.read(ctx, g.mark(), f) })
		},
		tableName: QuotedTableName,
		close:     reader.close,
	}, reader
}

// newTargetFingerprints reads what is committed on the target.
func newTargetFingerprints(db *sql.DB, srv *server.Server, names rewrites) *fingerprintReader {
	pool := &sessionPool{open: withDigestMemory(func(ctx context.Context) (*session, error) {
		return openSession(ctx, db, srv, server.Target)
	})}
	return &fingerprintReader{
		side: "target", lenient: true,
		read: func(ctx context.Context, f func(s *session, suffix string) error) error {
			return retryRead(ctx, func(ctx context.Context) error {
				s, err := pool.get(ctx)
				if err != nil {
					return err
				}
				if err := f(s, ""); err != nil {
					s.discard()
					return err
				}
				pool.put(s)
				return nil
			})
		},
		tableName: func(t *TableSchema) string { return QuotedTableNameFromString(names.table(t.Schema, t.Name)) },
		close:     pool.close,
	}
}

// withDigestMemory lets the sessions gather the digests of a whole chunk in one value.
func withDigestMemory(open func(ctx context.Context) (*session, error)) func(ctx context.Context) (*session, error) {
	return func(ctx context.Context) (*session, error) {
		s, err := open(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := s.execText(ctx, "SET SESSION group_concat_max_len="+strconv.Itoa(digestMemory)); err != nil {
			s.discard()
			return nil, fmt.Errorf("setting up a session for digests: %w", err)
		}
		return s, nil
	}
}

// retryRead repeats a read that failed for a passing reason; reads may always be repeated.
func retryRead(ctx context.Context, f func(ctx context.Context) error) error {
	policy := retry.Policy{Attempts: fingerprintAttempts, First: 20 * time.Millisecond, Max: 5 * time.Second}
	passing := func(err error) bool {
		return ctx.Err() == nil && mysqlerr.Retryable(mysqlerr.Classify(err))
	}
	return retry.Do(ctx, policy, passing, nil, f)
}

// fingerprint is how the rows of one table are digested. Immutable.
type fingerprint struct {
	table  *TableSchema
	layout *tableLayout
	row    string // expression: the digest of a row, 32 bytes
	hint   string
}

func newFingerprint(t *TableSchema) (*fingerprint, error) {
	l, err := t.layout()
	if err != nil {
		return nil, err
	}
	f := &fingerprint{table: t, layout: l, row: rowDigestExpr(t, l), hint: l.forceKeyIndex()}
	if t.ForcedIndexForVerification != "" {
		f.hint = " FORCE INDEX (" + QuoteField(t.ForcedIndexForVerification) + ")"
	}
	return f, nil
}

// rowDigestExpr returns the expression of a row's digest: SHA-256 over all columns,
// generated ones included, ignored ones left out unless they are part of the key. Each
// value is framed so that no other row has the same bytes:
//
//   - numbers and temporal values are their text and a comma, which is in none of them;
//   - strings are their length in bytes, a colon and the bytes as they are stored;
//   - text and blob objects, JSON and geometry are the SHA-256 of their bytes, so that a
//     row never exceeds what the server can concatenate (max_allowed_packet);
//   - NULL is the letter N, with which nothing else begins.
//
// It relies on the session's settings: time zone UTC, no PAD_CHAR_TO_FULL_LENGTH.
func rowDigestExpr(t *TableSchema, l *tableLayout) string {
	key := make(map[int]bool, len(l.keys))
	for _, i := range l.keys {
		key[i] = true
	}
	// CONCAT converts to one character set, but only when there are several: then every
	// string is made binary first.
	charsets := map[string]bool{}
	for i := range l.columns {
		if c := &l.columns[i]; c.Kind == codec.Text && !c.Object {
			charsets[c.Charset] = true
		}
	}
	var terms []string
	for i := range l.columns {
		if _, ignored := t.IgnoredColumnsForVerification[l.columns[i].Name]; ignored && !key[i] {
			continue
		}
		terms = append(terms, columnDigestTerm(t, l, i, len(charsets) > 1))
	}
	return "UNHEX(SHA2(CONCAT(" + strings.Join(terms, ",") + "),256))"
}

func columnDigestTerm(t *TableSchema, l *tableLayout, i int, binary bool) string {
	c := &l.columns[i]
	name := QuoteField(c.Name)
	value, end := name, ",','"
	switch c.Kind {
	case codec.Int, codec.Uint, codec.Double:
		if strings.Contains(strings.ToLower(t.columnInfo(i).ColumnType), "zerofill") {
			value = name + "+0" // the zeros are a matter of display
		}
	case codec.Float:
		value = c.SelectExpr(name)
	case codec.Bit, codec.Enum, codec.Set:
		value = "CAST(" + name + " AS UNSIGNED)"
	case codec.Text, codec.Binary, codec.JSON, codec.Geometry:
		if c.Object {
			value = "SHA2(" + name + ",256)"
			break
		}
		framed := name
		if binary && c.Kind == codec.Text {
			framed = "CONVERT(" + name + " USING binary)"
		}
		value, end = "LENGTH("+name+"),':',"+framed, ""
		if c.Nullable {
			value = "CONCAT(" + value + ")"
		}
	}
	if c.Nullable {
		value = "COALESCE(" + value + ",'N')"
	}
	return value + end
}

// chunkDigest is the digest of the rows of a range.
type chunkDigest struct {
	rows uint64
	sum  string // SHA-256 of the rows' digests in key order; empty when there are no rows
	// usable is false when the server could not hold the digests of that many rows in
	// one value; then sum says nothing.
	usable bool
}

// equals reports that both sides certainly have the same rows.
func (d chunkDigest) equals(other chunkDigest) bool { return d.usable && d == other }

// chunk digests the rows of a range in one statement. The order of the rows is the
// index's; should a server choose another one, equal rows only look different.
func (r *fingerprintReader) chunk(ctx context.Context, f *fingerprint, keys keyRange) (chunkDigest, error) {
	var digest chunkDigest
	err := r.read(ctx, func(s *session, suffix string) error {
		stmt := append(s.statement(), "SELECT n,LENGTH(g),SHA2(g,256) FROM (SELECT COUNT(*) AS n,GROUP_CONCAT("...)
		stmt = append(append(stmt, f.row...), " SEPARATOR '') AS g FROM "...)
		stmt = append(append(append(stmt, r.tableName(f.table)...), f.hint...), " WHERE "...)
		stmt = append(f.layout.appendRange(stmt, keys), suffix...)
		stmt = append(stmt, ") AS d"...)
		return s.query(ctx, stmt, func(values []driver.Value) (err error) {
			digest, err = chunkDigestOf(values)
			return err
		})
	})
	return digest, r.failed(f, err)
}

func chunkDigestOf(values []driver.Value) (d chunkDigest, err error) {
	row := make(RowData, len(values))
	for i, v := range values {
		row[i] = v
	}
	if d.rows, err = row.GetUint64(0); err != nil {
		return d, err
	}
	if d.rows == 0 {
		d.usable = true
		return d, nil
	}
	var length uint64
	if row[1] != nil { // NULL when no digest fits
		if length, err = row.GetUint64(1); err != nil {
			return d, err
		}
	}
	d.usable = length == digestSize*d.rows
	if sum, ok := values[2].([]byte); ok && d.usable {
		d.sum = string(sum)
	}
	return d, nil
}

// rows returns the digests of the rows of a range by encoded key.
func (r *fingerprintReader) rows(ctx context.Context, f *fingerprint, keys keyRange) (map[string]string, error) {
	return r.digests(ctx, f, func(stmt []byte) []byte { return f.layout.appendRange(stmt, keys) })
}

// keys returns the digests of the rows that have one of the encoded keys, in the
// server's sense, by their own encoded key.
func (r *fingerprintReader) keys(ctx context.Context, f *fingerprint, keys []string) (map[string]string, error) {
	return r.digests(ctx, f, func(stmt []byte) []byte {
		stmt, _ = f.layout.appendKeyList(stmt, len(keys), 0, func(i int) keyTuple { return f.splitKey(keys[i]) })
		return stmt
	})
}

func (r *fingerprintReader) digests(ctx context.Context, f *fingerprint, where func(stmt []byte) []byte) (map[string]string, error) {
	var found map[string]string
	err := r.read(ctx, func(s *session, suffix string) error {
		found = map[string]string{}
		stmt := append(s.statement(), "SELECT "...)
		stmt = append(append(stmt, f.row...), ","+f.layout.keySelectList()+" FROM "+r.tableName(f.table)+f.hint+" WHERE "...)
		stmt = append(where(stmt), suffix...)
		return s.query(ctx, stmt, func(values []driver.Value) error {
			digest, ok := values[0].([]byte)
			if !ok && !r.lenient {
				return errors.New("a row has no digest: it is larger than max_allowed_packet allows; raise that variable")
			}
			var key []byte
			for i, k := range f.layout.keys {
				part, err := f.layout.columns[k].AppendDriver([]byte{}, values[1+i])
				if err != nil {
					return err
				}
				key = codec.AppendKeyPart(key, part)
			}
			found[string(key)] = string(digest)
			if !ok {
				found[string(key)] = noDigest
			}
			return nil
		})
	})
	return found, r.failed(f, err)
}

// keyAt returns the key of the row that is n rows after the beginning of a range, nil
// when the range has fewer.
func (r *fingerprintReader) keyAt(ctx context.Context, f *fingerprint, keys keyRange, n int) (keyTuple, error) {
	var key keyTuple
	err := r.read(ctx, func(s *session, _ string) (err error) {
		stmt := append(s.statement(), "SELECT "+f.layout.keySelectList()+" FROM "+r.tableName(f.table)+f.layout.forceKeyIndex()+" WHERE "...)
		stmt = f.layout.appendRange(stmt, keys)
		stmt = append(stmt, " ORDER BY "+f.layout.keyOrder(false)+" LIMIT 1 OFFSET "+strconv.Itoa(n-1)...)
		key, err = f.layout.queryKey(ctx, s, stmt)
		return err
	})
	return key, r.failed(f, err)
}

func (r *fingerprintReader) failed(f *fingerprint, err error) error {
	if err == nil {
		return nil
	}
	return &TableError{Schema: f.table.Schema, Table: f.table.Name, Err: fmt.Errorf("reading digests on the %s: %w", r.side, err)}
}

// splitKey is the inverse of an encoded key.
func (f *fingerprint) splitKey(key string) keyTuple {
	return codec.SplitKey([]byte(key), len(f.layout.keys))
}

// encodeKey is the inverse of splitKey.
func (f *fingerprint) encodeKey(key keyTuple) string {
	var encoded []byte
	for _, part := range key {
		encoded = codec.AppendKeyPart(encoded, part)
	}
	return string(encoded)
}
