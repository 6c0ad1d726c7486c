package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A time is told only where the source knows how many rows there are.
func TestEstimateOfTheCopy(t *testing.T) {
	copying := ControlServerOverview{State: StateCopying, CopyRowsPerSecond: 10}
	for _, c := range []struct {
		name   string
		tables []tableFacts
		eta    float64
		reason string
	}{
		{"estimated", []tableFacts{{action: actionCopying, rows: 50, estimated: 100}, {estimated: 50}}, 10, ""},
		{"one without an estimate among many", append(make([]tableFacts, 1), manyTables(20, 5)...), 10, ""},
		{"most without an estimate", append(make([]tableFacts, 20), manyTables(5, 5)...), 0, "the source has no estimate of 20 tables"},
		{"more than estimated", []tableFacts{{action: actionCopying, rows: 150, estimated: 100}}, 0, "the tables have more rows than the source has estimated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := copying
			for _, table := range c.tables {
				o.count(table)
			}
			o.estimate()
			require.Equal(t, c.reason, o.ETAReason)
			if c.reason == "" {
				require.NotNil(t, o.ETASeconds)
				require.InDelta(t, c.eta, *o.ETASeconds, 1e-9)
			} else {
				require.Nil(t, o.ETASeconds)
			}
		})
	}
}

func manyTables(n int, estimated uint64) []tableFacts {
	tables := make([]tableFacts, n)
	for i := range tables {
		tables[i].estimated = estimated
	}
	return tables
}
