package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"sort"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// DataIterationBatchSizePerTableOverride makes the rows of a batch depend on the size
// of a table's rows. A nil one overrides nothing.
type DataIterationBatchSizePerTableOverride struct {
	// MinRowSize and MaxRowSize are the ends of ControlPoints, in bytes.
	MinRowSize int
	MaxRowSize int
	// ControlPoints is row size → batch size, with straight lines in between.
	ControlPoints map[int]uint64
	// TableOverride is schema → table → batch size. Its entries are kept, those of
	// other tables are computed.
	TableOverride map[string]map[string]uint64
}

// Validate insists on both ends among the control points.
func (d *DataIterationBatchSizePerTableOverride) Validate() error {
	if d == nil {
		return nil
	}
	if d.TableOverride == nil {
		d.TableOverride = map[string]map[string]uint64{}
	}
	var faults []error
	if _, ok := d.ControlPoints[d.MinRowSize]; !ok {
		faults = append(faults, fmt.Errorf("must provide batch size for MinRowSize in ControlPoints, which has no entry for %d", d.MinRowSize))
	}
	if _, ok := d.ControlPoints[d.MaxRowSize]; !ok {
		faults = append(faults, fmt.Errorf("must provide batch size for MaxRowSize in ControlPoints, which has no entry for %d", d.MaxRowSize))
	}
	if d.MinRowSize > d.MaxRowSize {
		faults = append(faults, errors.New("MinRowSize is greater than MaxRowSize"))
	}
	return joinErrors(faults)
}

// UpdateBatchSizes is [DataIterationBatchSizePerTableOverride.UpdateBatchSizesContext]
// without a context.
func (d *DataIterationBatchSizePerTableOverride) UpdateBatchSizes(db *sql.DB, tables TableSchemaCache) error {
	return d.UpdateBatchSizesContext(context.Background(), db, tables)
}

// UpdateBatchSizesContext computes the batch size of every table that has no entry in
// TableOverride, from the table's average row length as the server estimates it, at
// most as many rows as the placeholders of one statement allow.
func (d *DataIterationBatchSizePerTableOverride) UpdateBatchSizesContext(ctx context.Context, db *sql.DB, tables TableSchemaCache) error {
	if d == nil {
		return nil
	}
	if d.TableOverride == nil {
		d.TableOverride = map[string]map[string]uint64{}
	}
	lengths, err := averageRowLengths(ctx, db, tables)
	if err != nil {
		return err
	}
	for name, table := range tables {
		if _, explicit := d.TableOverride[table.Schema][table.Name]; explicit {
			continue
		}
		size := d.CalculateBatchSize(lengths[name])
		if columns := len(table.Columns); columns > 0 {
			size = min(size, MySQLNumParamsLimit/columns)
		}
		if d.TableOverride[table.Schema] == nil {
			d.TableOverride[table.Schema] = map[string]uint64{}
		}
		d.TableOverride[table.Schema][table.Name] = uint64(max(size, 1))
	}
	return nil
}

// averageRowLengths reads the server's estimates in bytes, by "schema.table"; 0 for a
// table without rows.
func averageRowLengths(ctx context.Context, db *sql.DB, tables TableSchemaCache) (map[string]int, error) {
	reader, err := newSchemaReader(ctx, db)
	if err != nil {
		return nil, err
	}
	defer reader.close()

	schemas := map[string]bool{}
	for _, table := range tables {
		schemas[table.Schema] = true
	}
	lengths := make(map[string]int, len(tables))
	for _, schemaName := range sortedNames(schemas) {
		byName := make(map[string]*loadedTable)
		if err := reader.readTables(ctx, schemaName, byName); err != nil {
			return nil, fmt.Errorf("row lengths of schema %s: %w", schemaName, err)
		}
		for _, table := range byName {
			if table.approxRows > 0 {
				lengths[table.String()] = int(table.dataLength / table.approxRows)
			}
		}
	}
	return lengths, nil
}

// CalculateBatchSize is the batch size for rows of a size: that of a control point,
// that of the nearer end outside of them, and the integer linear interpolation between
// the two nearest otherwise.
func (d *DataIterationBatchSizePerTableOverride) CalculateBatchSize(rowSize int) int {
	if size, ok := d.ControlPoints[rowSize]; ok {
		return int(size)
	}
	if rowSize <= d.MinRowSize {
		return int(d.ControlPoints[d.MinRowSize])
	}
	if rowSize >= d.MaxRowSize {
		return int(d.ControlPoints[d.MaxRowSize])
	}

	points := make([]int, 0, len(d.ControlPoints))
	for point := range d.ControlPoints {
		points = append(points, point)
	}
	sort.Ints(points)
	next := sort.SearchInts(points, rowSize)
	if next == 0 || next == len(points) {
		return int(d.ControlPoints[points[min(next, len(points)-1)]])
	}
	x1, x2 := points[next-1], points[next]
	y1, y2 := int(d.ControlPoints[x1]), int(d.ControlPoints[x2])
	return (y1*(x2-rowSize) + y2*(rowSize-x1)) / (x2 - x1)
}
