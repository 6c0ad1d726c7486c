// Package sqlwrapper is database/sql with a comment in front of every statement.
//
// The comment, called marginalia, says who sent the statement. It shows up in the
// process list, in the slow log and, through the rows-query events of the binary
// log, at whoever watches the server's changes: that is how a target verifier
// tells the mover's own writes from anybody else's.
package sqlwrapper

import (
	"context"
	sqlorig "database/sql"
	"database/sql/driver"
	"strings"
)

// AnnotateStmt puts marginalia as a comment in front of one statement:
// "/*application:x*/ SELECT 1". Text that would end the comment early, or turn it
// into an executable comment, is made harmless; see [Annotation].
func AnnotateStmt(query, marginalia string) string {
	return "/*" + Annotation(marginalia) + "*/ " + query
}

// Annotation returns marginalia as it stands between the comment's markers in the
// text that the server sees: "*/" becomes "* /", and a leading "!" or "M!" (which
// would make the server execute the comment) or "+" (an optimizer hint) gets a
// space in front. Compare with this, not with the configured text, when looking for
// one's own statements in a binary log.
func Annotation(marginalia string) string {
	safe := strings.ReplaceAll(marginalia, "*/", "* /")
	if strings.HasPrefix(safe, "!") || strings.HasPrefix(safe, "M!") || strings.HasPrefix(safe, "+") {
		safe = " " + safe
	}
	return safe
}

// DB is a pool of connections that annotates every statement, queries included.
// The embedded pool stays reachable (db.DB) for what must go out unannotated.
type DB struct {
	*sqlorig.DB
	// Marginalia is the text of the comment, without its markers.
	Marginalia string
}

// Open is database/sql's Open plus the annotation. The DB it returns is never nil,
// so that a deferred Close is safe to write before the error is read; with an
// error its embedded pool is nil and only Close may be called.
func Open(driverName, dataSourceName, marginalia string) (*DB, error) {
	db, err := sqlorig.Open(driverName, dataSourceName)
	return &DB{DB: db, Marginalia: marginalia}, err
}

// OpenDB is database/sql's OpenDB plus the annotation.
func OpenDB(connector driver.Connector, marginalia string) *DB {
	return &DB{DB: sqlorig.OpenDB(connector), Marginalia: marginalia}
}

// Close closes the pool. It is safe on a DB whose Open failed.
func (db DB) Close() error {
	if db.DB == nil {
		return nil
	}
	return db.DB.Close()
}

// Exec runs an annotated statement that returns no rows.
func (db DB) Exec(query string, args ...interface{}) (sqlorig.Result, error) {
	return db.DB.Exec(AnnotateStmt(query, db.Marginalia), args...)
}

// ExecContext is Exec with a context.
func (db DB) ExecContext(ctx context.Context, query string, args ...interface{}) (sqlorig.Result, error) {
	return db.DB.ExecContext(ctx, AnnotateStmt(query, db.Marginalia), args...)
}

// Prepare prepares an annotated statement.
func (db DB) Prepare(query string) (*sqlorig.Stmt, error) {
	return db.DB.Prepare(AnnotateStmt(query, db.Marginalia))
}

// PrepareContext is Prepare with a context, which bounds the preparation only.
func (db DB) PrepareContext(ctx context.Context, query string) (*sqlorig.Stmt, error) {
	return db.DB.PrepareContext(ctx, AnnotateStmt(query, db.Marginalia))
}

// Query runs an annotated statement that returns rows.
func (db DB) Query(query string, args ...interface{}) (*sqlorig.Rows, error) {
	return db.DB.Query(AnnotateStmt(query, db.Marginalia), args...)
}

// QueryContext is Query with a context, which has to live as long as the rows.
func (db DB) QueryContext(ctx context.Context, query string, args ...interface{}) (*sqlorig.Rows, error) {
	return db.DB.QueryContext(ctx, AnnotateStmt(query, db.Marginalia), args...)
}

// QueryRow runs an annotated statement that returns at most one row.
func (db DB) QueryRow(query string, args ...interface{}) *sqlorig.Row {
	return db.DB.QueryRow(AnnotateStmt(query, db.Marginalia), args...)
}

// QueryRowContext is QueryRow with a context.
func (db DB) QueryRowContext(ctx context.Context, query string, args ...interface{}) *sqlorig.Row {
	return db.DB.QueryRowContext(ctx, AnnotateStmt(query, db.Marginalia), args...)
}

// Begin starts an annotating transaction.
func (db DB) Begin() (*Tx, error) {
	return db.BeginTx(context.Background(), nil)
}

// BeginTx starts an annotating transaction with an isolation level; it is rolled
// back when ctx ends before the commit.
func (db DB) BeginTx(ctx context.Context, opts *sqlorig.TxOptions) (*Tx, error) {
	tx, err := db.DB.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Tx{Tx: tx, marginalia: db.Marginalia}, nil
}

// Conn takes one connection out of the pool for as long as the caller keeps it.
func (db DB) Conn(ctx context.Context) (*Conn, error) {
	conn, err := db.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, marginalia: db.Marginalia}, nil
}

// QueryMySQLVersion returns the server's @@version, flavour suffix included.
func (db DB) QueryMySQLVersion() (string, error) {
	var version string
	err := db.QueryRow("SELECT @@version").Scan(&version)
	return version, err
}

// Tx is a transaction that annotates every statement.
type Tx struct {
	*sqlorig.Tx
	marginalia string
}

// Exec runs an annotated statement that returns no rows.
func (tx Tx) Exec(query string, args ...interface{}) (sqlorig.Result, error) {
	return tx.Tx.Exec(AnnotateStmt(query, tx.marginalia), args...)
}

// ExecContext is Exec with a context.
func (tx Tx) ExecContext(ctx context.Context, query string, args ...interface{}) (sqlorig.Result, error) {
	return tx.Tx.ExecContext(ctx, AnnotateStmt(query, tx.marginalia), args...)
}

// Prepare prepares an annotated statement that lives as long as the transaction.
func (tx Tx) Prepare(query string) (*sqlorig.Stmt, error) {
	return tx.Tx.Prepare(AnnotateStmt(query, tx.marginalia))
}

// PrepareContext is Prepare with a context, which bounds the preparation only.
func (tx Tx) PrepareContext(ctx context.Context, query string) (*sqlorig.Stmt, error) {
	return tx.Tx.PrepareContext(ctx, AnnotateStmt(query, tx.marginalia))
}

// Query runs an annotated statement that returns rows.
func (tx Tx) Query(query string, args ...interface{}) (*sqlorig.Rows, error) {
	return tx.Tx.Query(AnnotateStmt(query, tx.marginalia), args...)
}

// QueryContext is Query with a context, which has to live as long as the rows.
func (tx Tx) QueryContext(ctx context.Context, query string, args ...interface{}) (*sqlorig.Rows, error) {
	return tx.Tx.QueryContext(ctx, AnnotateStmt(query, tx.marginalia), args...)
}

// QueryRow runs an annotated statement that returns at most one row.
func (tx Tx) QueryRow(query string, args ...interface{}) *sqlorig.Row {
	return tx.Tx.QueryRow(AnnotateStmt(query, tx.marginalia), args...)
}

// QueryRowContext is QueryRow with a context.
func (tx Tx) QueryRowContext(ctx context.Context, query string, args ...interface{}) *sqlorig.Row {
	return tx.Tx.QueryRowContext(ctx, AnnotateStmt(query, tx.marginalia), args...)
}

// Conn is one pinned connection that annotates every statement. The embedded
// connection stays reachable (conn.Conn) for Raw and for unannotated statements;
// Close gives it back to the pool.
type Conn struct {
	*sqlorig.Conn
	marginalia string
}

// ExecContext runs an annotated statement that returns no rows.
func (c *Conn) ExecContext(ctx context.Context, query string, args ...interface{}) (sqlorig.Result, error) {
	return c.Conn.ExecContext(ctx, AnnotateStmt(query, c.marginalia), args...)
}

// PrepareContext prepares an annotated statement on this connection.
func (c *Conn) PrepareContext(ctx context.Context, query string) (*sqlorig.Stmt, error) {
	return c.Conn.PrepareContext(ctx, AnnotateStmt(query, c.marginalia))
}

// QueryContext runs an annotated statement that returns rows.
func (c *Conn) QueryContext(ctx context.Context, query string, args ...interface{}) (*sqlorig.Rows, error) {
	return c.Conn.QueryContext(ctx, AnnotateStmt(query, c.marginalia), args...)
}

// QueryRowContext runs an annotated statement that returns at most one row.
func (c *Conn) QueryRowContext(ctx context.Context, query string, args ...interface{}) *sqlorig.Row {
	return c.Conn.QueryRowContext(ctx, AnnotateStmt(query, c.marginalia), args...)
}

// BeginTx starts an annotating transaction on this connection.
func (c *Conn) BeginTx(ctx context.Context, opts *sqlorig.TxOptions) (*Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Tx{Tx: tx, marginalia: c.marginalia}, nil
}
