package ghostferry

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// keyedFingerprint is a table whose key is one column of a type, without a server.
func keyedFingerprint(tb testing.TB, rawType string, columnType int, collation string) *fingerprint {
	tb.Helper()
	column := schema.TableColumn{Name: "k", Type: columnType, RawType: rawType, Collation: collation}
	f, err := newFingerprint(&TableSchema{
		Table:               &schema.Table{Schema: "s", Name: "t", Columns: []schema.TableColumn{column}, PKColumns: []int{0}},
		PaginationKeyColumn: &column,
	})
	require.NoError(tb, err)
	return f
}

func encodedKey(v any) string { return string(codec.AppendKeyPart(nil, fmt.Append([]byte{}, v))) }

// holds reports that a comparison of the work would compare the key.
func (work verifyWork) holds(f *fingerprint, key string) bool {
	w := work[f]
	if w == nil {
		return false
	}
	_, listed := w.keys[key]
	return listed || w.covers(f, key)
}

// However small the memory, every touched key is still compared.
func TestQueuedKeysAreNeverLost(t *testing.T) {
	numbers := keyedFingerprint(t, "int", schema.TYPE_NUMBER, "")
	texts := keyedFingerprint(t, "varchar(20)", schema.TYPE_STRING, "utf8mb4_general_ci")
	require.True(t, numbers.layout.keyOrdered)
	require.False(t, texts.layout.keyOrdered)
	for _, limit := range []int{1, 500, 10_000, 100_000_000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			touched := newRecheckQueue(limit)
			random := rand.New(rand.NewPCG(1, 2))
			var added []string
			for i := range 5000 {
				key := encodedKey(random.IntN(100_000) - 50_000)
				added = append(added, key)
				touched.add(numbers, key)
				touched.add(texts, key)
				if i == 2500 { // some of them taken and put back
					work := touched.take()
					touched.add(numbers, encodedKey(7))
					touched.putBack(work)
				}
			}
			touched.addRange(numbers, keyRange{low: keyTuple{[]byte("200000")}, high: keyTuple{[]byte("200001")}})
			keys, ranges := touched.counts()
			if limit <= 10_000 {
				require.LessOrEqual(t, keys, limit/queuedKeyOverhead+2*coalescedRanges+1)
				require.NotZero(t, ranges)
			}
			require.LessOrEqual(t, ranges, 2*2*coalescedRanges)
			work := touched.take()
			for _, key := range added {
				require.True(t, work.holds(numbers, key))
				require.True(t, work.holds(texts, key))
			}
			require.True(t, work.holds(numbers, encodedKey(7)))
			require.True(t, work.holds(numbers, encodedKey(200001)))
			keys, ranges = touched.counts()
			require.Zero(t, keys+ranges)
		})
	}
}

// A digest over rows that did not all fit into it proves nothing.
func TestIncompleteDigestsAreNotEqual(t *testing.T) {
	whole := chunkDigestOf(2, make([]byte, 64))
	require.True(t, whole.equals(whole))
	cut := chunkDigestOf(3, make([]byte, 64))
	require.False(t, cut.equals(cut))
	none := chunkDigestOf(3, nil)
	require.False(t, none.equals(none))
	empty := chunkDigestOf(0, nil)
	require.True(t, empty.equals(empty))
}

// The sum of a table's digests does not depend on how it was cut.
func TestDigestSumsDoNotDependOnChunks(t *testing.T) {
	digests := make([]byte, 100*digestSize)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range digests {
		digests[i] = byte(random.IntN(256))
	}
	whole := chunkDigestOf(100, digests).total
	var pieces digestSum
	for _, cut := range []int{70, 3, 0} {
		piece := chunkDigestOf(0, digests[cut*digestSize:]).total
		pieces.add(&piece)
		digests = digests[:cut*digestSize]
	}
	require.Equal(t, whole, pieces)
}

// The text of a key leads back to the key.
func TestKeyTexts(t *testing.T) {
	texts := keyedFingerprint(t, "varchar(20)", schema.TYPE_STRING, "utf8mb4_general_ci")
	bytes := keyedFingerprint(t, "varbinary(20)", schema.TYPE_BINARY, "")
	for _, value := range []string{"", "a", "a,b\\", "\x00\xff"} {
		for _, f := range []*fingerprint{texts, bytes} {
			key, err := f.parseKey(f.keyText(encodedKey(value)))
			require.NoError(t, err)
			require.Equal(t, encodedKey(value), key)
		}
	}
	require.Equal(t, []string{"a,b", `c\`, ""}, splitComposite(`a\,b,c\\,`))
}

// Keys that were kept outside the process are of the table's columns, or refused.
func FuzzSavedKeys(f *testing.F) {
	numbers := keyedFingerprint(f, "int", schema.TYPE_NUMBER, "")
	f.Add("0000000131", "0000000135", "")
	f.Add("ffffffff", "00000001", "zz")
	f.Fuzz(func(t *testing.T, key, low, high string) {
		w, err := numbers.loadWork(&TableVerificationState{Keys: []string{key}, Ranges: []CopiedRangeKeys{{&low, &high}, {nil, &high}}, First: []CopiedRangeKeys{{&low, nil}}})
		if err != nil {
			return
		}
		w.coalesce(numbers)
		for _, text := range []string{key, low, high} {
			tuple, err := numbers.keyOfHex(&text)
			require.NoError(t, err)
			w.covers(numbers, numbers.encodeKey(tuple))
			numbers.keyText(numbers.encodeKey(tuple))
		}
	})
}
