package ghostferry

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// stateFormatVersion counts incompatible changes of the state's JSON form. States
// without a number are upstream's form, which is read too.
const stateFormatVersion = 1

// SerializableState is what a run needs to go on after an interruption. In JSON its
// fields have their Go names; a pagination key is {"type","value","column"} (see
// [PaginationKey]), a position {"Name","Pos"}, a table what go-mysql's schema.Table
// gives with the fields of [TableSchema] beside it.
type SerializableState struct {
	// StateFormatVersion is the version of the JSON form that the state was read from; 0
	// in states written before there was one. It is always written in the current form.
	StateFormatVersion int

	// LastSuccessfulPaginationKeys tells, for "schema.table" of the source, up to
	// which key the rows are on the target.
	LastSuccessfulPaginationKeys map[string]PaginationKey
	// CopiedRanges has, for "schema.table", the ranges beyond that key whose rows are on
	// the target too: parts of one table are copied side by side. States of upstream have
	// none.
	CopiedRanges map[string][]CopiedRange
	// RowsCopied tells, for "schema.table" of the source, how many rows all processes of the run
	// have copied, which is only shown: what is on the target is told by the keys. States of
	// upstream have none.
	RowsCopied map[string]uint64
	// GhostferryVersion is the BuildVersion of the writer.
	GhostferryVersion string
	// LastKnownTableSchemaCache is used on resume as it is; null means to read the
	// schemas again.
	LastKnownTableSchemaCache TableSchemaCache
	// TableDefinitions tells, for "schema.table" of the source, in words how it was defined
	// when the run began; a run that resumes compares. Tables without an entry are not compared.
	TableDefinitions map[string]string
	// CompletedTables has every "schema.table" whose rows are all on the target.
	CompletedTables map[string]bool
	// LastWrittenBinlogPosition is the source position that everything is applied up
	// to.
	LastWrittenBinlogPosition mysql.Position
	// LastWrittenGTIDSet is the same place as a set of transactions; empty where the
	// source has no GTIDs. Where it is set it counts: at the start of a run the file
	// position may lie behind transactions that were still being committed.
	LastWrittenGTIDSet string
	// SourceIdentity is the source that the positions belong to: its server_uuid, or what
	// MariaDB has in its place. Empty in states of upstream.
	SourceIdentity string
	// SourceStartedAt is when the source's process began that rows were read of, in unix
	// seconds; 0 when that is not known.
	SourceStartedAt int64
	// TargetIdentity is the server that the rows are on, as SourceIdentity. Empty in states of
	// upstream and of versions before it was told.
	TargetIdentity string
	// Process tells the process that made the state from the others of its run: a word drawn by lot.
	// Empty in earlier states.
	Process string
	// Epoch is one more than that of the state which a [CheckpointStore] had when the process took
	// the run over: of two processes the one with the higher Epoch has begun later. 0 in earlier states, and
	// without a store.
	Epoch uint64
	// LastWrittenLogMark tells the last transaction up to the position from another that the
	// source's log may have in its place after a crash or a reset; empty when none is known.
	LastWrittenLogMark string
	// LastReadBinlogCoordinate is how far the source's log reached after the last read of
	// rows, null when nothing was read. A source that was restarted or replaced before the
	// position has come there may have lost what was read: such a state is refused.
	LastReadBinlogCoordinate *BinlogCoordinate
	// LastExecutedBinlogCoordinate is up to where everything is on the target, when a run
	// that resumes has to begin before that because XA transactions are prepared; else null.
	LastExecutedBinlogCoordinate *BinlogCoordinate
	// Debts are, for "schema.table" of the source, rows that were left out on the target because
	// another row held one of their unique values, and that are owed until they are there: their
	// keys, hexadecimal, of an encoding of the library's own. Empty when there are none, null in
	// states of versions that did not keep them.
	Debts map[string][]string
	// LastBegunBinlogCoordinate is how far changes may have been executed, null when not beyond the
	// position: parts of a batch, or of a large transaction, may be on the target. A source that
	// lacks what lies there is refused.
	LastBegunBinlogCoordinate *BinlogCoordinate
	// LastBegunLogMark is to LastBegunBinlogCoordinate what LastWrittenLogMark is to the position.
	LastBegunLogMark string
	// Final tells that nothing was executed after the state was made: its run had ended. With any
	// other a run goes on only from the very process of the source that it is of; so does one with a
	// state that another run has gone on from already, which the host has to know.
	Final bool
	// BinlogVerifyStore holds the rows still to be verified, or null.
	BinlogVerifyStore BinlogVerifySerializedStore
	// Verification is what the verifier has left to do, which BinlogVerifyStore shows in
	// part; null when there is nothing to keep.
	Verification *VerificationState
	// LastStoredBinlogPositionForInlineVerifier is the source position that is in
	// BinlogVerifyStore; zero when there is no such verifier.
	LastStoredBinlogPositionForInlineVerifier mysql.Position
	// LastStoredBinlogPositionForTargetVerifier is the target position that was
	// watched up to; zero when the target is not watched.
	LastStoredBinlogPositionForTargetVerifier mysql.Position
	// LastWatchedTargetLogMark tells the last transaction up to there from another that the target's
	// log may have in its place; empty when none is known.
	LastWatchedTargetLogMark string
	// TargetUnwatched says that earlier processes could not watch all of the target's log: what
	// was copied by then has to be compared.
	TargetUnwatched bool
}

// CopiedRange is the keys above After up to UpTo, that one included.
type CopiedRange struct {
	After, UpTo PaginationKey
}

// copiedRangeJSON is a CopiedRange as it stands in the text.
type copiedRangeJSON struct{ After, UpTo json.RawMessage }

// MarshalJSON writes both keys with their types.
func (r CopiedRange) MarshalJSON() ([]byte, error) {
	after, err := r.After.MarshalJSON()
	if err != nil {
		return nil, err
	}
	upTo, err := r.UpTo.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return json.Marshal(copiedRangeJSON{after, upTo})
}

// UnmarshalJSON reads both keys.
func (r *CopiedRange) UnmarshalJSON(data []byte) error {
	var raw copiedRangeJSON
	err := json.Unmarshal(data, &raw)
	if err == nil {
		r.After, err = UnmarshalPaginationKey(raw.After)
	}
	if err == nil {
		r.UpTo, err = UnmarshalPaginationKey(raw.UpTo)
	}
	if err != nil {
		return fmt.Errorf("copied range: %w", err)
	}
	return nil
}

// serializableStateJSON has the fields of SerializableState in the order in which
// they are written, with keys as they stand in the text.
type serializableStateJSON struct {
	StateFormatVersion                        int
	LastSuccessfulPaginationKeys              map[string]json.RawMessage
	CopiedRanges                              map[string][]CopiedRange `json:",omitempty"`
	RowsCopied                                map[string]uint64        `json:",omitempty"`
	GhostferryVersion                         string
	LastKnownTableSchemaCache                 TableSchemaCache
	TableDefinitions                          map[string]string `json:",omitempty"`
	CompletedTables                           map[string]bool
	LastWrittenBinlogPosition                 mysql.Position
	LastWrittenGTIDSet                        string            `json:",omitempty"`
	LastExecutedBinlogCoordinate              *BinlogCoordinate `json:",omitempty"`
	LastBegunBinlogCoordinate                 *BinlogCoordinate `json:",omitempty"`
	LastBegunLogMark                          string            `json:",omitempty"`
	Final                                     bool              `json:",omitempty"`
	SourceIdentity                            string            `json:",omitempty"`
	SourceStartedAt                           int64             `json:",omitempty"`
	TargetIdentity                            string            `json:",omitempty"`
	Process                                   string            `json:",omitempty"`
	Epoch                                     uint64            `json:",omitempty"`
	LastWrittenLogMark                        string            `json:",omitempty"`
	LastReadBinlogCoordinate                  *BinlogCoordinate `json:",omitempty"`
	Debts                                     map[string][]string
	BinlogVerifyStore                         BinlogVerifySerializedStore
	Verification                              *VerificationState `json:",omitempty"`
	LastStoredBinlogPositionForInlineVerifier mysql.Position
	LastStoredBinlogPositionForTargetVerifier mysql.Position
	LastWatchedTargetLogMark                  string `json:",omitempty"`
	TargetUnwatched                           bool   `json:",omitempty"`
}

// MarshalJSON writes the state with typed keys.
func (s *SerializableState) MarshalJSON() ([]byte, error) {
	keys := make(map[string]json.RawMessage, len(s.LastSuccessfulPaginationKeys))
	for table, key := range s.LastSuccessfulPaginationKeys {
		raw := json.RawMessage("null")
		if key != nil {
			var err error
			if raw, err = key.MarshalJSON(); err != nil {
				return nil, fmt.Errorf("state: key of table %s: %w", table, err)
			}
		}
		keys[table] = raw
	}
	return json.Marshal(serializableStateJSON{
		StateFormatVersion:           stateFormatVersion,
		LastSuccessfulPaginationKeys: keys,
		CopiedRanges:                 s.CopiedRanges,
		RowsCopied:                   s.RowsCopied,
		GhostferryVersion:            s.GhostferryVersion,
		LastKnownTableSchemaCache:    s.LastKnownTableSchemaCache,
		TableDefinitions:             s.TableDefinitions,
		CompletedTables:              s.CompletedTables,
		LastWrittenBinlogPosition:    s.LastWrittenBinlogPosition,
		LastWrittenGTIDSet:           s.LastWrittenGTIDSet,
		SourceIdentity:               s.SourceIdentity,
		SourceStartedAt:              s.SourceStartedAt,
		TargetIdentity:               s.TargetIdentity,
		Process:                      s.Process,
		Epoch:                        s.Epoch,
		LastWrittenLogMark:           s.LastWrittenLogMark,
		LastReadBinlogCoordinate:     s.LastReadBinlogCoordinate,
		LastExecutedBinlogCoordinate: s.LastExecutedBinlogCoordinate,
		Debts:                        s.Debts,
		LastBegunBinlogCoordinate:    s.LastBegunBinlogCoordinate,
		LastBegunLogMark:             s.LastBegunLogMark,
		Final:                        s.Final,
		BinlogVerifyStore:            s.BinlogVerifyStore,
		Verification:                 s.Verification,
		LastStoredBinlogPositionForInlineVerifier: s.LastStoredBinlogPositionForInlineVerifier,
		LastStoredBinlogPositionForTargetVerifier: s.LastStoredBinlogPositionForTargetVerifier,
		LastWatchedTargetLogMark:                  s.LastWatchedTargetLogMark,
		TargetUnwatched:                           s.TargetUnwatched,
	})
}

// UnmarshalJSON reads the state, upstream's typed keys and the bare integers of the
// form before them. An unknown kind of key is an error that names the table. The maps
// of keys and of completed tables are never nil afterwards.
func (s *SerializableState) UnmarshalJSON(data []byte) error {
	var raw serializableStateJSON
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("state: %w", err)
	}

	keys := make(map[string]PaginationKey, len(raw.LastSuccessfulPaginationKeys))
	var faults []error
	for _, table := range sortedNames(raw.LastSuccessfulPaginationKeys) {
		text := raw.LastSuccessfulPaginationKeys[table]
		if string(text) == "null" {
			continue
		}
		key, err := UnmarshalPaginationKey(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("state: key of table %s: %w", table, err))
			continue
		}
		keys[table] = key
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}

	completed := raw.CompletedTables
	if completed == nil {
		completed = make(map[string]bool)
	}
	*s = SerializableState{
		StateFormatVersion:           raw.StateFormatVersion,
		LastSuccessfulPaginationKeys: keys,
		CopiedRanges:                 raw.CopiedRanges,
		RowsCopied:                   raw.RowsCopied,
		GhostferryVersion:            raw.GhostferryVersion,
		LastKnownTableSchemaCache:    raw.LastKnownTableSchemaCache,
		TableDefinitions:             raw.TableDefinitions,
		CompletedTables:              completed,
		LastWrittenBinlogPosition:    raw.LastWrittenBinlogPosition,
		LastWrittenGTIDSet:           raw.LastWrittenGTIDSet,
		SourceIdentity:               raw.SourceIdentity,
		SourceStartedAt:              raw.SourceStartedAt,
		TargetIdentity:               raw.TargetIdentity,
		Process:                      raw.Process,
		Epoch:                        raw.Epoch,
		LastWrittenLogMark:           raw.LastWrittenLogMark,
		LastReadBinlogCoordinate:     raw.LastReadBinlogCoordinate,
		LastExecutedBinlogCoordinate: raw.LastExecutedBinlogCoordinate,
		Debts:                        raw.Debts,
		LastBegunBinlogCoordinate:    raw.LastBegunBinlogCoordinate,
		LastBegunLogMark:             raw.LastBegunLogMark,
		Final:                        raw.Final,
		BinlogVerifyStore:            raw.BinlogVerifyStore,
		Verification:                 raw.Verification,
		LastStoredBinlogPositionForInlineVerifier: raw.LastStoredBinlogPositionForInlineVerifier,
		LastStoredBinlogPositionForTargetVerifier: raw.LastStoredBinlogPositionForTargetVerifier,
		LastWatchedTargetLogMark:                  raw.LastWatchedTargetLogMark,
		TargetUnwatched:                           raw.TargetUnwatched,
	}
	return nil
}

// MinSourceBinlogPosition is where the source's stream has to begin again: the lesser
// of the writer's and the inline verifier's positions, a zero one left out.
func (s *SerializableState) MinSourceBinlogPosition() mysql.Position {
	writer, verifier := s.LastWrittenBinlogPosition, s.LastStoredBinlogPositionForInlineVerifier
	var none mysql.Position
	switch {
	case writer == none:
		return verifier
	case verifier == none:
		return writer
	case verifier.Compare(writer) < 0:
		return verifier
	}
	return writer
}

// BinlogVerifySerializedStore is schema → table → key → how often the key is queued.
type BinlogVerifySerializedStore map[string]map[string]map[string]int

// RowCount is the sum of all counts.
func (s BinlogVerifySerializedStore) RowCount() uint64 {
	var rows uint64
	for _, tables := range s {
		for _, keys := range tables {
			for _, count := range keys {
				rows += uint64(count)
			}
		}
	}
	return rows
}

// EntriesCount is the number of distinct keys.
func (s BinlogVerifySerializedStore) EntriesCount() uint64 {
	var entries uint64
	for _, tables := range s {
		for _, keys := range tables {
			entries += uint64(len(keys))
		}
	}
	return entries
}

// Copy is a deep copy, never nil.
func (s BinlogVerifySerializedStore) Copy() BinlogVerifySerializedStore {
	copied := make(BinlogVerifySerializedStore, len(s))
	for schemaName, tables := range s {
		copied[schemaName] = make(map[string]map[string]int, len(tables))
		for tableName, keys := range tables {
			copied[schemaName][tableName] = make(map[string]int, len(keys))
			for key, count := range keys {
				copied[schemaName][tableName][key] = count
			}
		}
	}
	return copied
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
