package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

func grantsOf(on *server.Server, lines ...string) *grants {
	g := &grants{account: "`mover`@`%`", on: on, global: map[string]bool{}}
	for _, line := range lines {
		g.add(line)
	}
	return g
}

func TestGrants(t *testing.T) {
	mysql := &server.Server{Flavour: server.MySQL}
	g := grantsOf(mysql,
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `mover`@`%`",
		"GRANT XA_RECOVER_ADMIN,BACKUP_ADMIN ON *.* TO `mover`@`%`",
		"GRANT DELETE, CREATE ON `we\\_ird\\%`.* TO `mover`@`%`",
		"GRANT ALL PRIVILEGES ON `x_%`.* TO `mover`@`%` WITH GRANT OPTION",
		"GRANT SELECT, INSERT (`a`, `b)`), UPDATE ON `dots.and``ticks`.`t``.x` TO `mover`@`%`",
		"GRANT `reader`@`%` TO `mover`@`%`",
		"GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `mover`@`%`",
		"GRANT PROXY ON ``@`` TO `mover`@`%` WITH GRANT OPTION",
		"REVOKE SELECT ON `secret`.* FROM `mover`@`%`",
		"SET DEFAULT ROLE `reader` FOR `mover`@`%`",
		"GRANT", "GRANT SELECT", "GRANT SELECT ON", "GRANT SELECT (`a", "GRANT SELECT ON `a", "GRANT SELECT ON `a`", "")
	for privilege, want := range map[string]bool{
		"REPLICATION SLAVE": true, "REPLICATION CLIENT": true, "BINLOG MONITOR": true, "XA_RECOVER_ADMIN": true,
		"SUPER": false, "EXECUTE": false,
	} {
		require.Equal(t, want, g.hasGlobal(privilege), privilege)
	}
	for _, c := range []struct {
		privilege, schema, table string
		want                     bool
	}{
		{"DELETE", "we_ird%", "t", true},
		{"DELETE", "weXirdY", "t", false},
		{"SELECT", "we_ird%", "t", false},
		{"SELECT", "x1", "t", true},
		{"TRIGGER", "x123", "", true},
		{"SELECT", "x", "t", false},
		{"SELECT", "dots.and`ticks", "t`.x", true},
		{"UPDATE", "dots.and`ticks", "t`.x", true},
		{"INSERT", "dots.and`ticks", "t`.x", false}, // on columns only
		{"SELECT", "dots.and`ticks", "other", false},
		{"EXECUTE", "shop", "p", false},
		{"SELECT", "secret", "t", false},
	} {
		require.Equal(t, c.want, g.has(c.privilege, c.schema, c.table), "%+v", c)
	}
}

// Of several patterns that match, a server uses one; a statement that adds a second would hide
// what the first gives.
func TestOnePatternIsInForce(t *testing.T) {
	lines := []string{
		"GRANT SELECT ON `shop%`.* TO `reader`",
		"GRANT INSERT ON `shop\\_1`.* TO `mover`@`%`",
	}
	mysql := grantsOf(&server.Server{Flavour: server.MySQL}, lines...)
	require.True(t, mysql.has("INSERT", "shop_1", "t"))
	require.False(t, mysql.has("SELECT", "shop_1", "t"))
	require.True(t, mysql.has("SELECT", "shop_2", "t"))
	require.Equal(t, "GRANT SELECT ON `shop\\_1`.* TO `mover`@`%`", mysql.statement([]string{"SELECT"}, "shop_1"))
	require.Equal(t, "GRANT SELECT, DELETE ON `shop%`.* TO `mover`@`%`", mysql.statement([]string{"SELECT", "DELETE"}, "shop_2"))
	require.Equal(t, "GRANT SELECT ON `a\\_b``\\%`.* TO `mover`@`%`", mysql.statement([]string{"SELECT"}, "a_b`%"))

	maria := grantsOf(&server.Server{Flavour: server.MariaDB}, lines...)
	require.True(t, maria.has("SELECT", "shop_1", "t"), "what a role has is added")

	literal := grantsOf(&server.Server{Flavour: server.MySQL, PartialRevokes: true}, lines...)
	require.False(t, literal.has("SELECT", "shop_2", "t"))
	require.Equal(t, "GRANT SELECT ON `a_b`.* TO `mover`@`%`", literal.statement([]string{"SELECT"}, "a_b"))
}

func TestAllOnEverything(t *testing.T) {
	g := grantsOf(&server.Server{Flavour: server.MariaDB},
		"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED BY PASSWORD '*1A984CEF8587F3040D2AA3559833CC3D426D3707' WITH GRANT OPTION")
	require.True(t, g.hasGlobal("BINLOG MONITOR"))
	require.True(t, g.has("CREATE", "any", "table"))
}

func TestAccounts(t *testing.T) {
	require.Equal(t, "`a@b`@`10.0.0.%`", quoteAccount("a@b@10.0.0.%"))
	require.Equal(t, "``@`localhost`", quoteAccount("@localhost"))
	require.Equal(t, "`role`", quoteAccount("role"))
}

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"%", "", true}, {"%", "abc", true}, {"a%c", "abbc", true},
		{"a%c", "abbcd", false}, {"a_c", "abc", true}, {"a_c", "ac", false}, {`a\_c`, "abc", false}, {`a\_c`, "a_c", true},
		{"_é", "éé", true}, {`a\`, `a\`, true}, {"%%b%", "ab", true},
	} {
		require.Equal(t, c.want, like([]rune(c.pattern), []rune(c.s)), "%q like %q", c.s, c.pattern)
	}
}
