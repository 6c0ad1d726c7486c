package ghostferry

import (
	"encoding/hex"
	"fmt"
	"sort"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// mismatchType says in which way a row differs.
type mismatchType string

// The kinds of differences between a row of the source and that of the target.
const (
	// MismatchColumnMissingOnSource: a compressed column is not on the source.
	MismatchColumnMissingOnSource mismatchType = "column missing on source"
	// MismatchColumnMissingOnTarget: a compressed column is not on the target.
	MismatchColumnMissingOnTarget mismatchType = "column missing on target"
	// MismatchRowMissingOnSource: the row is on the target only.
	MismatchRowMissingOnSource mismatchType = "row missing on source"
	// MismatchRowMissingOnTarget: the row is on the source only.
	MismatchRowMissingOnTarget mismatchType = "row missing on target"
	// MismatchColumnValueDifference: decompressed values differ.
	MismatchColumnValueDifference mismatchType = "column value difference"
	// MismatchRowChecksumDifference: the digests of the rows differ.
	MismatchRowChecksumDifference mismatchType = "rows checksum difference"
)

// maxNamedKeys is how many keys of a table a message names.
const maxNamedKeys = 20

// OnlineVerifierMismatch is one row that differs between source and target.
type OnlineVerifierMismatch struct {
	// Table is "schema.table" on the source.
	Table string `json:"table"`
	// Key is the text of the row's key, parts of a composite one separated by commas;
	// bytes are hexadecimal. It is the source row's where there is one.
	Key string `json:"key"`
	// Kind is one of MismatchRowMissingOnSource, MismatchRowMissingOnTarget,
	// MismatchRowChecksumDifference, and MismatchColumnValueDifference where only
	// compressed columns differ.
	Kind mismatchType `json:"kind"`
	// Columns are the differing columns of a row that is on both sides.
	Columns []ColumnMismatch `json:"columns,omitempty"`
	// SourceDigest and TargetDigest are the rows' digests in hexadecimal, empty where
	// there is no row.
	SourceDigest string `json:"source_digest,omitempty"`
	TargetDigest string `json:"target_digest,omitempty"`
}

// ColumnMismatch is one column in which a row differs. The digests are those of the
// canonical values, never the values.
type ColumnMismatch struct {
	Column       string `json:"column"`
	SourceDigest string `json:"source_digest"`
	TargetDigest string `json:"target_digest"`
}

// ColumnNames joins the names of the differing columns.
func (m OnlineVerifierMismatch) ColumnNames() string {
	names := make([]string, len(m.Columns))
	for i, c := range m.Columns {
		names[i] = c.Column
	}
	return strings.Join(names, ",")
}

// differIn notes the columns whose digests differ.
func (m *OnlineVerifierMismatch) differIn(f *fingerprint, source, target []string) {
	if len(source) != len(target) {
		return // the row is gone by now from one of the sides
	}
	compressed := len(source) > 0
	for i := range source {
		if source[i] == target[i] {
			continue
		}
		column := f.compared[i]
		m.Columns = append(m.Columns, ColumnMismatch{
			Column: f.layout.columns[column].Name, SourceDigest: hex.EncodeToString([]byte(source[i])), TargetDigest: hex.EncodeToString([]byte(target[i])),
		})
		compressed = compressed && f.compression[column] != ""
	}
	if compressed && len(m.Columns) > 0 {
		m.Kind = MismatchColumnValueDifference
	}
}

func newMismatch(f *fingerprint, key string, seen observation) OnlineVerifierMismatch {
	m := OnlineVerifierMismatch{
		Table: f.table.String(), Key: f.keyText(key), Kind: MismatchRowChecksumDifference,
		SourceDigest: hex.EncodeToString([]byte(seen.source)), TargetDigest: hex.EncodeToString([]byte(seen.target)),
	}
	switch {
	case seen.source == "":
		m.Kind = MismatchRowMissingOnSource
	case seen.target == "":
		m.Kind = MismatchRowMissingOnTarget
	}
	return m
}

// keyText renders an encoded key as the public keys' String does.
func (f *fingerprint) keyText(key string) string {
	parts := f.splitKey(key)
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = string(part)
		if f.hexKeyPart(i) {
			texts[i] = hex.EncodeToString(part)
		}
		if len(parts) > 1 {
			texts[i] = compositeEscaper.Replace(texts[i])
		}
	}
	return strings.Join(texts, ",")
}

func (f *fingerprint) hexKeyPart(i int) bool {
	column := f.layout.keys[i]
	return f.layout.columns[column].Kind == codec.Binary || keyKindOf(&f.table.Columns[column]) == keyKindBinary
}

// parseKey is the inverse of keyText.
func (f *fingerprint) parseKey(text string) (string, error) {
	parts := []string{text}
	if len(f.layout.keys) > 1 {
		parts = splitComposite(text)
	}
	if len(parts) != len(f.layout.keys) {
		return "", fmt.Errorf("key %q of table %s has %d parts, not %d", text, f.table, len(parts), len(f.layout.keys))
	}
	key := make(keyTuple, len(parts))
	for i, part := range parts {
		key[i] = []byte(part)
		if f.hexKeyPart(i) {
			raw, err := hex.DecodeString(part)
			if err != nil {
				return "", fmt.Errorf("key %q of table %s: %w", text, f.table, err)
			}
			key[i] = raw
		}
	}
	return f.encodeKey(key), nil
}

// mismatchResult is the verdict over rows that differ.
func mismatchResult(mismatches []OnlineVerifierMismatch) VerificationResult {
	byTable := map[string][]OnlineVerifierMismatch{}
	for _, m := range mismatches {
		byTable[m.Table] = append(byTable[m.Table], m)
	}
	result := VerificationResult{IncorrectTables: sortedNames(byTable)}
	var text strings.Builder
	text.WriteString("cutover verification failed for: ")
	for _, table := range result.IncorrectTables {
		rows := byTable[table]
		sort.Slice(rows, func(i, j int) bool { return rows[i].Key < rows[j].Key })
		text.WriteString(table + " [PKs: ")
		for _, m := range rows[:min(len(rows), maxNamedKeys)] {
			column := ""
			if names := m.ColumnNames(); names != "" {
				column = ", column: " + names
			}
			fmt.Fprintf(&text, "%s (type: %s, source: %s, target: %s%s) ", m.Key, m.Kind, m.SourceDigest, m.TargetDigest, column)
		}
		if more := len(rows) - maxNamedKeys; more > 0 {
			fmt.Fprintf(&text, "and %d more ", more)
		}
		text.WriteString("] ")
	}
	result.Message = text.String()
	return result
}
