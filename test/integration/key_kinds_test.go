package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// everyRow is a CopyFilter of the host that leaves nothing out.
type everyRow struct{}

func (everyRow) BuildSelect(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
	return ghostferry.DefaultBuildSelect(columns, table, last, size), nil
}

func (everyRow) ApplicableEvent(ghostferry.DMLEvent) (bool, error) { return true, nil }

// The statements that the library offers to hosts walk keys of every kind, row by row.
func TestDefaultSelectWalksKeysOfEveryKind(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		const schema = "key_kinds"
		kinds := []struct{ decl, values string }{
			{"ENUM('9','10','1','b')", "('9'),('10'),('1'),('b')"},
			{"SET('9','10','1')", "(0),('9'),('10'),('9,10'),('1')"},
			{"BIT(20)", "(0),(9),(10),(255),(256),(1048575)"},
			{"BIT(64)", "(0),(9),(10),(9223372036854775817)"},
			{"YEAR", "(1901),(1999),(2155)"},
			{"DECIMAL(30,2)", "(-9007199254740993.01),(9),(10),(9007199254740993.01),(9007199254740993.02),(9007199254740993.03)"},
			{"DATE", "('1000-01-01'),('2024-02-29'),('9999-12-31')"},
			{"TIME(3)", "('-838:59:59'),('-10:00:00'),('-9:00:00.5'),('9:00'),('100:00:00')"},
			{"DATETIME(6)", "('1000-01-01'),('2024-02-29 01:02:03.4'),('2024-02-29 01:02:03.400001')"},
			{"TIMESTAMP", "('1980-01-01'),('2024-02-29 01:02:03')"},
			{"BIGINT UNSIGNED", "(0),(9),(10),(18446744073709551615)"},
			{"BIGINT", "(-9223372036854775808),(-10),(0),(9),(10)"},
			{"INT", "(-2147483648),(-10),(0),(9),(10)"},
			{"VARBINARY(3)", "(''),('a'),(0x00),(0x0100ff)"},
			{"BINARY(3)", "(''),('a'),(0x0100ff)"},
			{"VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "(''),('9'),('10'),('é'),('zz')"},
		}
		if p.Flavour == harness.Settings[2].Flavour {
			kinds = append(kinds, struct{ decl, values string }{"UUID", "('00000000-0000-0000-0000-000000000009'),('f0000000-0000-0000-0000-000000000000'),('0a000000-0000-4000-8000-000000000001')"},
				struct{ decl, values string }{"INET4", "('9.0.0.1'),('10.0.0.1'),('255.0.0.1')"})
		}
		var tables []string
		for i, kind := range kinds {
			tables = append(tables, fmt.Sprintf("CREATE TABLE t%d (k %s NOT NULL PRIMARY KEY)", i, kind.decl))
		}
		p.Create(t, schema, tables...)
		for i, kind := range kinds {
			p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO t%d VALUES %s", i, kind.values))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		f := &ghostferry.Ferry{Config: p.Config(schema)}
		f.Config.CopyFilter = everyRow{}
		f.UpdatableConfig.DataIterationBatchSize = 1
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, schema)
	})
}
