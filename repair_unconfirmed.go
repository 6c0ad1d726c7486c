package ghostferry

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// When the source was restarted or replaced since rows of it were read, and its log has not
// been followed to the end of those reads, they may hold transactions that it has lost: a
// replica that was promoted without them, a crash with sync_binlog other than 1. No stream
// would ever correct them. So they are removed on the target before anything else is
// written there, and copied anew. What was executed of the log is another question, and
// asked before: if any of that is gone, the run is refused.

// restartTolerance is by how many seconds the start of one process may seem to differ: it is
// told by the server's clock and its uptime, and clocks are set.
const restartTolerance = 1

// sameAs reports whether both are one process; not when that is unknown.
func (p sourceProcess) sameAs(q sourceProcess) bool {
	apart := p.started - q.started
	return p.identity == q.identity && p.started != 0 && -restartTolerance <= apart && apart <= restartTolerance
}

// furthestRead is how far the source's log reached after the reads of all chunks.
func (p *resumePoint) furthestRead() (end BinlogCoordinate) {
	add := func(at BinlogCoordinate) {
		if at.File != "" && (end.File == "" || end.CompareFilePos(at) < 0) {
			end = at
		}
	}
	for _, t := range p.tables {
		add(t.readEnd)
		for _, ch := range t.chunks {
			add(ch.readEnd)
		}
	}
	return end
}

// provenReads returns a function that tells of which reads, by the end of the log after
// them, the source has certainly lost nothing: those up to the position, and those up to
// the end of the file that holds its last transaction, which was found to be the same.
func (f *Ferry) provenReads(ctx context.Context, mark logMark) (func(position, end BinlogCoordinate) bool, error) {
	var size uint64
	if !f.replaced && !mark.isZero() {
		files, err := f.sourceServer.LogFiles(ctx, f.SourceDB)
		if err != nil {
			return nil, err
		}
		size, _ = fileSize(files, mark.file)
	}
	return func(position, end BinlogCoordinate) bool {
		return end.File == "" || end.CompareFilePos(position) <= 0 || end.File == mark.file && end.Pos <= size
	}, nil
}

// checkCanRepair refuses what cannot be repaired: a state does not tell which rows were
// read when, and rows of others may lie between those of a filter.
func (f *Ferry) checkCanRepair(readEnd BinlogCoordinate) error {
	at, _ := f.executedBefore()
	if f.proven(at, readEnd) {
		return nil
	}
	e := &UnconfirmedRowsError{ReadUpTo: readEnd, StreamedUpTo: at}
	switch {
	case f.resume == nil:
		e.Forever = "a state does not tell which rows these are"
	case f.CopyFilter != nil && !f.scoped():
		e.Forever = "a copy filter in code does not tell them from rows of others"
	default:
		for id, t := range f.resume.tables {
			t.emptied = t.emptied || f.unproven(f.resume, t)
			if t.emptied {
				f.StateTracker.forgetTable(fullTableName(id.SchemaName, id.TableName))
			}
		}
		return nil
	}
	return e
}

// scoped reports whether every table's rows are chosen by a predicate in SQL, which then
// stands in what removes them, too.
func (f *Ferry) scoped() bool {
	for _, t := range f.Tables {
		if l, err := t.layout(); err != nil || l.scope == nil {
			return false
		}
	}
	return true
}

// unproven reports whether reads of a table have to be repaired.
func (f *Ferry) unproven(p *resumePoint, t *resumeTable) bool {
	if !f.proven(p.position, t.readEnd) {
		return true
	}
	for _, ch := range t.chunks {
		if !f.proven(p.position, ch.readEnd) {
			return true
		}
	}
	return false
}

// repairUnconfirmed removes rows that the source may have lost, and the records of their
// chunks with them, then records the source's present process. Killed in between, it is
// begun again by the next process.
func (f *Ferry) repairUnconfirmed(ctx context.Context, found *resumePoint) error {
	if f.proven == nil {
		return nil
	}
	tables := f.unprovenTables(found)
	if err := f.forgetCompared(ctx, tables...); err != nil {
		return err
	}
	for _, table := range tables {
		if err := f.repairTable(ctx, found, table, found.tables[NewTableIdentifierFromSchemaTable(table)]); err != nil {
			return &TableError{Schema: table.Schema, Table: table.Name, Err: fmt.Errorf("removing rows that the source may have lost: %w", err)}
		}
		f.StateTracker.forgetTable(table.String())
	}
	f.checkpoint.countRecorded(found) // again: some are gone
	return f.checkpoint.confirmAll(ctx, f.process, found)
}

// unprovenTables are the tables of which reads have to be repaired.
func (f *Ferry) unprovenTables(found *resumePoint) (tables []*TableSchema) {
	for id, t := range found.tables {
		if table := f.Tables.Get(id.SchemaName, id.TableName); table != nil && !t.again && f.unproven(found, t) {
			tables = append(tables, table)
		}
	}
	return tables
}

func (f *Ferry) repairTable(ctx context.Context, found *resumePoint, table *TableSchema, t *resumeTable) error {
	l, err := table.layout()
	if err != nil {
		return err
	}
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	schema, name := names.table(table.Schema, table.Name)
	log := f.logger.WithField(fieldTable, table.String())
	// A row that never was may have kept others of its table out by its unique values, and
	// nobody knows which; of a completed table the chunks are not recorded any more.
	if t.completed || l.replaced || !l.keyOrdered {
		log.Warn("the source was restarted or replaced before its log had been followed to the end of what was read of this table: it is emptied and copied anew")
		err := f.emptyRange(ctx, l, schema, name, keyRange{}, func(ctx context.Context, q execer) error {
			return f.checkpoint.forgetCopy(ctx, q, NewTableIdentifierFromSchemaTable(table), t.number)
		})
		*t = resumeTable{number: t.number, again: true, emptied: true, next: t.next, definition: t.definition}
		return err
	}
	kept := t.chunks[:0]
	for _, ch := range t.chunks {
		if f.proven(found.position, ch.readEnd) {
			kept = append(kept, ch)
			continue
		}
		log.Warnf("the source was restarted or replaced before its log had been followed to the end of this read: rows after %s up to %s are copied anew", l.describeKey(ch.low), l.describeKey(ch.high))
		err := f.emptyRange(ctx, l, schema, name, ch.keyRange, func(ctx context.Context, q execer) error {
			return f.checkpoint.forgetChunk(ctx, q, t.number, ch.number)
		})
		if err != nil {
			return err
		}
	}
	t.chunks, t.emptied = kept, true
	return nil
}

// emptyRows bounds how many rows one statement removes.
const emptyRows = 10000

// emptyRange removes the rows of a range from the target, and then, in the transaction
// that has found none left, what else.
func (f *Ferry) emptyRange(ctx context.Context, l *tableLayout, schema, table string, r keyRange, last func(ctx context.Context, q execer) error) error {
	stmt := l.appendRange([]byte("DELETE FROM "+sqlesc.Table(schema, table)+" WHERE "), r)
	stmt = fmt.Appendf(stmt, " LIMIT %d", emptyRows)
	once := func(ctx context.Context) (done bool, err error) {
		s, err := openWriter(ctx, f.TargetDB, f.targetServer)
		if err != nil {
			return false, err
		}
		defer s.discard()
		if err := f.checkpoint.lockEpoch(ctx, s); err != nil {
			return false, err
		}
		n, err := s.execText(ctx, string(stmt))
		if done = n < emptyRows; err == nil && done {
			err = last(ctx, s.conn)
		}
		if err != nil {
			return false, err
		}
		return done, s.commit(ctx)
	}
	for done := false; !done; {
		err := f.targetPatience.do(ctx, f.DBWriteRetries, func(ctx context.Context, _ int) (err error) {
			done, err = once(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
