package ghostferry

import (
	"slices"
	"time"
)

// ControlServerTableStatus is one table in [ControlServerStatus].
type ControlServerTableStatus struct {
	// TableName is "schema.table".
	TableName string
	// PaginationKeyName is the column that the table is walked by.
	PaginationKeyName string
	// Status is one of the TableAction constants.
	Status string
	// LastSuccessfulPaginationKey is the kind's lowest key while nothing is copied.
	LastSuccessfulPaginationKey PaginationKey
	// TargetPaginationKey is the highest key to copy; null for an empty table.
	TargetPaginationKey PaginationKey
	// BatchSize is the current number of rows of a batch.
	BatchSize uint64
}

// ControlServerStatus is the answer of GET /api/status, which grows with the number of
// tables; the page uses GET /api/overview and /api/tables instead.
type ControlServerStatus struct {
	Progress

	GhostferryVersion string
	// RunID names the run; POST /api/cutover has to repeat it.
	RunID          string
	SourceHostPort string
	TargetHostPort string

	OverallState string
	StartTime    time.Time
	CurrentTime  time.Time
	// TimeTaken, ETA and BinlogStreamerLag are whole seconds in the JSON form. A lag or
	// ETA that is not known is 0 there.
	TimeTaken         time.Duration
	ETA               time.Duration
	BinlogStreamerLag time.Duration

	AutomaticCutover            bool
	BinlogStreamerStopRequested bool
	CompletedTableCount         int
	TotalTableCount             int
	// TableStatuses are completed, copying, waiting, each sorted by name.
	TableStatuses    []*ControlServerTableStatus
	AllTableNames    []string
	AllDatabaseNames []string

	VerifierSupport     bool
	VerifierAvailable   bool
	VerificationStarted bool
	VerificationDone    bool
	VerificationResult  VerificationResult
	VerificationErr     error

	// CustomScriptStatuses is null when no scripts are configured.
	CustomScriptStatuses map[string]CustomScriptStatus
}

// status takes a snapshot with durations as they are.
func (s *ControlServer) status() *ControlServerStatus {
	f := s.F
	overview := s.view.current().overview
	st := &ControlServerStatus{
		Progress: *f.Progress(), GhostferryVersion: BuildVersion(), RunID: overview.RunID,
		SourceHostPort: overview.SourceHostPort, TargetHostPort: overview.TargetHostPort,
		OverallState: overview.State, StartTime: f.StartTime, CurrentTime: time.Now(),
		TimeTaken: f.elapsed(), AutomaticCutover: f.CutoverAllowed(),
		BinlogStreamerStopRequested: !f.StopCoordinate().IsZero(), TotalTableCount: len(f.Tables), CompletedTableCount: overview.TablesCompleted,
		AllTableNames: sortedNames(f.Tables), CustomScriptStatuses: s.scripts.statuses(), VerifierSupport: s.Verifier != nil,
	}
	st.Progress.VerifierMessage = redactedText(st.Progress.VerifierMessage)
	if overview.ETASeconds != nil {
		st.ETA = time.Duration(*overview.ETASeconds * float64(time.Second))
	}
	if overview.ReadLagSeconds != nil {
		st.BinlogStreamerLag = time.Duration(*overview.ReadLagSeconds * float64(time.Second))
	}
	for _, name := range st.AllTableNames {
		if schema := f.Tables[name].Schema; !slices.Contains(st.AllDatabaseNames, schema) {
			st.AllDatabaseNames = append(st.AllDatabaseNames, schema)
		}
	}
	slices.Sort(st.AllDatabaseNames)
	for _, action := range []string{TableActionCompleted, TableActionCopying, TableActionWaiting} {
		for _, name := range st.AllTableNames {
			if t := st.Tables[name]; t.CurrentAction == action {
				st.TableStatuses = append(st.TableStatuses, tableStatus(f.Tables[name], name, t))
			}
		}
	}
	if s.Verifier != nil {
		result, err := s.Verifier.Result()
		st.VerificationStarted, st.VerificationDone = result.IsStarted(), result.IsDone()
		st.VerificationResult, st.VerificationErr = result.VerificationResult, err
		st.VerificationResult.Message = redactedText(result.Message)
		st.VerifierAvailable = s.verifierAvailable(overview.State, result)
	}
	return st
}

// tableStatus is right for empty tables, too: they have no key at all.
func tableStatus(table *TableSchema, name string, t TableProgress) *ControlServerTableStatus {
	status := &ControlServerTableStatus{
		TableName: name, Status: t.CurrentAction, BatchSize: t.BatchSize,
		LastSuccessfulPaginationKey: t.LastSuccessfulPaginationKey, TargetPaginationKey: t.TargetPaginationKey,
	}
	if column := table.GetPaginationColumn(); column != nil {
		status.PaginationKeyName = column.Name
		if status.LastSuccessfulPaginationKey == nil {
			status.LastSuccessfulPaginationKey = MinPaginationKey(column)
		}
	}
	return status
}
