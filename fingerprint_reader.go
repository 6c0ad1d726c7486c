package ghostferry

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
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
	// fingerprintAttempts is how often a read that collides with others is tried.
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
	read func(ctx context.Context, f func(s querySession, suffix string) error) error
	// tableName returns the quoted name of a table on this server.
	tableName func(t *TableSchema) string
	close     func()
}

// querySession is what a statement is read on: a session of our own, or a transaction
// of a host's.
type querySession interface {
	statement() []byte
	query(ctx context.Context, stmt []byte, row func(values []driver.Value) error) error
}

// newSourceFingerprints reads through the barrier of the reader's gate. It uses
// sessions of its own, and waits for a source that is away as long as p does.
func newSourceFingerprints(db *sql.DB, srv *server.Server, g *gate, p *patience) (*fingerprintReader, *sourceReader) {
	reader := newSourceReader(db, srv, g)
	reader.patience = p
	reader.pool.open = withDigestMemory(reader.pool.open)
	return &fingerprintReader{
		side: "source",
		read: func(ctx context.Context, f func(s querySession, suffix string) error) error {
			return p.do(ctx, fingerprintAttempts, func(ctx context.Context, _ int) error {
				return reader.read(ctx, g.mark(), func(s *session, suffix string) error { return f(s, suffix) })
			})
		},
		tableName: QuotedTableName,
		close:     reader.close,
	}, reader
}

// newTargetFingerprints reads what is committed on the target, and waits for it as p does.
func newTargetFingerprints(db *sql.DB, srv *server.Server, names rewrites, p *patience) *fingerprintReader {
	pool := &sessionPool{open: withDigestMemory(func(ctx context.Context) (*session, error) {
		return openSession(ctx, db, srv, server.Target)
	})}
	return &fingerprintReader{
		side: "target", lenient: true,
		read: func(ctx context.Context, f func(s querySession, suffix string) error) error {
			return p.do(ctx, fingerprintAttempts, func(ctx context.Context, _ int) error {
				s, err := pool.get(ctx)
				if err != nil {
					return err
				}
				if err := f(s, ""); err != nil {
					s.discard()
					return err
				}
				pool.put(ctx, s)
				return nil
			})
		},
		tableName: func(t *TableSchema) string { return QuotedTableNameFromString(names.table(t.Schema, t.Name)) },
		close:     pool.close,
	}
}

// inTransaction reads on one session, in its transaction.
func inTransaction(s querySession, quotedTable string) *fingerprintReader {
	return &fingerprintReader{
		side: "target", lenient: true,
		read:      func(_ context.Context, f func(s querySession, suffix string) error) error { return f(s, "") },
		tableName: func(*TableSchema) string { return quotedTable },
		close:     func() {},
	}
}

// digestSetup lets a session gather the digests of a whole chunk in one value, and wait for a
// table's definition at least as long as the creation of its indexes may, behind which it waits.
var digestSetup = "SET SESSION group_concat_max_len=" + strconv.Itoa(digestMemory) + ", lock_wait_timeout=CAST(GREATEST(@@lock_wait_timeout, 600) AS UNSIGNED)"

func withDigestMemory(open func(ctx context.Context) (*session, error)) func(ctx context.Context) (*session, error) {
	return func(ctx context.Context) (*session, error) {
		s, err := open(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := s.execText(ctx, digestSetup); err != nil {
			s.discard()
			return nil, fmt.Errorf("setting up a session for digests: %w", err)
		}
		return s, nil
	}
}

// fingerprint is how the rows of one table are digested. Immutable.
type fingerprint struct {
	table  *TableSchema
	layout *tableLayout
	row    string // expression: the digest of a row, 32 bytes
	hint   string // by keys
	forced bool   // hint is the host's choice, for ranges, too

	compared    []int          // columns that are compared
	ignored     []string       // those that are not
	compressed  []int          // those that are compared decompressed
	compression map[int]string // their algorithms
	columnExprs []string       // by place in compared: the digest of one column, NULL never
}

// newFingerprint digests rows as the table's settings say.
func newFingerprint(t *TableSchema) (*fingerprint, error) {
	return newFingerprintOf(t, t.IgnoredColumnsForVerification, t.CompressedColumnsForVerification)
}

// newFingerprintOf leaves the ignored columns out, unless they are part of the key, and
// decompresses others; the error names a column or algorithm that does not exist.
func newFingerprintOf(t *TableSchema, ignored map[string]struct{}, compressed map[string]string) (*fingerprint, error) {
	l, err := t.layout()
	if err != nil {
		return nil, err
	}
	f := &fingerprint{table: t, layout: l, hint: l.forceKeyIndex(), compression: map[int]string{}}
	if t.ForcedIndexForVerification != "" {
		f.hint, f.forced = " FORCE INDEX ("+QuoteField(t.ForcedIndexForVerification)+")", true
	}
	for _, name := range sortedNames(compressed) {
		i := columnByName(t.Columns, name)
		if i < 0 {
			return nil, &TableError{Schema: t.Schema, Table: t.Name, Err: fmt.Errorf("column %s, which is to be compared decompressed, does not exist", QuoteField(name))}
		}
		if err := checkCompression(t.Name, name, compressed[name]); err != nil {
			return nil, err
		}
		f.compression[i] = compressed[name]
	}
	for i := range l.columns {
		if _, out := ignored[l.columns[i].Name]; out && !slices.Contains(l.keys, i) {
			delete(f.compression, i)
			f.ignored = append(f.ignored, l.columns[i].Name)
			continue
		}
		f.compared = append(f.compared, i)
		if f.compression[i] != "" {
			f.compressed = append(f.compressed, i)
		}
	}
	f.row, f.columnExprs = f.digestExprs()
	return f, nil
}

// digestExprs returns the expression of a row's digest, and those of its columns alone:
// SHA-256 over all columns,
// generated ones included, ignored ones left out unless they are part of the key. Each
// value is framed so that no other row has the same bytes:
//
//   - numbers and temporal values are their text and a comma, which is in none of them;
//   - strings are their length in bytes, a colon and the bytes as they are stored;
//   - text and blob objects, JSON and geometry are the SHA-256 of their bytes, so that a
//     row never exceeds what the server can concatenate (max_allowed_packet); those of JSON
//     are its text, which does not tell the types of all leaves apart;
//   - NULL is the letter N, with which nothing else begins.
//
// It relies on the session's settings: time zone UTC, no PAD_CHAR_TO_FULL_LENGTH.
//
// Compressed columns are no part of the expression: their decompressed values are
// taken into the digest by [fingerprint.combine].
func (f *fingerprint) digestExprs() (row string, columns []string) {
	// CONCAT converts to one character set, but only when there are several, of which the
	// session's is one (MariaDB refuses to make another one of the digests of objects): unless
	// all strings have that one they are made binary first.
	other := false
	for i := range f.layout.columns {
		c := &f.layout.columns[i]
		other = other || c.Kind == codec.Text && !c.Object && c.Charset != connectionCharset
	}
	var terms []string
	for _, i := range f.compared {
		if f.compression[i] != "" {
			columns = append(columns, f.layout.columns[i].SelectExpr(QuoteField(f.layout.columns[i].Name)))
			continue
		}
		term := columnDigestTerm(f.table, f.layout, i, other)
		terms = append(terms, term)
		columns = append(columns, "UNHEX(SHA2(CONCAT("+term+"),256))")
	}
	return "UNHEX(SHA2(CONCAT(" + strings.Join(terms, ",") + "),256))", columns
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
	case codec.UUID, codec.Inet4, codec.Inet6:
		value = "CONCAT(" + name + ")" // COALESCE would make such a value of the letter N
	case codec.Text, codec.Binary, codec.JSON, codec.Geometry, codec.Vector:
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

// digestSum is the sum of digests as numbers modulo 2^256: it does not depend on the
// order in which rows are read, nor on how a table was cut into chunks.
type digestSum [4]uint64

func (s *digestSum) add(other *digestSum) {
	var carry uint64
	for i := range s {
		s[i], carry = bits.Add64(s[i], other[i], carry)
	}
}

// addDigest adds one digest of 32 bytes.
func (s *digestSum) addDigest(digest []byte) {
	var n digestSum
	for i := range n {
		n[i] = binary.LittleEndian.Uint64(digest[8*i:])
	}
	s.add(&n)
}

func (s *digestSum) bytes() []byte {
	var b []byte
	for _, part := range s {
		b = binary.LittleEndian.AppendUint64(b, part)
	}
	return b
}

// chunkDigest is the digest of the rows of a range.
type chunkDigest struct {
	rows  uint64
	sum   [digestSize]byte // SHA-256 of the rows' digests in key order
	total digestSum
	// usable is false when the server could not hold the digests of that many rows in
	// one value; then sum says nothing.
	usable bool
}

// equals reports that both sides certainly have the same rows.
func (d chunkDigest) equals(other chunkDigest) bool {
	return d.usable && other.usable && d.rows == other.rows && d.sum == other.sum
}

// chunkDigestOf is the digest of rows whose digests stand one after the other.
func chunkDigestOf(rows uint64, digests []byte) chunkDigest {
	d := chunkDigest{rows: rows, usable: uint64(len(digests)) == digestSize*rows, sum: sha256.Sum256(digests)}
	for i := 0; i+digestSize <= len(digests); i += digestSize {
		d.total.addDigest(digests[i : i+digestSize])
	}
	return d
}

// chunk digests the rows of a range in one statement. The order of the rows is the
// index's; should a server choose another one, equal rows only look different.
func (r *fingerprintReader) chunk(ctx context.Context, f *fingerprint, keys keyRange) (chunkDigest, error) {
	if len(f.compressed) > 0 {
		return r.decompressedChunk(ctx, f, keys)
	}
	var digest chunkDigest
	err := r.reading(ctx, f, func(s querySession, suffix string) error {
		stmt := append(s.statement(), "SELECT COUNT(*),GROUP_CONCAT("...)
		stmt = append(append(stmt, f.row...), " SEPARATOR '') FROM "...)
		stmt = append(append(append(stmt, r.tableName(f.table)...), r.rangeHint(f)...), " WHERE "...)
		stmt = append(f.layout.appendRange(stmt, keys), suffix...)
		return s.query(ctx, stmt, func(values []driver.Value) error {
			rows, err := RowData{values[0]}.GetUint64(0)
			if err != nil {
				return err
			}
			digests, _ := values[1].([]byte) // NULL when there is no row, or no digest fits
			digest = chunkDigestOf(rows, digests)
			return nil
		})
	})
	return digest, r.failed(f, err)
}

// decompressedChunk is chunk for rows with compressed columns, which have to travel.
func (r *fingerprintReader) decompressedChunk(ctx context.Context, f *fingerprint, keys keyRange) (chunkDigest, error) {
	var rows uint64
	var digests []byte
	err := r.scan(ctx, f, r.rangeHint, func(stmt []byte) []byte {
		return append(f.layout.appendRange(stmt, keys), " ORDER BY "+f.layout.keyOrder(false)...)
	}, func() { rows, digests = 0, nil }, func(_, digest string) {
		rows++
		digests = append(digests, digest...) // noDigest is shorter: the chunk is not usable
	})
	return chunkDigestOf(rows, digests), err
}

// rows returns the digests of the rows of a range by encoded key.
func (r *fingerprintReader) rows(ctx context.Context, f *fingerprint, keys keyRange) (map[string]string, error) {
	return r.digests(ctx, f, r.rangeHint, func(stmt []byte) []byte { return f.layout.appendRange(stmt, keys) })
}

// keys returns the digests of the rows that have one of the encoded keys, in the
// server's sense, by their own encoded key.
func (r *fingerprintReader) keys(ctx context.Context, f *fingerprint, keys []string) (map[string]string, error) {
	return r.digests(ctx, f, r.keyHint, func(stmt []byte) []byte { return f.appendKeys(stmt, keys) })
}

func (f *fingerprint) appendKeys(stmt []byte, keys []string) []byte {
	stmt, _ = f.layout.appendKeyList(stmt, len(keys), 0, func(i int) keyTuple { return f.splitKey(keys[i]) })
	return stmt
}

func (r *fingerprintReader) digests(ctx context.Context, f *fingerprint, hint func(f *fingerprint) string, where func(stmt []byte) []byte) (map[string]string, error) {
	var found map[string]string
	err := r.scan(ctx, f, hint, where, func() { found = map[string]string{} }, func(key, digest string) { found[key] = digest })
	return found, err
}

// scan reads keys and digests of rows. begin is called before the first row, again
// when the reading is repeated.
func (r *fingerprintReader) scan(ctx context.Context, f *fingerprint, hint func(f *fingerprint) string, where func(stmt []byte) []byte, begin func(), row func(key, digest string)) error {
	err := r.reading(ctx, f, func(s querySession, suffix string) error {
		begin()
		stmt := append(s.statement(), "SELECT "...)
		stmt = append(append(stmt, f.row...), ","+f.layout.keySelectList()...)
		for _, i := range f.compressed {
			stmt = append(append(stmt, ','), f.layout.columns[i].SelectExpr(QuoteField(f.layout.columns[i].Name))...)
		}
		stmt = append(stmt, " FROM "+r.tableName(f.table)+hint(f)+" WHERE "...)
		stmt = append(where(stmt), suffix...)
		return s.query(ctx, stmt, func(values []driver.Value) error {
			digest, ok := values[0].([]byte)
			if !ok && !r.lenient {
				return errors.New("a row has no digest: it is larger than max_allowed_packet allows; raise that variable")
			}
			key, err := f.scanKey(values[1:])
			if err != nil {
				return err
			}
			if !ok {
				row(key, noDigest)
				return nil
			}
			whole, err := f.combine(digest, values[1+len(f.layout.keys):])
			if err != nil {
				return err
			}
			row(key, string(whole))
			return nil
		})
	})
	return r.failed(f, err)
}

// scanKey encodes the key whose parts are the first values.
func (f *fingerprint) scanKey(values []driver.Value) (string, error) {
	var key []byte
	for i, k := range f.layout.keys {
		part, err := f.layout.columns[k].AppendDriver([]byte{}, values[i])
		if err != nil {
			return "", err
		}
		key = codec.AppendKeyPart(key, part)
	}
	return string(key), nil
}

// combine takes the decompressed values of the compressed columns into a row's digest.
func (f *fingerprint) combine(digest []byte, compressed []driver.Value) ([]byte, error) {
	if len(f.compressed) == 0 {
		return digest, nil
	}
	h := sha256.New()
	h.Write(digest)
	for at, i := range f.compressed {
		value, err := f.decompress(i, compressed[at])
		if err != nil {
			return nil, err
		}
		h.Write(value)
	}
	return h.Sum(nil), nil
}

// appendDigest appends the digest of a row of the source, given the server's part of it.
func (f *fingerprint) appendDigest(dst []byte, digest driver.Value, value func(column int) driver.Value) ([]byte, error) {
	own, ok := digest.([]byte)
	if !ok || len(own) != digestSize {
		return dst, errors.New("a row has no digest: it is larger than max_allowed_packet allows; raise that variable")
	}
	compressed := make([]driver.Value, len(f.compressed))
	for at, i := range f.compressed {
		compressed[at] = value(i)
	}
	whole, err := f.combine(own, compressed)
	return append(dst, whole...), err
}

// decompress returns the digest of a decompressed value, or the letter N for NULL.
func (f *fingerprint) decompress(column int, value driver.Value) ([]byte, error) {
	data, ok := value.([]byte)
	if !ok {
		if value == nil {
			return []byte("N"), nil
		}
		return nil, fmt.Errorf("column %s is compared decompressed but holds a %T", QuoteField(f.layout.columns[column].Name), value)
	}
	plain, err := decompress(f.table.Name, f.layout.columns[column].Name, f.compression[column], data)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(plain)
	return sum[:], nil
}

// columns returns the digest of each compared column of the row with the key, nothing
// when there is no such row.
func (r *fingerprintReader) columns(ctx context.Context, f *fingerprint, key string) ([]string, error) {
	var digests []string
	err := r.reading(ctx, f, func(s querySession, suffix string) error {
		digests = nil
		stmt := append(s.statement(), "SELECT "+strings.Join(f.columnExprs, ",")+" FROM "+r.tableName(f.table)+r.keyHint(f)+" WHERE "...)
		stmt = append(f.appendKeys(stmt, []string{key}), suffix...)
		return s.query(ctx, stmt, func(values []driver.Value) error {
			digests = make([]string, len(values))
			for at, value := range values {
				digest, _ := value.([]byte) // NULL only where the source's column has none
				if i := f.compared[at]; f.compression[i] != "" {
					var err error
					if digest, err = f.decompress(i, value); err != nil {
						return err
					}
				}
				digests[at] = string(digest)
			}
			return nil
		})
	})
	return digests, r.failed(f, err)
}

// keyAt returns the key of the row that is n rows after the beginning of a range, nil
// when the range has fewer.
func (r *fingerprintReader) keyAt(ctx context.Context, f *fingerprint, keys keyRange, n int) (keyTuple, error) {
	var key keyTuple
	err := r.reading(ctx, f, func(s querySession, _ string) (err error) {
		stmt := append(s.statement(), "SELECT "+f.layout.keySelectList()+" FROM "+r.tableName(f.table)+r.rangeHint(f)+" WHERE "...)
		stmt = f.layout.appendRange(stmt, keys)
		stmt = append(stmt, " ORDER BY "+f.layout.keyOrder(false)+" LIMIT 1 OFFSET "+strconv.Itoa(n-1)...)
		key, err = f.layout.queryKey(ctx, s, stmt)
		return err
	})
	return key, r.failed(f, err)
}

// reading is read for one table. The target may lack the index of a hint: it is owed, or has
// another name there. Then the table is read without it.
func (r *fingerprintReader) reading(ctx context.Context, f *fingerprint, do func(s querySession, suffix string) error) error {
	err := r.read(ctx, do)
	if r.side == "target" && mysqlerr.Number(err) == mysqlerr.NoSuchKey {
		f.table.unhinted.Store(true)
		err = r.read(ctx, do)
	}
	return err
}

// keyHint is the index by which rows are found by their keys.
func (r *fingerprintReader) keyHint(f *fingerprint) string {
	if r.side == "target" && f.table.unhinted.Load() {
		return ""
	}
	return f.hint
}

// rangeHint is the index by which ranges are read.
func (r *fingerprintReader) rangeHint(f *fingerprint) string {
	switch {
	case r.side == "target" && f.table.unhinted.Load():
		return ""
	case f.forced:
		return f.hint
	case r.side == "target":
		return f.layout.forceRangeIndexOnTarget()
	}
	return f.layout.forceRangeIndex()
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
