package copydb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParentsFirst(t *testing.T) {
	table := func(name string, parents ...string) definition { return definition{name: name, parents: parents} }
	for _, c := range []struct {
		tables []definition
		want   []string
	}{
		{[]definition{table("c"), table("a"), table("b")}, []string{"c", "a", "b"}},
		{[]definition{table("lines", "orders", "items"), table("items"), table("orders", "clients"), table("clients")}, []string{"clients", "orders", "items", "lines"}},
		{[]definition{table("a", "a"), table("b", "elsewhere")}, []string{"a", "b"}},
		{[]definition{table("a", "b"), table("b", "c"), table("c", "a", "d"), table("d")}, []string{"d", "c", "b", "a"}},
	} {
		var got []string
		for _, table := range parentsFirst(c.tables) {
			got = append(got, table.name)
		}
		require.Equal(t, c.want, got)
	}
}
