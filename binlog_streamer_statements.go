package ghostferry

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
)

// statement judges a statement in the log: it begins or ends a transaction, or it may
// have changed a moved table without row events.
func (s *BinlogStreamer) statement(ev *rawEvent, body []byte) error {
	parse := binlog.ParseQuery
	if ev.kind == replication.EXECUTE_LOAD_QUERY_EVENT {
		parse = binlog.ParseLoadQuery
	}
	q, err := parse(body)
	if err != nil {
		return fmt.Errorf("statement at %s: %w", ev.end, err)
	}
	if q.Text == "BEGIN" { // by far the most frequent
		s.openExplicitly()
		return nil
	}
	st := binlog.ScanStatement(q, s.foldsCase())
	switch st.Kind {
	case binlog.Begin:
		s.openExplicitly()
		return nil
	case binlog.Commit:
		return s.endTransaction(ev)
	case binlog.Rollback:
		if s.rowEvents > 0 {
			return s.unsupported(ev, nil, "a rollback after row changes in the log (tables of several storage engines in one transaction)", "move InnoDB tables only, and start again")
		}
		return s.endTransaction(ev)
	case binlog.Savepoint:
		return s.savepoint(ev, &st)
	case binlog.XA:
		return s.xaStatement(ev, q)
	case binlog.DDL:
		err = s.definition(ev, q, &st)
	case binlog.DML:
		err = s.changeByStatement(ev, q, &st)
	}
	if err != nil {
		return err
	}
	if s.explicit {
		return nil
	}
	return s.endTransaction(ev)
}

func (s *BinlogStreamer) openExplicitly() {
	if s.txn == nil {
		s.begin(binlog.GTID{})
	}
	s.explicit = true
}

// savepoint: what is rolled back to a savepoint is usually taken out of the log. Where a
// table without transactions was changed as well it stays, followed by ROLLBACK TO.
func (s *BinlogStreamer) savepoint(ev *rawEvent, st *binlog.Statement) error {
	switch {
	case st.BacksOut:
		if before, ok := s.savepoints[st.Savepoint]; s.rowEvents > 0 && (!ok || before < s.rowEvents) {
			return s.unsupported(ev, nil, "a rollback to savepoint `"+st.Savepoint+"` after row changes in the log (tables of several storage engines in one transaction)",
				"keep tables without transactions out of transactions that change the moved tables, and start again with empty target tables")
		}
	case st.Savepoint != "":
		if s.savepoints == nil {
			s.savepoints = map[string]int{}
		}
		s.savepoints[st.Savepoint] = s.rowEvents
	}
	return nil
}

func (s *BinlogStreamer) xaStatement(ev *rawEvent, q binlog.Query) error {
	x, err := binlog.ParseXA(q.Text)
	if err != nil {
		return s.unsupported(ev, nil, "the statement "+q.Text+", which is not understood,", "report it; the position has not moved past it")
	}
	switch x.Verb {
	case "START", "BEGIN":
		s.openExplicitly()
		s.beginXA()
		return nil
	case "END":
		return nil
	case "COMMIT", "ROLLBACK":
		if x.OnePhase {
			return s.xaPrepared(ev, x)
		}
		return s.xaDecided(ev, x)
	}
	return s.unsupported(ev, nil, "the statement "+q.Text+", which is not understood,", "report it; the position has not moved past it")
}

// definition refuses statements that change the definition of a moved table, or drop its
// rows without row events.
func (s *BinlogStreamer) definition(ev *rawEvent, q binlog.Query, st *binlog.Statement) error {
	if s.own != nil && s.own([]byte(q.Text)) {
		return nil
	}
	texts, err := s.readings(q, st)
	if err != nil {
		return err
	}
	for _, table := range s.TableSchema {
		if s.exempt != nil && s.exempt(table, ev.end) {
			continue
		}
		schema, name := s.streamedName(table)
		for _, st := range texts {
			if st.ChangesTable(schema, name, q.Schema) {
				return s.unsupported(ev, table, st.Verb+", a change of the table's definition or a loss of rows that no row events tell,",
					"finish or undo schema changes, then start again with empty target tables")
			}
			if s.own != nil && st.FiresOn(schema, name, q.Schema) {
				return s.unsupported(ev, table, st.Verb+", which changes rows beside ours and cannot be told from us,",
					"drop the trigger, create it again after the move, and start again with empty target tables")
			}
		}
	}
	if s.srv.IsMariaDB() && st.Selects() { // its functions may change tables
		if err := s.mayReach(ev, q, texts, s.movedSchemas(ev), true); err != nil {
			return err
		}
	}
	return s.redefinition(ev, q, texts)
}

// unsupportedReach is unsupported for a statement that names none of the tables it may
// have changed: a single one is the error's table, of several its text names some.
func (s *BinlogStreamer) unsupportedReach(ev *rawEvent, tables []*TableSchema, what, remedy string) error {
	const most = 5
	if len(tables) == 1 {
		return s.unsupported(ev, tables[0], what, remedy)
	}
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = table.String()
	}
	slices.Sort(names)
	list := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return s.unsupported(ev, nil, strings.TrimSuffix(what, ",")+", perhaps of "+list+",", remedy)
}

// movedIn are the tables of some schemas that nobody may change by statement here; nil means
// all schemas.
func (s *BinlogStreamer) movedIn(ev *rawEvent, schemas map[string]bool) (tables []*TableSchema) {
	for _, table := range s.TableSchema {
		schema, _ := s.streamedName(table)
		if (schemas == nil || schemas[schema]) && (s.exempt == nil || !s.exempt(table, ev.end)) {
			tables = append(tables, table)
		}
	}
	return tables
}

// movedSchemas are those of the tables that nobody may change by statement here.
func (s *BinlogStreamer) movedSchemas(ev *rawEvent) map[string]bool {
	moved := map[string]bool{}
	for _, table := range s.movedIn(ev, nil) {
		schema, _ := s.streamedName(table)
		moved[schema] = true
	}
	return moved
}

// inUTF8 scans a statement with other than ASCII characters once more, converted by the
// server from the character set of the session that issued it; nil when it is in UTF-8.
// Names that the server wrote itself are in UTF-8 in any case, so both readings count.
func (s *BinlogStreamer) inUTF8(q binlog.Query) (*binlog.Statement, error) {
	collation := q.ClientCollation()
	if collation == 0 || strings.IndexFunc(q.Text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return nil, nil
	}
	text, err := s.srv.ToUTF8(s.ctx, s.DB, collation, q.Text)
	if err != nil {
		return nil, fmt.Errorf("converting a statement in the binary log to UTF-8: %w", err)
	}
	if text == q.Text {
		return nil, nil
	}
	q.Text = text
	st := binlog.ScanStatement(q, s.foldsCase())
	return &st, nil
}

// changeByStatement refuses statements that may have changed rows of a moved table. They
// need not name it: it may be behind a view, a trigger or a function. MySQL logs which
// schemas were written; elsewhere the session's schema and those named count, and what the
// statement may lead to.
func (s *BinlogStreamer) changeByStatement(ev *rawEvent, q binlog.Query, st *binlog.Statement) error {
	if s.own != nil && s.own([]byte(q.Text)) {
		return nil
	}
	updated, known := q.UpdatedSchemas()
	var tables []*TableSchema
	moved := map[string]bool{}
	for _, table := range s.TableSchema {
		schema, _ := s.streamedName(table)
		if s.exempt != nil && s.exempt(table, ev.end) || known && !slices.ContainsFunc(updated, func(u string) bool { return st.SameName(u, schema) }) {
			continue
		}
		tables = append(tables, table)
		moved[schema] = true
	}
	if len(tables) == 0 {
		return nil
	}
	texts, err := s.readings(q, st)
	if err != nil {
		return err
	}
	what := "a change by statement (" + st.Verb + ")"
	for _, table := range tables {
		schema, name := s.streamedName(table)
		if slices.ContainsFunc(texts, func(st *binlog.Statement) bool { return st.MentionsTable(schema, name, q.Schema) }) {
			return s.unsupported(ev, table, what, byRowRemedy)
		}
	}
	var inReach []*TableSchema
	for _, table := range tables {
		schema, _ := s.streamedName(table)
		if known || st.SameName(q.Schema, schema) || slices.ContainsFunc(texts, func(st *binlog.Statement) bool { return st.Mentions(schema) }) {
			inReach = append(inReach, table)
		}
	}
	if len(inReach) > 0 {
		return s.unsupportedReach(ev, inReach, what, byRowRemedy)
	}
	return s.mayReach(ev, q, texts, moved, false)
}

// readings returns a statement as it is, and if it is in another character set than UTF-8
// as it reads there.
func (s *BinlogStreamer) readings(q binlog.Query, st *binlog.Statement) ([]*binlog.Statement, error) {
	converted, err := s.inUTF8(q)
	if err != nil || converted == nil {
		return []*binlog.Statement{st}, err
	}
	return []*binlog.Statement{st, converted}, nil
}

// foldsCase: the streamed server does not tell names of tables apart by case.
func (s *BinlogStreamer) foldsCase() bool { return s.srv.LowerCaseTableNames != 0 }

// streamedName returns the name of a known table as the streamed server has it.
func (s *BinlogStreamer) streamedName(table *TableSchema) (schema, name string) {
	schema, name = table.Schema, table.Name
	for streamed, known := range s.DatabaseRewrites {
		if known == table.Schema {
			schema = streamed
		}
	}
	for streamed, known := range s.TableRewrites {
		if known == table.Name {
			name = streamed
		}
	}
	return schema, name
}
