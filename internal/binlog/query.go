package binlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Query is a statement in the log with its default schema.
type Query struct {
	Schema string
	Text   string // in the session's character set: see ClientCollation
	mode   uint64 // the session's sql_mode
	vars   []byte // status variables, valid as long as the event's body
}

// ParseQuery reads a QUERY_EVENT: thread (4), seconds (4), schema length (1), error (2),
// length of the status variables (2), the variables, the schema, a zero byte, the text.
func ParseQuery(body []byte) (Query, error) { return parseQuery(body, 0) }

// ParseLoadQuery reads an EXECUTE_LOAD_QUERY_EVENT, the LOAD DATA of a session that logs
// statements: a QUERY_EVENT with 13 bytes about the file behind the fixed part.
func ParseLoadQuery(body []byte) (Query, error) { return parseQuery(body, 13) }

func parseQuery(body []byte, more int) (Query, error) {
	from, at, text, ok := queryParts(body, more)
	if !ok {
		return Query{}, errTruncated
	}
	q := Query{Schema: string(body[at : text-1]), Text: string(body[text:]), vars: body[from:at]}
	if mode := q.variable(varMode); mode != nil {
		q.mode = binary.LittleEndian.Uint64(mode)
	}
	return q, nil
}

// IsBegin reports whether a QUERY_EVENT is BEGIN, by far the most frequent.
func IsBegin(body []byte) bool {
	_, _, text, ok := queryParts(body, 0)
	return ok && string(body[text:]) == "BEGIN"
}

// queryParts are where the status variables, the schema's name, which a zero byte ends, and the
// statement begin, behind the fixed part of 13 bytes and more.
func queryParts(body []byte, more int) (vars, schema, text int, ok bool) {
	vars = 13 + more
	if len(body) < vars {
		return 0, 0, 0, false
	}
	schema = vars + int(binary.LittleEndian.Uint16(body[11:]))
	text = schema + int(body[8]) + 1
	return vars, schema, text, text <= len(body)
}

// Status variables of a QUERY_EVENT: a code and a value of fixed size, or sizes of its
// own; source: MySQL's documentation of Query_event. They come in this order.
const (
	varMode             = 1
	varCatalog          = 2
	varCharset          = 4
	varTimeZone         = 5
	varCatalogName      = 6
	varInvoker          = 11
	varUpdatedSchemas   = 12
	tooManySchemas      = 254
	clientCollationSize = 2
)

var variableSizes = map[byte]int{0: 4, varMode: 8, 3: 4, varCharset: 6, 7: 2, 8: 2, 9: 8, 10: 4}

// variable returns the value of a status variable (of varUpdatedSchemas with all that
// follows), nil when it is not there.
func (q *Query) variable(code byte) []byte {
	vars := q.vars
	for len(vars) > 0 {
		kind := vars[0]
		vars = vars[1:]
		size, ok := variableSizes[kind]
		switch {
		case ok:
		case kind == varUpdatedSchemas:
			size = len(vars)
		case len(vars) == 0:
			return nil
		case kind == varTimeZone || kind == varCatalogName:
			size = 1 + int(vars[0])
		case kind == varCatalog:
			size = 2 + int(vars[0])
		case kind == varInvoker:
			if size = 1 + int(vars[0]); size < len(vars) {
				size += 1 + int(vars[size])
			}
		default:
			return nil
		}
		if len(vars) < size {
			return nil
		}
		if kind == code {
			return vars[:size]
		}
		vars = vars[size:]
	}
	return nil
}

// ClientCollation returns the number of a collation of the character set that Text is
// in, 0 when the event does not say.
func (q *Query) ClientCollation() uint16 {
	if v := q.variable(varCharset); v != nil {
		return binary.LittleEndian.Uint16(v[:clientCollationSize])
	}
	return 0
}

// UpdatedSchemas returns the schemas whose tables the statement changed, also by views,
// triggers and functions. MySQL logs them; known is false when the event does not say.
func (q *Query) UpdatedSchemas() (names []string, known bool) {
	v := q.variable(varUpdatedSchemas)
	if len(v) == 0 || v[0] == 0 || v[0] == tooManySchemas {
		return nil, false
	}
	rest := v[1:]
	for range v[0] {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			return nil, false
		}
		names, rest = append(names, string(rest[:end])), rest[end+1:]
	}
	return names, true
}

// XAStatement is an XA statement of the log, or XA PREPARE's event.
type XAStatement struct {
	// Verb is START, END, PREPARE, COMMIT or ROLLBACK.
	Verb string
	// XID names the transaction as XA COMMIT takes it: X'gtrid',X'bqual',formatID.
	XID string
	// OnePhase: the transaction is committed without having been prepared.
	OnePhase bool
}

// ParseXA reads a logged XA statement: XA COMMIT X'61',X”,1.
func ParseXA(text string) (XAStatement, error) {
	fields := strings.Fields(text)
	if len(fields) < 3 || !strings.EqualFold(fields[0], "XA") {
		return XAStatement{}, errTruncated
	}
	x := XAStatement{Verb: strings.ToUpper(fields[1])}
	xid := fields[2:]
	if n := len(xid); n > 2 && strings.EqualFold(xid[n-2], "ONE") && strings.EqualFold(xid[n-1], "PHASE") {
		x.OnePhase, xid = true, xid[:n-2]
	}
	x.XID = canonicalXID(strings.Join(xid, ""))
	if x.XID == "" {
		return XAStatement{}, errTruncated
	}
	return x, nil
}

// canonicalXID writes X'61',X”,1 with lower-case digits, empty when it is of another form.
func canonicalXID(text string) string {
	parts := strings.Split(strings.ToLower(text), ",")
	if len(parts) != 3 {
		return ""
	}
	for _, p := range parts[:2] {
		if len(p) < 3 || !strings.HasPrefix(p, "x'") || !strings.HasSuffix(p, "'") || strings.Trim(p[2:len(p)-1], "0123456789abcdef") != "" {
			return ""
		}
	}
	if parts[2] == "" || strings.Trim(parts[2], "-0123456789") != "" {
		return ""
	}
	return "X" + parts[0][1:] + ",X" + parts[1][1:] + "," + parts[2]
}

// ParseXAPrepare reads an XA_PREPARE_LOG_EVENT: one phase (1), format (4), lengths of
// gtrid (4) and bqual (4), both.
func ParseXAPrepare(body []byte) (XAStatement, error) {
	if len(body) < 13 {
		return XAStatement{}, errTruncated
	}
	gtrid, bqual := binary.LittleEndian.Uint32(body[5:]), binary.LittleEndian.Uint32(body[9:])
	const limit = 64 // bytes of either part, by the XA standard
	if gtrid > limit || bqual > limit || len(body) < 13+int(gtrid)+int(bqual) {
		return XAStatement{}, errTruncated
	}
	data := body[13:]
	return XAStatement{Verb: "PREPARE", OnePhase: body[0] != 0, XID: FormatXID(data[:gtrid], data[gtrid:gtrid+bqual], int32(binary.LittleEndian.Uint32(body[1:])))}, nil
}

// FormatXID writes an xid as the log and XA COMMIT do.
func FormatXID(gtrid, bqual []byte, format int32) string {
	return fmt.Sprintf("X'%x',X'%x',%d", gtrid, bqual, format)
}
