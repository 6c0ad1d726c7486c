package integration

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// hazard is a table with a way to write to it that breaks naive movers.
type hazard struct {
	name string // of the table, too
	// ddl and seed have the table's name as %s.
	ddl  string
	seed []string
	// change is one transaction.
	change harness.Change
	// only is a flavour, empty for both.
	only string
}

// numbers is an INSERT of n rows, the values made from the number i of the row.
func numbers(n int, columns, values string) string {
	return fmt.Sprintf("INSERT INTO %%s (%s) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT %s FROM n", columns, n, values)
}

// on returns a change of statements with the table's name filled in.
func on(table string, f func(tx *harness.Tx, exec func(string, ...any) error) error) harness.Change {
	return func(_ context.Context, tx *harness.Tx) error {
		return f(tx, func(query string, args ...any) error {
			return tx.Exec(strings.ReplaceAll(query, "%s", "hazards.`"+table+"`"), args...)
		})
	}
}

// all runs statements one after the other.
func all(exec func(string, ...any) error, queries ...string) error {
	for _, q := range queries {
		if err := exec(q); err != nil {
			return err
		}
	}
	return nil
}

// keyHazards are changes of keys around the copy's place, and keys of odd kinds.
func keyHazards() []hazard {
	const idText = "id BIGINT NOT NULL PRIMARY KEY, v VARCHAR(40) NOT NULL"
	return []hazard{
		{name: "key_moves", ddl: idText, seed: []string{numbers(50, "id,v", "i*10,'seed'")},
			change: on("key_moves", func(tx *harness.Tx, exec func(string, ...any) error) error {
				from, to := tx.Rand.IntN(100)*10+10, tx.Rand.IntN(1200)
				return exec("UPDATE %s SET id=?, v=CONCAT('moved ',?) WHERE id BETWEEN ? AND ? LIMIT 1", to, to, from, from+9)
			})},
		{name: "key_swaps", ddl: idText, seed: []string{numbers(70, "id,v", "i,CONCAT('row ',i)")},
			change: on("key_swaps", func(tx *harness.Tx, exec func(string, ...any) error) error {
				a, b := 1+tx.Rand.IntN(70), 1+tx.Rand.IntN(70)
				temp := -1 - tx.Rand.IntN(1000)
				for _, step := range [][2]int{{a, temp}, {b, a}, {temp, b}} {
					if err := exec("UPDATE %s SET id=? WHERE id=?", step[1], step[0]); err != nil {
						return err
					}
				}
				return nil
			})},
		{name: "shifts", ddl: idText, seed: []string{numbers(60, "id,v", "i,CONCAT('row ',i)")},
			change: on("shifts", func(tx *harness.Tx, exec func(string, ...any) error) error {
				if tx.Rand.IntN(2) == 0 {
					return exec("UPDATE %s SET id=id+1 ORDER BY id DESC")
				}
				return exec("UPDATE %s SET id=id-1 ORDER BY id")
			})},
		{name: "reinserts", ddl: idText, seed: []string{numbers(70, "id,v", "i,'seed'")},
			change: on("reinserts", func(tx *harness.Tx, exec func(string, ...any) error) error {
				id := 1 + tx.Rand.IntN(70)
				if err := exec("DELETE FROM %s WHERE id=?", id); err != nil || tx.Rand.IntN(3) == 0 {
					return err
				}
				return exec("INSERT INTO %s VALUES (?,?)", id, fmt.Sprint("again ", tx.Rand.IntN(1000)))
			})},
		{name: "back_and_forth", ddl: idText, seed: []string{numbers(50, "id,v", "i,'seed'")},
			change: on("back_and_forth", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET v=IF(v='seed','other','seed') WHERE id=?", 1+tx.Rand.IntN(50))
			})},
		{name: "edge_ids", ddl: "id BIGINT NOT NULL PRIMARY KEY, v VARCHAR(40) NOT NULL",
			seed: []string{"INSERT INTO %s VALUES (-9223372036854775808,'min'),(-2,'a'),(-1,'b'),(0,'zero'),(1,'c'),(9223372036854775806,'d'),(9223372036854775807,'max')"},
			change: on("edge_ids", func(tx *harness.Tx, exec func(string, ...any) error) error {
				edges := []int64{-1 << 63, -2, -1, 0, 1, 1<<63 - 2, 1<<63 - 1}
				id := edges[tx.Rand.IntN(len(edges))]
				if err := exec("DELETE FROM %s WHERE id=?", id); err != nil || tx.Rand.IntN(4) == 0 {
					return err
				}
				return exec("INSERT INTO %s VALUES (?,?)", id, fmt.Sprint("again ", tx.Rand.IntN(1000)))
			})},
		{name: "unsigned_ids", ddl: "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, v VARCHAR(40) NOT NULL",
			seed: []string{"INSERT INTO %s VALUES (0,'zero'),(1,'a'),(9223372036854775807,'b'),(9223372036854775808,'c'),(18446744073709551614,'d'),(18446744073709551615,'max')"},
			change: on("unsigned_ids", func(tx *harness.Tx, exec func(string, ...any) error) error {
				edges := []uint64{0, 1, 1<<63 - 1, 1 << 63, 1<<64 - 2, 1<<64 - 1}
				a, b := edges[tx.Rand.IntN(len(edges))], edges[tx.Rand.IntN(len(edges))]
				if tx.Rand.IntN(2) == 0 {
					return exec("UPDATE %s SET id=?, v=CONCAT(LEFT(v,20),'+') WHERE id=?", fmt.Sprint(a), fmt.Sprint(b))
				}
				return exec("REPLACE INTO %s VALUES (?,?)", fmt.Sprint(a), fmt.Sprint("again ", tx.Rand.IntN(1000)))
			})},
		{name: "sparse_ids", ddl: idText,
			seed: []string{"INSERT INTO %s VALUES (1,'a'),(2,'b'),(3,'c')", numbers(40, "id,v", "1000000000000000000+i*7,'far'")},
			change: on("sparse_ids", func(tx *harness.Tx, exec func(string, ...any) error) error {
				id := int64(1) << tx.Rand.IntN(62)
				return exec("INSERT INTO %s VALUES (?,'between') ON DUPLICATE KEY UPDATE v=CONCAT(LEFT(v,30),'+')", id)
			})},
		{name: "composite", ddl: "a INT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, c INT NOT NULL, v INT NOT NULL, PRIMARY KEY (a,b,c)",
			seed: []string{numbers(70, "a,b,c,v", "i DIV 20,CONCAT('k',i MOD 5),i,0")},
			change: on("composite", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET a=?, b=?, v=v+1 WHERE c=? ", tx.Rand.IntN(12), fmt.Sprint("k", tx.Rand.IntN(7)), 1+tx.Rand.IntN(70))
			})},
		{name: "composite_ints", ddl: "a INT NOT NULL, b BIGINT UNSIGNED NOT NULL, v INT NOT NULL, PRIMARY KEY (a,b)",
			seed: []string{numbers(70, "a,b,v", "i MOD 4-2,i,0")},
			change: on("composite_ints", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET a=?, v=v+1 WHERE b=?", tx.Rand.IntN(4)-2, 1+tx.Rand.IntN(70))
			})},
		{name: "no_primary_key", ddl: "code VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, n INT NOT NULL, v INT NOT NULL, UNIQUE KEY (n), KEY (v)",
			seed: []string{numbers(60, "code,n,v", "CONCAT('c',i),i,0")},
			change: on("no_primary_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET n=?, v=v+1 WHERE n=?", tx.Rand.IntN(70), tx.Rand.IntN(70))
			})},
		{name: "grows", ddl: "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL", seed: nil,
			change: on("grows", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("INSERT INTO %s (v) VALUES (?),(?)", tx.Rand.IntN(100), tx.Rand.IntN(50))
			})},
		{name: "empties", ddl: idText, seed: []string{numbers(60, "id,v", "i,'doomed'")},
			change: on("empties", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("DELETE FROM %s ORDER BY id DESC LIMIT 7")
			})},
		{name: "empties_and_fills", ddl: idText, seed: []string{numbers(50, "id,v", "i,'seed'")},
			change: on("empties_and_fills", func(tx *harness.Tx, exec func(string, ...any) error) error {
				if tx.Rand.IntN(4) == 0 {
					return exec("DELETE FROM %s")
				}
				return exec("REPLACE INTO %s VALUES (?,'refill'),(?,'refill')", tx.Rand.IntN(120), tx.Rand.IntN(120))
			})},
	}
}

// oddKeyHazards are keys that only the server can order or compare, or of rare types.
func oddKeyHazards() []hazard {
	spellings := []string{"a", "A", "á", "a ", "ä", "b", "B ", "ß", "ss", "SS", "", " ", "c", "C"}
	respell := func(table string) harness.Change {
		return on(table, func(tx *harness.Tx, exec func(string, ...any) error) error {
			a, b := spellings[tx.Rand.IntN(len(spellings))], spellings[tx.Rand.IntN(len(spellings))]
			switch tx.Rand.IntN(4) {
			case 0:
				return exec("UPDATE %s SET name=?, n=n+1 WHERE name=?", a, b)
			case 1:
				return exec("DELETE FROM %s WHERE name=?", a)
			case 2:
				return exec("REPLACE INTO %s (name,n) VALUES (?,?)", a, tx.Rand.IntN(1000))
			default:
				return exec("INSERT INTO %s (name,n) VALUES (?,?) ON DUPLICATE KEY UPDATE name=VALUES(name), n=VALUES(n)", a, tx.Rand.IntN(1000))
			}
		})
	}
	named := func(collation string) string {
		return "name VARCHAR(40) COLLATE " + collation + " NOT NULL PRIMARY KEY, n INT NOT NULL"
	}
	seed := []string{"INSERT INTO %s VALUES ('a',1),('b',2),('c',3),('',4)", numbers(25, "name,n", "CONCAT('x',i),i")}
	return []hazard{
		{name: "ci_pad_key", ddl: named("utf8mb4_unicode_ci"), seed: seed, change: respell("ci_pad_key")},
		{name: "general_ci_key", ddl: named("utf8mb4_general_ci"), seed: seed, change: respell("general_ci_key")},
		{name: "pad_bin_key", ddl: named("utf8mb4_bin"), seed: seed, change: respell("pad_bin_key")},
		{name: "uca_0900_key", ddl: named("utf8mb4_0900_ai_ci"), seed: seed, change: respell("uca_0900_key"), only: "mysql"},
		{name: "uca_0900_bin_key", ddl: named("utf8mb4_0900_bin"), seed: seed, change: respell("uca_0900_bin_key"), only: "mysql"},
		{name: "latin1_key", ddl: "name VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL PRIMARY KEY, n INT NOT NULL", seed: seed, change: respell("latin1_key")},
		{name: "binary_key", ddl: "id BINARY(4) NOT NULL PRIMARY KEY, v INT NOT NULL",
			seed: []string{numbers(50, "id,v", "UNHEX(LPAD(HEX(i*100000),8,'0')),0")},
			change: on("binary_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET id=?, v=v+1 ORDER BY RAND() LIMIT 1", []byte{byte(tx.Rand.IntN(3)), byte(tx.Rand.IntN(256)), byte(tx.Rand.IntN(2)), byte(tx.Rand.IntN(2))})
			})},
		{name: "varbinary_key", ddl: "id VARBINARY(4) NOT NULL PRIMARY KEY, v INT NOT NULL",
			seed: []string{"INSERT INTO %s VALUES ('',0),(X'00',0),(X'0000',0),('a',0),(X'6100',0),(X'FF',0),(X'FFFF',0)"},
			change: on("varbinary_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				all := [][]byte{{}, {0}, {0, 0}, {'a'}, {'a', 0}, {255}, {255, 255}, {'\''}, {'\\'}}
				return exec("REPLACE INTO %s VALUES (?,?)", all[tx.Rand.IntN(len(all))], tx.Rand.IntN(1000))
			})},
		{name: "decimal_key", ddl: "id DECIMAL(12,3) NOT NULL PRIMARY KEY, v INT NOT NULL",
			seed: []string{numbers(50, "id,v", "(i-50)*1.5,0")},
			change: on("decimal_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET id=?, v=v+1 WHERE id=?", float64(tx.Rand.IntN(100)-50)*1.5, float64(tx.Rand.IntN(100)-50)*1.5)
			})},
		{name: "datetime_key", ddl: "at DATETIME(3) NOT NULL PRIMARY KEY, v INT NOT NULL",
			seed: []string{numbers(50, "at,v", "TIMESTAMP('2020-01-01') + INTERVAL i*500000 MICROSECOND,0")},
			change: on("datetime_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET at=at + INTERVAL ? MICROSECOND, v=v+1 ORDER BY RAND() LIMIT 1", tx.Rand.IntN(2000000)-1000000)
			})},
		{name: "timestamp_key", ddl: "at TIMESTAMP NOT NULL, n INT NOT NULL, v INT NOT NULL, PRIMARY KEY (at,n)",
			seed: []string{numbers(50, "at,n,v", "FROM_UNIXTIME(1600000000+i),i,0")},
			change: on("timestamp_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET at=FROM_UNIXTIME(?), v=v+1 WHERE n=?", 1600000000+tx.Rand.IntN(70), 1+tx.Rand.IntN(50))
			})},
		{name: "date_year_key", ddl: "d DATE NOT NULL, y YEAR NOT NULL, t TIME(2) NOT NULL, v INT NOT NULL, PRIMARY KEY (d,y,t)",
			seed: []string{numbers(50, "d,y,t,v", "DATE('2020-01-01') + INTERVAL i DAY, 1950+i, SEC_TO_TIME(i*1000-40000),0")},
			change: on("date_year_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET d=d + INTERVAL 1 DAY, t=SEC_TO_TIME(?), v=v+1 ORDER BY RAND() LIMIT 2", tx.Rand.IntN(100000)-50000)
			})},
		{name: "enum_set_key", ddl: "e ENUM('x','a','m') NOT NULL, s SET('p','q','r') NOT NULL, b BIT(5) NOT NULL, v INT NOT NULL, PRIMARY KEY (e,s,b)",
			seed: []string{numbers(45, "e,s,b,v", "1 + i MOD 3,(i DIV 3) MOD 8,i MOD 32,0")},
			change: on("enum_set_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("UPDATE %s SET e=?, s=?, v=v+1 ORDER BY RAND() LIMIT 1", 1+tx.Rand.IntN(3), tx.Rand.IntN(8))
			})},
	}
}

// uniqueHazards are values of further unique indexes that change hands.
func uniqueHazards() []hazard {
	handOver := func(table string) harness.Change {
		return on(table, func(tx *harness.Tx, exec func(string, ...any) error) error {
			a, b := 1+tx.Rand.IntN(40), 1+tx.Rand.IntN(40)
			switch tx.Rand.IntN(5) {
			case 0: // within one transaction, over NULL
				return all(exec,
					fmt.Sprintf("SET @a := (SELECT u FROM %%s WHERE id=%d), @b := (SELECT u FROM %%s WHERE id=%d)", a, b),
					fmt.Sprintf("UPDATE %%s SET u=NULL WHERE id IN (%d,%d)", a, b),
					fmt.Sprintf("UPDATE %%s SET u=@b WHERE id=%d", a), fmt.Sprintf("UPDATE %%s SET u=@a WHERE id=%d", b))
			case 1: // given up, taken by another in a later transaction
				return exec("UPDATE %s SET u=NULL WHERE id=?", a)
			case 2:
				return exec("UPDATE %s SET u=? WHERE id=?", fmt.Sprint("u", 1+tx.Rand.IntN(45)), a)
			case 3: // the row that held it goes, another comes with it
				return all(exec,
					fmt.Sprintf("SET @a := (SELECT u FROM %%s WHERE id=%d)", a), fmt.Sprintf("DELETE FROM %%s WHERE id IN (%d,%d)", a, b),
					fmt.Sprintf("INSERT INTO %%s (id,u) VALUES (%d,@a)", b), fmt.Sprintf("INSERT INTO %%s (id,u) VALUES (%d,'fresh%d')", a, tx.Rand.IntN(1000)))
			default: // replaces whoever holds the key or the value
				return exec("REPLACE INTO %s (id,u) VALUES (?,?)", a, fmt.Sprint("u", b))
			}
		})
	}
	// Values that no literal of six digits tells, and both zeros, which are equal.
	floats := func(table string) harness.Change {
		return on(table, func(tx *harness.Tx, exec func(string, ...any) error) error {
			a, b := tx.Rand.IntN(40), tx.Rand.IntN(40)
			switch tx.Rand.IntN(4) {
			case 0:
				return exec("UPDATE %s SET u=-u WHERE id=?", []int{0, a}[tx.Rand.IntN(2)])
			case 1: // the rows that held them go, others come with them
				return all(exec,
					fmt.Sprintf("SELECT @a := u FROM %%s WHERE id=%d", a), fmt.Sprintf("DELETE FROM %%s WHERE id IN (%d,%d)", a, b),
					fmt.Sprintf("REPLACE INTO %%s (id,u) VALUES (%d,@a)", b), fmt.Sprintf("REPLACE INTO %%s (id,u) VALUES (%d,%d/7)", a, 1+tx.Rand.IntN(1000)))
			case 2:
				return exec("UPDATE %s SET u=u+0.125 ORDER BY u DESC")
			default:
				return exec("REPLACE INTO %s (id,u) VALUES (?,?/3)", a, b)
			}
		})
	}
	seed, thirds := []string{numbers(40, "id,u", "i,CONCAT('u',i)")}, []string{numbers(40, "id,u", "i-1,(i-1)/3")}
	return []hazard{
		{name: "float_primary", ddl: "u FLOAT NOT NULL PRIMARY KEY, id INT NOT NULL, v INT NOT NULL DEFAULT 0, UNIQUE KEY (id)", seed: thirds, change: floats("float_primary")},
		{name: "double_before_key", ddl: "u DOUBLE NOT NULL, id INT NOT NULL, UNIQUE KEY a (u), UNIQUE KEY b (id)", seed: thirds, change: floats("double_before_key")},
		{name: "unique_float", ddl: "id INT NOT NULL PRIMARY KEY, u FLOAT NULL, UNIQUE KEY (u)", seed: thirds, change: floats("unique_float")},
		{name: "prefix_primary", ddl: "u VARBINARY(20) NOT NULL, id INT NOT NULL, PRIMARY KEY (u(2)), UNIQUE KEY (id)", seed: []string{numbers(40, "id,u", "i,CONCAT(CHAR(64+i),'x')")},
			change: on("prefix_primary", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("REPLACE INTO %s (id,u) VALUES (?,CONCAT(CHAR(?),'x',?))", 1+tx.Rand.IntN(40), 65+tx.Rand.IntN(40), tx.Rand.IntN(50))
			})},
		{name: "unique_swaps", ddl: "id INT NOT NULL PRIMARY KEY, u VARCHAR(20) NULL, UNIQUE KEY (u)", seed: seed, change: handOver("unique_swaps")},
		{name: "unique_bin", ddl: "id INT NOT NULL PRIMARY KEY, u VARBINARY(20) NULL, UNIQUE KEY (u)", seed: seed, change: handOver("unique_bin")},
		{name: "unique_prefix", ddl: "id INT NOT NULL PRIMARY KEY, u VARCHAR(20) NULL, UNIQUE KEY (u(2))",
			seed: []string{"INSERT INTO %s VALUES (1,'u1'),(2,'u2'),(3,'u3'),(4,'u4'),(5,'v5'),(6,'w6'),(7,NULL)"}, change: handOver("unique_prefix")},
		{name: "unique_two", ddl: "id INT NOT NULL PRIMARY KEY, u VARCHAR(20) NULL, w INT NULL, UNIQUE KEY (u), UNIQUE KEY (w, id), UNIQUE KEY (w)", seed: seed, change: handOver("unique_two")},
		{name: "unique_generated", ddl: "id INT NOT NULL PRIMARY KEY, u VARCHAR(20) NULL, g VARCHAR(20) GENERATED ALWAYS AS (LOWER(u)) STORED, UNIQUE KEY (g)", seed: seed, change: handOver("unique_generated")},
		{name: "prefix_of_key", ddl: "id VARBINARY(20) NOT NULL PRIMARY KEY, v INT NOT NULL, UNIQUE KEY (id(2))",
			seed: []string{numbers(40, "id,v", "CONCAT(CHAR(64+i),'x'),0")},
			change: on("prefix_of_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				// Another key with the same two first bytes takes the place of the row.
				return exec("REPLACE INTO %s VALUES (CONCAT(CHAR(?),'x',?),?)", 65+tx.Rand.IntN(40), tx.Rand.IntN(50), tx.Rand.IntN(50))
			})},
		{name: "replaces_key", ddl: "id INT NOT NULL PRIMARY KEY, u INT NOT NULL, v INT NOT NULL, UNIQUE KEY (u)",
			seed: []string{numbers(50, "id,u,v", "i,i,0")},
			change: on("replaces_key", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("REPLACE INTO %s VALUES (?,?,?)", 1+tx.Rand.IntN(150), 1+tx.Rand.IntN(50), tx.Rand.IntN(50))
			})},
		{name: "rotation", ddl: "id INT NOT NULL PRIMARY KEY, u INT NOT NULL, UNIQUE KEY (u)", seed: []string{numbers(30, "id,u", "i,i")},
			change: on("rotation", func(tx *harness.Tx, exec func(string, ...any) error) error {
				if tx.Rand.IntN(2) == 0 {
					return exec("UPDATE %s SET u=u+1 ORDER BY u DESC")
				}
				return exec("UPDATE %s SET u=u-1 ORDER BY u")
			})},
		{name: "ci_unique", ddl: "id INT NOT NULL PRIMARY KEY, u VARCHAR(20) NULL, UNIQUE KEY (u)", seed: seed,
			change: on("ci_unique", func(tx *harness.Tx, exec func(string, ...any) error) error {
				a := 1 + tx.Rand.IntN(40)
				if tx.Rand.IntN(2) == 0 {
					return exec("UPDATE %s SET u=IF(BINARY u=UPPER(u),LOWER(u),UPPER(u)) WHERE id=?", a)
				}
				return all(exec, fmt.Sprintf("SET @a := (SELECT UPPER(u) FROM %%s WHERE id=%d)", a), fmt.Sprintf("DELETE FROM %%s WHERE id=%d", a),
					fmt.Sprintf("REPLACE INTO %%s (id,u) VALUES (%d,@a)", 1+tx.Rand.IntN(40)))
			})},
		{name: "collated_key_and_unique", ddl: "name VARCHAR(20) NOT NULL PRIMARY KEY, u INT NULL, UNIQUE KEY (u)",
			seed: []string{numbers(40, "name,u", "CONCAT('n',i),i")},
			change: on("collated_key_and_unique", func(tx *harness.Tx, exec func(string, ...any) error) error {
				return exec("REPLACE INTO %s VALUES (?,?)", fmt.Sprint([]string{"n", "N"}[tx.Rand.IntN(2)], 1+tx.Rand.IntN(45)), 1+tx.Rand.IntN(45))
			})},
	}
}

// Tables are written in every way that breaks a naive mover while tiny chunks of them
// are copied by many workers; each batch waits for another transaction, so that copy
// and changes really interleave. Keys that move around the copy's place are F27, unique
// values that change hands F28, keys that only a collation compares F29, keys at the ends
// of their types F30.
func TestF27ToF30HotHazards(t *testing.T) {
	sizes := 0
	onSomeSettingsInTurn(t, func(t *testing.T, p *harness.Pair) {
		mine := harness.Share([]uint64{1, 4}, sizes, 2)
		sizes++
		for _, batchSize := range mine {
			t.Run(fmt.Sprintf("batches of %d", batchSize), func(t *testing.T) {
				moveHazards(t, p, batchSize, append(append(keyHazards(), oddKeyHazards()...), uniqueHazards()...))
			})
		}
	})
}

func moveHazards(t *testing.T, p *harness.Pair, batchSize uint64, hazards []hazard) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var ddl, seeds []string
	var changes []harness.Change
	for _, h := range hazards {
		if h.only != "" && h.only != string(p.Flavour) {
			continue
		}
		ddl = append(ddl, "CREATE TABLE `"+h.name+"` ("+h.ddl+") ENGINE=InnoDB")
		for _, seed := range h.seed {
			seeds = append(seeds, strings.ReplaceAll(seed, "%s", "`"+h.name+"`"))
		}
		changes = append(changes, h.change)
	}
	p.Create(t, "hazards", ddl...)
	p.In(t, p.SourceDB, "hazards", append([]string{"SET sql_mode='NO_AUTO_VALUE_ON_ZERO'"}, seeds...)...)
	churn := p.Churn(t, harness.ChurnOptions{Every: 150 * time.Millisecond, Yields: true, Seed: batchSize, Setup: []string{"SET sql_mode='NO_AUTO_VALUE_ON_ZERO'"}}, changes...)

	f := &ghostferry.Ferry{Config: p.Config("hazards")}
	f.UpdatableConfig.DataIterationBatchSize = batchSize
	f.Config.DataIterationConcurrency = 8
	if err := f.InitializeContext(ctx); err != nil {
		t.Fatal(err)
	}
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return churn.Await(ctx, 1) })
	if err := f.StartContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := harness.RunStarted(ctx, f, churn.Stop); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p.MustEqual(t, "hazards")
	if owed := reflect.ValueOf(f).Elem().FieldByName("ledger").Elem().FieldByName("mu").FieldByName("count").Int(); owed != 0 {
		t.Errorf("%d rows that were left out are still owed", owed)
	}
	if got := f.Progress(); got.BinlogRowsApplied == 0 || got.RowsCopied == 0 {
		t.Fatalf("copied %d rows, applied %d changes", got.RowsCopied, got.BinlogRowsApplied)
	}
	t.Logf("%d transactions, %d rows copied, %d changes applied", churn.Committed(), f.Progress().RowsCopied, f.Progress().BinlogRowsApplied)
}
