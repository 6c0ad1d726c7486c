package ghostferry

const (
	// loadedChunkBytes is what a chunk has that goes by LOAD DATA, where there is enough to copy. A
	// commit can hold up all others for a tenth of a second (docs/decisions/033): with fewer of
	// them the target idles less.
	loadedChunkBytes = 4 << 20
	// leastChunks is how many chunks a worker should find: with fewer, larger ones one would be
	// left alone with the last.
	leastChunks = 8
)

// chunkSize is about how many bytes a chunk has: as configured, if it is, and otherwise by what is
// to be gained from large ones. all is what there is to copy; loads: the rows go by LOAD DATA.
func chunkSize(configured, workers int, all uint64, loads bool) int {
	switch {
	case configured > 0:
		return configured
	case !loads:
		return defaultDataIterationChunkBytes
	}
	most := min(loadedChunkBytes, maxFoundBytes/workers, int(all/uint64(leastChunks*workers)))
	return max(defaultDataIterationChunkBytes, most)
}

// fullChunk is how many bytes end the reading of a chunk whose rows are larger than those before;
// its last row may exceed them.
func fullChunk(chunkBytes int) int {
	return max(min(4*chunkBytes, 2*loadedChunkBytes), 2*chunkBytes, largeRow)
}

// chunkSize is about how many bytes a chunk of a table has; it changes with the workers.
func (d *DataIterator) chunkSize(l *tableLayout) int {
	return chunkSize(d.chunkBytes, d.configuredWorkers(), d.tablesBytes, d.loads != nil && d.loads(l))
}

// bytesOf is about how many bytes all tables have.
func bytesOf(tables []*TableSchema) (bytes uint64) {
	for _, t := range tables {
		bytes += t.dataLength
	}
	return bytes
}

// loads reports whether a table's rows go by LOAD DATA.
func (f *Ferry) loads(l *tableLayout) bool {
	return f.targetServer != nil && l.loads(f.targetServer, f.BulkLoad)
}
