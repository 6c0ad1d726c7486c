package ghostferry

import "sync"

// BinlogVerifyBatch is a number of keys of one table to check.
type BinlogVerifyBatch struct {
	SchemaName     string
	TableName      string
	PaginationKeys []interface{}
}

// BinlogVerifyStore counts the keys that are to be verified again. A key added while it
// is being verified stays. It is safe for concurrent use.
type BinlogVerifyStore struct {
	// EmitLogPerRowsAdded is after how many additions the store's size is reported.
	EmitLogPerRowsAdded uint64

	mu    sync.Mutex
	store BinlogVerifySerializedStore
	added uint64
}

// NewBinlogVerifyStore returns an empty store.
func NewBinlogVerifyStore() *BinlogVerifyStore {
	return NewBinlogVerifyStoreFromSerialized(BinlogVerifySerializedStore{})
}

// NewBinlogVerifyStoreFromSerialized returns a store over the given map.
func NewBinlogVerifyStoreFromSerialized(serialized BinlogVerifySerializedStore) *BinlogVerifyStore {
	return &BinlogVerifyStore{EmitLogPerRowsAdded: 10000, store: serialized}
}

// Add counts a key of a table once more.
func (s *BinlogVerifyStore) Add(table *TableSchema, paginationKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables := s.store[table.Schema]
	if tables == nil {
		tables = map[string]map[string]int{}
		s.store[table.Schema] = tables
	}
	if tables[table.Name] == nil {
		tables[table.Name] = map[string]int{}
	}
	tables[table.Name][paginationKey]++
	if s.added++; s.EmitLogPerRowsAdded > 0 && s.added%s.EmitLogPerRowsAdded == 0 {
		tellInlineQueue(metricsOrGlobal(nil), s.store.RowCount(), s.added)
	}
}

// tellInlineQueue sends how many rows wait to be compared again, and how many ever did.
func tellInlineQueue(m *Metrics, current, total uint64) {
	m.Gauge("inline_verifier_current_rows", float64(current), nil, 1)
	m.Gauge("inline_verifier_total_rows", float64(total), nil, 1)
}

// RemoveVerifiedBatch counts each key of the batch once less.
func (s *BinlogVerifyStore) RemoveVerifiedBatch(batch BinlogVerifyBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.store[batch.SchemaName][batch.TableName]
	for _, key := range batch.PaginationKeys {
		text, _ := key.(string)
		if keys[text] <= 1 {
			delete(keys, text)
		} else {
			keys[text]--
		}
	}
	if len(keys) == 0 {
		delete(s.store[batch.SchemaName], batch.TableName)
	}
	if len(s.store[batch.SchemaName]) == 0 {
		delete(s.store, batch.SchemaName)
	}
}

// Batches returns the distinct keys by table, at most batchsize in each batch.
func (s *BinlogVerifyStore) Batches(batchsize int) []BinlogVerifyBatch {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batches []BinlogVerifyBatch
	for schema, tables := range s.store {
		for table, keys := range tables {
			batch := BinlogVerifyBatch{SchemaName: schema, TableName: table}
			for key := range keys {
				batch.PaginationKeys = append(batch.PaginationKeys, key)
				if len(batch.PaginationKeys) == batchsize {
					batches = append(batches, batch)
					batch.PaginationKeys = nil
				}
			}
			if len(batch.PaginationKeys) > 0 {
				batches = append(batches, batch)
			}
		}
	}
	return batches
}

// CurrentRowCount returns how often keys were added and not yet removed.
func (s *BinlogVerifyStore) CurrentRowCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.RowCount()
}

// CurrentEntriesCount returns the number of distinct keys.
func (s *BinlogVerifyStore) CurrentEntriesCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.EntriesCount()
}

// Serialize returns a deep copy for the state.
func (s *BinlogVerifyStore) Serialize() BinlogVerifySerializedStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.Copy()
}
