package ghostferry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
)

// debtLookup is how many keys are looked up together.
const debtLookup = 1000

// debtLedger remembers rows that were left out because another row of the target held
// one of their unique values. That row is the image of a later moment, so the left-out
// row has a change in the log that is still to be applied and writes it: its debt. The
// ledger checks, while the program runs, that every debt is really paid.
//
// Debts outlive the process, with the chunk, in the checkpoint's record of them, or in the state:
// the position claims the changes that were left out, and no stream brings them again. A key too many
// does no harm, it is looked up; so a debt is noted before anything claims its change, and taken off
// behind what pays it. Who serializes both reads the claims first.
type debtLedger struct {
	// logEnd returns the end of the source's log: a bound by which the change of a row
	// read before must have come.
	logEnd func(ctx context.Context) (BinlogCoordinate, error)
	// unpaid returns those of the keys whose rows exist on the source and not on the target.
	unpaid func(ctx context.Context, table *TableSchema, keys []string) ([]string, error)
	// keptOut says of rows by what they are kept out, as far as it can; nil: nobody can.
	keptOut func(ctx context.Context, table *TableSchema, keys []string) []KeptOutRow

	mu struct {
		sync.Mutex
		debts map[*TableSchema]map[string]debt
		count int
		// settled are on the record and not owed any more: what settled them has no
		// transaction of its own, so the next batch takes them off.
		settled map[*TableSchema]map[string]struct{}
	}
}

type debt struct {
	bound    BinlogCoordinate // by which its change must have come; zero: it is looked up at once
	recorded bool             // in the checkpoint's table of debts
}

// note adds rows that were left out; bind tells later by when they are due.
func (d *debtLedger) note(table *TableSchema, keys []string, recorded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.debts == nil {
		d.mu.debts = map[*TableSchema]map[string]debt{}
	}
	if d.mu.debts[table] == nil {
		d.mu.debts[table] = map[string]debt{}
	}
	for _, key := range keys {
		before, known := d.mu.debts[table][key]
		if !known {
			d.mu.count++
		}
		d.mu.debts[table][key] = debt{recorded: recorded || before.recorded}
	}
}

// bind makes the rows due when the apply has come to the present end of the source's log.
func (d *debtLedger) bind(ctx context.Context, table *TableSchema, keys []string) error {
	bound, err := d.logEnd(ctx)
	if err != nil {
		return fmt.Errorf("reading the source's log end: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range keys {
		if now, ok := d.mu.debts[table][key]; ok { // not paid meanwhile
			d.mu.debts[table][key] = debt{bound, now.recorded}
		}
	}
	return nil
}

// paid records that a change of the key was executed; of one that is on the record that it was
// struck in the same transaction.
func (d *debtLedger) paid(table *TableSchema, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removeLocked(table, key)
}

func (d *debtLedger) removeLocked(table *TableSchema, key string) {
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

// all returns what is owed.
func (d *debtLedger) all() map[*TableSchema][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sortedKeys(d.mu.debts)
}

// serialize returns what is owed as a state has it.
func (d *debtLedger) serialize() map[string][]string {
	out := map[string][]string{}
	if d == nil {
		return out
	}
	for table, keys := range d.all() {
		for _, key := range keys {
			out[table.String()] = append(out[table.String()], hex.EncodeToString([]byte(key)))
		}
	}
	return out
}

// settledKeys returns what is on the record and not owed any more.
func (d *debtLedger) settledKeys() map[*TableSchema][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sortedKeys(d.mu.settled)
}

func sortedKeys[V any](tables map[*TableSchema]map[string]V) map[*TableSchema][]string {
	out := map[*TableSchema][]string{}
	for table, keys := range tables {
		if len(keys) > 0 {
			out[table] = slices.Sorted(maps.Keys(keys))
		}
	}
	return out
}

// struckBy returns what a batch that executes changes of keys takes off the record: of those the
// debts, and what is settled; not what the batch itself leaves out.
func (d *debtLedger) struckBy(executed iter.Seq2[*TableSchema, string], left map[*TableSchema][]string) map[*TableSchema][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.count == 0 && len(d.mu.settled) == 0 {
		return nil
	}
	struck := map[*TableSchema]map[string]struct{}{}
	for table, keys := range d.mu.settled {
		struck[table] = maps.Clone(keys)
	}
	for table, key := range executed {
		if d.mu.debts[table][key].recorded {
			if struck[table] == nil {
				struck[table] = map[string]struct{}{}
			}
			struck[table][key] = struct{}{}
		}
	}
	for table, keys := range left {
		for _, key := range keys {
			delete(struck[table], key)
		}
	}
	return sortedKeys(struck)
}

// struck records that a batch has taken off the record what was settled.
func (d *debtLedger) struck() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.mu.settled)
}

// due returns the debts whose bound the apply has passed.
func (d *debtLedger) due(applied BinlogCoordinate, all bool) map[*TableSchema]map[string]debt {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[*TableSchema]map[string]debt{}
	for table, debts := range d.mu.debts {
		for key, owed := range debts {
			if all || applied.CompareFilePos(owed.bound) >= 0 {
				if out[table] == nil {
					out[table] = map[string]debt{}
				}
				out[table][key] = owed
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
	for table, due := range d.due(applied, final) {
		for keys := range slices.Chunk(slices.Sorted(maps.Keys(due)), debtLookup) {
			unpaid, err := d.unpaid(ctx, table, keys)
			if err != nil {
				return fmt.Errorf("looking up left-out rows of %s: %w", table, err)
			}
			d.settle(table, keys, due, unpaid)
			if len(unpaid) == 0 {
				continue
			}
			if final {
				return d.overdue(ctx, table, unpaid, applied)
			}
			if err := d.bind(ctx, table, unpaid); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle takes out the keys that were looked up and are not unpaid, unless they were left out again
// meanwhile.
func (d *debtLedger) settle(table *TableSchema, keys []string, due map[string]debt, unpaid []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	still := map[string]bool{}
	for _, key := range unpaid {
		still[key] = true
	}
	for _, key := range keys {
		now, ok := d.mu.debts[table][key]
		if still[key] || ok && now != due[key] {
			continue
		}
		d.removeLocked(table, key)
		if now.recorded {
			if d.mu.settled == nil {
				d.mu.settled = map[*TableSchema]map[string]struct{}{}
			}
			if d.mu.settled[table] == nil {
				d.mu.settled[table] = map[string]struct{}{}
			}
			d.mu.settled[table][key] = struct{}{}
		}
		traceSettle(table, key)
	}
}

// overdue is a DebtError that names what is in the way.
func (d *debtLedger) overdue(ctx context.Context, table *TableSchema, unpaid []string, at BinlogCoordinate) error {
	err := debtError(table, unpaid, at)
	if debt, ok := errors.AsType[*DebtError](err); ok && d.keptOut != nil {
		debt.KeptOut = d.keptOut(ctx, table, unpaid[:len(debt.Keys)])
	}
	return err
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
