package ghostferry

import (
	"context"
	"fmt"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// debtsTable is the table of rows that the apply has left out and that are owed since, see
// debtLedger. A key is recorded in the transaction that claims its change as executed, and struck in
// the one that claims another change of the row, or behind a look at both sides that found it paid.
// What the copy has left out is recorded with the chunk.
//
// A row with table number 0 says that debts of the run are recorded: versions before did not.
const debtsTable = "debts"

// debtWhat says of which rows the keys are.
const debtWhat = "a row that is owed"

// loadDebts reads what the processes before have left out, and whether they have recorded it.
func (c *checkpoint) loadDebts(ctx context.Context, db queryer, p *resumePoint) (err error) {
	if p.debts, err = c.loadKeys(ctx, db, debtsTable, debtWhat, p); err != nil {
		return err
	}
	return db.QueryRowContext(ctx, "SELECT COUNT(*)>0 FROM "+c.table(debtsTable)+" WHERE run_id=? AND table_number=0", c.runID).Scan(&p.debtsKept)
}

// keepDebts says that debts are recorded from here on, beginning with those of a state that the run
// goes on from.
func (c *checkpoint) keepDebts(ctx context.Context, tx *sql.Tx, previous *resumePoint, owed map[*TableSchema][]string) error {
	if previous != nil && previous.debtsKept {
		return nil
	}
	exec := func(stmt []byte) error {
		_, err := tx.ExecContext(ctx, string(stmt))
		return err
	}
	if err := exec(c.appendKeys(nil, debtsTable, 0, []string{""})); err != nil || previous != nil {
		return err
	}
	return c.recordDebts(owed, exec)
}

// recordDebts has the statements executed that record keys.
func (c *checkpoint) recordDebts(owed map[*TableSchema][]string, exec func(stmt []byte) error) error {
	return eachKeyList(owed, func(table *TableSchema, keys []string) error {
		return exec(c.appendKeys(nil, debtsTable, c.number(table), keys))
	})
}

// strikeDebts has the statements executed that take keys off the record.
func (c *checkpoint) strikeDebts(struck map[*TableSchema][]string, exec func(stmt []byte) error) error {
	return eachKeyList(struck, func(table *TableSchema, keys []string) error {
		return exec(c.appendStruck(nil, debtsTable, c.number(table), keys))
	})
}

// eachKeyList calls f for the keys of each table, of no more at once than a statement should have.
func eachKeyList(keys map[*TableSchema][]string, f func(table *TableSchema, keys []string) error) error {
	const mostKeys, mostBytes = 1000, 128 << 10
	for table, list := range keys {
		for len(list) > 0 {
			n, size := 1, len(list[0])
			for n < min(len(list), mostKeys) && size+len(list[n]) <= mostBytes {
				size += len(list[n])
				n++
			}
			if err := f(table, list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
	}
	return nil
}

// endDebts empties the record at the end of the run. What is still on it has been looked up and found
// to be paid: a key that is not in settled was struck before, and the target has lost that, with what
// paid it.
func (c *checkpoint) endDebts(ctx context.Context, tx *sql.Tx, settled map[*TableSchema][]string) error {
	known := map[int]map[string]bool{}
	for table, keys := range settled {
		number := c.number(table)
		known[number] = make(map[string]bool, len(keys))
		for _, key := range keys {
			known[number][key] = true
		}
	}
	lost := 0
	err := c.eachKey(ctx, tx, debtsTable, debtWhat, func(number int, key string) error {
		if number != 0 && !known[number][key] {
			lost++
		}
		return nil
	})
	if err == nil && lost > 0 {
		err = &TargetLostCommitsError{RunID: c.runID, What: fmt.Sprintf("what had paid %d rows that were owed", lost)}
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, "DELETE FROM "+c.table(debtsTable)+" WHERE run_id=? AND table_number<>0", c.runID)
	}
	return err
}
