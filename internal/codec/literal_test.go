package codec

import "testing"

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
