package shop

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// The first rows of a table hold its columns' extremes; the writer never deletes
// a table down to them, so they are there when the mover comes.

// lowestCustomer is the id of customer unit 0. Ids run upwards from it without
// gaps, through zero.
const lowestCustomer = -25

var (
	floatExtremes  = []float64{0, math.Copysign(0, -1), math.MaxFloat32, -math.MaxFloat32, 1.17549435e-38, 0.1, 16777216, 1e-7}
	doubleExtremes = []float64{0, math.Copysign(0, -1), math.MaxFloat64, -math.MaxFloat64, 2.2250738585072014e-308, 0.1, 1.0 / 3, 123456789.12345679, 9007199254740993, 1e22}
	timeExtremes   = []string{"'-838:59:59.000'", "'838:59:59.000'", "'00:00:00.000'", "'-00:00:00.001'", "'23:59:59.999'"}
)

func customer(g *generator, i int) {
	g.open()
	g.int(int64(lowestCustomer + i))
	g.sep()
	g.text(customerEmail(i))
	g.sep()
	name := g.latinWord() + " " + g.latinWord()
	if g.chance(20) {
		name += "  "
	}
	g.text(name)
	g.sep()
	switch {
	case g.chance(3):
		g.null()
	case g.chance(50):
		g.text("")
	default:
		g.text(sentence(g.rng, words, 2+g.rng.IntN(10)))
	}
	g.sep()
	g.text([]string{"DE", "fr", "CA", "JP", "x", ""}[g.rng.IntN(6)])
	g.sep()
	g.int(1 + int64(g.rng.IntN(4)))
	g.sep()
	g.int(int64(g.rng.IntN(64)))
	g.sep()
	switch {
	case i == 0:
		g.raw("1901")
	case i == 1:
		g.raw("2155")
	case i == 2:
		g.raw("0")
	case g.chance(4):
		g.null()
	default:
		g.int(1930 + int64(g.rng.IntN(80)))
	}
	g.sep()
	switch {
	case i < len(timeExtremes):
		g.raw(timeExtremes[i])
	case g.chance(3):
		g.null()
	default:
		g.text(fmt.Sprintf("%02d:%02d:%02d.%03d", g.rng.IntN(24), g.rng.IntN(60), g.rng.IntN(60), g.rng.IntN(1000)))
	}
	g.sep()
	g.int(int64(g.rng.IntN(2048)))
	g.sep()
	switch {
	case i < len(floatExtremes):
		g.float(floatExtremes[i])
	case g.chance(5):
		g.null()
	default:
		g.float(float64(g.rng.Float32() * 1000))
	}
	g.sep()
	switch i {
	case 0:
		g.raw("'1970-01-01 00:00:01.000000'")
	case 1:
		g.raw("'2038-01-19 03:14:07.999999'")
	default:
		g.moment(6)
	}
	g.close()
}

func customerEmail(i int) string {
	return "customer." + strconv.Itoa(i) + "@shop.example"
}

func product(g *generator, i int) {
	g.open()
	g.int(int64(i + 1))
	g.sep()
	g.text(fmt.Sprintf("SKU-%08X", uint32(i)*2654435761))
	g.sep()
	g.text(sentence(g.rng, words, 1+g.rng.IntN(5)))
	g.sep()
	g.text(productAttributes(g.rng))
	g.sep()
	switch i {
	case 0:
		g.raw("99999999.9999")
	case 1:
		g.raw("-99999999.9999")
	default:
		g.decimal(int64(g.rng.IntN(10_000_000)), 4)
	}
	g.sep()
	switch {
	case i < len(doubleExtremes):
		g.float(doubleExtremes[i])
	case g.chance(6):
		g.null()
	default:
		g.float(g.rng.ExpFloat64() * 10)
	}
	g.sep()
	g.int(int64(g.rng.IntN(2)))
	g.sep()
	switch {
	case i == 0:
		g.raw("'1000-01-01'")
	case i == 1:
		g.raw("'9999-12-31'")
	case g.chance(4):
		g.null()
	default:
		g.raw("'" + momentText(g.rng, 0)[:10] + "'")
	}
	g.close()
}

// productAttributes makes a JSON document of JSON's own types only: a server
// also has dates and decimals inside JSON, which its text form does not show.
func productAttributes(rng *rand.Rand) string {
	switch rng.IntN(40) {
	case 0:
		return "[]"
	case 1:
		return `"just text with \"quotes\", \\ and 😀"`
	case 2:
		return "null"
	case 3:
		return `[1, -1, 2.0, 1e100, 0.1, true, false, null, "", {}, [[]]]`
	case 4:
		return "18446744073709551615"
	case 5:
		return "-9223372036854775808"
	}
	return fmt.Sprintf(`{"colour": %q, "sizes": [%d, %d, %d.5], "stocked": %t, "note": null, "dims": {"w": %d, "h": %d.0, "deep": {"er": [{"a": 1}]}}, "rating": %s, "Ключ": "%s"}`,
		colours[rng.IntN(len(colours))], rng.IntN(10), -rng.IntN(70000), rng.IntN(50), rng.IntN(2) == 0,
		rng.IntN(1000), rng.IntN(1000), strconv.FormatFloat(rng.Float64(), 'g', -1, 64), []string{"значение", "a\\nb", "\\u00e9", ""}[rng.IntN(4)])
}

func order(g *generator, i int) {
	g.open()
	g.int(int64(i + 1))
	g.sep()
	g.int(int64(lowestCustomer + g.rng.IntN(g.shape.Customers)))
	g.sep()
	g.int(1 + int64(g.rng.IntN(6)))
	g.sep()
	g.decimal(int64(g.rng.IntN(10_000_000))-100_000, 2)
	g.sep()
	g.moment(3)
	g.sep()
	g.moment(6)
	g.sep()
	if g.chance(2) {
		g.null()
	} else {
		g.text(orderDetail(g.rng))
	}
	g.sep()
	if g.chance(3) {
		g.null()
	} else {
		g.text(sentence(g.rng, words, 1+g.rng.IntN(6)))
	}
	g.close()
}

func orderDetail(rng *rand.Rand) string {
	return fmt.Sprintf(`{"channel": "%s", "steps": [], "express": %t, "fee": %d.25}`,
		[]string{"web", "app", "店"}[rng.IntN(3)], rng.IntN(2) == 0, rng.IntN(30))
}

// linesOf is how many lines the order of unit i has when seeded; linesBefore is
// how many all orders before unit i have together.
func linesOf(i int) int {
	if i%9 == 0 {
		return 3
	}
	return 2
}

func linesBefore(i int) int { return 2*i + (i+8)/9 }

func orderLines(g *generator, i int) {
	for line := range linesOf(i) {
		if line > 0 {
			g.sep()
		}
		g.open()
		g.int(int64(i + 1))
		g.sep()
		g.int(int64(line + 1))
		g.sep()
		g.int(1 + int64(g.rng.IntN(g.shape.Products)))
		g.sep()
		g.int(int64(g.rng.IntN(20)) - 2)
		g.sep()
		g.decimal(int64(g.rng.IntN(10_000_000)), 4)
		g.sep()
		if g.chance(3) {
			g.null()
		} else {
			g.float(float64(g.rng.Float32()))
		}
		g.sep()
		if g.chance(2) {
			g.null()
		} else {
			g.text(sentence(g.rng, latinWords, 1+g.rng.IntN(4)))
		}
		g.close()
	}
}

// paymentID is the id of payment unit i: spread over all 64 bits.
func (g *generator) paymentID(i int) uint64 { return paymentID(g.seed, i) }

func paymentID(seed uint64, i int) uint64 {
	switch i {
	case 0:
		return 0
	case 1:
		return math.MaxUint64
	case 2:
		return 1 << 63
	}
	return scramble(scramble(seed) + uint64(i))
}

func payment(g *generator, i int) {
	g.open()
	g.uint(g.paymentID(i))
	g.sep()
	g.int(1 + int64(g.rng.IntN(g.shape.Orders)))
	g.sep()
	switch {
	case i == 0:
		g.uint(math.MaxUint64)
	case g.chance(3):
		g.null()
	default:
		g.uint(g.rng.Uint64())
	}
	g.sep()
	switch i {
	case 0:
		g.raw("99999999999999.999999")
	case 1:
		g.raw("-99999999999999.999999")
	default:
		g.decimal(g.rng.Int64N(1_000_000_000_000)-1_000_000, 6)
	}
	g.sep()
	g.int(1 + int64(g.rng.IntN(4)))
	g.sep()
	switch {
	case i == 0:
		g.raw("'1000-01-01 00:00:00.000000'")
	case i == 1:
		g.raw("'9999-12-31 23:59:59.999999'")
	case g.chance(4):
		g.null()
	default:
		g.moment(6)
	}
	g.sep()
	if g.chance(4) {
		g.null()
	} else {
		g.bytes(randomBytes(g.rng, g.rng.IntN(33)))
	}
	g.close()
}

// sessionID is the key of session unit i, a random-looking UUID.
func sessionID(seed uint64, i int) []byte {
	id := make([]byte, 16)
	first := scramble(scramble(seed+1) + uint64(i))
	binary.BigEndian.PutUint64(id, first)
	binary.BigEndian.PutUint64(id[8:], scramble(first))
	switch i {
	case 0:
		clear(id)
	case 1:
		clear(id[1:])
	case 2:
		clear(id[14:])
	}
	return id
}

func session(g *generator, i int) {
	g.open()
	g.bytes(sessionID(g.seed, i))
	g.sep()
	if g.chance(4) {
		g.null()
	} else {
		g.int(int64(lowestCustomer + g.rng.IntN(g.shape.Customers)))
	}
	g.sep()
	g.bytes(randomBytes(g.rng, 20+g.rng.IntN(21)))
	g.sep()
	if g.chance(2) {
		g.null()
	} else {
		g.text(orderDetail(g.rng))
	}
	g.sep()
	g.moment(6)
	g.sep()
	if i == 0 {
		g.uint(math.MaxUint32)
	} else {
		g.int(int64(g.rng.IntN(1000)))
	}
	g.sep()
	if g.chance(3) {
		g.null()
	} else {
		g.float(g.rng.NormFloat64())
	}
	g.close()
}

// stockKey is the key of stock unit i: one warehouse after the other, the first
// of them below zero.
func (s Shape) stockKey(i int) (warehouse, product int) {
	return i/s.Products - 1, i%s.Products + 1
}

func stock(g *generator, i int) {
	warehouse, product := g.shape.stockKey(i)
	g.open()
	g.int(int64(warehouse))
	g.sep()
	g.int(int64(product))
	g.sep()
	g.decimal(int64(g.rng.IntN(100_000_000))-1000, 3)
	g.sep()
	g.int(int64(g.rng.IntN(50)))
	g.sep()
	if g.chance(5) {
		g.null()
	} else {
		g.moment(6)
	}
	g.sep()
	if g.chance(3) {
		g.null()
	} else {
		g.moment(3)
	}
	g.close()
}

// seatsInHall is how many neighbouring seats share a hall, and the pool within
// which the writer passes tickets around.
const seatsInHall = 8

func seat(g *generator, i int) {
	g.open()
	g.int(seatID(i))
	g.sep()
	g.int(int64(i / seatsInHall))
	g.sep()
	g.int(int64(i % seatsInHall))
	g.sep()
	if i%seatsInHall == seatsInHall-1 {
		g.null() // one free seat a hall, so that tickets can move
	} else {
		g.text(fmt.Sprintf("T%09d", i))
	}
	g.sep()
	g.decimal(int64(g.rng.IntN(100_000)), 2)
	g.close()
}

// seatID is the id of seat unit i; half of a large shop's seats are below zero.
func seatID(i int) int64 { return int64(i) - 5000 }

func document(g *generator, i int) {
	g.open()
	g.int(int64(i + 1))
	g.sep()
	g.int(int64(lowestCustomer + g.rng.IntN(g.shape.Customers)))
	g.sep()
	g.text([]string{"invoice", "Façade", "contract ", "photo"}[g.rng.IntN(4)])
	g.sep()
	switch {
	case i == 0:
		g.bytes(randomBytes(g.rng, 200_000))
	case i == 1:
		g.text("")
	case g.chance(10):
		g.null()
	default:
		g.bytes(randomBytes(g.rng, g.rng.IntN(4096)))
	}
	g.sep()
	if g.chance(4) {
		g.null()
	} else {
		g.text(sentence(g.rng, latinWords, g.rng.IntN(60)))
	}
	g.sep()
	if g.chance(2) {
		g.null()
	} else {
		g.bytes(randomBytes(g.rng, g.rng.IntN(100)))
	}
	g.sep()
	g.bytes(randomBytes(g.rng, 32))
	g.close()
}

// tagName is the name of tag unit i as seeded, in mixed case; the number keeps
// names apart under the column's collation.
func tagName(i int) string {
	name := words[i%16] + " " + strconv.Itoa(i)
	if i%7 == 0 {
		name += " "
	}
	return name
}

func tag(g *generator, i int) {
	g.open()
	g.text(tagName(i))
	g.sep()
	g.text(sentence(g.rng, latinWords, 1+g.rng.IntN(4)))
	g.sep()
	g.int(int64(g.rng.IntN(100)))
	g.close()
}
