package codec

import (
	"strings"
	"testing"
)

// What ZEROFILL shows in front of a DECIMAL is not part of the value: the log does not have it.
func TestDecimalZerofill(t *testing.T) {
	c, err := NewColumn(Info{Name: "d", DataType: "decimal", ColumnType: "decimal(10,2) unsigned zerofill"})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		shown  string
		logged []byte
		want   string
	}{
		{"00000012.50", []byte{0x80, 0, 0, 12, 50}, "12.50"},
		{"00000000.05", []byte{0x80, 0, 0, 0, 5}, "0.05"},
		{"99999999.99", []byte{0x85, 0xf5, 0xe0, 0xff, 99}, "99999999.99"},
	} {
		shown, err := c.AppendDriver(nil, []byte(v.shown))
		if err != nil {
			t.Fatal(err)
		}
		logged, _, err := appendField(nil, &c, typeNewDecimal, 10<<8|2, v.logged)
		if err != nil {
			t.Fatal(err)
		}
		if string(shown) != v.want || string(logged) != v.want {
			t.Errorf("%s is %s by SELECT and %s in the log", v.shown, shown, logged)
		}
	}
	if got, _ := c.AppendDriver(nil, []byte("00000")); string(got) != "0" {
		t.Errorf("zero is %s", got)
	}
}

// Values of kinds that are written without quotes are digits, whatever a host's query selects.
func TestBytesAreNumbersWhereNumbersAreWritten(t *testing.T) {
	for _, v := range []struct {
		kind  Kind
		bytes string
		want  string // empty: refused
	}{
		{Int, "-12", "-12"}, {Int, "", ""}, {Int, "-", ""}, {Int, "1.5", ""}, {Int, "1-1", ""}, {Int, "id", ""}, {Uint, "18446744073709551615", "18446744073709551615"}, {Uint, "1e3", ""},
		{Year, "2024", "2024"}, {Year, "now()", ""}, {Decimal, "-12.50", "-12.50"}, {Decimal, "00.5", "0.5"}, {Decimal, "1.2.3", ""}, {Decimal, ".", ""}, {Decimal, "x", ""},
		{Bit, "1", ""}, {Enum, "1", ""}, {Enum, "a", ""}, {Set, "1", ""}, {Set, "", ""}, {Text, "x'", "x'"},
	} {
		got, err := (&Column{Name: "c", Kind: v.kind}).AppendDriver(nil, []byte(v.bytes))
		if string(got) != v.want || (err == nil) != (v.want != "") || err != nil && !strings.Contains(err.Error(), "column `c`: the query returned") {
			t.Errorf("kind %d: %q is %q, error %v", v.kind, v.bytes, got, err)
		}
	}
}
