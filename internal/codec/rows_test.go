package codec

import "testing"

func TestRowsAreReused(t *testing.T) {
	rows := NewRows(2, 10, 100)
	rows.Add([]byte("one"))
	rows.Add(nil)
	if rows.Reuse(2, 10, 500) || rows.Len() != 1 {
		t.Fatal("too little room was taken")
	}
	if !rows.Reuse(1, 10, 100) || rows.Len() != 0 || rows.Bytes() != 0 {
		t.Fatal("the rows are not empty")
	}
	rows.Add([]byte("two"))
	if string(rows.Value(0, 0)) != "two" || rows.Len() != 1 {
		t.Fatal("the new row is not there")
	}
}
