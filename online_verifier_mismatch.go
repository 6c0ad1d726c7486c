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
	Table string
	// Key is the text of the row's key, parts of a composite one separated by commas;
	// bytes are hexadecimal. It is the source row's where there is one.
	Key string
	// Kind is one of MismatchRowMissingOnSource, MismatchRowMissingOnTarget and
	// MismatchRowChecksumDifference.
	Kind mismatchType
	// SourceDigest and TargetDigest are the rows' digests in hexadecimal, empty where
	// there is no row.
	SourceDigest, TargetDigest string
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
		column := f.layout.keys[i]
		texts[i] = string(part)
		if f.layout.columns[column].Kind == codec.Binary || keyKindOf(&f.table.Columns[column]) == keyKindBinary {
			texts[i] = hex.EncodeToString(part)
		}
		if len(parts) > 1 {
			texts[i] = compositeEscaper.Replace(texts[i])
		}
	}
	return strings.Join(texts, ",")
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
			fmt.Fprintf(&text, "%s (type: %s, source: %s, target: %s) ", m.Key, m.Kind, m.SourceDigest, m.TargetDigest)
		}
		if more := len(rows) - maxNamedKeys; more > 0 {
			fmt.Fprintf(&text, "and %d more ", more)
		}
		text.WriteString("] ")
	}
	result.Message = text.String()
	return result
}
