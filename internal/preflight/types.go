package preflight

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// checkTypes refuses columns whose values cannot be carried exactly, and columns of a type that the
// other flavour does not have, where the target's table is still to be created.
func (r *run) checkTypes(context.Context) error {
	const remedy = "leave the table out by the table filter, or give the column another type on the source"
	for _, t := range r.Tables {
		s := r.source.table(t.Schema, t.Name)
		if s == nil {
			continue
		}
		exists := r.target.table(t.TargetSchema, t.TargetName) != nil
		for _, c := range s.columns {
			if _, err := codec.NewColumn(c.info()); err != nil {
				r.fault("unsupported", t.String(), fmt.Sprintf("column %s has type %s, which cannot be carried exactly", c.name, c.fullType), remedy)
				r.because(err)
				continue
			}
			if !exists && r.SourceServer.Flavour != r.TargetServer.Flavour && !r.TargetServer.HasType(c.dataType) {
				r.fault("target-lacks", t.String(), fmt.Sprintf("column %s has type %s, which %s does not have", c.name, c.columnType, r.TargetServer.Flavour),
					"create the target's table yourself with a type that holds the same values, or leave the table out")
			}
		}
	}
	return nil
}

// info is what the codec asks of a column.
func (c column) info() codec.Info {
	return codec.Info{
		Name: c.name, DataType: c.dataType, ColumnType: c.fullType, Charset: c.charset, Collation: c.collation,
		Unsigned: c.unsigned, Nullable: c.nullable, Generated: c.generated, OctetLength: c.longest,
	}
}
