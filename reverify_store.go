package ghostferry

import "sync"

// ReverifyBatch is a number of keys of one table to compare again.
type ReverifyBatch struct {
	PaginationKeys []interface{}
	Table          TableIdentifier
}

// ReverifyEntry is one key to compare again.
type ReverifyEntry struct {
	PaginationKey string
	Table         *TableSchema
}

// ReverifyStore is a set of keys by table, for hosts; the verifiers' own queue is
// bounded in memory. It is safe for concurrent use of its methods.
type ReverifyStore struct {
	MapStore           map[TableIdentifier]map[string]struct{}
	BatchStore         []ReverifyBatch
	RowCount           uint64
	EmitLogPerRowCount uint64

	mu sync.Mutex
}

// NewReverifyStore returns an empty store.
func NewReverifyStore() *ReverifyStore {
	return &ReverifyStore{MapStore: map[TableIdentifier]map[string]struct{}{}, EmitLogPerRowCount: 10000}
}

// Add adds a key once.
func (s *ReverifyStore) Add(entry ReverifyEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := NewTableIdentifierFromSchemaTable(entry.Table)
	keys := s.MapStore[id]
	if keys == nil {
		keys = map[string]struct{}{}
		s.MapStore[id] = keys
	}
	if _, known := keys[entry.PaginationKey]; !known {
		keys[entry.PaginationKey] = struct{}{}
		if s.RowCount++; s.EmitLogPerRowCount > 0 && s.RowCount%s.EmitLogPerRowCount == 0 {
			tellIterativeQueue(metricsOrGlobal(nil), s.RowCount)
		}
	}
}

// FlushAndBatchByTable empties the set into batches of at most batchsize keys.
func (s *ReverifyStore) FlushAndBatchByTable(batchsize int) []ReverifyBatch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.BatchStore = nil
	for id, keys := range s.MapStore {
		batch := ReverifyBatch{Table: id}
		for key := range keys {
			if batch.PaginationKeys = append(batch.PaginationKeys, key); len(batch.PaginationKeys) == batchsize {
				s.BatchStore = append(s.BatchStore, batch)
				batch.PaginationKeys = nil
			}
		}
		if len(batch.PaginationKeys) > 0 {
			s.BatchStore = append(s.BatchStore, batch)
		}
	}
	s.MapStore, s.RowCount = map[TableIdentifier]map[string]struct{}{}, 0
	return s.BatchStore
}

// tellIterativeQueue sends how many rows wait to be compared again.
func tellIterativeQueue(m *Metrics, current uint64) {
	m.Gauge("iterative_verifier_store_rows", float64(current), nil, 1)
}
