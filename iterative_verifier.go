package ghostferry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// IterativeVerifier walks all tables before the cutover and keeps a queue of the rows
// that differed or changed, which is compared again at the cutover. Differences before
// the cutover never fail a run: only those that are left at the end count.
//
// It is what OnlineVerifier is, in the words and with the settings of older hosts. Call
// Initialize first, before the stream runs.
type IterativeVerifier struct {
	// CompressionVerifier tells which columns are compared decompressed; may be nil.
	CompressionVerifier *CompressionVerifier
	// CursorConfig is required by older hosts' rules; its Throttler is obeyed.
	CursorConfig *CursorConfig
	// BinlogStreamer tells which rows change.
	BinlogStreamer *BinlogStreamer
	// TableSchemaCache are all tables.
	TableSchemaCache TableSchemaCache
	// SourceDB and TargetDB are the two servers.
	SourceDB *sql.DB
	TargetDB *sql.DB
	// Tables are the tables to compare.
	Tables []*TableSchema
	// IgnoredTables are names without schema.
	IgnoredTables []string
	// IgnoredColumns is table → columns left out.
	IgnoredColumns map[string]map[string]struct{}
	// DatabaseRewrites and TableRewrites map names of the source to the target's.
	DatabaseRewrites map[string]string
	TableRewrites    map[string]string
	// Concurrency is the number of workers.
	Concurrency int
	// MaxExpectedDowntime is how long the last comparison before the cutover may take;
	// 0 means any time.
	MaxExpectedDowntime time.Duration

	logger Logger
	ferry  *Ferry // nil in a literal

	made struct { // by Initialize
		sync.Mutex
		*comparer
		walked bool // VerifyBeforeCutover has returned
	}
	background backgroundRun
}

var _ Verifier = (*IterativeVerifier)(nil)

// SanityCheckParameters names the first required parameter that is missing.
func (v *IterativeVerifier) SanityCheckParameters() error {
	switch {
	case v.CursorConfig == nil:
		return errors.New("CursorConfig must not be nil")
	case v.BinlogStreamer == nil:
		return errors.New("BinlogStreamer must not be nil")
	case v.SourceDB == nil:
		return errors.New("SourceDB must not be nil")
	case v.TargetDB == nil:
		return errors.New("TargetDB must not be nil")
	case v.Concurrency <= 0:
		return fmt.Errorf("iterative verifier concurrency must be greater than 0, not %d", v.Concurrency)
	}
	return nil
}

// Initialize checks the parameters and begins to listen to the stream.
func (v *IterativeVerifier) Initialize() error {
	if err := v.SanityCheckParameters(); err != nil {
		return err
	}
	c, err := v.newComparer()
	if err != nil {
		return err
	}
	c.compareEverything()
	v.made.Lock()
	defer v.made.Unlock()
	if v.made.comparer == nil {
		v.BinlogStreamer.AddEventListener(v.binlogEventListener)
	}
	v.made.comparer, v.made.walked = c, false
	return nil
}

func (v *IterativeVerifier) newComparer() (*comparer, error) {
	var prints []*fingerprint
	var ignored []string
	for _, t := range v.Tables {
		if slices.Contains(v.IgnoredTables, t.Name) {
			ignored = append(ignored, t.String())
			continue
		}
		var compressed map[string]string
		if v.CompressionVerifier != nil {
			compressed = v.CompressionVerifier.compressions[t.Name]
		}
		f, err := newFingerprintOf(t, v.IgnoredColumns[t.Name], compressed)
		if err != nil {
			return nil, err
		}
		prints = append(prints, f)
	}
	c := newComparer(v.SourceDB, v.TargetDB, newRewrites(v.DatabaseRewrites, v.TableRewrites), prints)
	c.concurrency, c.logger, c.maxDowntime = v.Concurrency, taggedLogger(v.logger, "iterative_verifier"), v.MaxExpectedDowntime
	c.throttler, c.ignored = v.CursorConfig.Throttler, ignored
	c.metrics = &comparerMetrics{rows: true, queue: func(m *Metrics, current, _ uint64) { tellIterativeQueue(m, current) }}
	if v.ferry != nil {
		c.metrics.metrics = v.ferry.Metrics
		c.wire(v.ferry)
	}
	return c, nil
}

// core returns what Initialize has made.
func (v *IterativeVerifier) core() (*comparer, error) {
	v.made.Lock()
	defer v.made.Unlock()
	if v.made.comparer == nil {
		return nil, errors.New("the iterative verifier was not initialized: call Initialize first")
	}
	return v.made.comparer, nil
}

func (v *IterativeVerifier) binlogEventListener(events []DMLEvent) error {
	c, err := v.core()
	if err != nil {
		return err
	}
	return c.queueEvents(events)
}

// VerifyOnce compares all tables now, which nobody should be writing: the first row that
// differs is the verdict.
func (v *IterativeVerifier) VerifyOnce() (VerificationResult, error) {
	if err := v.SanityCheckParameters(); err != nil {
		return VerificationResult{}, err
	}
	c, err := v.newComparer()
	if err != nil {
		return VerificationResult{}, err
	}
	c.compareEverything()
	result, err := c.duringCutover(context.Background())
	if err == nil && !c.sawRows() {
		return VerificationResult{}, c.nothingCompared()
	}
	if err != nil || result.DataCorrect {
		return result, err
	}
	table, keys := firstMismatches(c.mismatches())
	result.Message = fmt.Sprintf("verification failed on table: %s for paginationKey: %s", table, keys[0])
	return result, nil
}

// VerifyBeforeCutover is VerifyBeforeCutoverContext without a context.
func (v *IterativeVerifier) VerifyBeforeCutover() error {
	return v.VerifyBeforeCutoverContext(context.Background())
}

// VerifyBeforeCutoverContext walks all tables, and compares again what differed or
// changed until little is left.
func (v *IterativeVerifier) VerifyBeforeCutoverContext(ctx context.Context) error {
	if v.TableSchemaCache == nil {
		return errors.New("TableSchemaCache must be given for VerifyBeforeCutover")
	}
	c, err := v.core()
	if err != nil {
		return err
	}
	if err := c.beforeCutover(ctx); err != nil {
		return err
	}
	v.made.Lock()
	defer v.made.Unlock()
	v.made.walked = true
	return nil
}

// VerifyDuringCutover is VerifyDuringCutoverContext without a context.
func (v *IterativeVerifier) VerifyDuringCutover() (VerificationResult, error) {
	return v.VerifyDuringCutoverContext(context.Background())
}

// VerifyDuringCutoverContext compares what is left, when the source no longer changes.
func (v *IterativeVerifier) VerifyDuringCutoverContext(ctx context.Context) (VerificationResult, error) {
	c, err := v.core()
	if err != nil {
		return VerificationResult{}, err
	}
	result, err := c.duringCutover(ctx)
	if err == nil && !c.sawRows() && result.DataCorrect {
		return VerificationResult{}, c.nothingCompared()
	}
	if err != nil || result.DataCorrect {
		return result, err
	}
	table, keys := firstMismatches(c.mismatches())
	result.Message = fmt.Sprintf("verification failed on table: %s for paginationKeys: %s", table, strings.Join(keys, ","))
	return result, nil
}

func (v *IterativeVerifier) verifyFenced(ctx context.Context) (VerificationResult, error) {
	return v.VerifyDuringCutoverContext(ctx)
}

// firstMismatches returns the keys of the first table, by name, with differing rows.
func firstMismatches(mismatches []OnlineVerifierMismatch) (table string, keys []string) {
	for _, m := range mismatches {
		if table == "" || m.Table < table {
			table, keys = m.Table, nil
		}
		if m.Table == table {
			keys = append(keys, m.Key)
		}
	}
	slices.Sort(keys)
	return table, keys
}

// Mismatches returns the rows found to differ.
func (v *IterativeVerifier) Mismatches() []OnlineVerifierMismatch {
	c, err := v.core()
	if err != nil {
		return nil
	}
	return c.mismatches()
}

// StartInBackground starts VerifyDuringCutover without waiting for it. It needs
// Initialize and VerifyBeforeCutover before, and can be called once.
func (v *IterativeVerifier) StartInBackground() error {
	if _, err := v.core(); err != nil {
		return err
	}
	v.made.Lock()
	walked := v.made.walked
	v.made.Unlock()
	if !walked {
		return errors.New("VerifyBeforeCutover has to be called before StartInBackground")
	}
	return v.background.startOnce(v.VerifyDuringCutover)
}

// Wait waits for the verification started in the background.
func (v *IterativeVerifier) Wait() { v.background.wait() }

// Message is empty.
func (v *IterativeVerifier) Message() string { return "" }

// Result is the outcome of the verification started in the background so far.
func (v *IterativeVerifier) Result() (VerificationResultAndStatus, error) {
	return v.background.result()
}

// Close ends the connections that are kept between two comparisons.
func (v *IterativeVerifier) Close() error {
	if c, err := v.core(); err == nil {
		c.close()
	}
	return nil
}

// GetHashes returns the digests, in hexadecimal, of the rows that have one of the keys,
// by the keys' String form. schemaName and tableName are those of the server that db is.
func (v *IterativeVerifier) GetHashes(db *sql.DB, schemaName, tableName, paginationKeyColumn string, columns []schema.TableColumn, paginationKeys []interface{}) (map[string][]byte, error) {
	table := &TableSchema{Table: &schema.Table{Schema: schemaName, Name: tableName}}
	return hashesOf(context.Background(), db, table, paginationKeyColumn, columns, nil, paginationKeys)
}

// hashesOf reads digests over the given columns and the key. The table's own definition
// is used where it has one.
func hashesOf(ctx context.Context, db *sql.DB, table *TableSchema, keyColumn string, columns []schema.TableColumn, compressed map[string]string, keys []interface{}) (map[string][]byte, error) {
	wanted := map[string]bool{keyColumn: true}
	for _, c := range columns {
		wanted[c.Name] = true
	}
	if len(table.Columns) == 0 {
		table.Columns = columns
	}
	ignored := map[string]struct{}{}
	for i := range table.Columns {
		if name := table.Columns[i].Name; !wanted[name] {
			ignored[name] = struct{}{}
		}
	}
	if table.PaginationKeyColumn == nil {
		i := columnByName(table.Columns, keyColumn)
		if i < 0 {
			return nil, fmt.Errorf("column %s is not among those of %s", QuoteField(keyColumn), QuotedTableName(table))
		}
		table.PaginationKeyColumn, table.PaginationKeyIndex = &table.Columns[i], i
	}
	f, err := newFingerprintOf(table, ignored, compressed)
	if err != nil {
		return nil, err
	}
	encoded := make([]string, len(keys))
	for i, key := range keys {
		text := fmt.Sprint(key)
		if raw, ok := key.([]byte); ok {
			text = string(raw)
			if f.hexKeyPart(0) {
				text = hex.EncodeToString(raw)
			}
		}
		if encoded[i], err = f.parseKey(text); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return map[string][]byte{}, nil
	}
	srv, err := server.Detect(ctx, db)
	if err != nil {
		return nil, err
	}
	reader := newTargetFingerprints(db, srv, rewrites{}, nil)
	defer reader.close()
	found, err := reader.keys(ctx, f, encoded)
	if err != nil {
		return nil, err
	}
	hashes := make(map[string][]byte, len(found))
	for key, digest := range found {
		hashes[f.keyText(key)] = []byte(hex.EncodeToString([]byte(digest)))
	}
	return hashes, nil
}

// GetMd5HashesSql returns upstream's statement that reads MD5 digests of rows by their
// keys, and its arguments. It is made for hosts; servers without MD5() refuse it, and
// the library never runs it.
func GetMd5HashesSql(schema, table, paginationKeyColumn string, columns []schema.TableColumn, paginationKeys []interface{}) (string, []interface{}, error) {
	if len(columns) == 0 || len(paginationKeys) == 0 {
		return "", nil, fmt.Errorf("digests of %s need at least one column and one key", QuotedTableNameFromString(schema, table))
	}
	digests := make([]string, len(columns))
	for i, column := range columns {
		digests[i] = fmt.Sprintf("MD5(COALESCE(%s, 'NULL'))", normalizedColumn(column))
	}
	key := QuoteField(paginationKeyColumn)
	query := fmt.Sprintf("SELECT %s, MD5(CONCAT(%s)) AS row_fingerprint FROM %s WHERE %s IN (%s) ORDER BY %s", key, strings.Join(digests, ","),
		QuotedTableNameFromString(schema, table), key, strings.TrimSuffix(strings.Repeat("?,", len(paginationKeys)), ","), key)
	return query, paginationKeys, nil
}
