package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What the linker has set wins; without it the version is never empty.
func TestBuildVersion(t *testing.T) {
	require.NotEmpty(t, BuildVersion())
	defer func(was string) { VersionString = was }(VersionString)
	VersionString = "1.2.3+20260101000000+abcdef0"
	require.Equal(t, VersionString, BuildVersion())
}
