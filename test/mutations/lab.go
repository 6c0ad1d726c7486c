package main

import (
	"context"
	"database/sql"
	"errors"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// shopSchema is written all along.
const shopSchema = "mutations_shop"

// lab is two servers.
type lab struct {
	source, target     *servers.Server
	sourceDB, targetDB *sql.DB
}

func newLab(ctx context.Context, flavour servers.Flavour) (*lab, error) {
	options := func(name string) servers.Options {
		return servers.Options{Flavour: flavour, Name: name, GTID: true, Log: io.Discard}
	}
	l := &lab{}
	var err error
	if l.source, l.target, err = servers.StartPair(ctx, options("source"), options("target")); err != nil {
		return nil, err
	}
	if l.sourceDB, err = l.source.DB(ctx); err == nil {
		l.targetDB, err = l.target.DB(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) close() error {
	var errs []error
	for _, s := range []*servers.Server{l.source, l.target} {
		if s.PID() != 0 {
			errs = append(errs, s.Kill())
		}
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}

// makeShop makes the shop anew, its rows on the source only.
func (l *lab) makeShop(ctx context.Context, rows int) (shop.Options, error) {
	o := shop.Options{Database: shopSchema, Seed: 1, Rows: rows}
	for _, db := range []*sql.DB{l.sourceDB, l.targetDB} {
		if _, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+shopSchema); err != nil {
			return o, err
		}
		if err := shop.CreateSchema(ctx, db, shopSchema); err != nil {
			return o, err
		}
	}
	if _, err := l.targetDB.ExecContext(ctx, "DROP DATABASE IF EXISTS _ghostferry"); err != nil {
		return o, err
	}
	_, err := shop.Seed(ctx, l.sourceDB, o)
	return o, err
}

// write starts the shop's application.
func (l *lab) write(ctx context.Context, o shop.Options, rate int) (*shop.Writer, error) {
	w := shop.NewWriter(shop.WriterConfig{DB: l.sourceDB, Shop: o, Connections: 4, Rate: rate})
	err := w.Start(ctx)
	return w, err
}

// selected is the table filter.
type selected []string

func (s selected) ApplicableDatabases([]string) ([]string, error) { return s, nil }

func (s selected) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return tables, nil
}

func (l *lab) config(verifier string, schemas ...string) *ghostferry.Config {
	at := func(s *servers.Server) *ghostferry.DatabaseConfig {
		return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return &ghostferry.Config{
		Source: at(l.source), Target: at(l.target), TableFilter: selected(schemas), AutomaticCutover: true, VerifierType: verifier,
		SkipForeignKeyConstraintsCheck: true, Logger: logger,
	}
}

// move runs a ferry to its end. fence stops the writers, stopped is called when the
// stream has ended. A verdict "different" is an error.
func move(ctx context.Context, f *ghostferry.Ferry, fence, stopped func() error) error {
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(ctx) }()
	if err := f.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return <-ran
	}
	if err := f.WaitUntilBinlogStreamerCatchesUpContext(ctx); err != nil {
		return errors.Join(err, <-ran)
	}
	if err := fence(); err != nil {
		return err
	}
	if err := f.FlushBinlogAndStopStreamingContext(ctx); err != nil {
		return err
	}
	if err := <-ran; err != nil {
		return err
	}
	if err := stopped(); err != nil {
		return err
	}
	if f.Verifier != nil {
		result, err := f.Verifier.VerifyDuringCutover()
		if err != nil {
			return err
		}
		if !result.DataCorrect {
			return result
		}
	}
	return f.StopTargetVerifierContext(ctx)
}
