package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// stressed is the last line of the stress.
type stressed struct {
	Minutes       float64 `json:"minutes"`
	Moves         int     `json:"moves"`
	Transactions  int     `json:"transactions"`
	RowsCompared  uint64  `json:"rows_compared"`
	RowsRechecked uint64  `json:"rows_rechecked"`
	FalseAlarms   int     `json:"false_alarms"`
}

const (
	stressRows = 50000
	stressRate = 500 // transactions a second, as the demo's
)

// stressVerifiers divides the time among flavours and verifiers. The rows are compared
// by a program that knows nothing of the mover: what it finds is no false alarm.
func stressVerifiers(ctx context.Context, flavours []servers.Flavour, duration time.Duration) error {
	verifiers := []string{ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeInline, ghostferry.VerifierTypeIterative, ghostferry.VerifierTypeChecksumTable}
	share := duration / time.Duration(len(flavours)*len(verifiers))
	var total stressed
	began := time.Now()
	for _, flavour := range flavours {
		l, err := newLab(ctx, flavour)
		if err != nil {
			return err
		}
		for _, verifier := range verifiers {
			if err = l.stress(ctx, verifier, share, &total); err != nil {
				err = fmt.Errorf("%s, %s: %w", flavour, verifier, err)
				break
			}
		}
		if err := errors.Join(err, l.close()); err != nil {
			return err
		}
	}
	total.Minutes = math.Round(time.Since(began).Minutes()*10) / 10
	if err := json.NewEncoder(os.Stdout).Encode(total); err != nil {
		return err
	}
	if total.FalseAlarms > 0 {
		return errors.New("a verifier gave a false alarm")
	}
	return nil
}

// stress moves a shop under its application; the cutover comes when the time is over.
func (l *lab) stress(ctx context.Context, verifier string, share time.Duration, total *stressed) error {
	o, err := l.makeShop(ctx, stressRows)
	if err != nil {
		return err
	}
	w := shop.NewWriter(shop.WriterConfig{DB: l.sourceDB, Shop: o, Rate: stressRate, Seed: uint64(total.Moves)})
	if err := w.Start(ctx); err != nil {
		return err
	}
	defer func() { _, _ = w.Stop() }()
	config := l.config(verifier, shopSchema)
	config.AutomaticCutover = false
	f := &ghostferry.Ferry{Config: config}
	if err := f.InitializeContext(ctx); err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.StartContext(ctx); err != nil {
		return err
	}
	timer := time.AfterFunc(share, f.AllowCutover)
	defer timer.Stop()
	moveErr := move(ctx, f, func() error {
		stats, err := w.Stop()
		total.Transactions += stats.Committed
		return err
	}, func() error { return nil })
	total.Moves++
	v, ok := f.Verifier.(ghostferry.ReportingVerifier)
	if !ok {
		return fmt.Errorf("%T gives no report", f.Verifier)
	}
	report := v.Report()
	total.RowsCompared += report.Rows
	total.RowsRechecked += report.RowsRechecked
	different := len(report.Mismatches) > 0
	if _, foreign := errors.AsType[*ghostferry.ForeignWriteError](moveErr); foreign {
		different = true
	}
	if moveErr != nil && !different {
		return moveErr
	}
	progress("%s: %d rows compared, %d again, %d differ; %.3f s under the write block", verifier, report.Rows, report.RowsRechecked, len(report.Mismatches), report.SecondsDuring)
	if !different {
		return nil
	}
	really, err := compare.Compare(ctx, l.sourceDB, l.targetDB, compare.Options{Databases: map[string]string{shopSchema: shopSchema}})
	if err != nil {
		return err
	}
	if !really.Equal() {
		return fmt.Errorf("the target really differs in %d places: %w", really.DifferenceCount, moveErr)
	}
	total.FalseAlarms++
	progress("FALSE ALARM by %s: %v", verifier, moveErr)
	return nil
}
