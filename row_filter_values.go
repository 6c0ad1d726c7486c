package ghostferry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// scopeValue returns a host's value in the canonical form of a column. What could not
// be compared exactly is refused.
func scopeValue(ctx context.Context, c *codec.Column, v any, server *collationRules) ([]byte, error) {
	switch c.Kind {
	case codec.Int, codec.Uint:
		return scopeInteger(v)
	case codec.Binary:
		return scopeBinary(c, v)
	case codec.Text:
		switch x := v.(type) {
		case []byte:
			return append([]byte{}, x...), nil
		case string:
			return scopeText(ctx, c, x, server)
		}
		return nil, fmt.Errorf("the column holds character strings: %v is a %T, give a string", v, v)
	}
	return nil, fmt.Errorf("only columns of integers, character strings and binary strings can be filtered by")
}

func scopeInteger(v any) ([]byte, error) {
	switch x := v.(type) {
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Appendf(nil, "%d", x), nil
	case float64: // what JSON makes of a number
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return strconv.AppendInt(nil, int64(x), 10), nil
		}
		return nil, fmt.Errorf("%v is not an integer, or too large to be exact: write it as text", x)
	case json.Number:
		return scopeInteger(string(x))
	case string:
		if n, err := strconv.ParseInt(x, 10, 64); err == nil {
			return strconv.AppendInt(nil, n, 10), nil
		}
		if n, err := strconv.ParseUint(x, 10, 64); err == nil {
			return strconv.AppendUint(nil, n, 10), nil
		}
		return nil, fmt.Errorf("the column holds integers, and %q is none", x)
	}
	return nil, fmt.Errorf("the column holds integers, and %v is a %T", v, v)
}

func scopeBinary(c *codec.Column, v any) ([]byte, error) {
	var value []byte
	switch x := v.(type) {
	case []byte:
		value = append([]byte{}, x...)
	case string:
		value = []byte(x)
		if uuid, ok := parseUUID(x); ok && c.FixedLen == len(uuid) {
			value = uuid
		} else if digits, ok := strings.CutPrefix(x, "0x"); ok {
			if decoded, err := hex.DecodeString(digits); err == nil {
				value = decoded
			}
		}
	default:
		return nil, fmt.Errorf("the column holds binary strings: %v is a %T, give []byte or hexadecimal text with 0x in front", v, v)
	}
	if c.FixedLen > 0 && len(value) > c.FixedLen {
		return nil, fmt.Errorf("a value of %d bytes is longer than the column's %d", len(value), c.FixedLen)
	}
	for len(value) < c.FixedLen {
		value = append(value, 0)
	}
	return value, nil
}

// parseUUID reads the usual text of a UUID, in either case.
func parseUUID(text string) ([]byte, bool) {
	parts := strings.Split(text, "-")
	if len(parts) != 5 {
		return nil, false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n {
			return nil, false
		}
	}
	uuid, err := hex.DecodeString(strings.Join(parts, ""))
	return uuid, err == nil
}

// scopeText converts text to a column's character set.
func scopeText(ctx context.Context, c *codec.Column, text string, server *collationRules) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("the text is not UTF-8: give []byte in the column's character set")
	}
	if c.Charset == "utf8mb4" {
		return []byte(text), nil
	}
	if server == nil {
		return nil, fmt.Errorf("only the server can convert text to character set %s: give []byte", c.Charset)
	}
	return server.convert(ctx, c.Charset, text)
}

// maxKnownStrings bounds what is remembered of a collated column: usually a few tenants.
const maxKnownStrings = 10000

// collationRules asks a server which strings are equal under a column's collation, and
// remembers the answers. It is safe for concurrent use.
type collationRules struct {
	db       *sql.DB
	patience *patience
	column   *codec.Column
	values   [][]byte

	mu struct {
		sync.Mutex
		known map[string]bool
	}
}

// of returns the rules of a column.
func (r *collationRules) of(c *codec.Column) *collationRules {
	return &collationRules{db: r.db, patience: r.patience, column: c}
}

// allow reports whether a string is equal to one of the values.
func (r *collationRules) allow(ctx context.Context, value []byte) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if equal, ok := r.mu.known[string(value)]; ok {
		return equal, nil
	}
	query := r.column.AppendCompared([]byte("SELECT "), value)
	query = append(query, " COLLATE "+r.column.Collation+" IN ("...)
	for i, v := range r.values {
		if i > 0 {
			query = append(query, ',')
		}
		query = r.column.AppendCompared(query, v)
	}
	query = append(query, ')')
	var equal bool
	err := r.patience.do(ctx, 1, func(ctx context.Context, _ int) error {
		return r.db.QueryRowContext(ctx, string(query)).Scan(&equal)
	})
	if err != nil {
		return false, fmt.Errorf("asking the source which strings are equal in column `%s`: %w", r.column.Name, err)
	}
	if r.mu.known == nil || len(r.mu.known) >= maxKnownStrings {
		r.mu.known = map[string]bool{}
	}
	r.mu.known[string(value)] = equal
	return equal, nil
}

// convert returns text in a character set that may lack some of its characters.
func (r *collationRules) convert(ctx context.Context, charset, text string) ([]byte, error) {
	literal := fmt.Sprintf("_utf8mb4 X'%x'", text)
	converted := "CONVERT(" + literal + " USING " + charset + ")"
	var digits, back string
	err := r.patience.do(ctx, 1, func(ctx context.Context, _ int) error {
		return r.db.QueryRowContext(ctx, "SELECT HEX("+converted+"), HEX(CONVERT("+converted+" USING utf8mb4))").Scan(&digits, &back)
	})
	if err != nil {
		return nil, fmt.Errorf("converting to character set %s: %w", charset, err)
	}
	if !strings.EqualFold(back, fmt.Sprintf("%x", text)) {
		return nil, fmt.Errorf("character set %s lacks a character of the value", charset)
	}
	return hex.DecodeString(digits)
}
