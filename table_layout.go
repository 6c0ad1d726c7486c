package ghostferry

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// tableLayout is what the engine needs to know of a table to carry its rows: derived
// once from the schema, immutable.
type tableLayout struct {
	columns  []codec.Column
	writable []int // columns that are not generated
	keys     []int // columns of the pagination key
	keyIndex string

	// secondaryUnique is true when an index other than the key's is unique: then a row
	// can be refused because of another row's value.
	secondaryUnique bool
	// replaced: a changed row is deleted and inserted, because an upsert would not do: of
	// another row's unique value, or of a JSON value that the server takes for equal
	// ({"n": 1} and {"n": 1.0}) and therefore does not store.
	replaced bool
	// scope is the rows that move; nil: all.
	scope *tableScope
	// keyBytes: equal canonical bytes are equal keys for the server, and the reverse.
	keyBytes bool
	// keyOrdered: Go can order keys as the server does.
	keyOrdered bool
	// integerKey: the key is one integer column, so that ranges can be computed.
	integerKey bool
	// numberedKey: one of several key columns is an ENUM or SET, given by its number.
	numberedKey bool
	// firstNumbers is how many numbers the first key column can have, when it is an ENUM or
	// SET of few; else 0 (appendFirstSide).
	firstNumbers int
	// mayBeLarge: a row can have more than largeRow bytes.
	mayBeLarge bool
	// updatable are the columns that can be set in rows that stay where they are.
	updatable columnSet

	all         []int  // every column
	selectList  string // canonical expressions of all columns
	enums       []int  // writable ENUM columns
	documents   []int  // JSON columns that are read with the types of their leaves
	columnNames string // quoted names of the writable columns
}

// layout returns the table's layout. It fails with the name of a column whose type
// cannot be carried.
func (t *TableSchema) layout() (*tableLayout, error) {
	if l := t.cachedLayout.Load(); l != nil {
		return l, nil
	}
	l, err := newTableLayout(t)
	if err != nil {
		return nil, &TableError{Schema: t.Schema, Table: t.Name, Err: err}
	}
	t.cachedLayout.Store(l)
	return l, nil
}

func newTableLayout(t *TableSchema) (*tableLayout, error) {
	l := &tableLayout{keys: t.keyColumnIndexes(), keyIndex: t.keyIndexName}
	for i := range t.Columns {
		c, err := codec.NewColumn(t.columnInfo(i))
		if err != nil {
			return nil, err
		}
		if !c.Generated {
			l.writable = append(l.writable, i)
		}
		if c.Kind == codec.JSON && t.leafTypes {
			c.Leaves = &codec.LeafTypes{}
			l.documents = append(l.documents, i)
		}
		l.all = append(l.all, i)
		l.columns = append(l.columns, c)
	}
	if len(l.keys) == 0 {
		return nil, &NoUsableKeyError{Schema: t.Schema, Table: t.Name}
	}
	l.mayBeLarge = t.longestRow(l.columns) > largeRow
	l.enums = enumColumns(l.columns)
	l.keyBytes, l.keyOrdered = true, true
	for _, k := range l.keys {
		l.keyBytes = l.keyBytes && l.columns[k].EqualByBytes()
		l.keyOrdered = l.keyOrdered && l.columns[k].OrderedInGo()
		kind := l.columns[k].Kind
		l.numberedKey = l.numberedKey || len(l.keys) > 1 && (kind == codec.Enum || kind == codec.Set)
	}
	l.firstNumbers = fewNumbers(&t.Columns[l.keys[0]])
	first := l.columns[l.keys[0]].Kind
	l.integerKey = len(l.keys) == 1 && (first == codec.Int || first == codec.Uint)
	l.secondaryUnique = t.hasUniqueBeside(l.keys)
	l.replaced = l.secondaryUnique
	for i := range l.columns {
		l.replaced = l.replaced || l.columns[i].Kind == codec.JSON
	}
	l.updatable = l.settable()
	var names, exprs []string
	for i := range l.columns {
		ident := sqlesc.Ident(l.columns[i].Name)
		exprs = append(exprs, l.columns[i].SelectExpr(ident))
		if !l.columns[i].Generated {
			names = append(names, ident)
		}
	}
	l.columnNames, l.selectList = strings.Join(names, ","), strings.Join(exprs, ",")
	return l, nil
}

// longestRow is how many bytes a row can have at most, as far as its columns tell.
func (t *TableSchema) longestRow(columns []codec.Column) (sum uint64) {
	const number = 66 // digits of the longest DECIMAL
	for i := range columns {
		length := uint64(0)
		if i < len(t.columnInfos) {
			length = t.columnInfos[i].OctetLength
		}
		if kind := columns[i].Kind; length == 0 && (kind == codec.JSON || kind == codec.Binary || kind == codec.Text) {
			length = 1 << 32 // documents, shapes, and what nothing is known of
		}
		sum += max(length, number)
	}
	return sum
}

// hasUniqueBeside reports whether a unique index other than the key's exists. Of a
// table that was not loaded from a server only index names are known: then any unique
// index beside the primary key counts.
func (t *TableSchema) hasUniqueBeside(keys []int) bool {
	for _, index := range t.indexInfos {
		if index.Unique && !index.isExactly(keys) {
			return true
		}
	}
	if len(t.indexInfos) == 0 {
		for _, index := range t.Indexes {
			if index.NoneUnique == 0 && index.Name != "PRIMARY" {
				return true
			}
		}
	}
	return false
}

// isExactly reports whether the index is over just these columns, whole: a unique index
// over a prefix of them keeps out more than equal keys.
func (i indexInfo) isExactly(columns []int) bool {
	if len(i.Columns) != len(columns) {
		return false
	}
	for at, c := range i.Columns {
		if i.SubParts[at] != 0 || !slices.Contains(columns, c) {
			return false
		}
	}
	return true
}

// columnInfo returns what the codec needs of a column: from information_schema when the
// table was loaded, else from the schema's own fields (a literal built by a host).
func (t *TableSchema) columnInfo(i int) codec.Info {
	if i < len(t.columnInfos) {
		c := t.columnInfos[i]
		return codec.Info{
			Name: c.Name, DataType: c.DataType, ColumnType: c.ColumnType, Charset: c.Charset, Collation: c.Collation,
			Unsigned: c.Unsigned, Nullable: c.Nullable, Generated: c.Generated,
			OctetLength: c.OctetLength, FractionalDigits: c.FractionalDigits,
		}
	}
	c := t.Columns[i]
	info := codec.Info{
		Name: c.Name, ColumnType: c.RawType, Collation: c.Collation, Nullable: true,
		Unsigned: c.IsUnsigned, Generated: c.IsVirtual || c.IsStored, OctetLength: uint64(c.MaxSize),
	}
	info.Charset, _, _ = strings.Cut(c.Collation, "_")
	info.DataType = strings.ToLower(strings.FieldsFunc(c.RawType+" ", func(r rune) bool { return r == '(' || r == ' ' })[0:1:1][0])
	switch info.DataType {
	case "time", "datetime", "timestamp":
		_, _ = fmt.Sscanf(c.RawType[len(info.DataType):], "(%d)", &info.FractionalDigits)
	}
	return info
}

// columnByName returns the index of a column, or -1.
func columnByName(columns []schema.TableColumn, name string) int {
	for i := range columns {
		if strings.EqualFold(columns[i].Name, name) {
			return i
		}
	}
	return -1
}

// keyTuple is the value of a pagination key: one canonical value per key column.
type keyTuple [][]byte

// keyOf copies the key of a row whose values are at cols of the row set.
func keyOf(rows *codec.Rows, row int, cols []int) keyTuple {
	key := make(keyTuple, len(cols))
	for i, c := range cols {
		key[i] = bytes.Clone(rows.Value(row, c))
	}
	return key
}

// compareKeys orders two keys as the server does; only for layouts with keyOrdered.
func (l *tableLayout) compareKeys(a, b keyTuple) int {
	for i, k := range l.keys {
		if n := l.columns[k].Compare(a[i], b[i]); n != 0 {
			return n
		}
	}
	return 0
}

// appendAfter appends a predicate that is true for keys after the tuple in the order
// of the key's index: (a > x OR (a = x AND b > y)). Row constructors would not use
// the index for ranges.
//
// It holds for every later key, also of a target whose ENUM has more members than the
// source's; appendBetween is for keys up to another one.
func (l *tableLayout) appendAfter(dst []byte, key keyTuple) []byte {
	return l.appendBound(dst, key, " > ", " > ", false)
}

// appendBetween appends a predicate that is true for keys after low and not after high.
func (l *tableLayout) appendBetween(dst []byte, low, high keyTuple) []byte {
	dst = append(l.appendBound(dst, low, " > ", " > ", l.firstNumbers > 0), " AND "...)
	return l.appendUpTo(dst, high)
}

// appendUpTo appends a predicate that is true for keys not after the tuple.
func (l *tableLayout) appendUpTo(dst []byte, key keyTuple) []byte {
	return l.appendBound(dst, key, " < ", " <= ", l.firstNumbers > 0)
}

func (l *tableLayout) appendBound(dst []byte, key keyTuple, strict, last string, listed bool) []byte {
	dst = append(dst, '(')
	for i := range l.keys {
		if i > 0 {
			dst = append(dst, " OR ("...)
			for j := range i {
				dst = append(l.appendKeyColumn(dst, j), " = "...)
				dst = append(l.appendKeyLiteral(dst, j, key[j]), " AND "...)
			}
		}
		op := strict
		if i == len(l.keys)-1 {
			op = last
		}
		if listed && i == 0 {
			dst = l.appendFirstSide(dst, op, key[i])
		} else {
			dst = append(l.appendKeyColumn(dst, i), op...)
			dst = l.appendKeyLiteral(dst, i, key[i])
		}
		if i > 0 {
			dst = append(dst, ')')
		}
	}
	return append(dst, ')')
}

// mostNumbers is how many numbers an ENUM or SET of one byte has.
const mostNumbers = 256

// fewNumbers returns how many numbers an ENUM (0 is what an invalid value is stored as) or
// SET has, 0 when they are too many to be listed or the column is of another type.
func fewNumbers(column *schema.TableColumn) int {
	enum, set := len(column.EnumValues), len(column.SetValues)
	switch {
	case column.Type == schema.TYPE_ENUM && 0 < enum && enum < mostNumbers:
		return enum + 1
	case column.Type == schema.TYPE_SET && 0 < set && 1<<min(set, 16) <= mostNumbers:
		return 1 << set
	}
	return 0
}

// appendFirstSide appends that the first key column is on a side of a value.
//
// No server reads a range of an index by an ENUM or SET that is less or greater than a
// number: the index is read from its beginning, for every chunk anew. A list of numbers is
// read by ranges (both measured on MySQL 9.7 and MariaDB 10.11). An empty list would be
// wrong there as well: what remains of the predicate lets the servers sort all rows of one
// value. So it holds a number that no row of either server has.
func (l *tableLayout) appendFirstSide(dst []byte, op string, v []byte) []byte {
	dst = l.appendKeyColumn(dst, 0)
	number, err := strconv.Atoi(string(v))
	if err != nil || number < 0 || number >= l.firstNumbers {
		return l.appendKeyLiteral(append(dst, op...), 0, v)
	}
	first, last := 0, number-1
	switch op {
	case " > ":
		first, last = number+1, l.firstNumbers-1
	case " <= ":
		last = number
	}
	if first > last {
		first, last = mostNumbers, mostNumbers
	}
	dst = append(dst, " IN ("...)
	for n := first; n <= last; n++ {
		if n > first {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	return append(dst, ')')
}

func (l *tableLayout) appendKeyColumn(dst []byte, i int) []byte {
	return append(dst, sqlesc.Ident(l.columns[l.keys[i]].Name)...)
}

func (l *tableLayout) appendKeyLiteral(dst []byte, i int, v []byte) []byte {
	return l.columns[l.keys[i]].AppendCompared(dst, v)
}

// appendKeyList appends a predicate that is true for the rows in scope with the first of
// n keys, as many as fit into a statement of maxBytes (0: all), and returns how many.
func (l *tableLayout) appendKeyList(dst []byte, n, maxBytes int, at func(i int) keyTuple) ([]byte, int) {
	dst, n = l.appendAnyKeys(dst, n, maxBytes, at)
	return l.appendInScope(dst), n
}

// appendInScope appends that a row is in scope, too, where that is not all rows.
func (l *tableLayout) appendInScope(dst []byte) []byte {
	if l.scope == nil {
		return dst
	}
	return append(append(dst, " AND "...), l.scope.predicate...)
}

// appendAnyKeys is appendKeyList for rows in scope or not: k IN (…).
//
// A list with unsigned values on both sides of 2^63 makes MariaDB scan the whole table
// (measured on 10.11): such values stand in a list of their own. A list of several
// tuples with a number for an ENUM or SET column finds nothing on MySQL (measured on
// 9.7): such keys are compared part by part.
func (l *tableLayout) appendAnyKeys(dst []byte, n, maxBytes int, at func(i int) keyTuple) ([]byte, int) {
	if l.numberedKey {
		return l.appendKeyAlternatives(dst, n, maxBytes, at)
	}
	names := l.keyNames()
	dst = append(append(append(dst, '('), names...), " IN ("...)
	wide := false
	i := 0
	for ; i < n && (i == 0 || maxBytes == 0 || len(dst) < maxBytes); i++ {
		key := at(i)
		if w := l.wide(key); i == 0 {
			wide = w
		} else if w != wide {
			wide = w
			dst = append(append(append(dst, ") OR "...), names...), " IN ("...)
		} else {
			dst = append(dst, ',')
		}
		dst = l.appendKeyTuple(dst, key)
	}
	return append(dst, "))"...), i
}

// appendKeyAlternatives is appendAnyKeys in the form ((a=1 AND b=2) OR (a=3 AND b=4)).
func (l *tableLayout) appendKeyAlternatives(dst []byte, n, maxBytes int, at func(i int) keyTuple) ([]byte, int) {
	dst = append(dst, '(')
	i := 0
	for ; i < n && (i == 0 || maxBytes == 0 || len(dst) < maxBytes); i++ {
		if i > 0 {
			dst = append(dst, " OR "...)
		}
		key := at(i)
		dst = append(dst, '(')
		for part := range l.keys {
			if part > 0 {
				dst = append(dst, " AND "...)
			}
			dst = append(l.appendKeyColumn(dst, part), '=')
			dst = l.appendKeyLiteral(dst, part, key[part])
		}
		dst = append(dst, ')')
	}
	return append(dst, ')'), i
}

// wide reports whether an unsigned part of the key does not fit a signed integer.
func (l *tableLayout) wide(key keyTuple) bool {
	const most = "9223372036854775807"
	for i, k := range l.keys {
		if l.columns[k].Kind == codec.Uint && len(key[i]) >= len(most) && (len(key[i]) > len(most) || string(key[i]) > most) {
			return true
		}
	}
	return false
}

// keyNames returns the key's columns: `k`, or (`a`,`b`) when there are several.
func (l *tableLayout) keyNames() string {
	names := make([]string, len(l.keys))
	for i, k := range l.keys {
		names[i] = l.columns[k].Name
	}
	if len(names) == 1 {
		return sqlesc.Ident(names[0])
	}
	return "(" + sqlesc.Idents(names) + ")"
}

func (l *tableLayout) appendKeyTuple(dst []byte, key keyTuple) []byte {
	if len(key) == 1 {
		return l.appendKeyLiteral(dst, 0, key[0])
	}
	dst = append(dst, '(')
	for i := range key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = l.appendKeyLiteral(dst, i, key[i])
	}
	return append(dst, ')')
}

// keyOrder returns the ORDER BY list of the key, descending when asked.
func (l *tableLayout) keyOrder(descending bool) string {
	var b strings.Builder
	for i, k := range l.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(sqlesc.Ident(l.columns[k].Name))
		if descending {
			b.WriteString(" DESC")
		}
	}
	return b.String()
}

// keyOrderOfRows is keyOrder in a query of selectColumns. What that reads by number is called as its
// column is, and ORDER BY means the number then: all rows would be sorted for each batch, and
// locked with those that are read. Hosts build on the query: other columns are named as always.
func (l *tableLayout) keyOrderOfRows(table *TableSchema) string {
	parts := make([]string, len(l.keys))
	for i, k := range l.keys {
		ident := sqlesc.Ident(l.columns[k].Name)
		parts[i] = ident
		if l.columns[k].SelectExpr(ident) != ident {
			parts[i] = QuotedTableName(table) + "." + ident
		}
	}
	return strings.Join(parts, ",")
}

// keySelectList returns the canonical expressions of the key's columns.
func (l *tableLayout) keySelectList() string {
	exprs := make([]string, len(l.keys))
	for i, k := range l.keys {
		exprs[i] = l.columns[k].SelectExpr(sqlesc.Ident(l.columns[k].Name))
	}
	return strings.Join(exprs, ",")
}

// keyOfValues is the key that a query of keySelectList returned.
func (l *tableLayout) keyOfValues(values []driver.Value) (keyTuple, error) {
	key := make(keyTuple, len(l.keys))
	for i, k := range l.keys {
		v, err := l.columns[k].AppendDriver([]byte{}, values[i])
		if err != nil {
			return nil, err
		}
		key[i] = v
	}
	return key, nil
}

// forceKeyIndex is the hint that keeps range reads on the key's index.
func (l *tableLayout) forceKeyIndex() string {
	if l.keyIndex == "" {
		return ""
	}
	return " FORCE INDEX (" + sqlesc.Ident(l.keyIndex) + ")"
}

// forceRangeIndex is the hint by which a key range is read on the source: where only
// some rows are in scope, their own index.
func (l *tableLayout) forceRangeIndex() string {
	if l.scope != nil && l.scope.index != "" {
		return " FORCE INDEX (" + sqlesc.Ident(l.scope.index) + ")"
	}
	return l.forceKeyIndex()
}

// forceRangeIndexOnTarget is the same on the target, which may lack that index.
func (l *tableLayout) forceRangeIndexOnTarget() string {
	if l.scope != nil && l.scope.index != "" && !l.scope.onTarget.Load() {
		return ""
	}
	return l.forceRangeIndex()
}

// describeKey renders a key for messages.
func (l *tableLayout) describeKey(key keyTuple) string {
	if key == nil {
		return "(open)"
	}
	return string(l.appendKeyTuple(nil, key))
}
