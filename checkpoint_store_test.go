package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"
)

func TestFileCheckpointStore(t *testing.T) {
	store := FileCheckpointStore{Directory: t.TempDir()}
	const run = "../a run/with odd \x00 bytes"
	state, err := store.LoadState(t.Context(), run)
	require.NoError(t, err)
	require.Nil(t, state)
	require.NoError(t, store.ForgetState(t.Context(), run))

	for _, pos := range []uint32{4, 99} {
		saved := &SerializableState{LastWrittenBinlogPosition: mysql.Position{Name: "b.000001", Pos: pos}}
		require.NoError(t, store.SaveState(t.Context(), run, saved))
		state, err = store.LoadState(t.Context(), run)
		require.NoError(t, err)
		require.Equal(t, saved.LastWrittenBinlogPosition, state.LastWrittenBinlogPosition)
	}
	files, err := os.ReadDir(store.Directory)
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing is left of writing it")
	info, err := files[0].Info()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	path := filepath.Join(store.Directory, files[0].Name())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text[:len(text)/2], 0o600))
	_, err = store.LoadState(t.Context(), run)
	require.ErrorContains(t, err, "is damaged")
	for bit := range 8 * len(text) { // whichever bit is another
		flipped := slices.Clone(text)
		flipped[bit/8] ^= 1 << (bit % 8)
		require.NoError(t, os.WriteFile(path, flipped, 0o600))
		state, err := store.LoadState(t.Context(), run)
		require.ErrorContains(t, err, "is damaged", "%s", flipped)
		require.ErrorContains(t, err, "start afresh")
		require.Nil(t, state)
	}
	require.NoError(t, store.SaveState(t.Context(), "other", &SerializableState{}))
	require.NoError(t, os.Rename(store.path("other"), path))
	_, err = store.LoadState(t.Context(), run)
	require.ErrorContains(t, err, "another run's")
	require.NoError(t, store.ForgetState(t.Context(), run))
	state, err = store.LoadState(t.Context(), run)
	require.NoError(t, err)
	require.Nil(t, state)
}

// memoryStore is a store that all processes of a run share.
type memoryStore struct {
	state    *SerializableState
	saving   func() // called once, before the next state is saved
	loads    error
	saves    error
	failures int // of so many saves
	attempts int
}

func (s *memoryStore) LoadState(context.Context, string) (*SerializableState, error) {
	return s.state, s.loads
}

func (s *memoryStore) SaveState(_ context.Context, _ string, state *SerializableState) error {
	if saving := s.saving; saving != nil {
		s.saving = nil
		saving()
	}
	s.attempts++
	if s.failures > 0 {
		s.failures--
		return s.saves
	}
	s.state = state
	return nil
}

func (s *memoryStore) ForgetState(context.Context, string) error {
	s.state = nil
	return nil
}

// process is a Ferry that has looked into the store.
func (s *memoryStore) process(id string) *Ferry {
	f := &Ferry{Config: &Config{RunID: "run", CheckpointStore: s}, StateTracker: NewStateTracker(0), processID: id}
	_, f.logger = newRunLog(nil)
	f.prepareChannels()
	if s.state != nil { // as findCheckpoint does
		f.StateToResumeFrom, f.stateStored, f.resuming = s.state, true, true
		f.epoch.Store(s.state.Epoch)
	}
	return f
}

// Of two processes of a run the one that has taken it over later goes on, whatever of the other is
// saved after that, and however the lots fall.
func TestCheckpointStoreOfTwoProcesses(t *testing.T) {
	for _, id := range []string{"a", "z"} {
		var fenced *FencedError
		store := &memoryStore{}
		older := store.process("m")
		require.NoError(t, older.storeFirstState(t.Context()))
		require.NoError(t, older.storeState(t.Context()))
		newer := store.process(id)

		// A state of the older one is on its way when the newer one stores its first.
		store.saving = func() { require.NoError(t, newer.storeFirstState(t.Context())) }
		require.NoError(t, older.storeState(t.Context()))
		require.Equal(t, "m", store.state.Process)
		require.NoError(t, newer.storeState(t.Context()))
		require.ErrorAs(t, older.storeState(t.Context()), &fenced)
		require.ErrorAs(t, older.storeLastState(t.Context(), nil), &fenced)
		require.NoError(t, older.storeLastState(t.Context(), fenced))
		require.NoError(t, older.ownedStill(t.Context()))
		older.runErr = fenced
		close(older.runEnded)
		require.ErrorAs(t, older.AbortCutoverContext(t.Context()), &fenced, "writers that the newer one may have stopped are not let go")
		require.NoError(t, newer.storeLastState(t.Context(), nil))
		require.Equal(t, id, store.state.Process)

		// A run is begun afresh while an older process of it goes on.
		older, newer = newer, store.process("m")
		newer.StateToResumeFrom, newer.stateStored, newer.resuming = nil, false, false // as ForgetCheckpoint does
		require.NoError(t, store.ForgetState(t.Context(), "run"))
		store.saving = func() { require.NoError(t, newer.storeFirstState(t.Context())) }
		require.NoError(t, older.storeState(t.Context()))
		require.NoError(t, newer.storeState(t.Context()))
		require.ErrorAs(t, older.storeState(t.Context()), &fenced)

		// Both take the run over at once: one of them goes on.
		one, other := store.process("one"), store.process(id)
		store.saving = func() { require.NoError(t, other.storeFirstState(t.Context())) }
		require.NoError(t, one.storeFirstState(t.Context()))
		for range 2 {
			_, _ = one.storeState(t.Context()), other.storeState(t.Context())
		}
		require.NotEqual(t, one.storeState(t.Context()) == nil, other.storeState(t.Context()) == nil)
		require.ErrorAs(t, errors.Join(one.storeState(t.Context()), other.storeState(t.Context())), &fenced)
	}
}

// Where the checkpoint is on the target the store keeps states, and nothing in it ends a run.
func TestCheckpointStoreBesideTheCheckpoint(t *testing.T) {
	store := &memoryStore{}
	older := store.process("older")
	older.checkpoint = &checkpoint{epoch: 2}
	require.NoError(t, older.storeFirstState(t.Context()))
	newer := store.process("newer")
	newer.checkpoint = &checkpoint{epoch: 1}
	require.NoError(t, newer.storeFirstState(t.Context()))
	require.NoError(t, older.storeState(t.Context()))
	require.Equal(t, "older", store.state.Process)
	require.NoError(t, newer.storeState(t.Context()))
	require.NoError(t, older.storeLastState(t.Context(), &FencedError{RunID: "run", Epoch: 3}))
	require.Equal(t, "newer", store.state.Process)
}

// A store that fails for a while ends no run that can do without it.
func TestCheckpointStoreFails(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		state *SerializableState
		ends  bool
	}{
		{"a new run", nil, false},
		{"a run that was killed", &SerializableState{}, false},
		{"a run that had ended", &SerializableState{Final: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memoryStore{state: c.state, saves: broken}
				f := store.process("m")
				store.failures = 2
				require.NoError(t, f.storeFirstState(t.Context()))
				require.Equal(t, "m", store.state.Process)

				store = &memoryStore{state: c.state, saves: broken}
				f = store.process("m")
				store.failures = 1000
				err := f.storeFirstState(t.Context())
				require.Greater(t, store.attempts, 2)
				if c.ends {
					require.ErrorIs(t, err, broken)
					require.ErrorContains(t, err, "start the same command again")
					return
				}
				require.NoError(t, err)
				store.failures = 0
				require.NoError(t, f.storeState(t.Context()))
				require.Equal(t, "m", store.state.Process)
			})
		})
	}

	store := &memoryStore{}
	f := store.process("m")
	require.NoError(t, f.storeFirstState(t.Context()))
	store.loads, store.state = errors.New("the checkpoint is damaged"), nil
	require.NoError(t, f.storeState(t.Context()))
	require.Equal(t, "m", store.state.Process)
	store.state = nil
	require.NoError(t, f.storeLastState(t.Context(), nil))
	require.Equal(t, "m", store.state.Process)
}

// The files of testdata are states as they were once written. They must be read for ever,
// and the present form must not change unnoticed.
func TestGoldenStates(t *testing.T) {
	for _, c := range []struct {
		file, key string
		value     PaginationKey
	}{
		{"state_upstream.json", "shop.sessions", NewBinaryKeyWithColumn("token", []byte{0, 0xff, 0x10})},
		{"state_upstream_integers.json", "shop.orders", NewUint64Key(8123)},
		{"state_1.json", "shop.orders", NewUint64KeyWithColumn("id", 8123)},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", c.file))
		require.NoError(t, err)
		state := &SerializableState{}
		require.NoError(t, json.Unmarshal(text, state), c.file)
		require.Equal(t, c.value, state.LastSuccessfulPaginationKeys[c.key], c.file)
		require.Equal(t, "mysql-bin.000003", state.MinSourceBinlogPosition().Name)
		config := validConfig()
		config.StateToResumeFrom = state
		require.NoError(t, config.ValidateConfig(), c.file)
	}
	written, err := json.MarshalIndent(goldenState(), "", " ")
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join("testdata", "state_1.json"))
	require.NoError(t, err)
	require.Equal(t, string(text), string(written)+"\n", "a new form needs a new number, and a file of its own")
	read, wanted := &SerializableState{}, goldenState()
	require.NoError(t, json.Unmarshal(text, read))
	wanted.StateFormatVersion = read.StateFormatVersion
	require.Equal(t, wanted, read)
}

func goldenState() *SerializableState {
	low := "8000000000001fbb"
	return &SerializableState{
		GhostferryVersion: "golden", SourceIdentity: "3e11fa47-71ca-11e1-9e33-c80aa9429562",
		LastSuccessfulPaginationKeys: map[string]PaginationKey{
			"shop.orders": NewUint64KeyWithColumn("id", 8123),
			"shop.seats":  NewCompositeKey(NewInt64KeyWithColumn("row", -1), NewTextKeyWithColumn("seat", "ä")),
			"shop.tokens": NewBinaryKeyWithColumn("token", []byte{0, 0xff}),
		},
		CopiedRanges:              map[string][]CopiedRange{"shop.orders": {{After: NewUint64KeyWithColumn("id", 9000), UpTo: NewUint64KeyWithColumn("id", 9999)}}},
		CompletedTables:           map[string]bool{"shop.stock": true},
		RowsCopied:                map[string]uint64{"shop.orders": 8500, "shop.stock": 12},
		LastWrittenBinlogPosition: mysql.Position{Name: "mysql-bin.000003", Pos: 1234},
		LastWrittenGTIDSet:        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77",
		BinlogVerifyStore:         BinlogVerifySerializedStore{"shop": {"orders": {"17": 2}}},
		LastStoredBinlogPositionForTargetVerifier: mysql.Position{Name: "target-bin.000001", Pos: 9},
		LastStoredBinlogPositionForInlineVerifier: mysql.Position{Name: "mysql-bin.000003", Pos: 1200},
		LastWatchedTargetLogMark:                  "4 9 9f",
		TargetUnwatched:                           true,
		TableDefinitions:                          map[string]string{"shop.orders": "id bigint unsigned NOT NULL; PRIMARY (id)"},
		SourceStartedAt:                           1_790_000_000,
		Debts:                                     map[string][]string{"shop.orders": {"0000000137"}},
		TargetIdentity:                            "4f22ab58-82db-22f2-8f44-d91bb0530503",
		Process:                                   "PROCESS",
		Epoch:                                     3,
		LastWrittenLogMark:                        "1234 1300 9f",
		LastReadBinlogCoordinate:                  &BinlogCoordinate{File: "mysql-bin.000003", Pos: 1300},
		LastExecutedBinlogCoordinate:              &BinlogCoordinate{File: "mysql-bin.000003", Pos: 1234, GTIDSet: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77"},
		LastBegunBinlogCoordinate:                 &BinlogCoordinate{File: "mysql-bin.000003", Pos: 1400, GTIDSet: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-78"},
		LastBegunLogMark:                          "1300 1350 8e",
		Final:                                     true,
		Verification: &VerificationState{
			VerifierType: VerifierTypeOnline, Position: BinlogCoordinate{File: "mysql-bin.000003", Pos: 1234},
			Tables: map[string]*TableVerificationState{"shop.orders": {
				First: []CopiedRangeKeys{{Low: &low}}, Ranges: []CopiedRangeKeys{{High: &low}}, Keys: []string{low}, Rows: 5, Chunks: 2, Sum: "00ff",
			}},
		},
	}
}

// Every part of a state is in the golden one, or its form could change unnoticed.
func TestGoldenStateIsWhole(t *testing.T) {
	state := reflect.ValueOf(*goldenState())
	for i := range state.NumField() {
		switch name := state.Type().Field(i).Name; name {
		case "StateFormatVersion": // written always
		case "LastKnownTableSchemaCache": // as upstream writes it
		default:
			require.False(t, state.Field(i).IsZero(), name)
		}
	}
}
