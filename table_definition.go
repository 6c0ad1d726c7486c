package ghostferry

import (
	"context"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/intern"
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
		definitions[name] = texts.Of(tableDefinition(t)) // tables that are made by one pattern share it
		var change string
		if live[name] == nil {
			change = "it no longer exists"
		} else {
			change = definitionDifference(definitions[name], tableDefinition(live[name]))
		}
		if then := f.definitionBefore(t); then != "" && change == "" {
			change = definitionDifference(then, definitions[name])
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
