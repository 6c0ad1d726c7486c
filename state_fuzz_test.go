package ghostferry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A state of any text is refused or reads back to itself.
func FuzzStateJSON(f *testing.F) {
	files, err := filepath.Glob("testdata/state_*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{"{}", "null", `{"CopiedRanges":{"s.t":[{"After":null,"UpTo":1}]}}`, `{"CopiedRanges":{"s.t":[null]}}`, `{"LastSuccessfulPaginationKeys":{"s.t":null}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s SerializableState
		if json.Unmarshal(text, &s) != nil {
			return
		}
		s.MinSourceBinlogPosition()
		s.BinlogVerifyStore.RowCount()
		s.BinlogVerifyStore.Copy()
		first, err := json.Marshal(&s)
		if err != nil {
			t.Fatalf("%s cannot be written again: %v", text, err)
		}
		var again SerializableState
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatalf("%s cannot be read again: %v", first, err)
		}
		second, err := json.Marshal(&again)
		if err != nil || string(first) != string(second) {
			t.Fatalf("%s becomes %s (%v)", first, second, err)
		}
		if !reflect.DeepEqual(s.CopiedRanges, again.CopiedRanges) {
			t.Fatalf("%v becomes %v", s.CopiedRanges, again.CopiedRanges)
		}
	})
}

// A key of any text is refused or reads back to itself, and compares with itself as equal.
func FuzzPaginationKeyJSON(f *testing.F) {
	for _, key := range []PaginationKey{
		NewUint64Key(7), NewInt64Key(-7), NewBinaryKey([]byte{0, 255}), NewTextKey("a\xff"),
		NewCompositeKey(NewUint64Key(1), NewTextKey("b,\\"), NewCompositeKey()),
	} {
		text, err := key.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("-9223372036854775808"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := UnmarshalPaginationKey(text)
		if err != nil {
			return
		}
		first, err := key.MarshalJSON()
		if err != nil {
			t.Fatalf("%s cannot be written again: %v", text, err)
		}
		again, err := UnmarshalPaginationKey(first)
		if err != nil {
			t.Fatalf("%s cannot be read again: %v", first, err)
		}
		if second, err := again.MarshalJSON(); err != nil || string(first) != string(second) || key.Compare(again) != 0 || key.String() != again.String() {
			t.Fatalf("%s becomes %s (%v)", first, second, err)
		}
		key.NumericPosition()
		key.IsMax()
		key.SQLValue()
	})
}
