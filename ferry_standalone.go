package ghostferry

import (
	"context"
	"errors"
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
// need not be among those that the Ferry moves.
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
	writer.InlineVerifier, writer.EnforceInlineVerification = verifier, true
	defer func() { err = errors.Join(err, writer.Close(), verifier.Close()) }()
	iterator := f.NewDataIteratorWithoutStateTracker()
	iterator.reader, iterator.SelectFingerprint = nil, true // locked reads
	iterator.addBatchListener(writer.WriteRowBatchContext)
	return origin("data_iterator", iterator.RunContext(ctx, tables))
}
