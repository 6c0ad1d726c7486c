package main

import (
	"fmt"

	"github.com/ghostferry-go/ghostferry"
)

// businessVerifier compares rows as the library does and, under the write block, also what
// the application calls equal: every table has as many rows here as there.
type businessVerifier struct {
	ferry *ghostferry.Ferry
	// The library's own, completed when the tables are known.
	ghostferry.ChecksumTableVerifier
	counted int
}

// VerifyBeforeCutover is called when the rows are copied, while writes go on.
func (v *businessVerifier) VerifyBeforeCutover() error {
	v.Tables, v.SourceDB, v.TargetDB = v.ferry.Tables.AsSlice(), v.ferry.SourceDB, v.ferry.TargetDB
	v.DatabaseRewrites, v.TableRewrites = v.ferry.DatabaseRewrites, v.ferry.TableRewrites
	return v.ChecksumTableVerifier.VerifyBeforeCutover()
}

// VerifyDuringCutover is called when both sides stand still.
func (v *businessVerifier) VerifyDuringCutover() (ghostferry.VerificationResult, error) {
	for _, table := range v.ferry.Tables.AsSlice() {
		var source, target int64
		count := "SELECT COUNT(*) FROM " + ghostferry.QuotedTableName(table)
		if err := v.ferry.SourceDB.QueryRow(count).Scan(&source); err != nil {
			return ghostferry.VerificationResult{}, err
		}
		if err := v.ferry.TargetDB.QueryRow(count).Scan(&target); err != nil {
			return ghostferry.VerificationResult{}, err
		}
		if source != target {
			return ghostferry.VerificationResult{
				Message:         fmt.Sprintf("%s has %d rows on the source and %d on the target", table, source, target),
				IncorrectTables: []string{table.String()},
			}, nil
		}
		v.counted++
	}
	return v.ChecksumTableVerifier.VerifyDuringCutover()
}

// Message is part of the progress, which may be asked for at any time.
func (v *businessVerifier) Message() string { return "rows are compared, and counted at the cutover" }
