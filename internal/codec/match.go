package codec

import "strings"

// Differs returns the first column whose values in the log are of another type than the
// table's definition says, -1 when there is none: the definition was changed where the
// log does not tell it. The literals of a kind are safe for values of its types only.
func (t *TableMap) Differs(columns []Column) int {
	for i := range min(len(columns), len(t.types)) {
		if !columns[i].Kind.loggedAs(t.types[i], byte(t.metas[i]>>8)) {
			return i
		}
	}
	return -1
}

// Renamed returns the first column that has another name in the log than the table's
// definition says, -1 when there is none or the log does not name columns (it does with
// binlog_row_metadata=FULL): types alone do not tell that two columns changed places.
// Servers take names that differ in letter case only for one.
func (t *TableMap) Renamed(columns []Column) (i int, name string) {
	for i := range min(len(columns), len(t.names)) {
		if !strings.EqualFold(columns[i].Name, t.names[i]) {
			return i, t.names[i]
		}
	}
	return -1, ""
}

// optionalColumnNames is the field of the optional metadata that holds the names of all
// columns, each after its length; source: MySQL's documentation of Table_map_event.
const optionalColumnNames = 4

// columnNames finds the names in a table map's optional metadata: fields of a type byte, a
// packed length and a value. What is not understood there is no reason to stop, because
// rows are complete without it: then there are no names.
func columnNames(optional []byte, count int) []string {
	for len(optional) > 1 {
		field := optional[0]
		size, n := packedInt(optional[1:])
		if n == 0 || uint64(len(optional)-1-n) < size {
			return nil
		}
		value := optional[1+n : 1+n+int(size)]
		optional = optional[1+n+int(size):]
		if field == optionalColumnNames {
			return textList(value, count)
		}
	}
	return nil
}

// textList reads exactly count texts, each after its packed length.
func textList(data []byte, count int) []string {
	var list []string
	for len(data) > 0 && len(list) < count {
		size, n := packedInt(data)
		if n == 0 || uint64(len(data)-n) < size {
			return nil
		}
		list = append(list, string(data[n:n+int(size)]))
		data = data[n+int(size):]
	}
	if len(list) != count || len(data) > 0 {
		return nil
	}
	return list
}

// loggedAs reports whether values of the kind have that type in the log. actual is the
// high byte of the metadata, where a string type says that it is an ENUM or a SET.
func (k Kind) loggedAs(typ, actual byte) bool {
	if typ == typeString && (actual == typeEnum || actual == typeSet) {
		typ = actual
	}
	switch typ {
	case typeTiny, typeShort, typeInt24, typeLong, typeLongLong:
		return k == Int || k == Uint
	case typeYear:
		return k == Year
	case typeBit:
		return k == Bit
	case typeEnum:
		return k == Enum
	case typeSet:
		return k == Set
	case typeNewDecimal:
		return k == Decimal
	case typeFloat:
		return k == Float
	case typeDouble:
		return k == Double
	case typeDate, typeNewDate:
		return k == Date
	case typeTime, typeTime2:
		return k == Time
	case typeDateTime, typeDateTime2:
		return k == DateTime
	case typeTimestamp, typeTimestamp2:
		return k == Timestamp
	case typeJSON:
		return k == JSON
	case typeGeometry:
		return k == Geometry
	}
	if k == UUID || k == Inet4 || k == Inet6 {
		return typ == typeString // any other string would be taken as it is, and is no such literal
	}
	return k > Timestamp && k != JSON && k != Geometry // strings of any kind
}
