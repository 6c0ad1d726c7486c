package ghostferry

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

// What an error is about becomes fields of its line, through every wrapping; a field that the
// line has already stays.
func TestErrorsGiveFields(t *testing.T) {
	at := BinlogCoordinate{File: "binlog.000002", Pos: 44}
	event := &UnsupportedEventError{End: at, What: "x"}
	for _, test := range []struct {
		err               error
		table, coordinate any
	}{
		{errors.New("nothing"), nil, nil},
		{&TableError{Schema: "a", Table: "b", Err: fmt.Errorf("why: %w", event)}, "a.b", at.String()},
		{errors.Join(errors.New("first"), &LateWriteError{Tables: []string{"a.b", "a.c"}, Writes: []LateWrite{{Coordinate: at}}}), "a.b,a.c", at.String()},
		{&originError{"x", &ForeignWriteError{Schema: "a", Table: "b", Coordinate: mysql.Position{Name: "f", Pos: 9}}}, "a.b", "f:9"},
		{&CutoverError{Coordinate: at, Err: &DebtError{Table: "a.b"}}, nil, at.String()},
		{&OrphanRowsError{ForeignKeys: []OrphanedForeignKey{{Table: "a.b"}}}, "a.b", nil},
		{&PreparedTransactionsError{Tables: []string{"a.b"}, Coordinate: at}, "a.b", at.String()},
		{&UnconfirmedRowsError{StreamedUpTo: at}, nil, at.String()},
		{&TargetConflictError{Table: "a.b"}, "a.b", nil},
		{&SchemaChangedError{Schema: "a", Table: "b"}, "a.b", nil},
		{&NoUsableKeyError{Schema: "a", Table: "b"}, "a.b", nil},
		{&UnsupportedTableError{Schema: "a", Table: "b"}, "a.b", nil},
	} {
		fields := fieldsOf(test.err)
		require.Equal(t, test.table, fields[fieldTable], "%v", test.err)
		require.Equal(t, test.coordinate, fields[fieldCoordinate], "%v", test.err)
	}

	var out bytes.Buffer
	to := logrus.New()
	to.SetOutput(&out)
	_, logger := newRunLog(to)
	logger.WithError(event).Error("one")
	logger.WithField(fieldCoordinate, "another").WithError(event).Error("two")
	require.Contains(t, out.String(), `coordinate="binlog.000002:44"`)
	require.Contains(t, out.String(), "coordinate=another")
}
