package integration

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A source with Compress sends rows that repeat themselves in half of the bytes at most, and
// the same rows arrive.
func TestCompressedSource(t *testing.T) {
	const schema, rows, size = "compressed", 1000, 1000
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		copied := func(compress bool) (bytes int64) {
			p.Create(t, schema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v TEXT NOT NULL)")
			p.In(t, p.SourceDB, schema, "INSERT INTO t SELECT a.n*100+b.n*10+c.n, REPEAT('same ', 200) FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c"),
				"FLUSH BINARY LOGS") // or the server may begin to send the rows from there as well, which nothing compresses
			link, err := faultproxy.StartLink(net.JoinHostPort(p.Source.Host, strconv.Itoa(p.Source.Port)), 1_000_000_000, 0)
			require.NoError(t, err)
			defer func() { require.NoError(t, link.Close()) }()
			f := &ghostferry.Ferry{Config: p.Config(schema)}
			f.Source.Host, f.Source.Port = splitAddr(t, link.Addr())
			f.Source.Compress = compress
			require.NoError(t, harness.Move(minute(t), f, func() error { return nil }))
			require.NoError(t, f.Close())
			p.MustEqual(t, schema)
			_, bytes = link.Bytes()
			return bytes
		}
		plain, compressed := copied(false), copied(true)
		t.Logf("%d bytes, compressed %d", plain, compressed)
		require.GreaterOrEqual(t, plain, int64(rows*size))
		require.LessOrEqual(t, compressed, plain/2)
	})
}
