package shop

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
)

// generator writes row tuples. Each batch starts its own random sequence from
// the seed, the table and the batch's number, so that the rows do not depend on
// which connection inserts which batch.
type generator struct {
	seed  uint64
	shape Shape
	rng   *rand.Rand
	out   []byte
}

func newGenerator(seed uint64, shape Shape) *generator {
	return &generator{seed: seed, shape: shape}
}

// insert returns the statement for one batch.
func (g *generator) insert(database string, b batch) string {
	name := fnv.New64a()
	name.Write([]byte(b.table.name))
	g.rng = rand.New(rand.NewPCG(g.seed, name.Sum64()+uint64(b.number)))
	g.out = append(g.out[:0], "INSERT INTO "+qualified(database, b.table.name)+" ("+b.table.columns+") VALUES\n"...)
	for i := b.first; i < b.last; i++ {
		if i > b.first {
			g.raw(",\n")
		}
		b.table.unit(g, i)
	}
	return string(g.out)
}

// The literals. Every value method appends one literal; sep goes between them.

func (g *generator) raw(s string) { g.out = append(g.out, s...) }
func (g *generator) open()        { g.out = append(g.out, '(') }
func (g *generator) sep()         { g.out = append(g.out, ',') }
func (g *generator) close()       { g.out = append(g.out, ')') }
func (g *generator) null()        { g.raw("NULL") }

func (g *generator) int(n int64)        { g.out = strconv.AppendInt(g.out, n, 10) }
func (g *generator) uint(n uint64)      { g.out = strconv.AppendUint(g.out, n, 10) }
func (g *generator) chance(in int) bool { return g.rng.IntN(in) == 0 }

// text appends a quoted string literal (utf8mb4, converted by the server).
func (g *generator) text(s string) {
	g.out = append(g.out, '\'')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\'', '\\':
			g.out = append(g.out, '\\', c)
		case 0:
			g.out = append(g.out, '\\', '0')
		case 0x1a:
			g.out = append(g.out, '\\', 'Z')
		default:
			g.out = append(g.out, c)
		}
	}
	g.out = append(g.out, '\'')
}

// bytes appends a hexadecimal literal, which is binary.
func (g *generator) bytes(b []byte) {
	const digits = "0123456789abcdef"
	g.raw("X'")
	for _, c := range b {
		g.out = append(g.out, digits[c>>4], digits[c&15])
	}
	g.out = append(g.out, '\'')
}

// decimal appends units/10^scale.
func (g *generator) decimal(units int64, scale int) {
	g.raw(decimalText(units, scale))
}

func decimalText(units int64, scale int) string {
	sign := ""
	if units < 0 {
		sign, units = "-", -units
	}
	digits := strconv.FormatInt(units, 10)
	for len(digits) <= scale {
		digits = "0" + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}

// float appends a floating-point literal, always with an exponent: without one
// the server would read a decimal. FLOAT columns take it too, because the shortest
// text of the largest float32 lies beyond it as a float64.
func (g *generator) float(f float64) {
	g.out = strconv.AppendFloat(g.out, f, 'e', -1, 64)
}

// moment appends a date and time with the given number of fractional digits,
// spread over the year 2025 (UTC).
func (g *generator) moment(fraction int) {
	g.raw("'" + momentText(g.rng, fraction) + "'")
}

func momentText(rng *rand.Rand, fraction int) string {
	b := make([]byte, 0, 26)
	pad := func(n, width int) {
		s := strconv.Itoa(n)
		for range width - len(s) {
			b = append(b, '0')
		}
		b = append(b, s...)
	}
	b = append(b, "2025-"...)
	pad(1+rng.IntN(12), 2)
	b = append(b, '-')
	pad(1+rng.IntN(28), 2)
	b = append(b, ' ')
	pad(rng.IntN(24), 2)
	b = append(b, ':')
	pad(rng.IntN(60), 2)
	b = append(b, ':')
	pad(rng.IntN(60), 2)
	b = append(b, '.')
	pad(rng.IntN(1_000_000), 6)
	return string(b[:20+fraction])
}

var (
	// words go into utf8mb4 columns: one to four bytes a character, characters
	// that a case-insensitive collation folds, and what quoting gets wrong.
	words = []string{
		"amber", "Birch", "copper", "Delta", "ember", "Frost", "garnet", "Hazel",
		"Straße", "café", "naïve", "Ångström", "œuvre", "żółw", "ночь", "Ωmega",
		"日本", "茶", "한글", "😀", "🚲", "👩‍🚀", "it's", `back\slash`, `"quoted"`, "tab\there", "semi;colon", "100%_",
	}
	// latinWords go into latin1 columns; the last two are what Windows' variant
	// of latin1, the one that MySQL means, has beyond ISO 8859-1.
	latinWords = []string{
		"Anna", "Björn", "Çelik", "Dörte", "Élodie", "François", "Günther", "Håkon",
		"Íris", "Jürgen", "Müller", "Ñandú", "O'Neill", "Pérez", "ÿvonne", "ßeta", "€uro", "“Zoë”",
	}
	colours = []string{"rot", "grün", "blau", "schwarz", "weiß", "青"}
)

func (g *generator) latinWord() string { return latinWords[g.rng.IntN(len(latinWords))] }

// sentence makes text of n words.
func sentence(rng *rand.Rand, from []string, n int) string {
	var s []byte
	for i := range n {
		if i > 0 {
			s = append(s, ' ')
		}
		s = append(s, from[rng.IntN(len(from))]...)
	}
	return string(s)
}

// randomBytes fills n bytes; one in 16 ends in zero bytes, which servers pad
// and strip in binary columns.
func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := rng.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	if n > 2 && rng.IntN(16) == 0 {
		b[n-1], b[n-2] = 0, 0
	}
	return b
}

// scramble is a bijection on 64 bits (the finaliser of splitmix64), so that
// distinct numbers give distinct keys spread over the whole range.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
