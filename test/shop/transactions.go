package shop

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
)

// transaction is one kind of thing the application does.
type transaction struct {
	kind   string
	weight int
	do     func(*step)
}

// mix is what the shop does all day, by weight. The everyday kinds are in this
// file, those that change keys and unique values in transactions_keys.go.
var mix = []transaction{
	{"place an order", 20, placeOrder},
	{"advance an order", 12, advanceOrder},
	{"cancel an order", 4, cancelOrder},
	{"sign up", 4, signUp},
	{"edit a customer", 6, editCustomer},
	{"write a name differently", 5, rewriteName},
	{"edit product attributes", 8, editAttributes},
	{"respell JSON numbers", 3, respellNumbers},
	{"move hot stock", 7, moveStock},
	{"reprice a range", 2, repriceRange},
	{"store a document", 3, storeDocument},
	{"begin a session", 5, beginSession},
	{"touch a session", 6, touchSession},
	{"there and back", 2, thereAndBack},
	{"savepoint", 5, savepoint},
	{"change one's mind", 4, changeMind},

	{"change a payment's key", 3, changePaymentKey},
	{"change a session's key", 3, changeSessionKey},
	{"renumber an order line", 3, renumberLine},
	{"split an order", 2, splitOrder},
	{"delete and insert again", 4, deleteAndReinsert},
	{"make a tag", 3, makeTag},
	{"rename a tag", 4, renameTag},
	{"swap tag names", 2, swapTags},
	{"swap tickets", 4, swapTickets},
	{"rotate tickets", 3, rotateTickets},
	{"hand a ticket on", 4, handTicketOn},
	{"shift a hall", 2, shiftHall},
}

// Kinds is the number of kinds of transaction in the mix, one of which is always
// rolled back.
func Kinds() int { return len(mix) }

// choose draws the next transaction, or takes the work that the writer was
// switched to.
func (c *connection) choose(replacement Work) (string, Work) {
	if replacement != nil {
		return "switched", replacement
	}
	total := 0
	for _, t := range mix {
		total += t.weight
	}
	n := c.rng.IntN(total)
	for _, t := range mix {
		if n -= t.weight; n < 0 {
			return t.kind, func(ctx context.Context, tx *sql.Tx, _ int) error {
				s := &step{connection: c, ctx: ctx, tx: tx}
				t.do(s)
				return s.err
			}
		}
	}
	panic("unreachable: the weights add up")
}

// step runs the statements of one transaction. After the first error the rest
// does nothing, so that a transaction reads as what it does.
type step struct {
	*connection
	ctx context.Context
	tx  *sql.Tx
	err error
}

// exec runs a statement and returns how many rows it changed. Table names are
// written in braces: {orders}.
func (s *step) exec(statement string, args ...any) int64 {
	if s.err != nil {
		return 0
	}
	result, err := s.tx.ExecContext(s.ctx, s.expand(statement), args...)
	if err != nil {
		s.err = fmt.Errorf("%s: %w", statement, err)
		return 0
	}
	n, err := result.RowsAffected()
	s.err = err
	return n
}

// row reads one row and returns whether there was one.
func (s *step) row(query string, args []any, into ...any) bool {
	if s.err != nil {
		return false
	}
	err := s.tx.QueryRowContext(s.ctx, s.expand(query), args...).Scan(into...)
	if err == sql.ErrNoRows {
		return false
	}
	if err != nil {
		s.err = fmt.Errorf("%s: %w", query, err)
	}
	return err == nil
}

func (s *step) expand(statement string) string {
	return tableInBraces.ReplaceAllString(statement, quote(s.w.config.Shop.Database)+".`$1`")
}

var tableInBraces = regexp.MustCompile(`\{(\w+)\}`)

// committed remembers to do something once the transaction is committed.
func (s *step) committed(do func()) { s.afterCommit = append(s.afterCommit, do) }

func (s *step) giveUp() {
	if s.err == nil {
		s.err = errChangedMind
	}
}

func placeOrder(s *step) {
	id := s.newOrder()
	s.exec("INSERT INTO {orders} (id, customer_id, status, total, placed_at, detail, remark) VALUES (?, ?, 'open', ?, NOW(3), ?, ?)",
		id, s.anyCustomer(), decimalText(s.rng.Int64N(100_000), 2), orderDetail(s.rng), sentence(s.rng, words, 1+s.rng.IntN(4)))
	for line := range 1 + s.rng.IntN(3) {
		warehouse, product := s.anyStock()
		s.exec("INSERT INTO {order_lines} (order_id, line_no, product_id, quantity, unit_price, discount, gift_text) VALUES (?, ?, ?, ?, ?, ?, ?)",
			id, line+1, product, 1+s.rng.IntN(5), decimalText(s.rng.Int64N(1_000_000), 4), s.maybe(s.rng.Float32()), s.maybe(sentence(s.rng, latinWords, 2)))
		s.exec("UPDATE {stock} SET reserved = reserved + 1, on_hand = on_hand - 0.125, moved_at = NOW(3) WHERE warehouse = ? AND product_id = ?", warehouse, product)
	}
	if s.rng.IntN(2) == 0 {
		s.pay(id)
	}
}

func (s *step) pay(order int) {
	id := s.rng.Uint64()
	s.exec("INSERT INTO {payments} (id, order_id, reference, amount, method, paid_at, receipt) VALUES (?, ?, ?, ?, ?, NOW(6), ?)",
		id, order, s.rng.Uint64(), decimalText(s.rng.Int64N(1e12), 6), 1+s.rng.IntN(4), s.maybe(randomBytes(s.rng, s.rng.IntN(33))))
	s.committed(func() { s.own.payments.put(id) })
}

// maybe is the value or, every third time, NULL.
func (s *step) maybe(v any) any {
	if s.rng.IntN(3) == 0 {
		return nil
	}
	return v
}

func advanceOrder(s *step) {
	id := s.anyOrder()
	if s.rng.IntN(2) == 0 {
		s.exec("UPDATE {orders} SET status = ?, updated_at = NOW(6) WHERE id = ?", 1+s.rng.IntN(6), id)
		return
	}
	s.exec("UPDATE {orders} SET detail = JSON_SET(COALESCE(detail, '{}'), '$.step', ?, '$.fee', 2.5e0, '$.list', JSON_ARRAY(1, 'zwei', NULL)) WHERE id = ?",
		sentence(s.rng, words, 1), id)
	s.exec("UPDATE {orders} SET total = total + ? WHERE id = ?", decimalText(s.rng.Int64N(1000), 2), id)
}

func cancelOrder(s *step) {
	id := s.anyOrder()
	s.exec("DELETE FROM {order_lines} WHERE order_id = ?", id)
	s.exec("DELETE FROM {payments} WHERE order_id = ?", id)
	s.exec("DELETE FROM {orders} WHERE id = ?", id)
}

func signUp(s *step) {
	s.exec("INSERT INTO {customers} (email, name, remark, country, interests, born, calls_at, flags, score) VALUES (?, ?, ?, 'NZ', ?, ?, ?, ?, ?)",
		s.newEmail(), sentence(s.rng, latinWords, 2), s.maybe(sentence(s.rng, words, 5)), "books,travel", s.maybe(1950+s.rng.IntN(50)),
		s.maybe("-12:34:56.789"), s.rng.IntN(2048), s.maybe(s.rng.Float32()))
}

func editCustomer(s *step) {
	id := s.anyCustomer()
	switch s.rng.IntN(4) {
	case 0:
		s.exec("UPDATE {customers} SET remark = ?, score = ? WHERE id = ?", s.maybe(sentence(s.rng, words, 8)), s.maybe(s.rng.Float32()), id)
	case 1:
		s.exec("UPDATE {customers} SET segment = ?, interests = ?, flags = flags ^ 5 WHERE id = ?", 1+s.rng.IntN(4), s.rng.IntN(64), id)
	case 2:
		s.exec("UPDATE {customers} SET born = ?, calls_at = ? WHERE id = ?", s.maybe(1950+s.rng.IntN(50)), s.maybe("101:02:03.5"), id)
	default:
		s.exec("DELETE FROM {customers} WHERE id = ?", id)
	}
}

// rewriteName makes changes that a collation calls equal: case and trailing spaces.
func rewriteName(s *step) {
	id := s.anyCustomer()
	change := []string{
		"name = UPPER(name)", "name = LOWER(name)", "name = CONCAT(RTRIM(name), ' ')", "name = RTRIM(name)",
		"email = UPPER(email)", "email = LOWER(email)", "remark = CONCAT(LEFT(remark, 40), '  ')", "country = LOWER(country)",
	}[s.rng.IntN(8)]
	s.exec("UPDATE {customers} SET "+change+" WHERE id = ?", id)
}

func editAttributes(s *step) {
	id := s.anyProduct()
	switch s.rng.IntN(4) {
	case 0:
		s.exec("UPDATE {products} SET attributes = JSON_SET(attributes, '$.stocked', JSON_EXTRACT('[true]', '$[0]'), '$.weight', 1.25e0, '$.name', ?) WHERE id = ?", sentence(s.rng, words, 2), id)
	case 1:
		s.exec("UPDATE {products} SET attributes = JSON_REMOVE(attributes, '$.note'), price = price - SIGN(price) * 0.0001 WHERE id = ?", id)
	case 2:
		s.exec("UPDATE {products} SET title = ?, weight = ? WHERE id = ?", sentence(s.rng, words, 3), s.maybe(s.rng.ExpFloat64()), id)
	default:
		s.exec("UPDATE {products} SET attributes = ?, on_sale = 1 - on_sale WHERE id = ?", productAttributes(s.rng), id)
	}
}

// respellNumbers changes numbers in JSON to others of the same value, 1 to 1.0 and
// back, which MySQL takes for no change at all unless another column of the row
// changes with them. Here one does, and is back at the end.
func respellNumbers(s *step) {
	id := sessionID(s.w.config.Shop.Seed, s.rng.IntN(20))
	for _, data := range [][2]string{{`{"n": 1, "m": [2.0]}`, `{"n": 1.0, "m": [2]}`}, {`{"n": 1.0, "m": [2]}`, `{"n": 1, "m": [2.0]}`}}[s.rng.IntN(2)] {
		s.exec("UPDATE {sessions} SET data = ?, hits = hits ^ 1 WHERE id = ?", data, id)
	}
}

func moveStock(s *step) {
	for range 1 + s.rng.IntN(3) {
		warehouse, product := s.anyStock()
		s.exec("UPDATE {stock} SET on_hand = on_hand + ?, moved_at = NOW(3), counted_at = ? WHERE warehouse = ? AND product_id = ?",
			decimalText(s.rng.Int64N(10_000)-5000, 3), s.maybe(momentText(s.rng, 6)), warehouse, product)
	}
}

func repriceRange(s *step) {
	first := s.anyProduct()
	s.exec("UPDATE {products} SET price = price * 1.01 WHERE id BETWEEN ? AND ? AND price BETWEEN 0 AND 100000", first, first+15)
	lowest := s.anyCustomer()
	s.exec("UPDATE {customers} SET score = COALESCE(score, 0) / 3 WHERE id BETWEEN ? AND ?", lowest, lowest+15)
}

func storeDocument(s *step) {
	id := s.anyDocument()
	body, digest := randomBytes(s.rng, s.rng.IntN(8192)), randomBytes(s.rng, 32)
	switch s.rng.IntN(3) {
	case 0:
		s.exec("INSERT INTO {documents} (customer_id, kind, body, summary, thumb, digest) VALUES (?, 'scan', ?, ?, ?, ?)",
			s.anyCustomer(), s.maybe(body), s.maybe(sentence(s.rng, latinWords, 20)), s.maybe(randomBytes(s.rng, 40)), digest)
	case 1:
		s.exec("UPDATE {documents} SET body = ?, digest = ? WHERE id = ?", s.maybe(body), digest, id)
	default:
		s.exec("DELETE FROM {documents} WHERE id = ?", id)
	}
}

func beginSession(s *step) {
	id := randomBytes(s.rng, 16)
	s.exec("INSERT INTO {sessions} (id, customer_id, token, data, hits, ratio) VALUES (?, ?, ?, ?, 1, ?)",
		id, s.anyCustomer(), randomBytes(s.rng, 20), s.maybe(orderDetail(s.rng)), s.maybe(s.rng.NormFloat64()))
	s.committed(func() { s.own.sessions.put(id) })
}

func touchSession(s *step) {
	if s.rng.IntN(4) == 0 {
		s.exec("DELETE FROM {sessions} WHERE id = ?", s.anySession())
		return
	}
	s.exec("UPDATE {sessions} SET hits = (hits + 1) & 4294967295, seen_at = NOW(6), ratio = ratio / 7 WHERE id = ?", s.anySession())
}

// thereAndBack changes a row and changes it back, in one transaction.
func thereAndBack(s *step) {
	warehouse, product := s.anyStock()
	s.exec("UPDATE {stock} SET reserved = reserved + 1000 WHERE warehouse = ? AND product_id = ?", warehouse, product)
	s.exec("UPDATE {stock} SET reserved = reserved - 1000 WHERE warehouse = ? AND product_id = ?", warehouse, product)
}

// savepoint keeps what it did before and after, and undoes what lies between.
func savepoint(s *step) {
	id := s.newOrder()
	s.exec("INSERT INTO {orders} (id, customer_id, status, total, placed_at) VALUES (?, ?, 'open', 1.50, NOW(3))", id, s.anyCustomer())
	s.exec("SAVEPOINT before_lines")
	s.exec("INSERT INTO {order_lines} (order_id, line_no, product_id, quantity, unit_price) VALUES (?, 1, ?, 1, 9.9)", id, s.anyProduct())
	s.exec("UPDATE {orders} SET status = 'cancelled', remark = 'must never be seen' WHERE id = ?", id)
	warehouse, product := s.anyStock()
	s.exec("UPDATE {stock} SET on_hand = -12345.678 WHERE warehouse = ? AND product_id = ?", warehouse, product)
	s.exec("ROLLBACK TO SAVEPOINT before_lines")
	s.exec("UPDATE {orders} SET status = 'paid' WHERE id = ?", id)
	s.exec("INSERT INTO {order_lines} (order_id, line_no, product_id, quantity, unit_price) VALUES (?, 1, ?, 2, 8.8)", id, s.anyProduct())
}

// changeMind does a lot and rolls all of it back.
func changeMind(s *step) {
	id := s.newOrder()
	s.exec("INSERT INTO {orders} (id, customer_id, status, total, placed_at, remark) VALUES (?, ?, 'open', 1, NOW(3), 'must never be seen')", id, s.anyCustomer())
	s.exec("DELETE FROM {order_lines} WHERE order_id = ?", s.anyOrder())
	s.exec("UPDATE {customers} SET remark = 'must never be seen' WHERE id = ?", s.anyCustomer())
	s.giveUp()
}
