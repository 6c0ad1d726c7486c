package shop

// Tables lists the shop's tables in the order in which the schema creates them.
func Tables() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

// table is one table of the shop: how it looks and how a row of it is made.
type table struct {
	name string
	// definition is what stands between the parentheses of CREATE TABLE.
	definition string
	// columns is the column list of the seeding INSERT; generated columns are absent.
	columns string
	// batch is the number of units in one INSERT statement.
	batch int
	// units is how many units the table has in a shop of the given shape. A
	// unit makes one row, except for order_lines, where it is one order.
	units func(Shape) int
	// unit appends the row tuples of unit i, separated by commas.
	unit func(g *generator, i int)
}

// tableOptions is the same on every server on purpose: the servers' own defaults
// differ, and utf8mb4_unicode_ci (case-insensitive, trailing spaces ignored) is
// the collation that is hardest on whoever compares keys.
const tableOptions = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"

// tables is the schema. Every kind of column and key that a mover can get wrong
// has a place in it: signed keys below zero, unsigned ones beyond 2^63, composite,
// binary and collated keys, unique values that change hands, text in several
// character sets, JSON, decimals, floating point, bits, generated columns, NULLs
// and a table without rows.
var tables = []table{
	{
		name: "customers",
		definition: `
  id BIGINT NOT NULL AUTO_INCREMENT,
  email VARCHAR(100) NOT NULL,
  name VARCHAR(60) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL,
  remark TEXT NULL,
  country CHAR(2) CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL,
  segment ENUM('new','regular','vip','blocked') NOT NULL DEFAULT 'new',
  interests SET('books','music','garden','tools','food','travel') NOT NULL DEFAULT '',
  born YEAR NULL,
  calls_at TIME(3) NULL,
  flags BIT(11) NOT NULL DEFAULT b'0',
  score FLOAT NULL,
  created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (id),
  UNIQUE KEY email (email),
  KEY country (country, segment)`,
		columns: "id, email, name, remark, country, segment, interests, born, calls_at, flags, score, created_at",
		batch:   500,
		units:   func(s Shape) int { return s.Customers },
		unit:    customer,
	},
	{
		name: "products",
		definition: `
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  sku VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  title VARCHAR(120) NOT NULL,
  attributes JSON NOT NULL,
  price DECIMAL(12,4) NOT NULL,
  gross DECIMAL(14,4) GENERATED ALWAYS AS (price * 1.19) STORED,
  title_key VARCHAR(20) GENERATED ALWAYS AS (LEFT(title, 20)) VIRTUAL,
  weight DOUBLE NULL,
  on_sale TINYINT(1) NOT NULL DEFAULT 0,
  released DATE NULL,
  PRIMARY KEY (id),
  UNIQUE KEY sku (sku)`,
		columns: "id, sku, title, attributes, price, weight, on_sale, released",
		batch:   500,
		units:   func(s Shape) int { return s.Products },
		unit:    product,
	},
	{
		name: "orders",
		definition: `
  id BIGINT NOT NULL,
  customer_id BIGINT NOT NULL,
  status ENUM('open','paid','packed','sent','returned','cancelled') NOT NULL,
  total DECIMAL(14,2) NOT NULL,
  placed_at DATETIME(3) NOT NULL,
  updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  detail JSON NULL,
  remark VARCHAR(200) NULL,
  PRIMARY KEY (id),
  KEY customer (customer_id, placed_at)`,
		columns: "id, customer_id, status, total, placed_at, updated_at, detail, remark",
		batch:   1000,
		units:   func(s Shape) int { return s.Orders },
		unit:    order,
	},
	{
		name: "order_lines",
		definition: `
  order_id BIGINT NOT NULL,
  line_no SMALLINT UNSIGNED NOT NULL,
  product_id INT UNSIGNED NOT NULL,
  quantity INT NOT NULL,
  unit_price DECIMAL(12,4) NOT NULL,
  discount FLOAT NULL,
  gift_text VARCHAR(80) CHARACTER SET latin1 COLLATE latin1_swedish_ci NULL,
  PRIMARY KEY (order_id, line_no),
  KEY product (product_id)`,
		columns: "order_id, line_no, product_id, quantity, unit_price, discount, gift_text",
		batch:   500,
		units:   func(s Shape) int { return s.Orders },
		unit:    orderLines,
	},
	{
		name: "payments",
		definition: `
  id BIGINT UNSIGNED NOT NULL,
  order_id BIGINT NOT NULL,
  reference BIGINT UNSIGNED NULL,
  amount DECIMAL(20,6) NOT NULL,
  method ENUM('card','transfer','cash','gift') NOT NULL,
  paid_at DATETIME(6) NULL,
  receipt VARBINARY(40) NULL,
  PRIMARY KEY (id),
  KEY orders (order_id)`,
		columns: "id, order_id, reference, amount, method, paid_at, receipt",
		batch:   1000,
		units:   func(s Shape) int { return s.Payments },
		unit:    payment,
	},
	{
		name: "sessions",
		definition: `
  id BINARY(16) NOT NULL,
  customer_id BIGINT NULL,
  token VARBINARY(40) NOT NULL,
  data JSON NULL,
  seen_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  hits INT UNSIGNED NOT NULL DEFAULT 0,
  ratio DOUBLE NULL,
  PRIMARY KEY (id),
  KEY seen (seen_at)`,
		columns: "id, customer_id, token, data, seen_at, hits, ratio",
		batch:   1000,
		units:   func(s Shape) int { return s.Sessions },
		unit:    session,
	},
	{
		name: "stock",
		definition: `
  warehouse SMALLINT NOT NULL,
  product_id INT UNSIGNED NOT NULL,
  on_hand DECIMAL(14,3) NOT NULL,
  reserved INT NOT NULL DEFAULT 0,
  counted_at TIMESTAMP(6) NULL,
  moved_at DATETIME(3) NULL,
  PRIMARY KEY (warehouse, product_id),
  KEY product (product_id)`,
		columns: "warehouse, product_id, on_hand, reserved, counted_at, moved_at",
		batch:   1000,
		units:   func(s Shape) int { return s.Stock },
		unit:    stock,
	},
	{
		name: "seats",
		definition: `
  id INT NOT NULL,
  hall SMALLINT UNSIGNED NOT NULL,
  position INT NOT NULL,
  ticket VARCHAR(16) NULL,
  price DECIMAL(8,2) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY ticket (ticket),
  UNIQUE KEY place (hall, position)`,
		columns: "id, hall, position, ticket, price",
		batch:   1000,
		units:   func(s Shape) int { return s.Seats },
		unit:    seat,
	},
	{
		name: "documents",
		definition: `
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  customer_id BIGINT NOT NULL,
  kind VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL,
  body MEDIUMBLOB NULL,
  summary MEDIUMTEXT CHARACTER SET latin1 COLLATE latin1_swedish_ci NULL,
  thumb TINYBLOB NULL,
  digest BINARY(32) NOT NULL,
  PRIMARY KEY (id),
  KEY customer (customer_id)`,
		columns: "id, customer_id, kind, body, summary, thumb, digest",
		batch:   50,
		units:   func(s Shape) int { return s.Documents },
		unit:    document,
	},
	{
		name: "tags",
		definition: `
  name VARCHAR(50) NOT NULL,
  label VARCHAR(80) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL,
  uses INT NOT NULL DEFAULT 0,
  PRIMARY KEY (name)`,
		columns: "name, label, uses",
		batch:   1000,
		units:   func(s Shape) int { return s.Tags },
		unit:    tag,
	},
	{
		name: "events_empty",
		definition: `
  id BIGINT NOT NULL AUTO_INCREMENT,
  happened_at DATETIME(6) NOT NULL,
  payload JSON NULL,
  PRIMARY KEY (id)`,
		units: func(Shape) int { return 0 },
	},
}
