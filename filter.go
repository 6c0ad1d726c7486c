package ghostferry

import (
	sq "github.com/Masterminds/squirrel"
)

// CopyFilter chooses rows: which of them are copied, and which changes of the binary
// log are followed. Both answers have to describe the same set.
// Its methods are called from several goroutines.
type CopyFilter interface {
	// BuildSelect returns the query of the next batch: the given columns of the
	// applicable rows whose key is greater than the given one, in key order, at most
	// as many as the last argument says. Fewer are well although there are more, but none
	// says that there are none. An error is treated as a read error. The columns are the key's
	// alone where only the end of a batch is looked for, whose rows are then read up to it.
	BuildSelect([]string, *TableSchema, PaginationKey, uint64) (sq.SelectBuilder, error)

	// ApplicableEvent says whether a changed row belongs to the set. An error ends
	// the run.
	ApplicableEvent(DMLEvent) (bool, error)
}

// TableFilter chooses schemas and tables.
type TableFilter interface {
	// ApplicableTables gets all tables of one schema and returns those to move.
	ApplicableTables([]*TableSchema) ([]*TableSchema, error)

	// ApplicableDatabases gets the server's schemas, system schemas left out, and
	// returns those to move. It may name schemas that it was not given.
	ApplicableDatabases([]string) ([]string, error)
}
