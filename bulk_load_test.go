package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What LOAD DATA has done is believed only when every row is accounted for and no warning
// can have been missed.
func TestVerdictOnLoadData(t *testing.T) {
	for _, c := range []struct {
		name                                    string
		given, stored, duplicates, listed, kept int
		other                                   string
		problem                                 string // empty when it is as it should be
	}{
		{"all are stored", 100, 100, 0, 0, 64, "", ""},
		{"some are there", 100, 97, 3, 3, 64, "", ""},
		{"all are there", 50, 0, 50, 50, 64, "", ""},
		{"the last warning that is kept", 64, 1, 63, 63, 64, "", ""},
		{"as many warnings as are kept, one of each row", 64, 0, 64, 64, 64, "", ""},
		{"as many warnings as are kept, and more rows", 65, 1, 64, 64, 64, "", "64 warnings are listed, which is as many as the server keeps"},
		{"a list longer than it can be", 100, 35, 65, 65, 64, "", "65 warnings are listed"},
		{"a server that keeps none", 1, 1, 0, 0, 0, "", "0 warnings are listed"},
		{"a row is gone", 100, 96, 3, 3, 64, "", "100 rows given, 96 stored, 3 duplicates"},
		{"a row too many", 100, 98, 3, 3, 64, "", "100 rows given, 98 stored, 3 duplicates"},
		{"a row was replaced", 1, 2, 0, 0, 64, "", "1 rows given, 2 stored, 0 duplicates"},
		{"a value was bent", 100, 100, 0, 1, 64, "1265 Data truncated", "1265 Data truncated"},
		{"a row was left out for another reason", 100, 98, 1, 2, 64, "3819 Check constraint", "3819 Check constraint"},
		{"a value was bent, and the list is full", 100, 36, 63, 64, 64, "1265 Data truncated", "1265 Data truncated"},
	} {
		err := loadVerdict(c.given, c.stored, c.duplicates, c.listed, c.kept, c.other)
		if c.problem == "" {
			require.NoError(t, err, c.name)
			continue
		}
		require.ErrorIs(t, err, errBulkInexact, c.name) // so that INSERT carries the rows
		require.ErrorContains(t, err, c.problem, c.name)
	}
}
