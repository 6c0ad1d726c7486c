package ghostferry

import (
	"math/rand/v2"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"
)

// Ranges that come in any order are joined: the key is the end of the contiguous part,
// and a state has what lies beyond it in as few ranges as there are gaps.
func TestCopiedRangesAreJoined(t *testing.T) {
	table := &TableSchema{Table: &schema.Table{Schema: "s", Name: "t"}}
	table.AddColumn("id", "bigint", "", "")
	table.PaginationKeyColumn = &table.Columns[0]
	table.PKColumns = []int{0}
	l, err := table.layout()
	require.NoError(t, err)

	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		tracker := NewStateTracker(0)
		const n = 40
		copied := map[int]bool{}
		for _, i := range random.Perm(n) {
			r := keyRange{keyAt(i * 10), keyAt(i*10 + 10)}
			if i == 0 {
				r.low = nil
			}
			tracker.rangeCopied(table, l, r, RowStats{})
			copied[i] = true

			low := 0
			for copied[low] {
				low++
			}
			var beyond []CopiedRange
			for j := low; j < n; j++ {
				if !copied[j] {
					continue
				}
				from := j
				for copied[j] {
					j++
				}
				beyond = append(beyond, CopiedRange{NewUint64KeyWithColumn("id", uint64(from*10)), NewUint64KeyWithColumn("id", uint64(j*10))})
			}
			state := tracker.Serialize(nil, nil)
			require.ElementsMatch(t, beyond, state.CopiedRanges["s.t"])
			if low > 0 {
				require.Equal(t, NewUint64KeyWithColumn("id", uint64(low*10)), state.LastSuccessfulPaginationKeys["s.t"])
			}

			resumed := NewStateTrackerFromSerializedState(0, state)
			require.Equal(t, state.CopiedRanges, resumed.Serialize(nil, nil).CopiedRanges, "before the table's copy goes on")
			resumed.copied(table, l, resumed.resumedRanges("s.t", l))
			again := resumed.Serialize(nil, nil)
			require.Equal(t, state.LastSuccessfulPaginationKeys, again.LastSuccessfulPaginationKeys)
			require.Equal(t, state.CopiedRanges, again.CopiedRanges)
		}
	}
}
