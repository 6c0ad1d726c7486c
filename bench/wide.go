package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// wideRow is how many bytes the value of a wide row has.
const wideRow = 20_000

// wideKind is a kind of values of 20 KB.
type wideKind struct {
	name, columnType, charset string // the charset is that of a file for LOAD DATA
	value                     func(random *rand.Rand) []byte
}

var wideKinds = []wideKind{
	{"json", "JSON", "utf8mb4", wideDocument},
	{"blob", "LONGBLOB", "binary", wideBytes},
}

// The names of the systems: a kind and one of these.
func (k wideKind) ours() string  { return k.name + ": ghostferry" }
func (k wideKind) limit() string { return k.name + ": limit: LOAD DATA, one thread" }

// benchWide copies rows of 20 KB beside one thread of LOAD DATA of a ready file, documents
// and bytes as they come.
func benchWide(ctx context.Context, l *lab, o options, r *report) error {
	for _, kind := range wideKinds {
		if err := l.measureWide(ctx, kind, o, r); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	return nil
}

func (l *lab) measureWide(ctx context.Context, kind wideKind, o options, r *report) (err error) {
	progress("wide: making %d rows of 20 KB, %s", o.wideRows, kind.name)
	file := filepath.Join(l.directory, "wide-"+kind.name+".txt")
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	size, err := kind.write(file, o.wideRows)
	if err != nil {
		return err
	}
	w, err := l.newWorld(ctx, "wide", "CREATE TABLE %s (id INT NOT NULL PRIMARY KEY, v "+kind.columnType+" NOT NULL)", 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	if err := loadFile(ctx, l.sourceDB, file, w.tables[0], kind.charset); err != nil {
		return err
	}
	systems := []system{
		{kind.ours(), w.ours(o.ours...)},
		{kind.limit(), func(ctx context.Context, m *measurement) (err error) {
			m.Seconds, err = elapsed(func() error { return loadFile(ctx, l.targetDB, file, w.tables[0], kind.charset) })
			return err
		}},
	}
	return w.inTurn(ctx, o, r, measurement{Bench: "wide", Rows: o.wideRows, DataMB: float64(size) / 1e6}, systems)
}

// write makes a file as LOAD DATA reads it and returns how many bytes the values have.
func (k wideKind) write(path string, rows int) (size int, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriterSize(file, 1<<20)
	escape := strings.NewReplacer("\\", "\\\\", "\t", "\\t", "\n", "\\n", "\x00", "\\0")
	random := rand.New(rand.NewPCG(1, 2))
	for id := range rows {
		value := k.value(random)
		size += len(value)
		if _, err := fmt.Fprintf(out, "%d\t%s\n", id+1, escape.Replace(string(value))); err != nil {
			return 0, err
		}
	}
	return size, out.Flush()
}

// wideDocument is an object of numbers and texts.
func wideDocument(random *rand.Rand) []byte {
	document := []byte(`{"kind": "wide"`)
	for i := 0; len(document) < wideRow; i++ {
		document = fmt.Appendf(document, `, "text%d": "%s", "number%d": %d`, i, digits(random), i, random.Int32())
	}
	return append(document, '}')
}

// wideBytes are bytes as they come.
func wideBytes(random *rand.Rand) []byte {
	value := make([]byte, wideRow)
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	return value
}

// loadFile loads a ready file of this machine over one connection.
func loadFile(ctx context.Context, db *sql.DB, path, table, charset string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // the driver closes it when it has read all
	name := filepath.Base(path) + "-" + time.Now().Format("150405.000000000")
	mysql.RegisterReaderHandler(name, func() io.Reader { return file })
	defer mysql.DeregisterReaderHandler(name)
	_, err = db.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE "+table+" CHARACTER SET "+charset)
	return err
}
