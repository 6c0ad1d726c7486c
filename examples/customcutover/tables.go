package main

import (
	"strings"

	"github.com/ghostferry-go/ghostferry"
)

// tables chooses what moves: every table of one schema but those whose name ends in
// "_scratch", which the application makes anew wherever it runs.
type tables struct{ schema string }

// ApplicableDatabases returns those of the given schemas that move.
func (t tables) ApplicableDatabases([]string) ([]string, error) { return []string{t.schema}, nil }

// ApplicableTables returns those of the given tables that move.
func (t tables) ApplicableTables(all []*ghostferry.TableSchema) (moved []*ghostferry.TableSchema, err error) {
	for _, table := range all {
		if !strings.HasSuffix(table.Name, "_scratch") {
			moved = append(moved, table)
		}
	}
	return moved, nil
}
