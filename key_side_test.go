package ghostferry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"
)

// A first key column that is an ENUM or SET of few values is compared by lists, which hold
// exactly the numbers that < and > are true for, and are never empty.
func TestListedKeys(t *testing.T) {
	list := func(first, last int) string {
		var numbers []string
		for n := first; n <= last; n++ {
			numbers = append(numbers, fmt.Sprint(n))
		}
		return "`k` IN (" + strings.Join(numbers, ",") + ")"
	}
	for _, c := range []struct {
		column schema.TableColumn
		last   int // number; 0: not listed
	}{
		{schema.TableColumn{Name: "k", Type: schema.TYPE_ENUM, RawType: "enum('x','a','m')", EnumValues: []string{"x", "a", "m"}}, 3},
		{schema.TableColumn{Name: "k", Type: schema.TYPE_ENUM, RawType: "enum('…')", EnumValues: make([]string, 255)}, 255},
		{schema.TableColumn{Name: "k", Type: schema.TYPE_ENUM, RawType: "enum('…')", EnumValues: make([]string, 256)}, 0},
		{schema.TableColumn{Name: "k", Type: schema.TYPE_SET, RawType: "set('p','q','r')", SetValues: []string{"p", "q", "r"}}, 7},
		{schema.TableColumn{Name: "k", Type: schema.TYPE_SET, RawType: "set('…')", SetValues: make([]string, 8)}, 255},
		{schema.TableColumn{Name: "k", Type: schema.TYPE_SET, RawType: "set('…')", SetValues: make([]string, 64)}, 0},
		{schema.TableColumn{Name: "k", Type: schema.TYPE_ENUM, RawType: "enum('…')"}, 0}, // members not known
	} {
		table := &TableSchema{Table: &schema.Table{Schema: "s", Name: "t", PKColumns: []int{0, 1},
			Columns: []schema.TableColumn{c.column, {Name: "id", Type: schema.TYPE_NUMBER, RawType: "int"}}}}
		table.PaginationKeyColumn = &table.Columns[0]
		l, err := table.layout()
		require.NoError(t, err)
		for k := 0; c.last > 0 && k <= c.last; k++ {
			key := keyTuple{[]byte(fmt.Sprint(k)), []byte("5")}
			before, after := list(0, k-1), list(k+1, c.last)
			if k == 0 {
				before = list(mostNumbers, mostNumbers)
			}
			if k == c.last {
				after = list(mostNumbers, mostNumbers)
			}
			upTo := fmt.Sprintf("(%s OR (`k` = %d AND `id` <= 5))", before, k)
			require.Equal(t, upTo, string(l.appendUpTo(nil, key)))
			require.Equal(t, fmt.Sprintf("(%s OR (`k` = %d AND `id` > 5)) AND %s", after, k, upTo), string(l.appendBetween(nil, key, key)))
		}
		// Whatever comes after a key, on the target of more members, too.
		key := keyTuple{[]byte("1"), []byte("5")}
		require.Equal(t, "(`k` > 1 OR (`k` = 1 AND `id` > 5))", string(l.appendAfter(nil, key)))
		if c.last == 0 {
			require.Equal(t, "(`k` < 1 OR (`k` = 1 AND `id` <= 5))", string(l.appendUpTo(nil, key)))
		}
	}
}
