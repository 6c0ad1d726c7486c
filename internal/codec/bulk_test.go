package codec_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// Lines that are read in pieces are those that are made as a whole, whatever the sizes of
// values and pieces, and the reader holds little of them.
func TestBulkReader(t *testing.T) {
	const columns = 7
	random := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		rows := codec.NewRows(columns, 10, 1000)
		for range random.IntN(40) * columns {
			size := []int{0, 1, 50, 50, 5000, 5000, 5000, 70000}[random.IntN(8)]
			v := bytes.Repeat([]byte("a\tb\\\n'N"), size/7+1)[:size]
			if random.IntN(9) == 0 {
				v = nil
			}
			rows.Add(v)
		}
		cols := []int{6, 0, 1, 2, 3, 5}
		from := random.IntN(rows.Len() + 1)
		var want []byte
		for row := from; row < rows.Len(); row++ {
			want = rows.AppendBulk(want, row, cols)
		}
		lines := codec.NewBulkReader(rows, from, rows.Len(), cols, make([]byte, 10))
		var got []byte
		for {
			p := make([]byte, 1+random.IntN(40000))
			n, err := lines.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			require.Positive(t, n)
		}
		require.True(t, bytes.Equal(want, got))
		require.Less(t, cap(lines.Memory()), 1<<20)
	}
}
