package shop

import (
	"fmt"
)

// Transactions in which a row gets another key, or a unique value another row.

func changePaymentKey(s *step) {
	id, known := s.own.payments.take()
	if !known || s.rng.IntN(2) == 0 {
		id = s.anyPayment()
	}
	changed := s.rng.Uint64()
	if s.exec("UPDATE {payments} SET id = ?, reference = id WHERE id = ?", changed, id) == 1 {
		s.committed(func() { s.own.payments.put(changed) })
	}
}

func changeSessionKey(s *step) {
	id, known := s.own.sessions.take()
	if !known || s.rng.IntN(2) == 0 {
		id = s.anySession()
	}
	changed := randomBytes(s.rng, 16)
	if s.exec("UPDATE {sessions} SET id = ?, hits = 0 WHERE id = ?", changed, id) == 1 {
		s.committed(func() { s.own.sessions.put(changed) })
	}
}

// renumberLine moves a line of an order to a number a hundred higher, or back.
func renumberLine(s *step) {
	order, line := s.anyOrder(), 1+s.rng.IntN(2)
	if s.exec("UPDATE {order_lines} SET line_no = line_no + 100 WHERE order_id = ? AND line_no = ?", order, line) == 0 {
		s.exec("UPDATE {order_lines} SET line_no = line_no - 100 WHERE order_id = ? AND line_no = ?", order, line+100)
	}
}

// splitOrder gives all lines of an order to a new one: one statement, many keys.
func splitOrder(s *step) {
	from, to := s.anyOrder(), s.newOrder()
	s.exec("INSERT INTO {orders} (id, customer_id, status, total, placed_at, remark) VALUES (?, ?, 'packed', 0, NOW(3), ?)", to, s.anyCustomer(), fmt.Sprint("split from ", from))
	s.exec("UPDATE {order_lines} SET order_id = ? WHERE order_id = ?", to, from)
}

// deleteAndReinsert deletes a row and inserts another under the same key.
func deleteAndReinsert(s *step) {
	switch s.rng.IntN(3) {
	case 0:
		order := s.anyOrder()
		if s.exec("DELETE FROM {order_lines} WHERE order_id = ? AND line_no = 1", order) == 1 {
			s.exec("INSERT INTO {order_lines} (order_id, line_no, product_id, quantity, unit_price) VALUES (?, 1, ?, 99, 1.2345)", order, s.anyProduct())
		}
	case 1:
		id := s.anySession()
		if s.exec("DELETE FROM {sessions} WHERE id = ?", id) == 1 {
			s.exec("INSERT INTO {sessions} (id, token, seen_at) VALUES (?, ?, NOW(6))", id, randomBytes(s.rng, 24))
		}
	default:
		s.exec("REPLACE INTO {stock} (warehouse, product_id, on_hand, moved_at) VALUES (?, ?, ?, NOW(3))", 9, s.anyProduct(), decimalText(s.rng.Int64N(1e6), 3))
		s.exec("INSERT INTO {stock} (warehouse, product_id, on_hand) VALUES (10, ?, 1) ON DUPLICATE KEY UPDATE on_hand = on_hand + 1, reserved = reserved + 2", s.anyProduct())
	}
}

func makeTag(s *step) {
	name := s.newTag()
	s.exec("INSERT INTO {tags} (name, label) VALUES (?, ?)", name, sentence(s.rng, latinWords, 2))
	if old, known := s.own.made.take(); known && s.rng.IntN(3) == 0 {
		s.exec("DELETE FROM {tags} WHERE name = ?", old)
	}
	s.committed(func() { s.own.made.put(name) })
}

// renameTag changes a key under a collation: to another case or to trailing
// spaces, which is the same key, or to a name that is truly new.
func renameTag(s *step) {
	name := s.anyTag()
	switch s.rng.IntN(5) {
	case 0:
		s.exec("UPDATE {tags} SET name = UPPER(name), uses = uses + 1 WHERE name = ?", name)
	case 1:
		s.exec("UPDATE {tags} SET name = LOWER(name) WHERE name = ?", name)
	case 2:
		s.exec("UPDATE {tags} SET name = CONCAT(RTRIM(name), '  ') WHERE name = ?", name)
	case 3:
		if s.exec("DELETE FROM {tags} WHERE name = ?", name) == 1 {
			s.exec("INSERT INTO {tags} (name, label) VALUES (LOWER(?), 'again')", name)
		}
	default:
		if old, known := s.own.made.take(); known {
			changed := s.newTag()
			s.exec("UPDATE {tags} SET name = ? WHERE name = ?", changed, old)
			s.committed(func() { s.own.made.put(changed) })
		}
	}
}

// swapTags exchanges the names of two tags by way of a third name.
func swapTags(s *step) {
	a, b := s.anyTag(), s.anyTag()
	between := s.newTag()
	if a == b || s.exec("UPDATE {tags} SET name = ? WHERE name = ?", between, a) == 0 {
		return
	}
	s.exec("UPDATE {tags} SET name = ?, uses = uses + 1 WHERE name = ?", a, b)
	if s.exec("UPDATE {tags} SET name = ? WHERE name = ?", b, between) == 0 {
		s.giveUp() // unreachable while nobody else makes the name
	}
}

// swapTickets exchanges the tickets of two seats of a hall by way of NULL.
func swapTickets(s *step) {
	hall := s.anyHall()
	one, other := s.lockTickets(hall)
	if one == nil || other == nil {
		return
	}
	s.exec("UPDATE {seats} SET ticket = NULL WHERE id = ?", one.id)
	s.exec("UPDATE {seats} SET ticket = ? WHERE id = ?", one.ticket, other.id)
	s.exec("UPDATE {seats} SET ticket = ? WHERE id = ?", other.ticket, one.id)
}

type ticketed struct {
	id     int64
	ticket string
}

// lockTickets locks a hall and returns two of its seats that have a ticket.
func (s *step) lockTickets(hall int) (one, other *ticketed) {
	if s.err != nil {
		return nil, nil
	}
	rows, err := s.tx.QueryContext(s.ctx, s.expand("SELECT id, ticket FROM {seats} WHERE hall = ? AND ticket IS NOT NULL ORDER BY position FOR UPDATE"), hall)
	if err != nil {
		s.err = err
		return nil, nil
	}
	defer rows.Close()
	var found []ticketed
	for rows.Next() {
		var t ticketed
		if err := rows.Scan(&t.id, &t.ticket); err != nil {
			s.err = err
			return nil, nil
		}
		found = append(found, t)
	}
	if s.err = rows.Err(); s.err != nil || len(found) < 2 {
		return nil, nil
	}
	first := s.rng.IntN(len(found))
	second := (first + 1 + s.rng.IntN(len(found)-1)) % len(found)
	return &found[first], &found[second]
}

// rotateTickets exchanges tickets by way of a value that nobody else uses, and
// one of them also changes its case on the way.
func rotateTickets(s *step) {
	one, other := s.lockTickets(s.anyHall())
	if one == nil || other == nil {
		return
	}
	s.exec("UPDATE {seats} SET ticket = ? WHERE id = ?", fmt.Sprintf("tmp %d", s.number), one.id)
	s.exec("UPDATE {seats} SET ticket = LOWER(?) WHERE id = ?", one.ticket, other.id)
	s.exec("UPDATE {seats} SET ticket = UPPER(?), price = price + 0.01 WHERE id = ?", other.ticket, one.id)
}

// handTicketOn takes a ticket from a seat in one transaction and gives it to a
// free seat in another, later one.
func handTicketOn(s *step) {
	if ticket, held := s.own.tickets.take(); held && s.rng.IntN(2) == 0 {
		// The free seat is looked up without a lock: two connections may both
		// find it, and the second then changes nothing and keeps the ticket.
		var free int64
		found := s.row("SELECT id FROM {seats} WHERE ticket IS NULL AND hall >= ? ORDER BY hall LIMIT 1", []any{s.anyHall()}, &free)
		if !found || s.exec("UPDATE {seats} SET ticket = ? WHERE id = ? AND ticket IS NULL", ticket, free) == 0 {
			s.own.tickets.put(ticket)
		}
		return
	} else if held {
		s.own.tickets.put(ticket)
	}
	one, _ := s.lockTickets(s.anyHall())
	if one == nil {
		return
	}
	s.exec("UPDATE {seats} SET ticket = NULL WHERE id = ?", one.id)
	s.committed(func() { s.own.tickets.put(one.ticket) })
}

// shiftHall moves every seat of a hall one place on, each onto the place that
// the statement has only just emptied.
func shiftHall(s *step) {
	hall := s.anyHall()
	s.exec("UPDATE {seats} SET position = position + 1 WHERE hall = ? ORDER BY position DESC", hall)
	if s.rng.IntN(3) == 0 {
		s.exec("UPDATE {seats} SET position = position - 1 WHERE hall = ? ORDER BY position", hall)
	}
}
