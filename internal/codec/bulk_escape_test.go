package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Values of any length, with the bytes to be escaped anywhere, are escaped as by looking at each byte.
func TestAppendEscaped(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	alphabets := [][]byte{[]byte("\\\t\n"), []byte("ab\\\t\n\x00'"), []byte("abc\n"), []byte("abc")}
	for n := range 4000 {
		v := make([]byte, n%100)
		alphabet := alphabets[n%len(alphabets)]
		for i := range v {
			v[i] = alphabet[random.IntN(len(alphabet))]
		}
		want := []byte("before")
		for _, b := range v {
			if bytes.IndexByte([]byte("\\\t\n"), b) >= 0 {
				want = append(want, '\\')
			}
			want = append(want, b)
		}
		if got := appendEscaped([]byte("before"), v); !bytes.Equal(got, want) {
			t.Fatalf("%q is escaped as %q, want %q", v, got, want)
		}
	}
}
