package intern

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestEqualStringsAreHeldOnce(t *testing.T) {
	held := Strings{}
	first, second := held.Of(strings.Clone("bigint unsigned")), held.Of(strings.Clone("bigint unsigned"))
	require.Equal(t, "bigint unsigned", second)
	require.Same(t, unsafe.StringData(first), unsafe.StringData(second))
	require.Equal(t, "int", held.Of("int"))
}
