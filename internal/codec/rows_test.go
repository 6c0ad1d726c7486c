package codec

import (
	"errors"
	"syscall"
	"testing"
)

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

// Rows that are full refuse one value more, and stay as they are: its end would be read as a NULL.
func TestFullRowsRefuseValues(t *testing.T) {
	text, number := Column{Name: "t", Kind: Text}, Column{Name: "n", Kind: Int}
	// Never touched, so that it takes no memory, and not the runtime's, which may clear it.
	memory, err := syscall.Mmap(-1, 0, MaxRowsBytes+100, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(memory) }()
	r := &Rows{cols: 1, buf: memory[:MaxRowsBytes-2]}
	r.endValue()
	for name, err := range map[string]error{
		"by the driver": r.AddDriver(&text, []byte("abc")), "a number": r.AddDriver(&number, int64(100)), "by a host": r.AddGo(&text, "abc"),
		"a document": r.AddJSON(&Column{Name: "j", Kind: JSON}, "abc", nil),
	} {
		if !errors.Is(err, ErrTooManyBytes) || r.Len() != 1 || r.Bytes() != MaxRowsBytes-2 {
			t.Errorf("%s: error %v, %d rows of %d bytes", name, err, r.Len(), r.Bytes())
		}
	}
	if err := r.AddDriver(&text, []byte("ab")); err != nil || string(r.Value(1, 0)) != "ab" {
		t.Errorf("what just fits is %q, error %v", r.Value(1, 0), err)
	}
}
