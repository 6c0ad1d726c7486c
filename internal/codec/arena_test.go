package codec_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// Sets of rows of one arena do not run into each other, whatever they need.
func TestArena(t *testing.T) {
	var arena codec.Arena
	var all []*codec.Rows
	value := func(set, row int) []byte { return bytes.Repeat([]byte{byte(set), byte(row)}, set*set%997) }
	for set := range 300 {
		rows := arena.NewRows(2, 1, 10) // most need more
		for row := range 1 + set%5 {
			rows.Add(value(set, row))
			rows.Add(nil)
		}
		arena.Keep(rows)
		all = append(all, rows)
	}
	for _, rows := range all[:100] { // memory of its own from here on
		rows.Add([]byte("more"))
		rows.Add([]byte("still more"))
	}
	for set, rows := range all {
		for row := range 1 + set%5 {
			require.Equal(t, string(value(set, row)), string(rows.Value(row, 0)), "set %d", set)
			require.Nil(t, rows.Value(row, 1))
		}
	}
}
