package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A column outside of keys whose collation the target does not have arrives exactly in a table
// that was made beforehand with another one; changes of case and trailing spaces alone, too.
func TestAnotherCollationOnTheTarget(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var source, target *harness.Pair
	for _, s := range flavours() {
		if p := harness.Shared(t, s); p.IsMariaDB() {
			target = p
		} else {
			source = p
		}
	}
	p := &harness.Pair{Setting: harness.Setting{Name: "across"}, Source: source.Source, SourceDB: source.SourceDB, Target: target.Target, TargetDB: target.TargetDB}
	freshSchemas(t, p, "other_collation")
	p.In(t, p.SourceDB, "", "CREATE DATABASE other_collation", "CREATE TABLE other_collation.a (id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_0900_ai_ci)",
		"INSERT INTO other_collation.a VALUES (1,'a'),(2,'b '),(3,'é'),(4,'x')")
	p.In(t, p.TargetDB, "", "CREATE DATABASE other_collation", "CREATE TABLE other_collation.a (id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_general_ci)")
	f := &ghostferry.Ferry{Config: p.Config()}
	f.Config.TableFilter = &copydb.StaticTableFilter{Dbs: []string{"other_collation"}, Tables: []string{"a"}}
	require.NoError(t, f.InitializeContext(ctx))
	require.NoError(t, f.StartContext(ctx))
	p.In(t, p.SourceDB, "other_collation", "UPDATE a SET v='A' WHERE id=1", "UPDATE a SET v='b' WHERE id=2", "UPDATE a SET v='e' WHERE id=3", "DELETE FROM a WHERE id=4", "INSERT INTO a VALUES (5,'É ')")
	require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
	require.NoError(t, f.Close())
	const all = "SELECT id, HEX(v) FROM other_collation.a ORDER BY id"
	require.Equal(t, harness.Rows(t, p.SourceDB, all), harness.Rows(t, p.TargetDB, all))
}
