package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// ShowMasterStatusBinlogPosition returns the end of a server's binary log, by the
// statement that the server knows.
func ShowMasterStatusBinlogPosition(db *sql.DB) (mysql.Position, error) {
	return binlogEnd(context.Background(), db)
}

func binlogEnd(ctx context.Context, q server.Querier) (mysql.Position, error) {
	detected, err := server.Detect(ctx, q)
	if err != nil {
		return mysql.Position{}, err
	}
	end, err := detected.LogEnd(ctx, q)
	if err != nil {
		return mysql.Position{}, err
	}
	if end.Pos > math.MaxUint32 {
		return mysql.Position{}, fmt.Errorf("position %d in %s is beyond 4 GiB and has no short form: let the server rotate its binary log (max_binlog_size)", end.Pos, end.File)
	}
	return mysql.Position{Name: end.File, Pos: uint32(end.Pos)}, nil
}

// NewMysqlPosition makes a position of what a status statement returned. An error is
// passed through, except that no row is the same as an empty file name: an error,
// because it means that the server writes no binary log. db is not used.
func NewMysqlPosition(file string, position uint32, err error, db *sql.DB) (mysql.Position, error) {
	if err != nil && !errors.Is(err, sqlorig.ErrNoRows) {
		return mysql.Position{}, err
	}
	if err != nil || file == "" {
		return mysql.Position{}, fmt.Errorf("no results from SHOW BINARY LOG STATUS (SHOW MASTER STATUS before MySQL 8.4 and on MariaDB): %w", server.ErrBinlogOff)
	}
	return mysql.Position{Name: file, Pos: position}, nil
}

// CheckDbIsAReplica says whether the server is read_only.
func CheckDbIsAReplica(db *sql.DB) (bool, error) {
	return isReadOnly(context.Background(), db)
}

func isReadOnly(ctx context.Context, db server.Querier) (bool, error) {
	var readOnly bool
	err := db.QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly)
	return readOnly, err
}
