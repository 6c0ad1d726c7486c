package codec

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

// loggedAs reports whether values of the kind have that type in the log. real is the
// high byte of the metadata, where a string type says that it is an ENUM or a SET.
func (k Kind) loggedAs(typ, real byte) bool {
	if typ == typeString && (real == typeEnum || real == typeSet) {
		typ = real
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
	return k > Timestamp && k != JSON && k != Geometry // strings of any kind
}
