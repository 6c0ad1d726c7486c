package copydb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

func table(schema, name string) ghostferry.TableIdentifier {
	return ghostferry.TableIdentifier{SchemaName: schema, TableName: name}
}

// rename moves schema "shop" to "store" and table "orders" to "purchases".
func rename(t ghostferry.TableIdentifier) ghostferry.TableIdentifier {
	if t.SchemaName == "shop" {
		t.SchemaName = "store"
	}
	if t.TableName == "orders" {
		t.TableName = "purchases"
	}
	return t
}

func TestRenameCreateTable(t *testing.T) {
	for name, c := range map[string]struct {
		table            ghostferry.TableIdentifier
		statement, wants string
	}{
		"table and schema": {
			table("shop", "orders"),
			"CREATE TABLE `orders` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=17",
			"CREATE TABLE `store`.`purchases` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=17",
		},
		"schema is named even where nothing is renamed": {
			table("other", "t"), "CREATE TABLE `t` (`id` int)", "CREATE TABLE `other`.`t` (`id` int)",
		},
		"backquotes and dots in names": {
			table("a.b", "c`.d"), "CREATE TABLE `c``.d` (`x``.y` int)", "CREATE TABLE `a.b`.`c``.d` (`x``.y` int)",
		},
		"the name of the table occurs in columns, comments and defaults": {
			table("shop", "orders"),
			"CREATE TABLE `orders` (`orders` int COMMENT 'see `orders`; it''s REFERENCES `orders`', `x` varchar(9) DEFAULT '\\'REFERENCES `orders`')",
			"CREATE TABLE `store`.`purchases` (`orders` int COMMENT 'see `orders`; it''s REFERENCES `orders`', `x` varchar(9) DEFAULT '\\'REFERENCES `orders`')",
		},
		"foreign keys": {
			table("shop", "lines"),
			"CREATE TABLE `lines` (\n  CONSTRAINT `orders` FOREIGN KEY (`orders`) REFERENCES `orders` (`id`) ON DELETE CASCADE,\n  CONSTRAINT `b` FOREIGN KEY (`p`) REFERENCES `stock`.`orders` (`id`)\n)",
			"CREATE TABLE `store`.`lines` (\n  CONSTRAINT `orders` FOREIGN KEY (`orders`) REFERENCES `store`.`purchases` (`id`) ON DELETE CASCADE,\n  CONSTRAINT `b` FOREIGN KEY (`p`) REFERENCES `stock`.`purchases` (`id`)\n)",
		},
		"comments that are executed": {
			table("shop", "t"),
			"CREATE TABLE `t` (`a` int /*!80023 INVISIBLE */, `b` int) /*!50100 TABLESPACE `orders` */ /* REFERENCES `orders` */ ENGINE=InnoDB",
			"CREATE TABLE `store`.`t` (`a` int /*!80023 INVISIBLE */, `b` int) /*!50100 TABLESPACE `orders` */ /* REFERENCES `orders` */ ENGINE=InnoDB",
		},
		"a server that folds names": {
			table("shop", "orders"), "CREATE TABLE `Orders` (`id` int)", "CREATE TABLE `store`.`purchases` (`id` int)",
		},
		"names without quotes": {
			table("shop", "orders"), "CREATE TABLE orders (id int)", "CREATE TABLE `store`.`purchases` (id int)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			renamed, _, err := renameCreateTable(c.statement, c.table, rename)
			require.NoError(t, err)
			require.Equal(t, c.wants, renamed)
		})
	}
}

func TestRenameCreateTableRefusesSomethingElse(t *testing.T) {
	for _, statement := range []string{
		"", "CREATE VIEW `v` AS SELECT 1", "CREATE TABLE ", "CREATE TABLE (`id` int)", "CREATE SEQUENCE `s`",
		"CREATE TABLE `t` (FOREIGN KEY (`a`) REFERENCES (`id`))", "CREATE TABLE `t`.",
	} {
		renamed, _, err := renameCreateTable(statement, table("shop", "t"), rename)
		require.Error(t, err, "%q became %q", statement, renamed)
	}
}

func TestRenameCreateDatabase(t *testing.T) {
	for statement, wants := range map[string]string{
		"CREATE DATABASE `shop` /*!40100 DEFAULT CHARACTER SET latin1 */ /*!80016 DEFAULT ENCRYPTION='N' */":      "CREATE DATABASE IF NOT EXISTS `st``ore` /*!40100 DEFAULT CHARACTER SET latin1 */ /*!80016 DEFAULT ENCRYPTION='N' */",
		"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop` /*!40100 DEFAULT CHARACTER SET latin1 COMMENT 'shop' */": "CREATE DATABASE IF NOT EXISTS `st``ore` /*!40100 DEFAULT CHARACTER SET latin1 COMMENT 'shop' */",
	} {
		renamed, err := renameCreateDatabase(statement, "st`ore")
		require.NoError(t, err)
		require.Equal(t, wants, renamed)
	}
	_, err := renameCreateDatabase("CREATE TABLE `t` (`id` int)", "x")
	require.Error(t, err)
}

func TestWithoutCollation(t *testing.T) {
	lacks := func(name string) bool { return name == "utf8mb4_0900_ai_ci" }
	for statement, wants := range map[string]string{
		"CREATE DATABASE `s` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci */ /*!80016 DEFAULT ENCRYPTION='N' */": "CREATE DATABASE `s` /*!40100 DEFAULT CHARACTER SET utf8mb4 */ /*!80016 DEFAULT ENCRYPTION='N' */",
		"CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='x'":               "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='x'",
		"CREATE TABLE `t` (`a` int) DEFAULT CHARSET=utf8mb4 collate = utf8mb4_0900_ai_ci":                                             "CREATE TABLE `t` (`a` int) DEFAULT CHARSET=utf8mb4",
	} {
		without, name := withoutCollation(statement, lacks)
		require.Equal(t, wants, without)
		require.Equal(t, "utf8mb4_0900_ai_ci", name)
	}
	for _, statement := range []string{
		"CREATE TABLE `t` (`a` varchar(9) COLLATE utf8mb4_0900_ai_ci) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
		"CREATE TABLE `COLLATE` (`COLLATE` int DEFAULT '(') COMMENT='COLLATE utf8mb4_0900_ai_ci'",
		"CREATE TABLE `t` (`a` int CHECK (`a` COLLATE utf8mb4_0900_ai_ci > ')')) /* COLLATE utf8mb4_0900_ai_ci */ COLLATE",
	} {
		without, name := withoutCollation(statement, lacks)
		require.Equal(t, statement, without)
		require.Empty(t, name)
	}
}

func FuzzRenameCreateTable(f *testing.F) {
	f.Add("CREATE TABLE `t` (`a` int COMMENT 'x\\' ''y' REFERENCES `b`.`c` /*! z */)")
	f.Add("CREATE TABLE `t` /* never closed")
	f.Fuzz(func(t *testing.T, statement string) {
		renamed, _, err := renameCreateTable(statement, table("shop", "orders"), rename)
		if err == nil {
			require.Contains(t, renamed, "`store`.`purchases`")
		}
	})
}
