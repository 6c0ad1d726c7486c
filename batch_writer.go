package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// BatchWriterVerificationFailed says that rows of a batch differ between both sides
// right after they were written.
type BatchWriterVerificationFailed struct {
	mismatchedPaginationKeys []string
	table                    string
}

// Error names the keys and the table.
func (e BatchWriterVerificationFailed) Error() string {
	return fmt.Sprintf("row fingerprints for paginationKeys %s on %s do not match", strings.Join(e.mismatchedPaginationKeys, ","), e.table)
}

// BatchWriter writes batches of copied rows to the target: one transaction a batch,
// rows that are there already are kept as they are. It works as a literal with DB set;
// the Ferry's also records each chunk as copied in the same transaction. It is safe
// for concurrent use.
type BatchWriter struct {
	// DB is the target.
	DB *sql.DB
	// InlineVerifier, when set, compares each batch inside its transaction.
	InlineVerifier *InlineVerifier
	// StateTracker gets the progress; nil keeps none.
	StateTracker *StateTracker
	// EnforceInlineVerification makes a difference fail the batch.
	EnforceInlineVerification bool
	// DatabaseRewrites and TableRewrites map source names to target names.
	DatabaseRewrites map[string]string
	TableRewrites    map[string]string
	// WriteRetries is how often a batch is tried in total; 0 means without limit.
	WriteRetries int
	// BulkLoad is "off" to write by INSERT only. Otherwise tables that LOAD DATA LOCAL
	// carries exactly go by it where the target allows it (local_infile).
	BulkLoad string

	logger     Logger
	patience   *patience
	checkpoint *checkpoint // nil: no chunk is recorded
	owner      *checkpoint // of rows that are not recorded: nobody else may own its run
	ledger     *debtLedger // nil: nothing follows the log, a row left out is a conflict
	collisions *collisionLedger

	once     sync.Once
	mu       sync.Mutex
	srv      *server.Server
	writers  map[*TableSchema]*tableWriter
	asked    uint64 // how often a writer was asked for
	sessions sessionPool
}

// Initialize prepares the writer; it is done by the first write otherwise.
func (w *BatchWriter) Initialize() {
	w.once.Do(func() {
		w.writers = map[*TableSchema]*tableWriter{}
		if w.logger == nil {
			w.logger = LogWithField("tag", "batch_writer")
		}
		w.sessions.open = func(ctx context.Context) (*session, error) {
			srv, err := w.target(ctx)
			if err != nil {
				return nil, err
			}
			var setup []string
			if w.InlineVerifier != nil {
				setup = append(setup, digestSetup)
			}
			s, err := openWriter(ctx, w.DB, srv, setup...)
			if err != nil || !bulkLoads(srv, w.BulkLoad) {
				return s, err
			}
			if err := s.keepWarnings(ctx); err != nil {
				s.discard()
				return nil, fmt.Errorf("setting up a session: %w", err)
			}
			return s, nil
		}
	})
}

// target returns what the target server is, asking it once.
func (w *BatchWriter) target(ctx context.Context) (*server.Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.srv == nil {
		srv, err := server.Detect(ctx, w.DB)
		if err != nil {
			return nil, err
		}
		w.srv = srv
	}
	return w.srv, nil
}

// keptWriters is of how many tables the statements are kept: a few are copied at a time, of
// what may be ten thousand.
const keptWriters = 64

func (w *BatchWriter) writer(ctx context.Context, table *TableSchema) (*tableWriter, error) {
	srv, err := w.target(ctx)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if tw := w.writers[table]; tw != nil {
		tw.asked = w.asked
		return tw, nil
	}
	if len(w.writers) >= keptWriters {
		delete(w.writers, w.longestUnasked())
	}
	targetSchema, targetTable := newRewrites(w.DatabaseRewrites, w.TableRewrites).table(table.Schema, table.Name)
	tw, err := newTableWriter(table, targetSchema, targetTable, srv.UpsertRowAlias(), srv.MaxAllowedPacket)
	if err == nil {
		tw.collide = w.collisions.leave
		tw.bulk.Store(tw.layout.loads(srv, w.BulkLoad))
		tw.asked = w.asked
		w.writers[table] = tw
	}
	return tw, err
}

func (w *BatchWriter) longestUnasked() *TableSchema {
	var longest *TableSchema
	for table, tw := range w.writers {
		if longest == nil || tw.asked < w.writers[longest].asked {
			longest = table
		}
	}
	return longest
}

// WriteRowBatch writes one batch; it is a batch listener. When it returns nil the rows
// are committed on the target.
func (w *BatchWriter) WriteRowBatch(batch *RowBatch) error {
	return w.WriteRowBatchContext(context.Background(), batch)
}

// WriteRowBatchContext is WriteRowBatch with a context.
func (w *BatchWriter) WriteRowBatchContext(ctx context.Context, batch *RowBatch) error {
	w.Initialize()
	if batch.Size() == 0 {
		return nil
	}
	table := batch.TableSchema()
	l, err := table.layout()
	if err != nil {
		return err
	}
	rows, err := batch.inTableOrder(l)
	if err != nil {
		return err
	}
	tw, err := w.writer(ctx, table)
	if err != nil {
		return err
	}
	var skipped []string
	var check *inlineCheck
	err = w.patience.do(ctx, w.WriteRetries, func(ctx context.Context, attempt int) error {
		var err error
		skipped, check, err = w.writeOnce(ctx, tw, batch, rows, attempt)
		if errors.Is(err, errBulkInexact) {
			// Rolled back, and so no attempt that could have been committed.
			tw.bulk.Store(false)
			w.logger.WithError(err).WithField(fieldTable, table.String()).Info("copying by INSERT from here on")
			skipped, check, err = w.writeOnce(ctx, tw, batch, rows, attempt)
		}
		return err
	})
	if err != nil {
		return &TableError{Schema: table.Schema, Table: table.Name, Err: fmt.Errorf("writing rows %s to %s: %w",
			l.describeKey(keyOf(rows, 0, l.keys)), l.describeKey(keyOf(rows, rows.Len()-1, l.keys)), err)}
	}
	if len(skipped) > 0 {
		if w.ledger == nil {
			return &TargetConflictError{Table: tw.quoted, Key: l.describeKey(decodeTuple([]byte(skipped[0])))}
		}
		w.ledger.note(table, skipped, false) // before the state claims the batch
		if err := w.ledger.bind(ctx, table, skipped); err != nil {
			return err
		}
	}
	if w.InlineVerifier != nil {
		w.InlineVerifier.committed(check)
	}
	if w.checkpoint.begun() && batch.chunk != nil {
		w.checkpoint.chunkRecorded(table)
	}
	w.track(batch, l, rows)
	return nil
}

// writeOnce is one attempt: one transaction on a session that is discarded when
// anything about it is in doubt, so that nothing of a failed attempt can commit later
// than its successor: a transaction without its COMMIT only holds locks until it dies.
func (w *BatchWriter) writeOnce(ctx context.Context, tw *tableWriter, batch *RowBatch, rows *codec.Rows, attempt int) (skipped []string, check *inlineCheck, err error) {
	s, err := w.sessions.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	keep := false
	defer func() {
		if keep {
			w.sessions.put(ctx, s)
		} else {
			w.sessions.failed(s, err)
		}
	}()
	if w.owner.begun() {
		if err := w.owner.lockEpoch(ctx, s); err != nil {
			return nil, nil, err
		}
	}
	recorded := w.checkpoint.begun() && batch.chunk != nil
	if recorded {
		n, err := s.exec(ctx, w.checkpoint.appendChunk(s.statement(), batch.chunk, rows.Len()))
		if attempt > 1 && mysqlerr.Classify(err) == mysqlerr.Duplicate {
			traceLanded(batch.chunk)
			if w.InlineVerifier != nil {
				w.InlineVerifier.unknown(batch)
			}
			skipped, err = w.checkpoint.debtsOf(ctx, s, batch.chunk)
			return skipped, nil, err // the attempt before was committed after all
		}
		if err != nil {
			return nil, nil, err
		}
		if n == 0 {
			return nil, nil, w.fenced(ctx, s)
		}
		failpoint("copy.recorded")
	}
	if tw.bulk.Load() {
		skipped, err = tw.loadAbsent(ctx, s, rows)
	} else {
		skipped, err = tw.insertAbsent(ctx, s, allRows(rows))
	}
	if err != nil {
		return nil, nil, err
	}
	if recorded && len(skipped) > 0 {
		if _, err := s.exec(ctx, w.checkpoint.appendDebts(s.statement(), batch.chunk, skipped)); err != nil {
			return nil, nil, err
		}
	}
	if check, err = w.verifyInline(ctx, s, tw, batch); err != nil {
		return nil, nil, err
	}
	if batch.held != nil {
		// Now, and not after the COMMIT: a process that dies in between leaves rows that
		// nobody looks at again (docs/algorithm.md, ping-after-commit).
		if err := batch.held(); err != nil {
			return nil, nil, err
		}
	}
	traceCopy(s, batch.chunk, skipped)
	if err := s.commit(ctx); err != nil {
		return nil, nil, err
	}
	keep = true
	return skipped, check, nil
}

// verifyInline compares the batch inside its transaction. What differs fails the batch
// when that is enforced; otherwise it is recorded with the batch, and compared again.
func (w *BatchWriter) verifyInline(ctx context.Context, s *session, tw *tableWriter, batch *RowBatch) (*inlineCheck, error) {
	if w.InlineVerifier == nil {
		return nil, nil
	}
	check, err := w.InlineVerifier.check(ctx, s, tw.quoted, batch)
	if err != nil || len(check.differing) == 0 {
		return check, err
	}
	if w.EnforceInlineVerification {
		return nil, BatchWriterVerificationFailed{mismatchedPaginationKeys: check.texts(), table: batch.TableSchema().String()}
	}
	if w.checkpoint.begun() {
		_, err = s.exec(ctx, w.checkpoint.appendRechecks(s.statement(), batch.TableSchema(), check.keys()))
	}
	return check, err
}

func (w *BatchWriter) fenced(ctx context.Context, s *session) error {
	if err := w.checkpoint.ownerErrorOn(ctx, s.conn); err != nil {
		return err
	}
	return errors.New("the checkpoint did not take the chunk although this process owns the run")
}

func (w *BatchWriter) track(batch *RowBatch, l *tableLayout, rows *codec.Rows) {
	if w.StateTracker == nil {
		return
	}
	stats := RowStats{NumRows: uint64(rows.Len()), NumBytes: batch.byteSize()}
	if batch.chunk != nil {
		w.StateTracker.rangeCopied(batch.table, l, batch.chunk.keyRange, stats)
		return
	}
	last := l.paginationKey(batch.table, keyOf(rows, rows.Len()-1, l.keys))
	w.StateTracker.UpdateLastSuccessfulPaginationKey(batch.table.String(), last, stats)
}

// Close ends the connections that the writer keeps between batches; call it after the
// last batch. The Ferry's own writer is closed by the end of its run.
func (w *BatchWriter) Close() error {
	w.sessions.close()
	return nil
}

// inTableOrder returns the batch's rows with their values in the table's column order.
func (b *RowBatch) inTableOrder(l *tableLayout) (*codec.Rows, error) {
	rows, err := b.canonical(l)
	if err != nil {
		return nil, err
	}
	place := make([]int, len(l.columns))
	for i := range place {
		place[i] = -1
	}
	ordered := len(b.columns) == len(l.columns)
	for i, c := range b.columns {
		place[c] = i
		ordered = ordered && c == i
	}
	if ordered {
		return rows, nil
	}
	for c, at := range place {
		if at < 0 && !l.columns[c].Generated {
			return nil, fmt.Errorf("the rows of %s lack column `%s`: the query has to select every column", b.table, l.columns[c].Name)
		}
	}
	out := codec.NewRows(len(l.columns), rows.Len(), rows.Bytes())
	for r := range rows.Len() {
		for _, at := range place {
			if at < 0 {
				out.Add(nil)
			} else {
				out.Add(rows.Value(r, at))
			}
		}
	}
	return out, nil
}
