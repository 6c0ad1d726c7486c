package sharding

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A tenant is a text or a number in JSON, as large as it may be; anything else is refused by
// name.
func TestTenantInJSON(t *testing.T) {
	for text, want := range map[string]any{
		`"7f1c0c1e-0b0a-4c55-9a3e-6d1f5b9f3a11"`: "7f1c0c1e-0b0a-4c55-9a3e-6d1f5b9f3a11",
		`18446744073709551615`:                   json.Number("18446744073709551615"),
		`-3`:                                     json.Number("-3"),
	} {
		config, err := ReadConfig(strings.NewReader(`{"ShardingKeyValue": ` + text + `}`))
		require.NoError(t, err)
		require.Equal(t, want, config.value())
	}
	for _, text := range []string{`true`, `{}`, `[1]`} {
		_, err := ReadConfig(strings.NewReader(`{"ShardingKeyValue": ` + text + `}`))
		require.ErrorContains(t, err, "ShardingKeyValue")
		require.ErrorContains(t, err, "it must be a text or a number")
	}
}
