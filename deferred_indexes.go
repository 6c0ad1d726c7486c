package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// Values of [Config.DeferSecondaryIndexes].
const (
	// DeferIndexesOff keeps all indexes.
	DeferIndexesOff = "off"
	// DeferIndexesNonUnique defers those that are not unique.
	DeferIndexesNonUnique = "non-unique"
	// DeferIndexesAll defers unique ones as well.
	DeferIndexesAll = "all"
)

// deferredIndexes drops secondary indexes of empty target tables before rows are copied
// to them, and creates them when the rows are there: sorted at once, an index costs a
// fraction of what it costs row by row.
//
// What was there is recorded in the checkpoint before the first index is dropped, and the
// record stays until the table's definition is what it was. So any later process of the
// run knows what is owed, whatever the earlier one was doing when it died.
//
// Each change of a table's indexes is made under a user lock of the server, which lives as
// long as its session, also when nobody is at the other end any more. A process that takes
// a run over raises the epoch first and then waits for these locks; who takes one asks for
// the epoch afterwards. So no ALTER of a dead or fenced process is still running, or
// begins, when the apply of the next one starts: unique indexes need that (docs/algorithm.md).
type deferredIndexes struct {
	// immutable
	db          *sql.DB
	server      *server.Server
	checkpoint  *checkpoint // nil: nothing can be deferred
	logger      Logger
	patience    *patience
	attempts    int
	concurrency int
	unique      bool // unique ones, too
	minBytes    uint64
	off         bool
	names       rewrites
	pauses      *tablePauses
	// rebuilt is told of a table that the server may have written anew, see compareAnew.
	rebuilt func(ctx context.Context, table *TableSchema, save bool) error

	owed []*deferredTable // owned by Run; guarded by mu while indexes are created
	mu   sync.Mutex
}

// deferredTable is a table some of whose indexes are created later.
type deferredTable struct {
	table        *TableSchema
	number       int    // in the checkpoint
	schema, name string // on the target
	record       *indexRecord
}

func (t *deferredTable) quoted() string { return sqlesc.Table(t.schema, t.name) }

func (f *Ferry) newDeferredIndexes() *deferredIndexes {
	return &deferredIndexes{
		db: f.indexesDB, server: f.targetServer, checkpoint: f.checkpoint, logger: taggedLogger(f.logger, "indexes"),
		patience: f.targetPatience, attempts: f.DBWriteRetries, concurrency: f.DataIterationConcurrency,
		off: f.defersNothing(), unique: f.DeferSecondaryIndexes == DeferIndexesAll, minBytes: f.DeferSecondaryIndexesMinBytes,
		names: newRewrites(f.DatabaseRewrites, f.TableRewrites), pauses: &f.BinlogWriter.pauses, rebuilt: f.compareAnew,
	}
}

// defersNothing: without a checkpoint nobody would know after a crash what is owed; and a
// target that tenants share is not ours to change.
func (f *Ferry) defersNothing() bool {
	return f.checkpoint == nil || f.CopyFilter != nil || f.DeferSecondaryIndexes == "" || f.DeferSecondaryIndexes == DeferIndexesOff
}

// indexesComeLater are the tables to which an interrupted run owes indexes.
func (f *Ferry) indexesComeLater(ctx context.Context) (map[TableIdentifier]bool, error) {
	if f.resume == nil {
		return nil, nil
	}
	records, err := f.checkpoint.indexRecords(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which indexes are owed: %w", err)
	}
	later := map[TableIdentifier]bool{}
	for id, t := range f.resume.tables {
		later[id] = records[t.number] != nil
	}
	return later, nil
}

// begin takes over what earlier processes of the run owe, waits for ALTERs of theirs that
// still run, and drops the indexes that this run defers. The epoch has been raised, and
// nothing is written to the tables yet.
func (d *deferredIndexes) begin(ctx context.Context, tables []*TableSchema, previous *resumePoint) error {
	if d.checkpoint == nil {
		return nil
	}
	if err := d.takeOver(ctx, tables, d.locked); err != nil {
		return err
	}
	if d.off {
		return nil
	}
	chosen, err := d.choose(ctx, tables, previous)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return nil
	}
	if err := d.checkpoint.recordIndexes(ctx, chosen); err != nil {
		return fmt.Errorf("recording the indexes that are created later: %w", err)
	}
	failpoint("index.recorded")
	return d.each(ctx, chosen, d.drop)
}

// owes tells whether an index is owed to any table.
func (d *deferredIndexes) owes() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.owed) > 0
}

// oweForced tells whether an index is owed that its table has to be verified by.
func (d *deferredIndexes) oweForced() bool {
	return slices.ContainsFunc(d.owed, (*deferredTable).owesForced)
}

// owesForced tells whether the index that the table has to be verified by is one of its deferred ones.
func (t *deferredTable) owesForced() bool {
	return slices.ContainsFunc(t.record.deferred, func(i indexDefinition) bool {
		return strings.EqualFold(i.Name, t.table.ForcedIndexForVerification)
	})
}

// takeOver finds what is owed and makes sure that nobody else is at it.
func (d *deferredIndexes) takeOver(ctx context.Context, tables []*TableSchema, wait func(context.Context, *deferredTable, func(*session) error) error) error {
	records, err := d.checkpoint.indexRecords(ctx)
	if err != nil {
		return fmt.Errorf("reading which indexes are owed: %w", err)
	}
	d.owed = nil
	for _, table := range tables {
		number, ok := d.checkpoint.tableNumbers[NewTableIdentifierFromSchemaTable(table)]
		if !ok || records[number] == nil {
			continue
		}
		t := d.target(table)
		t.number, t.record = number, records[number]
		d.owed = append(d.owed, t)
	}
	busy, err := d.locksInUse(ctx, d.owed)
	if err != nil {
		return err
	}
	return d.each(ctx, busy, func(ctx context.Context, t *deferredTable) error {
		return wait(ctx, t, func(*session) error { return nil })
	})
}

func (d *deferredIndexes) target(table *TableSchema) *deferredTable {
	t := &deferredTable{table: table}
	t.schema, t.name = d.names.table(table.Schema, table.Name)
	return t
}

// choose returns the tables whose indexes are dropped now: those that this run fills, that
// are large enough and empty. One that an earlier process has recorded and not dropped yet
// is among them.
func (d *deferredIndexes) choose(ctx context.Context, tables []*TableSchema, previous *resumePoint) ([]*deferredTable, error) {
	var candidates []*deferredTable
	for _, table := range tables {
		id := NewTableIdentifierFromSchemaTable(table)
		if previous != nil {
			if p := previous.tables[id]; p != nil && !p.again && (p.completed || p.rows > 0 || len(p.chunks) > 0) {
				continue
			}
		}
		if table.dataLength < d.minBytes {
			continue
		}
		t := d.target(table)
		t.number = d.checkpoint.tableNumbers[id]
		candidates = append(candidates, t)
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	needed, err := readNeededColumns(ctx, d.db)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var chosen []*deferredTable
	err = d.each(ctx, candidates, func(ctx context.Context, t *deferredTable) error {
		empty, err := d.examine(ctx, t, needed)
		if err != nil || !empty || len(t.record.deferred) == 0 {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		chosen = append(chosen, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, t := range chosen {
		at := slices.IndexFunc(d.owed, func(o *deferredTable) bool { return o.number == t.number })
		if at >= 0 {
			chosen[i] = d.owed[at] // what is recorded counts
		} else {
			d.owed = append(d.owed, t)
		}
	}
	return chosen, nil
}

// examine reads a table's definition and decides which of its indexes are deferred. It
// says whether the table is empty.
func (d *deferredIndexes) examine(ctx context.Context, t *deferredTable, needed map[TableIdentifier]neededColumns) (empty bool, err error) {
	full, err := hasRows(ctx, d.db, t.table, t.schema, t.name)
	if err != nil || full {
		return false, err
	}
	s, err := d.session(ctx)
	if err != nil {
		return false, err
	}
	defer s.discard()
	definition, err := showCreateTable(ctx, s, t.schema, t.name)
	if err != nil {
		return false, err
	}
	t.record = &indexRecord{definition: definition}
	t.record.deferred, err = deferredOf(t.table, definition, d.unique, needed[TableIdentifier{strings.ToLower(t.schema), strings.ToLower(t.name)}])
	if errors.Is(err, errNotUnderstood) {
		d.logger.WithField(fieldTable, t.table.String()).Warn("the table's definition is not understood: its indexes stay")
		return true, nil
	}
	return true, err
}

// deferredOf are the indexes that are deferred of a table with this definition.
func deferredOf(table *TableSchema, definition string, unique bool, needed neededColumns) ([]indexDefinition, error) {
	elements, err := tableElements(definition)
	if err != nil {
		return nil, err
	}
	indexes, err := indexesOf(elements)
	if err != nil {
		return nil, err
	}
	needed = append(slices.Clone(needed), columnsThatSay(elements, "AUTO_INCREMENT")...)
	// The pagination key is what every statement finds its rows by; verification is told to use its index.
	return deferrable(indexes, unique, needed, table.keyColumnNames(), table.keyIndexName, table.ForcedIndexForVerification), nil
}

// drop drops a table's deferred indexes, as many of them as are there. A table whose server
// refuses that, with all of them there, keeps them.
func (d *deferredIndexes) drop(ctx context.Context, t *deferredTable) error {
	var refused error
	err := d.locked(ctx, t, func(s *session) error {
		refused = nil
		present, _, err := d.present(ctx, s, t)
		if err != nil || len(present) == 0 {
			return err
		}
		_, err = s.execText(ctx, "ALTER TABLE "+t.quoted()+" "+dropClauses(present))
		if mysqlerr.Classify(err) != mysqlerr.AccessDenied && !refusedForGood(err) {
			return err
		}
		present, _, lookErr := d.present(ctx, s, t)
		if lookErr != nil || len(present) < len(t.record.deferred) {
			return errors.Join(err, lookErr)
		}
		refused = err
		return nil
	})
	if err == nil && refused != nil {
		remedy := ""
		if mysqlerr.Classify(refused) == mysqlerr.AccessDenied {
			remedy = ": grant ALTER, CREATE and INSERT on the table"
		}
		d.logger.WithError(refused).WithField(fieldTable, t.table.String()).Warn("its indexes stay while rows are copied, which is slower" + remedy)
		return d.settle(ctx, t)
	}
	if err != nil {
		return &TableError{Schema: t.table.Schema, Table: t.table.Name, Err: fmt.Errorf("dropping indexes of %s that are created later: %w", t.quoted(), err)}
	}
	failpoint("index.dropped")
	d.logger.WithField(fieldTable, t.table.String()).Infof("%d secondary indexes are created when the rows are copied", len(t.record.deferred))
	return nil
}

// refusedForGood tells whether a server has answered that it cannot make a change of indexes.
func refusedForGood(err error) bool {
	return mysqlerr.Classify(err) == mysqlerr.Permanent && mysqlerr.Number(err) != 0
}

// settle: nothing is owed to the table any more.
func (d *deferredIndexes) settle(ctx context.Context, t *deferredTable) error {
	if err := d.checkpoint.indexesCreated(ctx, t.number); err != nil {
		return fmt.Errorf("recording that the indexes of %s are there: %w", t.quoted(), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed = slices.DeleteFunc(d.owed, func(o *deferredTable) bool { return o == t })
	return nil
}

// likeness says how a table's definition compares with what it was before.
type likeness int

const (
	another likeness = iota
	asBefore
	otherOrder // but for the order of the deferred indexes it is as before
	lacking    // but for deferred indexes that are missing it is as before
)

// present returns which of a table's deferred indexes are there, and whether the table is
// defined as it was before.
func (d *deferredIndexes) present(ctx context.Context, s *session, t *deferredTable) (present []indexDefinition, found likeness, err error) {
	definition, err := showCreateTable(ctx, s, t.schema, t.name)
	if err != nil {
		return nil, another, err
	}
	now, err := tableElements(definition)
	if err != nil {
		return nil, another, err
	}
	before, err := tableElements(t.record.definition)
	if err != nil {
		return nil, another, err
	}
	indexes, err := indexesOf(now)
	if err != nil {
		return nil, another, err
	}
	for _, index := range t.record.deferred {
		if slices.ContainsFunc(indexes, func(i indexDefinition) bool { return i.Name == index.Name }) {
			present = append(present, index)
		}
	}
	return present, t.record.compare(before, now), nil
}

// compare compares the elements of two definitions.
func (r *indexRecord) compare(before, now []string) likeness {
	if slices.Equal(before, now) {
		return asBefore
	}
	deferred := func(element string) bool {
		return slices.ContainsFunc(r.deferred, func(i indexDefinition) bool { return i.Clause == element })
	}
	// Names are unique in a table: as many elements of the same texts are the same indexes.
	switch {
	case !slices.Equal(slices.DeleteFunc(slices.Clone(before), deferred), slices.DeleteFunc(slices.Clone(now), deferred)):
		return another
	case len(now) < len(before):
		return lacking
	}
	return otherOrder
}

func dropClauses(indexes []indexDefinition) string {
	clauses := make([]string, len(indexes))
	for i, index := range indexes {
		clauses[i] = "DROP KEY " + sqlesc.Ident(index.Name)
	}
	return strings.Join(clauses, ", ")
}

func addClauses(indexes []indexDefinition) string {
	clauses := make([]string, len(indexes))
	for i, index := range indexes {
		clauses[i] = "ADD " + index.Clause
	}
	return strings.Join(clauses, ", ")
}

func indexClauses(indexes []indexDefinition) string {
	clauses := make([]string, len(indexes))
	for i, index := range indexes {
		clauses[i] = index.Clause
	}
	return strings.Join(clauses, ", ")
}

// each calls do for the tables, some at a time.
func (d *deferredIndexes) each(ctx context.Context, tables []*deferredTable, do func(ctx context.Context, t *deferredTable) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, d.concurrency))
	for _, t := range tables {
		group.Go(func() error { return do(ctx, t) })
	}
	return group.Wait()
}

// readNeededColumns reads the columns of all foreign keys of a server, on both sides, by
// table, with names in lower case: a server may compare them either way.
func readNeededColumns(ctx context.Context, db *sql.DB) (map[TableIdentifier]neededColumns, error) {
	rows, err := db.QueryContext(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("reading the target's foreign keys: %w", err)
	}
	defer func() { _ = rows.Close() }()
	needed := map[TableIdentifier]neededColumns{}
	for rows.Next() {
		var child, parent TableIdentifier
		var column, referenced string
		if err := rows.Scan(&child.SchemaName, &child.TableName, &column, &parent.SchemaName, &parent.TableName, &referenced); err != nil {
			return nil, err
		}
		for _, side := range []struct {
			table  TableIdentifier
			column string
		}{{child, column}, {parent, referenced}} {
			id := TableIdentifier{strings.ToLower(side.table.SchemaName), strings.ToLower(side.table.TableName)}
			needed[id] = append(needed[id], side.column)
		}
	}
	return needed, rows.Err()
}

// showCreateTable reads a table's definition, on a session of deferredIndexes.session.
func showCreateTable(ctx context.Context, s *session, schema, table string) (string, error) {
	var name, definition string
	err := s.conn.QueryRowContext(ctx, "SHOW CREATE TABLE "+sqlesc.Table(schema, table)).Scan(&name, &definition)
	if err != nil {
		return "", fmt.Errorf("reading the definition of %s: %w", sqlesc.Table(schema, table), err)
	}
	return definition, nil
}
