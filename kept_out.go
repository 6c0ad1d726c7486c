package ghostferry

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// KeptOutRow is a row of the source that is not on the target because a row there has one of its
// unique values.
type KeptOutRow struct {
	// Key is the row's key, Holder that of the target's row, which may be of somebody else.
	Key, Holder string
	// Index is the unique index.
	Index string
}

// keptOutAsk is how long it is asked what keeps rows out, which only helps who reads the error.
const keptOutAsk = 5 * time.Second

// rowsKeptOut says by which rows of the target rows of the source are kept out, for the debt ledger.
func (f *Ferry) rowsKeptOut(ctx context.Context, table *TableSchema, keys []string) []KeptOutRow {
	ctx, cancel := context.WithTimeout(ctx, keptOutAsk)
	defer cancel()
	found, err := f.findKeptOut(ctx, table, keys)
	if err != nil {
		f.logger.WithError(err).WithField(fieldTable, table.String()).Warn("it cannot be told which rows of the target keep rows out that are owed")
	}
	return found
}

func (f *Ferry) findKeptOut(ctx context.Context, table *TableSchema, keys []string) (found []KeptOutRow, err error) {
	schema, name := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(table.Schema, table.Name)
	w, err := newTableWriter(table, schema, name, f.targetServer.UpsertRowAlias(), f.targetServer.MaxAllowedPacket)
	if err != nil {
		return nil, err
	}
	tuples, err := w.layout.decodeKeys(keys)
	if err != nil {
		return nil, err
	}
	var images *codec.Rows
	err = f.reader.readOnce(ctx, f.gate.mark(), func(s *session, suffix string) error {
		images, err = w.layout.rowsByKeys(ctx, s, table, tuples, suffix)
		return err
	})
	if err != nil {
		return nil, err
	}
	s, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target)
	if err != nil {
		return nil, err
	}
	defer s.discard()
	for _, r := range allRows(images) {
		key := w.layout.describeKey(keyOf(r.rows, r.row, w.layout.keys))
		err := w.eachUniqueMatch(ctx, s, w.layout.keySelectList(), r, func(index string, values []driver.Value) (bool, error) {
			holder, err := w.layout.keyOfValues(values)
			if err != nil {
				return false, err
			}
			found = append(found, KeptOutRow{Key: key, Holder: w.layout.describeKey(holder), Index: index})
			return true, nil
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}
