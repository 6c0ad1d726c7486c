package codec

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

var errJSONText = errors.New("the text of a JSON document is malformed")

// ErrReadAgain says that a read did not ask for the types of all leaves that need it. One
// by the exact expression does.
var ErrReadAgain = errors.New("a JSON document has leaves whose types were not asked for")

// maxLeafPaths is how many leaves are asked for one by one: each costs the server about
// a tenth of what the text of a document costs, all of them at once two to three times it.
const maxLeafPaths = 24

// LeafTypes reads with the documents of a JSON column the types of those leaves whose
// text does not tell them. The server has no function for that, only JSON_TYPE of one
// value: documents of one column are mostly alike, so it is asked for the paths at which
// such leaves were seen before, and for every leaf of a document, by JSON_TABLE, when
// there are others or too many. It is safe for concurrent use.
type LeafTypes struct {
	mu    sync.Mutex
	paths []string       // only ever appended to: a report says how many it is of
	index map[string]int // of paths
	many  bool           // there are more paths than are worth asking for
}

// Expr returns the expression that is selected beside the column: the report that Mark
// takes. exact: it tells every leaf, so that Mark cannot ask for another read.
func (t *LeafTypes) Expr(ident string, exact bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	if exact || t.many || len(t.paths) == 0 {
		for i, path := range []string{"'$**.*'", "'$**[*]'"} {
			if i == 0 {
				b.WriteString("CONCAT('*',JSON_TYPE(" + ident + ")")
			}
			b.WriteString(",';',COALESCE((SELECT JSON_ARRAYAGG(CONCAT(n,':',JSON_TYPE(l))) FROM JSON_TABLE(" + ident + "," + path +
				" COLUMNS (n FOR ORDINALITY,l JSON PATH '$')) AS t WHERE JSON_TYPE(l) NOT IN ('NULL','BOOLEAN','INTEGER','DOUBLE','STRING','OBJECT','ARRAY')),'')")
		}
		b.WriteString(")")
		return b.String()
	}
	b.WriteString("CONCAT_WS(','")
	for _, path := range t.paths {
		b.WriteString(",COALESCE(JSON_TYPE(JSON_EXTRACT(" + ident + ",_utf8mb4" + sqlesc.String(path) + ")),'')")
	}
	b.WriteString(")")
	return b.String()
}

// Mark appends the canonical form of a document to dst: its text with marks, by the report
// that was read with it. The error is ErrReadAgain when the report does not tell enough.
func (t *LeafTypes) Mark(dst, text, report []byte) ([]byte, error) {
	if whole, ok := bytes.CutPrefix(report, []byte{'*'}); ok {
		return t.markAll(dst, text, whole)
	}
	types := bytes.Split(report, []byte{','})
	var missed bool
	var failed error
	from := 0
	w := jsonWalk{text: text}
	w.leaf = func(path, token []byte, _ byte) {
		if !ambiguous(token) || missed {
			return
		}
		i, ok := t.place(path)
		if !ok || i >= len(types) || len(types[i]) == 0 {
			missed = true
			return
		}
		mark, err := markOf(string(types[i]), token)
		if err != nil {
			failed = err
		}
		if mark != 0 {
			start := w.at - len(token)
			dst = append(append(dst, text[from:start]...), jsonMark, mark)
			from = start
		}
	}
	start := len(dst)
	if err := errors.Join(w.walk(), failed); err != nil {
		return nil, err
	}
	if missed {
		return dst[:start], ErrReadAgain
	}
	return append(dst, text[from:]...), nil
}

func (t *LeafTypes) place(path []byte) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.index[string(path)]
	return i, ok
}

// learn adds the path of a leaf to those that are asked for.
func (t *LeafTypes) learn(path []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.many {
		return
	}
	if _, known := t.index[string(path)]; known {
		return
	}
	// A question mark would be a placeholder to a host's query builder.
	if len(t.paths) == maxLeafPaths || bytes.IndexByte(path, '?') >= 0 {
		t.many = true
		return
	}
	if t.index == nil {
		t.index = map[string]int{}
	}
	t.index[string(path)] = len(t.paths)
	t.paths = append(t.paths, string(path))
}

// jsonNode is a value of a document.
type jsonNode struct {
	array    bool // of containers
	children []*jsonNode
	start    int // of leaves: where the text begins
	token    []byte
	typ      string // as reported, empty when it is what the text says
}

// markAll is Mark for a report of every leaf: the type of the document, and for the
// members of all objects and the cells of all arrays those that are not what their text
// says, by number in the order of the paths $**.* and $**[*].
func (t *LeafTypes) markAll(dst, text, report []byte) ([]byte, error) {
	parts := bytes.SplitN(report, []byte{';'}, 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("the types of a JSON document's leaves cannot be read: %.40q", report)
	}
	root, leaves, err := t.tree(text)
	if err != nil {
		return nil, err
	}
	root.typ = string(parts[0])
	for i, list := range parts[1:] {
		if len(list) == 0 {
			continue
		}
		var nodes []*jsonNode
		root.list(i == 1, &nodes)
		for _, item := range strings.Split(strings.Trim(string(list), `[]`), ",") {
			number, typ, _ := strings.Cut(strings.Trim(item, ` "`), ":")
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > len(nodes) {
				return nil, fmt.Errorf("the types of a JSON document's leaves cannot be read: %.40q", report)
			}
			nodes[n-1].typ = typ
		}
	}
	from := 0
	for _, leaf := range leaves {
		if leaf.typ == "" {
			continue
		}
		mark, err := markOf(leaf.typ, leaf.token)
		if err != nil {
			return nil, err
		}
		if mark != 0 {
			dst = append(append(dst, text[from:leaf.start]...), jsonMark, mark)
			from = leaf.start
		}
	}
	return append(dst, text[from:]...), nil
}

// tree parses a document, and learns the paths of its ambiguous leaves.
func (t *LeafTypes) tree(text []byte) (root *jsonNode, leaves []*jsonNode, err error) {
	var stack []*jsonNode
	add := func(n *jsonNode) {
		if len(stack) > 0 {
			parent := stack[len(stack)-1]
			parent.children = append(parent.children, n)
		} else {
			root = n
		}
	}
	w := jsonWalk{text: text}
	w.open = func(array bool) {
		n := &jsonNode{array: array}
		add(n)
		stack = append(stack, n)
	}
	w.end = func() { stack = stack[:len(stack)-1] }
	w.leaf = func(path, token []byte, _ byte) {
		n := &jsonNode{start: w.at - len(token), token: token}
		add(n)
		leaves = append(leaves, n)
		if ambiguous(token) {
			t.learn(path)
		}
	}
	return root, leaves, w.walk()
}

// list appends the values that the path $**[*] or $**.* finds, in its order: those of a
// container come before those within them.
func (n *jsonNode) list(cells bool, out *[]*jsonNode) {
	if n.array == cells {
		*out = append(*out, n.children...)
	}
	for _, child := range n.children {
		child.list(cells, out)
	}
}

// ambiguous reports whether the text of a leaf leaves its type open.
func ambiguous(token []byte) bool {
	switch c := token[0]; {
	case c == '"':
		return temporalOrOpaque(token[1 : len(token)-1])
	case c == '-' || c >= '0' && c <= '9':
		return bytes.IndexByte(token, 'e') < 0 // with an exponent only a DOUBLE is printed
	}
	return false
}

// temporalOrOpaque reports whether a string could be how the server prints a DATE, TIME,
// DATETIME or a binary value.
func temporalOrOpaque(s []byte) bool {
	const micros = len("00:00:00.000000")
	n := len(s)
	switch {
	case n == len("0000-00-00"):
		return s[4] == '-' && s[7] == '-'
	case n == len("0000-00-00 ")+micros:
		return s[10] == ' ' && s[19] == '.'
	case n >= micros && n <= micros+2:
		return s[n-7] == '.' && s[n-10] == ':'
	}
	return bytes.HasPrefix(s, []byte("base64:type"))
}

// markOf returns the mark of a leaf by its JSON_TYPE, 0 where its text says the same.
func markOf(typ string, token []byte) (byte, error) {
	switch typ {
	case "UNSIGNED INTEGER":
		if wideUnsigned(token) {
			return 0, nil
		}
		return markUnsigned, nil
	case "DECIMAL":
		return markDecimal, nil
	case "DATE":
		return markDate, nil
	case "TIME":
		return markTime, nil
	case "DATETIME":
		return markDateTime, nil
	case "TIMESTAMP":
		return markTimestamp, nil
	case "BLOB", "BIT", "OPAQUE":
		_, _, err := parseOpaque(bytes.Trim(token, `"`))
		return markOpaque, err
	}
	return 0, nil
}

// wideUnsigned reports whether the text of an unsigned integer is read as one, because no
// signed integer is so large.
func wideUnsigned(token []byte) bool {
	const most = "9223372036854775807"
	return len(token) > len(most) || len(token) == len(most) && string(token) > most
}
