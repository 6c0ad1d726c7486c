package ghostferry

import (
	"context"
	"errors"
	"fmt"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// RunStandaloneDataCopy is RunStandaloneDataCopyContext without a context. A failure goes
// to the ErrorHandler, too.
func (f *Ferry) RunStandaloneDataCopy(tables []*TableSchema) error {
	err := f.RunStandaloneDataCopyContext(context.Background(), tables)
	if err != nil {
		f.fatal("data_iterator", err)
	}
	return err
}

// RunStandaloneDataCopyContext copies tables, or of a Ferry with a CopyFilter the rows
// that it chooses of them, beside the stream and without a trace in state or checkpoint:
// for tables that do not change, or when the source's writers have stopped. The tables
// need not be among those that the Ferry moves. A process whose run another one has taken over
// copies nothing and fails with a [*FencedError].
//
// Rows that are on the target already stay. Every row is compared: one that differs fails
// the copy with a [BatchWriterVerificationFailed]. Rows are locked on the source from
// when they are read until they are on the target. Without tables it does nothing.
func (f *Ferry) RunStandaloneDataCopyContext(ctx context.Context, tables []*TableSchema) (err error) {
	if len(tables) == 0 {
		return nil
	}
	cache := make(TableSchemaCache, len(tables))
	for _, t := range tables {
		cache[t.String()] = t
	}
	if err := f.ScopeTables(ctx, cache); err != nil {
		return err
	}
	verifier := f.NewInlineVerifierWithoutStateTracker()
	verifier.TableSchemaCache = cache
	writer := f.NewBatchWriterWithoutStateTracker()
	writer.ledger = nil // no change to come writes a row that is left out
	writer.owner = f.checkpoint
	writer.InlineVerifier, writer.EnforceInlineVerification = verifier, true
	defer func() { err = errors.Join(err, writer.Close(), verifier.Close()) }()
	iterator := f.NewDataIteratorWithoutStateTracker()
	iterator.reader, iterator.SelectFingerprint = nil, true // locked reads
	iterator.addBatchListener(writer.WriteRowBatchContext)
	return origin("data_iterator", iterator.RunContext(ctx, tables))
}

// RemoveStandaloneRowsContext removes from the target the rows that
// RunStandaloneDataCopyContext copies of tables, and returns how many: those that the row
// filter chooses, which every table needs. What an earlier process of the run has copied may
// have changed on the source since, and copying it again would meet it. Rows that refer to
// those removed stay. A process whose run another one has taken over removes nothing and
// fails with a [*FencedError].
func (f *Ferry) RemoveStandaloneRowsContext(ctx context.Context, tables []*TableSchema) (removed int64, err error) {
	cache := make(TableSchemaCache, len(tables))
	for _, t := range tables {
		cache[t.String()] = t
	}
	if err := f.ScopeTables(ctx, cache); err != nil {
		return 0, err
	}
	for _, t := range tables {
		n, err := f.removeStandaloneRows(ctx, t)
		if removed += n; err != nil {
			return removed, fmt.Errorf("removing rows of %s from the target: %w", t, err)
		}
	}
	return removed, nil
}

func (f *Ferry) removeStandaloneRows(ctx context.Context, t *TableSchema) (removed int64, err error) {
	l, err := t.layout()
	if err != nil || l.scope == nil {
		return 0, errors.Join(err, &ConfigError{Field: "CopyFilter", Problem: "no row filter says which rows of " + t.String() + " are the run's", Remedy: "give the table a condition"})
	}
	removeAll := func(ctx context.Context, tx *sql.Tx) error {
		schema, table := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(t.Schema, t.Name)
		var err error
		removed, err = remove(ctx, tx, removal(schema, table, l))
		return err
	}
	if f.checkpoint.begun() {
		err = f.checkpoint.owned(ctx, removeAll)
		return removed, err
	}
	err = f.onTarget(ctx, removeAll)
	return removed, err
}

// onTarget runs f in a transaction on the target, again while its error may pass.
func (f *Ferry) onTarget(ctx context.Context, do func(ctx context.Context, tx *sql.Tx) error) error {
	return f.targetPatience.do(ctx, 0, func(ctx context.Context, _ int) error {
		return f.targetSessions.transaction(ctx, do)
	})
}

// remove executes a DELETE. In sessions that write it does not cascade: other rows may refer to these,
// and may do so again when they are back.
func remove(ctx context.Context, tx *sql.Tx, statement string) (removed int64, err error) {
	result, err := tx.ExecContext(ctx, statement)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
