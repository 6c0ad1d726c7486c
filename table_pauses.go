package ghostferry

import (
	"context"
	"sync"
)

// tablePauses keeps the writer of changes away from tables for a time. A batch is not
// begun while one of its tables is paused; batches run one after another, so those behind
// it wait as well. The zero value is ready.
type tablePauses struct {
	mu struct {
		sync.Mutex
		paused  map[*TableSchema]struct{}
		busy    []*tableChanges // of the batch that is being written
		changed chan struct{}   // closed and replaced when one of the two changes
	}
}

// enter waits until none of a batch's tables is paused, with no transaction open.
func (p *tablePauses) enter(ctx context.Context, tables []*tableChanges) error {
	return p.when(ctx, waitIndex, func() bool {
		for _, t := range tables {
			if _, ok := p.mu.paused[t.writer.table]; ok {
				return false
			}
		}
		p.mu.busy = tables
		return true
	})
}

// leave ends what enter began.
func (p *tablePauses) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.busy = nil
	p.changedLocked()
}

// pause returns when no batch with changes of the table is being written, and keeps it so
// until resume is called.
func (p *tablePauses) pause(ctx context.Context, table *TableSchema) (resume func(), err error) {
	p.mu.Lock()
	if p.mu.paused == nil {
		p.mu.paused = map[*TableSchema]struct{}{}
	}
	p.mu.paused[table] = struct{}{}
	p.mu.Unlock()
	resume = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.mu.paused, table)
		p.changedLocked()
	}
	err = p.when(ctx, waitApplied, func() bool {
		for _, t := range p.mu.busy {
			if t.writer.table == table {
				return false
			}
		}
		return true
	})
	if err != nil {
		resume()
		return nil, err
	}
	return resume, nil
}

// when waits until is, which is called with the lock held, says true.
func (p *tablePauses) when(ctx context.Context, cause waitCause, is func() bool) error {
	end := func() {}
	defer func() { end() }()
	for first := true; ; first = false {
		p.mu.Lock()
		if is() {
			p.mu.Unlock()
			return nil
		}
		if p.mu.changed == nil {
			p.mu.changed = make(chan struct{})
		}
		changed := p.mu.changed
		p.mu.Unlock()
		if first {
			end = waitingFor(ctx, cause)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *tablePauses) changedLocked() {
	if p.mu.changed != nil {
		close(p.mu.changed)
		p.mu.changed = nil
	}
}
