package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// ChecksumTableVerifier compares whole tables at the cutover, when nobody writes. It
// works as a literal of its exported fields. A Ferry's compares the rows that its CopyFilter
// selects on both servers.
//
// It compares the digests of chunks, which agree between servers of different versions
// and flavours, and names the rows that differ; CHECKSUM TABLE, which does neither, is
// used when UseChecksumStatement is set.
type ChecksumTableVerifier struct {
	// Tables are the tables to compare, with their definition on the source.
	Tables []*TableSchema
	// DatabaseRewrites and TableRewrites map names of the source to the target's.
	DatabaseRewrites map[string]string
	TableRewrites    map[string]string
	// SourceDB and TargetDB are the two servers.
	SourceDB *sql.DB
	TargetDB *sql.DB
	// UseChecksumStatement compares by CHECKSUM TABLE … EXTENDED.
	UseChecksumStatement bool

	logger     Logger
	filter     CopyFilter // nil: whole tables
	background backgroundRun
	found      lastComparison
}

var _ Verifier = (*ChecksumTableVerifier)(nil)

// VerifyBeforeCutover does nothing: tables that are written cannot be compared so.
func (v *ChecksumTableVerifier) VerifyBeforeCutover() error { return nil }

// VerifyDuringCutover is VerifyDuringCutoverContext without a context.
func (v *ChecksumTableVerifier) VerifyDuringCutover() (VerificationResult, error) {
	return v.VerifyDuringCutoverContext(context.Background())
}

// VerifyDuringCutoverContext compares all tables. The first that differs, by name, is
// the verdict. The error is an [IncompleteVerificationError] when there was no row.
func (v *ChecksumTableVerifier) VerifyDuringCutoverContext(ctx context.Context) (VerificationResult, error) {
	if len(v.Tables) == 0 {
		return VerificationResult{}, fmt.Errorf("%w: there is no table to compare", IncompleteVerificationError{})
	}
	if v.UseChecksumStatement {
		if v.filter != nil {
			return VerificationResult{}, errors.New("CHECKSUM TABLE compares whole tables, and the run's CopyFilter chooses rows: unset UseChecksumStatement")
		}
		return v.byStatement(ctx)
	}
	var prints []*fingerprint
	for _, t := range v.Tables {
		f, err := newFingerprint(t)
		if err != nil {
			return VerificationResult{}, err
		}
		prints = append(prints, f)
	}
	c := newComparer(v.SourceDB, v.TargetDB, newRewrites(v.DatabaseRewrites, v.TableRewrites), prints)
	c.logger, c.filter = taggedLogger(v.logger, "checksum_verifier"), v.filter
	c.compareEverything()
	v.found.set(c)
	result, err := c.duringCutover(ctx)
	switch {
	case mysqlerr.Classify(err) == mysqlerr.UnknownObject:
		return VerificationResult{}, fmt.Errorf("cannot find table %s during verification: %w", tableOfError(err), err)
	case err != nil:
		return VerificationResult{}, err
	case !c.sawRows():
		return VerificationResult{}, c.nothingCompared()
	case result.DataCorrect:
		return result, nil
	}
	for _, t := range v.Tables {
		if t.String() == result.IncorrectTables[0] {
			return v.mismatch(t), nil
		}
	}
	return result, nil
}

func (v *ChecksumTableVerifier) mismatch(t *TableSchema) VerificationResult {
	return VerificationResult{
		Message:         fmt.Sprintf("data on table %s (%s) mismatched", QuotedTableName(t), v.onTarget(t)),
		IncorrectTables: []string{t.String()},
	}
}

func (v *ChecksumTableVerifier) onTarget(t *TableSchema) string {
	return QuotedTableNameFromString(newRewrites(v.DatabaseRewrites, v.TableRewrites).table(t.Schema, t.Name))
}

// byStatement compares table by table what both servers answer to CHECKSUM TABLE.
func (v *ChecksumTableVerifier) byStatement(ctx context.Context) (VerificationResult, error) {
	rows := false
	for _, t := range v.Tables {
		var sums [2]sqlorig.NullInt64
		names := [2]string{QuotedTableName(t), v.onTarget(t)}
		group, ctx := errgroup.WithContext(ctx)
		for i, db := range []*sql.DB{v.SourceDB, v.TargetDB} {
			group.Go(func() error {
				var name string
				return db.QueryRowContext(ctx, "CHECKSUM TABLE "+names[i]+" EXTENDED").Scan(&name, &sums[i])
			})
		}
		if err := group.Wait(); err != nil {
			return VerificationResult{}, &TableError{Schema: t.Schema, Table: t.Name, Err: err}
		}
		for i := range sums {
			if !sums[i].Valid {
				return VerificationResult{}, fmt.Errorf("cannot find table %s during verification", names[i])
			}
		}
		if sums[0] != sums[1] {
			return v.mismatch(t), nil
		}
		rows = rows || sums[0].Int64 != 0
	}
	if !rows {
		return VerificationResult{}, fmt.Errorf("%w: all %d tables are empty on both sides, so no row was compared", IncompleteVerificationError{}, len(v.Tables))
	}
	return NewCorrectVerificationResult(), nil
}

// Mismatches returns the rows that the last comparison found to differ.
func (v *ChecksumTableVerifier) Mismatches() []OnlineVerifierMismatch { return v.found.mismatches() }

// StartInBackground starts VerifyDuringCutover without waiting for it; it fails while
// one is running.
func (v *ChecksumTableVerifier) StartInBackground() error {
	return v.background.start(v.VerifyDuringCutover)
}

// Message is empty.
func (v *ChecksumTableVerifier) Message() string { return "" }

// Wait waits for the verification started in the background.
func (v *ChecksumTableVerifier) Wait() { v.background.wait() }

// Result is the outcome of the verification started in the background so far.
func (v *ChecksumTableVerifier) Result() (VerificationResultAndStatus, error) {
	return v.background.result()
}
