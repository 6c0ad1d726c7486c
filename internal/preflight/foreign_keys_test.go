package preflight_test

import (
	"testing"

	"github.com/ghostferry-go/ghostferry/internal/preflight"
)

const orders = "id INT PRIMARY KEY, customer INT, CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES `shop_1`.customers (id)"

// F31: foreign keys are carried; refused are cascades that the binary log does not record.
func TestF31ForeignKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		exec(t, w.target, "GRANT REFERENCES ON `shop\\_1`.* TO mover")
		both := w.in.Tables
		w.one(t, "orders", orders, "id")
		w.in.Tables = append(both, w.in.Tables...)
		w.clean(t, "a key that does nothing on its own")

		for _, rule := range []string{"ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE", "ON UPDATE SET NULL"} {
			exec(t, w.source, "ALTER TABLE `shop_1`.orders DROP FOREIGN KEY of_customer",
				"ALTER TABLE `shop_1`.orders ADD CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES `shop_1`.customers (id) "+rule)
			logged := w.in.SourceServer
			if logged.CascadesLogged { // MySQL since 9.6; a server may do it in the old way, too
				w.clean(t, rule)
				native := *logged
				native.CascadesLogged = false
				w.in.SourceServer = &native
			}
			w.fails(t, "foreign-keys.unlogged-cascade", "shop_1.orders", "what foreign key of_customer does to its rows on a change of shop_1.customers", "alter the foreign key to NO ACTION")
			w.in.SkipForeignKeys = true
			w.finds(t, preflight.Warning, "foreign-keys.unlogged-cascade", "shop_1.orders", "is not in the source's binary log", "delete rows")
			w.in.SkipForeignKeys, w.in.SourceServer = false, logged
		}
		w.in.Tables = both
		w.clean(t, "the table with the key does not move")
	})
}

func TestForeignKeysOfParentsThatStay(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		exec(t, w.target, "GRANT REFERENCES ON `shop\\_1`.* TO mover")
		w.one(t, "orders", orders, "id")
		w.fails(t, "foreign-keys.parent-missing", "shop_1.orders", "refers to shop_1.customers, which neither moves nor is on the target", "move the parent table")
		exec(t, w.target, "CREATE DATABASE `shop_1`", "CREATE TABLE `shop_1`.clients (id INT PRIMARY KEY)")
		w.in.Rename = func(schema, table string) (string, string) {
			return schema, map[string]string{"customers": "clients"}[table]
		}
		w.finds(t, preflight.Warning, "foreign-keys.parent-stays", "shop_1.orders", "which does not move", "move the parent table")
		w.in.Rename = nil
		w.in.SkipForeignKeys = true
		w.finds(t, preflight.Warning, "foreign-keys.parent-missing", "shop_1.orders", "which neither moves", "move the parent table")

		exec(t, w.source, "ALTER TABLE `shop_1`.orders DROP FOREIGN KEY of_customer",
			"ALTER TABLE `shop_1`.orders ADD CONSTRAINT itself FOREIGN KEY (customer) REFERENCES `shop_1`.orders (id)")
		w.in.SkipForeignKeys = false
		w.clean(t, "a table may refer to itself")
	})
}

// Creating foreign keys needs a privilege of its own on MySQL.
func TestForeignKeyPrivilege(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		both := w.in.Tables
		w.one(t, "orders", orders, "id")
		w.in.Tables = append(both, w.in.Tables...)
		if w.in.TargetServer.IsMariaDB() {
			w.clean(t)
			return
		}
		w.fails(t, "privileges.target", "target, schema shop_1", "lacks REFERENCES on shop_1.customers", "GRANT REFERENCES ON `shop\\_1`.*")
		exec(t, w.target, "GRANT REFERENCES ON `shop\\_1`.* TO mover")
		w.clean(t)
	})
}
