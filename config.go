package ghostferry

// Values of [Config.VerifierType].
const (
	// VerifierTypeOnline compares both sides in chunks while the source is written.
	VerifierTypeOnline = "Online"
	// VerifierTypeChecksumTable compares digests of whole tables, chunk by chunk, while nobody writes.
	VerifierTypeChecksumTable = "ChecksumTable"
	// VerifierTypeIterative walks the tables and keeps a queue of changed rows.
	VerifierTypeIterative = "Iterative"
	// VerifierTypeInline compares every batch as it is written, and changed rows.
	VerifierTypeInline = "Inline"
	// VerifierTypeNoVerification compares nothing.
	VerifierTypeNoVerification = "NoVerification"
)

// MySQLNumParamsLimit is the greatest number of placeholders of a prepared statement.
const MySQLNumParamsLimit = 1<<16 - 1

// Defaults of settings whose zero value means the default.
const (
	defaultDBWriteRetries          = 5
	defaultDBReadRetries           = 60
	defaultBinlogEventBatchSize    = applyBatchRows
	defaultDataIterationConcurrent = 4
	defaultDataIterationChunkBytes = 1 << 20
	// maxDataIterationChunkBytes: four times as much and the largest row are within codec.MaxRowsBytes.
	maxDataIterationChunkBytes     = 128 << 20
	defaultBinlogApplyLanes        = 4
	defaultMaxCutoverRetries       = 1
	defaultCutoverRetryWaitSeconds = 1
	defaultReportFrequency         = 1000
	defaultTailGuardSeconds        = 5
	defaultMaxOutageSeconds        = 300
	defaultCheckpointSchema        = "_ghostferry"
)

// Values of [Config.Checkpoint].
const (
	checkpointOn  = ""
	checkpointOff = "off"
	// bulkLoadOff is the other value of BulkLoad.
	bulkLoadOff = "off"
)

// Config is everything that can be set about a run. It can be read from JSON, see
// [DecodeConfig]; field names are the JSON names. A zero value means the default that
// the field's comment names. ValidateConfig fills the defaults in.
type Config struct {
	// Source is the server to copy from. Required.
	Source *DatabaseConfig
	// Target is the server to copy to. Required.
	Target *DatabaseConfig

	// DatabaseRewrites renames schemas: name on the source → name on the target.
	DatabaseRewrites map[string]string
	// TableRewrites renames tables, in every schema: source → target.
	TableRewrites map[string]string

	// DBWriteRetries is how often a write to the target that collides with others
	// (deadlock, lock wait) is tried in total, in half a minute at least. Default 5.
	DBWriteRetries int
	// MaxOutageSeconds is how long a server that cannot be used (unreachable, restarting,
	// read-only, its disk full, out of connections) is waited for before the run ends with
	// an *OutageError, which can be resumed. Default 300.
	MaxOutageSeconds int

	// TableFilter chooses the tables. Required; set in code.
	TableFilter TableFilter
	// CopyFilter chooses rows; nil means all. Set in code. A [*RowFilter] describes them by
	// values of columns, which is what most hosts need. Of any other filter, to compare
	// both sides, the online verifier asks BuildSelect for queries on the target, too: with a table that
	// has the target's names, and with a row digest as last column; and ApplicableEvent
	// for single rows, as if they were inserted.
	CopyFilter CopyFilter

	// SharedStreamer is the stream that several Ferries of one source share; nil has one of
	// the Ferry's own. Set in code, and started before Start.
	SharedStreamer *SharedStreamer `json:"-"`

	// MyServerId is the replica id that the binary log is read with. 0 means a random
	// one that no replica of the server uses.
	MyServerId uint32

	// BinlogEventBatchSize is how many row changes are applied at once, at most (what takes
	// longer than half a second is applied in smaller batches), and the batch
	// size of re-verification. Default 10000.
	BinlogEventBatchSize int
	// BinlogApplyLanes is how many connections apply changes side by side. Default 4.
	BinlogApplyLanes int

	// DataIterationBatchSizePerTableOverride sets the rows of a batch by table.
	DataIterationBatchSizePerTableOverride *DataIterationBatchSizePerTableOverride
	// DataIterationChunkBytes is about how many bytes of rows are copied at once, at most
	// 128 MiB. The smaller of it and the batch size in rows decides. Default 1 MiB; up to 4 MiB
	// by LOAD DATA, where there is more than 32 MiB to copy, and 12 MiB of all workers together.
	DataIterationChunkBytes uint64
	// DBReadRetries is how often a read from the source is tried in total, in half a
	// minute at least. Default 60. Outages are bounded by MaxOutageSeconds.
	DBReadRetries int
	// DataIterationConcurrency is how many chunks are copied side by side. Without it there are 4
	// at first, and up to 12 as long as the copy becomes faster by them.
	DataIterationConcurrency int

	// AutomaticCutover lets the cutover begin as soon as the rows are copied. Without
	// it the run waits until somebody sets it.
	AutomaticCutover bool

	// DumpStateOnSignal makes Run catch SIGINT and SIGTERM and end as interrupted.
	// With DumpStateToStdoutOnError the state is printed then, too.
	DumpStateOnSignal bool
	// DumpStateToStdoutOnError prints the state as JSON on standard output when the
	// run fails.
	DumpStateToStdoutOnError bool
	// DoNotIncludeSchemaCacheInStateDump leaves LastKnownTableSchemaCache null in
	// states, which makes them smaller.
	DoNotIncludeSchemaCacheInStateDump bool

	// ControlServerConfig is the HTTP control server; nil means off.
	ControlServerConfig *ControlServerConfig

	// ProgressCallback is posted the progress every ProgressReportFrequency
	// milliseconds (default 1000), at the cutover and at the end. Its Payload is
	// given back as CustomPayload.
	ProgressCallback        HTTPCallback
	ProgressReportFrequency int
	// StateCallback is posted the state every StateReportFrequency milliseconds
	// (default 1000); a CheckpointStore gets it as often.
	StateCallback        HTTPCallback
	StateReportFrequency int
	// ErrorCallback is posted the error that ended the run. It is given three seconds when
	// the run was interrupted, because the process has to end then.
	ErrorCallback HTTPCallback
	// CallbackTLS says which authorities the endpoints of https callbacks are verified by,
	// and which certificate they are shown; nil means the system's authorities and none.
	CallbackTLS *TLSConfig
	// CutoverLock is posted when writes to the source have to stop; they must have
	// stopped when it answers 200, within 30 s. A host that needs longer gives Cutover a
	// CutoverHooks.Fence instead.
	CutoverLock HTTPCallback
	// CutoverUnlock is posted when the target may be written.
	CutoverUnlock HTTPCallback
	// CutoverAbort is posted when a cutover is given up after CutoverLock: the hook has to
	// let writes to the source go on, which stays the one that counts. CutoverUnlock is
	// not posted then. Without a URI the source stays blocked until somebody unblocks it.
	CutoverAbort HTTPCallback
	// CutoverFence is a ready-made fence that Cutover closes instead of posting CutoverLock;
	// nil means none. StartCutover and FlushBinlogAndStopStreaming refuse to go on with one.
	CutoverFence *FenceConfig
	// MaxCutoverRetries is how often CutoverLock is tried in total. Default 1.
	MaxCutoverRetries int
	// CutoverRetryWaitSeconds is the pause between two tries. Default 1.
	CutoverRetryWaitSeconds int
	// TailGuardSeconds is for how long Cutover reads the source's log after the switch: a
	// change of a moved table there is an alarm. Default 5; negative: not at all.
	TailGuardSeconds int

	// StateToResumeFrom is the state of an interrupted run; nil means a fresh run, or
	// the one that the checkpoint on the target tells of.
	StateToResumeFrom *SerializableState
	// StrictStateVersion refuses a state written by another build (BuildVersion):
	// StateToResumeFrom, or the one of the CheckpointStore.
	StrictStateVersion bool

	// BulkLoad is "off" to copy by INSERT only. Empty means that tables which LOAD DATA
	// LOCAL carries exactly go by it where the target allows it (local_infile=ON): it is
	// cheaper for the target. What the server did is checked row by row either way.
	BulkLoad string

	// DeferSecondaryIndexes says which secondary indexes of empty target tables are dropped
	// before rows are copied to them, and created when the rows are there, which is faster:
	// "off", "non-unique" or "all". Empty means "off". What has to be created is kept in
	// the checkpoint until it is done; an index that could not be created exactly as it was
	// stays. Ferry.Plan tells which are deferred.
	DeferSecondaryIndexes string
	// DeferSecondaryIndexesMinBytes: tables whose rows take less on the source, by its own
	// estimate and without indexes, keep theirs. Default 0: all tables.
	DeferSecondaryIndexesMinBytes uint64

	// Checkpoint is "off" to keep no checkpoint on the target: then an interrupted run
	// goes on only from StateToResumeFrom. Empty means on.
	Checkpoint string
	// CheckpointSchema is the schema on the target that holds the checkpoint.
	// Default "_ghostferry".
	CheckpointSchema string
	// RunID names the run in its checkpoint. Empty means a name made from the source, the
	// tables, their names on the target and the conditions of a RowFilter, so that the same
	// configuration finds its own checkpoint. Which rows other code of a CopyFilter chooses is not
	// in it: without a RunID such a run does not go on from a recorded one, it is refused.
	RunID string

	// VerifierType is one of the VerifierType constants; empty means Ferry.Verifier,
	// which may be nil and excludes any other VerifierType.
	VerifierType string
	// IterativeVerifierConfig belongs to VerifierTypeIterative. Like the next two it has no effect
	// under another VerifierType, which is logged, with what would be wrong in it.
	IterativeVerifierConfig IterativeVerifierConfig
	// InlineVerifierConfig belongs to VerifierTypeInline.
	InlineVerifierConfig InlineVerifierConfig
	// OnlineVerifierConfig belongs to VerifierTypeOnline. Its Repair and its
	// CompareAllDuringCutover are refused under another one: they would not be done.
	OnlineVerifierConfig OnlineVerifierConfig

	// SkipBinlogRowImageCheck is refused: changes with partial row images cannot be
	// applied without losing data.
	SkipBinlogRowImageCheck bool

	// CompressedColumnsForVerification are compared after decompression.
	CompressedColumnsForVerification ColumnCompressionConfig
	// IgnoredColumnsForVerification are not compared.
	IgnoredColumnsForVerification ColumnIgnoreConfig
	// ForceIndexForVerification are index hints of fingerprint queries.
	ForceIndexForVerification ForceIndexConfig

	// CascadingPaginationColumnConfig chooses the columns that tables are walked by.
	CascadingPaginationColumnConfig *CascadingPaginationColumnConfig

	// SkipTargetVerification switches the watch on the target's binary log off.
	SkipTargetVerification bool
	// SkipForeignKeyConstraintsCheck makes warnings of what is wrong with foreign keys:
	// cascades that the binary log does not record, parents that do not move, rows
	// without a parent at the end.
	SkipForeignKeyConstraintsCheck bool
	// EnableRowBatchSize has no effect, which is logged; the progress always has the bytes.
	EnableRowBatchSize bool
	// AllowSuperUserOnReadOnly allows a target that is read_only.
	AllowSuperUserOnReadOnly bool
	// EnablePProf serves profiles at http://127.0.0.1:6060/debug/pprof/ from Run to Close, to
	// who has ControlServerConfig's Token (also where that server is switched off). Where none
	// is configured the run makes one, in a file that only its user can read; a line of the
	// log names it.
	EnablePProf bool

	// LogBackend may be "logrus", the only one there is.
	LogBackend string
	// LogLevel is "debug", "info", "warn" or "error". Empty means the logger's own.
	LogLevel string

	// UpdatableConfig is what can be changed during a run.
	UpdatableConfig UpdatableConfig

	// DataIterationBatchSize is the old place of UpdatableConfig's.
	DataIterationBatchSize uint64
	// ServerBindAddr is the old place of ControlServerConfig's.
	ServerBindAddr string
	// WebBasedir is the old place of ControlServerConfig's.
	WebBasedir string
	// ControlServerCustomScripts is the old place of ControlServerConfig.CustomScripts.
	ControlServerCustomScripts map[string][]string

	// Throttlers pause the run while servers are behind or busy. When the host sets
	// Ferry.Throttler only Adaptive is used, and the log names the others.
	Throttlers ThrottlersConfig

	// CheckpointStore keeps the run's states outside of the target; nil means nowhere. A
	// checkpoint on the target, if there is one, comes first. Set in code.
	CheckpointStore CheckpointStore `json:"-"`
	// Logger is the run's logger; nil means logrus' standard logger. Set in code.
	Logger Logger `json:"-"`
	// Metrics is the run's emitter; nil means the one of SetGlobalMetrics, if any.
	// Set in code.
	Metrics *Metrics `json:"-"`

	// notices tell which protection is off and what has no effect; see takeNotices.
	notices []string
	// updates tells who obeys UpdatableConfig of changes; made by ValidateConfig.
	updates *updateHub
	// workersByDefault: DataIterationConcurrency is what ValidateConfig has filled in.
	// workersChosen is 1 once Update was given a number of workers.
	workersByDefault bool
	workersChosen    int32
}

// takeNotices returns what ValidateConfig wants to be logged once, and forgets it.
func (c *Config) takeNotices() []string {
	notices := c.notices
	c.notices = nil
	return notices
}

// CascadingPaginationColumnConfig chooses the columns that tables are walked by. A nil
// one chooses none.
type CascadingPaginationColumnConfig struct {
	// PerTable is schema → table → column, and wins over everything else.
	PerTable map[string]map[string]string
	// FallbackColumn is used for tables without a primary key, and must be unique and NOT NULL
	// in each of them; where a primary key does not do (FLOAT, DOUBLE, the beginning of a
	// column), it is tried before the other unique keys.
	FallbackColumn string
}

// PaginationColumnFor returns the column of a table and whether there is one.
func (c *CascadingPaginationColumnConfig) PaginationColumnFor(schemaName, tableName string) (string, bool) {
	if c == nil {
		return "", false
	}
	column, found := c.PerTable[schemaName][tableName]
	return column, found
}

// FallbackPaginationColumnName returns the fallback column and whether there is one.
func (c *CascadingPaginationColumnConfig) FallbackPaginationColumnName() (string, bool) {
	if c == nil || c.FallbackColumn == "" {
		return "", false
	}
	return c.FallbackColumn, true
}
