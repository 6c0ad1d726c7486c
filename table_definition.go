package ghostferry

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/intern"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// tableDefinition describes what rows on their way depend on, as text: columns in their
// order with type, character set and what generates them, unique indexes, and the key that
// the table is walked by. It is kept with the run and compared when the run resumes.
//
// Each line is a subject, a tab and a description; names are quoted as Go does.
func tableDefinition(t *TableSchema) string {
	var b strings.Builder
	for i := range t.Columns {
		info := t.columnInfo(i)
		fmt.Fprintf(&b, "column %q\t%s", info.Name, info.ColumnType)
		if info.Collation != "" {
			fmt.Fprintf(&b, " collate %s", info.Collation)
		}
		if i < len(t.columnInfos) && !info.Nullable {
			b.WriteString(" not null")
		}
		if info.Generated {
			b.WriteString(" generated")
		}
		b.WriteByte('\n')
	}
	for _, index := range t.indexInfos {
		if index.Unique {
			fmt.Fprintf(&b, "unique index %q\t%s\n", index.Name, t.indexParts(index))
		}
	}
	var key []string
	for _, c := range t.keyColumnIndexes() {
		key = append(key, fmt.Sprintf("%q", t.Columns[c].Name))
	}
	fmt.Fprintf(&b, "the key\t%s\n", strings.Join(key, ", "))
	return b.String()
}

// Subjects of what a run records behind a table's definition.
const (
	rowsSubject   = "the rows"
	targetSubject = "the target table"
)

// recordedDefinition is what a run records of a table: its definition, which of its rows move, and,
// where it is another one, its name on the target.
func (f *Ferry) recordedDefinition(t *TableSchema) string {
	rows, target := f.selectionOf(t)
	text := tableDefinition(t) + rowsSubject + "\t" + rows + "\n"
	if target != strconv.Quote(QuotedTableName(t)) {
		text += targetSubject + "\t" + target + "\n"
	}
	return text
}

// selectionOf says which rows of a table move, and where to.
func (f *Ferry) selectionOf(t *TableSchema) (rows, target string) {
	schema, table := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(t.Schema, t.Name)
	rows, target = "all", sqlesc.Table(schema, table)
	_, whole := f.CopyFilter.(*RowFilter)
	switch l, err := t.layout(); {
	case err == nil && l.scope != nil && len(l.scope.columns) > 0:
		rows = l.scope.predicate
	case err == nil && l.scope == nil && f.CopyFilter != nil && !whole:
		rows = "as the CopyFilter's code says"
	}
	return strconv.Quote(rows), strconv.Quote(target)
}

// cutSelection parts what was recorded into the table's definition and the rest, which is empty in
// what earlier versions have recorded.
func cutSelection(recorded string) (definition, selection string) {
	if i := strings.LastIndex(recorded, "\n"+rowsSubject+"\t"); i >= 0 {
		return recorded[:i+1], recorded[i+1:]
	}
	return recorded, ""
}

func (t *TableSchema) indexParts(index indexInfo) string {
	parts := make([]string, len(index.Columns))
	for i, c := range index.Columns {
		if c < 0 {
			parts[i] = "an expression"
			continue
		}
		parts[i] = fmt.Sprintf("%q", t.Columns[c].Name)
		if index.SubParts[i] > 0 {
			parts[i] += fmt.Sprintf(" (%d)", index.SubParts[i])
		}
	}
	return strings.Join(parts, ", ")
}

// definitionDifference says in words what differs between two definitions, at most three
// things; empty when they are equal.
func definitionDifference(then, now string) string {
	if then == now {
		return ""
	}
	before, after := definitionLines(then), definitionLines(now)
	var changes []string
	for i, line := range before {
		j := indexOfSubject(after, line.subject)
		switch {
		case j < 0:
			changes = append(changes, line.subject+" is gone")
		case after[j].description != line.description:
			changes = append(changes, fmt.Sprintf("%s was %s and is %s", line.subject, line.description, after[j].description))
		case j != i && len(before) == len(after):
			changes = append(changes, fmt.Sprintf("%s was number %d and is number %d", line.subject, i+1, j+1))
		}
	}
	for _, line := range after {
		if indexOfSubject(before, line.subject) < 0 {
			changes = append(changes, line.subject+" is new")
		}
	}
	const shown = 3
	if len(changes) > shown {
		changes = append(changes[:shown], "and more")
	}
	if len(changes) == 0 {
		return "the order of its columns is another"
	}
	return strings.Join(changes, ", ")
}

type definitionLine struct{ subject, description string }

func definitionLines(text string) []definitionLine {
	var lines []definitionLine
	for line := range strings.Lines(text) {
		subject, description, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		lines = append(lines, definitionLine{subject, description})
	}
	return lines
}

func indexOfSubject(lines []definitionLine, subject string) int {
	for i := range lines {
		if lines[i].subject == subject {
			return i
		}
	}
	return -1
}

// checkDefinitions compares the tables' definitions with those that the run began with,
// and with what the source has now: the stream tells of changes after its start, and the
// tables were read before that was fixed. Faults are *SchemaChangedErrors, joined.
func (f *Ferry) checkDefinitions(ctx context.Context) error {
	live, err := LoadTablesContext(ctx, f.SourceDB, knownTablesFilter(f.Tables), f.CompressedColumnsForVerification,
		f.IgnoredColumnsForVerification, f.ForceIndexForVerification, f.CascadingPaginationColumnConfig)
	if err != nil {
		return fmt.Errorf("reading the tables' definitions again: %w", err)
	}
	definitions, texts := make(map[string]string, len(f.Tables)), intern.Strings{}
	var faults []error
	for _, name := range sortedNames(f.Tables) {
		t := f.Tables[name]
		now := tableDefinition(t)
		definitions[name] = texts.Of(f.recordedDefinition(t)) // tables that are made by one pattern share it
		var change string
		if live[name] == nil {
			change = "it no longer exists"
		} else {
			change = definitionDifference(now, tableDefinition(live[name]))
		}
		if then := f.definitionBefore(t); then != "" && change == "" {
			before, _ := cutSelection(then)
			change = definitionDifference(before, now)
			definitions[name] = then
		}
		if change != "" {
			faults = append(faults, &SchemaChangedError{Schema: t.Schema, Table: t.Name, Change: change})
		}
	}
	f.StateTracker.keepDefinitions(definitions)
	return joinErrors(faults)
}

// definitionBefore returns a table's definition when the run began, empty in a new run and
// where it was not recorded.
func (f *Ferry) definitionBefore(t *TableSchema) string {
	switch {
	case f.resume != nil:
		if before := f.resume.tables[NewTableIdentifierFromSchemaTable(t)]; before != nil {
			return before.definition
		}
	case f.resuming:
		return f.StateToResumeFrom.TableDefinitions[t.String()]
	}
	return ""
}

// recordedTables returns the tables of the earlier process. whole says that they are all of them: a
// state of an early version does not have those whose copy had not begun.
func (f *Ferry) recordedTables() (tables map[string]TableIdentifier, whole bool) {
	tables = map[string]TableIdentifier{}
	if f.resume != nil {
		for id := range f.resume.tables {
			tables[fullTableName(id.SchemaName, id.TableName)] = id
		}
		return tables, true
	}
	s := f.StateToResumeFrom
	add := func(name string) {
		schema, table, _ := strings.Cut(name, ".")
		tables[name] = TableIdentifier{schema, table}
	}
	for name := range s.TableDefinitions {
		add(name)
	}
	for name := range s.LastSuccessfulPaginationKeys {
		add(name)
	}
	for name := range s.CompletedTables {
		add(name)
	}
	for name := range s.CopiedRanges {
		add(name)
	}
	for name := range s.Debts {
		add(name)
	}
	for name := range s.LastKnownTableSchemaCache {
		add(name)
	}
	return tables, len(s.TableDefinitions)+len(s.LastKnownTableSchemaCache) > 0
}

// newToRun returns the tables of which no earlier process of the run that is resumed may have
// written rows.
func (f *Ferry) newToRun() map[string]bool {
	if f.resume == nil && f.StateToResumeFrom == nil { // a new run, or the checkpoint is damaged
		return nil
	}
	added := map[string]bool{}
	recorded, whole := f.recordedTables()
	for name := range f.Tables {
		if _, known := recorded[name]; whole && !known {
			added[name] = true
		}
	}
	return added
}

// checkSelection refuses to go on with other tables, rows or target tables than those that the run
// began with: changes of a table that was left out for a while, and rows that a filter has come to
// choose, would be missing without a word. Tables that are new to the run are copied as a whole.
func (f *Ferry) checkSelection() error {
	var faults []error
	tables, _ := f.recordedTables()
	for _, name := range sortedNames(tables) {
		id := tables[name]
		t := f.Tables[name]
		change := "it is not selected any more, or the source does not have it any more"
		if t != nil {
			_, then := cutSelection(f.definitionBefore(t))
			change = f.selectionChange(t, then)
		}
		if change != "" {
			faults = append(faults, &SelectionChangedError{RunID: f.CheckpointRunID(), Schema: id.SchemaName, Table: id.TableName, Change: change})
		}
	}
	return joinErrors(faults)
}

// selectionChange says what differs from what was recorded, empty when nothing does or nothing was.
func (f *Ferry) selectionChange(t *TableSchema, then string) string {
	if then == "" {
		return ""
	}
	rowsThen, targetThen := "", strconv.Quote(QuotedTableName(t))
	for _, line := range definitionLines(then) {
		switch line.subject {
		case rowsSubject:
			rowsThen = line.description
		case targetSubject:
			targetThen = line.description
		}
	}
	rows, target := f.selectionOf(t)
	switch {
	case rows != rowsThen:
		return fmt.Sprintf("its rows that move were %s and are %s", rowsThen, rows)
	case target != targetThen:
		return fmt.Sprintf("its name on the target was %s and is %s", targetThen, target)
	}
	return ""
}
