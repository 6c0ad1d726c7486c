package ghostferry

import (
	"context"
	"fmt"
	"sync"
)

// debtLedger remembers rows that were left out because another row of the target held
// one of their unique values. That row is the image of a later moment, so the left-out
// row has a change in the log that is still to be applied and writes it: its debt. The
// ledger checks, while the program runs, that every debt is really paid.
type debtLedger struct {
	// logEnd returns the end of the source's log: a bound by which the change of a row
	// read before must have come.
	logEnd func(ctx context.Context) (BinlogCoordinate, error)
	// present reports whether a row with the key exists on the target and on the source.
	present func(ctx context.Context, table *TableSchema, key string) (target, source bool, err error)

	mu struct {
		sync.Mutex
		debts map[*TableSchema]map[string]BinlogCoordinate // key to bound
		count int
	}
}

func (d *debtLedger) add(ctx context.Context, table *TableSchema, keys []string) error {
	bound, err := d.logEnd(ctx)
	if err != nil {
		return fmt.Errorf("reading the source's log end: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addLocked(table, keys, bound)
	return nil
}

func (d *debtLedger) addLocked(table *TableSchema, keys []string, bound BinlogCoordinate) {
	if d.mu.debts == nil {
		d.mu.debts = map[*TableSchema]map[string]BinlogCoordinate{}
	}
	if d.mu.debts[table] == nil {
		d.mu.debts[table] = map[string]BinlogCoordinate{}
	}
	for _, key := range keys {
		if _, ok := d.mu.debts[table][key]; !ok {
			d.mu.count++
		}
		d.mu.debts[table][key] = bound
	}
}

// paid records that a change of the key was executed.
func (d *debtLedger) paid(table *TableSchema, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.mu.debts[table][key]; ok {
		delete(d.mu.debts[table], key)
		d.mu.count--
	}
}

func (d *debtLedger) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.count == 0
}

// owes reports whether a row of the table is left out.
func (d *debtLedger) owes(table *TableSchema) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.mu.debts[table]) > 0
}

// due takes out the debts whose bound the apply has passed.
func (d *debtLedger) due(applied BinlogCoordinate, all bool) map[*TableSchema][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[*TableSchema][]string{}
	for table, debts := range d.mu.debts {
		for key, bound := range debts {
			if all || applied.CompareFilePos(bound) >= 0 {
				out[table] = append(out[table], key)
				delete(debts, key)
				d.mu.count--
			}
		}
	}
	return out
}

// check looks after the debts that are due at the applied position. A key that was not
// seen in the log (its table's keys may be equal without being equal byte by byte, or
// the payment came before a crash) is looked up: a row that is on the source and not on
// the target gets a new bound, and at the end of the stream (final) is an error.
func (d *debtLedger) check(ctx context.Context, applied BinlogCoordinate, final bool) error {
	if d.empty() {
		return nil
	}
	for table, keys := range d.due(applied, final) {
		var unpaid []string
		for _, key := range keys {
			target, source, err := d.present(ctx, table, key)
			if err != nil {
				return fmt.Errorf("looking up a left-out row of %s: %w", table, err)
			}
			if source && !target {
				unpaid = append(unpaid, key)
			} else {
				traceSettle(table, key)
			}
		}
		if len(unpaid) == 0 {
			continue
		}
		if final {
			return debtError(table, unpaid, applied)
		}
		if err := d.add(ctx, table, unpaid); err != nil {
			return err
		}
	}
	return nil
}

func debtError(table *TableSchema, keys []string, at BinlogCoordinate) error {
	const shown = 5
	e := &DebtError{Table: table.String(), Coordinate: at.Position()}
	l, err := table.layout()
	if err != nil {
		return err
	}
	for _, key := range keys[:min(shown, len(keys))] {
		e.Keys = append(e.Keys, l.describeKey(decodeTuple([]byte(key))))
	}
	return e
}
