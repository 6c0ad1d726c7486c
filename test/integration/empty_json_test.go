package integration

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A JSON NOT NULL column that is added to a table with rows holds values of no bytes in
// them, which the server reads as null: they arrive by the copy, by an update of another
// column and by an event that comes first, and are told equal.
func TestJSONValuesOfNoBytes(t *testing.T) {
	const schema, column = "empty_json", "ADD j JSON NOT NULL, ADD k JSON NOT NULL"
	p := harness.Shared(t, harness.Settings[0])
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(5,5)")
	p.In(t, p.SourceDB, schema, "ALTER TABLE t "+column)
	p.In(t, p.TargetDB, schema, "ALTER TABLE t "+column)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config := p.Config(schema)
	config.VerifierType = ghostferry.VerifierTypeOnline
	config.UpdatableConfig.DataIterationBatchSize = 1
	f := &ghostferry.Ferry{Config: config}
	defer func() { require.NoError(t, f.Close()) }()
	mustStart(t, ctx, f)
	var begun sync.Once
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) (err error) { // row 5 is changed before it is copied
		begun.Do(func() { err = p.TryIn(ctx, p.SourceDB, schema, "UPDATE t SET v=50 WHERE id=5") })
		return err
	})
	f.DataIterator.AddDoneListener(func() error {
		return p.TryIn(ctx, p.SourceDB, schema, "UPDATE t SET v=20 WHERE id=2", "UPDATE t SET id=30 WHERE id=3", "DELETE FROM t WHERE id=4", "UPDATE t SET j='[1]' WHERE id=1")
	})
	require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
	p.MustEqual(t, schema)
	const query = "SELECT CONCAT_WS(' ',id,v,JSON_TYPE(j),JSON_TYPE(k),j,k) FROM empty_json.t ORDER BY id"
	want := []string{`"1 1 ARRAY NULL [1] null"|`, `"2 20 NULL NULL null null"|`, `"5 50 NULL NULL null null"|`, `"30 3 NULL NULL null null"|`}
	require.Equal(t, want, harness.Rows(t, p.SourceDB, query))
	require.Equal(t, want, harness.Rows(t, p.TargetDB, query))
}
