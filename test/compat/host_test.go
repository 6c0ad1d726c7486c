package compat

import (
	"context"
	"crypto/tls"
	sqlorig "database/sql"
	"io"
	"log/slog"
	"net/http"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/schema"
	driver "github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// A host compiles against these names; a change here is a change of the contract.
// Interfaces that hosts implement must not get another method.
type (
	hostFilter        struct{}
	hostThrottler     struct{}
	hostErrorHandler  struct{}
	hostVerifier      struct{}
	hostKey           struct{}
	hostPositionQuery struct{}
	hostPreparer      struct{}
)

func (hostFilter) BuildSelect([]string, *ghostferry.TableSchema, ghostferry.PaginationKey, uint64) (sq.SelectBuilder, error) {
	return sq.SelectBuilder{}, nil
}
func (hostFilter) ApplicableEvent(ghostferry.DMLEvent) (bool, error)    { return true, nil }
func (hostFilter) ApplicableDatabases(names []string) ([]string, error) { return names, nil }
func (hostThrottler) Throttled() bool                                   { return false }
func (hostThrottler) Disabled() bool                                    { return false }
func (hostThrottler) SetDisabled(bool)                                  {}
func (hostThrottler) SetPaused(bool)                                    {}
func (hostThrottler) Run(context.Context) error                         { return nil }
func (hostErrorHandler) ReportError(string, error)                      {}
func (hostErrorHandler) Fatal(string, error)                            {}
func (hostVerifier) VerifyBeforeCutover() error                         { return nil }
func (hostVerifier) StartInBackground() error                           { return nil }
func (hostVerifier) Wait()                                              {}
func (hostVerifier) Message() string                                    { return "" }
func (hostKey) SQLValue() interface{}                                   { return nil }
func (hostKey) ColumnName() string                                      { return "" }
func (hostKey) Compare(ghostferry.PaginationKey) int                    { return 0 }
func (hostKey) NumericPosition() float64                                { return 0 }
func (hostKey) String() string                                          { return "" }
func (hostKey) MarshalJSON() ([]byte, error)                            { return nil, nil }
func (hostKey) IsMax() bool                                             { return false }
func (hostPositionQuery) Current(*sql.DB) (p mysql.Position, err error) { return }
func (hostPreparer) Prepare(string) (*sqlorig.Stmt, error)              { return nil, nil }
func (hostFilter) ApplicableTables(t []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return t, nil
}

func (hostVerifier) VerifyDuringCutover() (ghostferry.VerificationResult, error) {
	return ghostferry.NewCorrectVerificationResult(), nil
}

func (hostVerifier) Result() (ghostferry.VerificationResultAndStatus, error) {
	return ghostferry.VerificationResultAndStatus{}, nil
}

var (
	_ ghostferry.CopyFilter                      = hostFilter{}
	_ ghostferry.TableFilter                     = hostFilter{}
	_ ghostferry.Throttler                       = hostThrottler{}
	_ ghostferry.Throttler                       = &ghostferry.PauserThrottler{}
	_ ghostferry.Throttler                       = &ghostferry.LagThrottler{}
	_ ghostferry.ErrorHandler                    = hostErrorHandler{}
	_ ghostferry.ErrorHandler                    = &ghostferry.PanicErrorHandler{}
	_ ghostferry.Verifier                        = hostVerifier{}
	_ ghostferry.PaginationKey                   = hostKey{}
	_ ghostferry.PaginationKey                   = ghostferry.Uint64Key{}
	_ ghostferry.PaginationKey                   = ghostferry.BinaryKey{}
	_ ghostferry.ReplicatedMasterPositionFetcher = hostPositionQuery{}
	_ ghostferry.ReplicatedMasterPositionFetcher = ghostferry.ReplicatedMasterPositionViaCustomQuery{}
	_ ghostferry.ReplicatedMasterPositionFetcher = &ghostferry.ReplicatedMasterPositionViaCustomQuery{}
	_ ghostferry.SqlPreparer                     = hostPreparer{}
	_ ghostferry.SqlPreparer                     = &sql.DB{}
	_ ghostferry.SqlPreparer                     = sql.Tx{}
	_ ghostferry.Logger                          = logrus.New()
	_ ghostferry.Logger                          = logrus.New().WithField("a", 1)
	_ ghostferry.Fields                          = logrus.Fields{}
	_ ghostferry.Verifier                        = &ghostferry.InlineVerifier{}
	_ ghostferry.Verifier                        = &ghostferry.IterativeVerifier{}
	_ ghostferry.Verifier                        = &ghostferry.ChecksumTableVerifier{}
	_ ghostferry.Verifier                        = &ghostferry.OnlineVerifier{}
	_ error                                      = ghostferry.BatchWriterVerificationFailed{}
	_ error                                      = ghostferry.UnsupportedCompressionError{}
	_ error                                      = ghostferry.VerificationResult{}
	_ error                                      = ghostferry.IncompleteVerificationError{}
	_ logrus.Level                               = logrus.InfoLevel

	_ func(*ghostferry.TLSConfig) (*tls.Config, error)                                                                                                                                                                        = (*ghostferry.TLSConfig).BuildConfig
	_ func(*ghostferry.DatabaseConfig) (*driver.Config, error)                                                                                                                                                                = (*ghostferry.DatabaseConfig).MySQLConfig
	_ func(*ghostferry.DatabaseConfig, ghostferry.Logger) (*sql.DB, error)                                                                                                                                                    = (*ghostferry.DatabaseConfig).SqlDB
	_ func(*ghostferry.Config) error                                                                                                                                                                                          = (*ghostferry.Config).ValidateConfig
	_ func(*ghostferry.Config, ghostferry.UpdatableConfig)                                                                                                                                                                    = (*ghostferry.Config).Update
	_ func(*ghostferry.DataIterationBatchSizePerTableOverride, *sql.DB, ghostferry.TableSchemaCache) error                                                                                                                    = (*ghostferry.DataIterationBatchSizePerTableOverride).UpdateBatchSizes
	_ func(*driver.Config) string                                                                                                                                                                                             = ghostferry.MaskedDSN
	_ func(ghostferry.HTTPCallback, *http.Client) error                                                                                                                                                                       = ghostferry.HTTPCallback.Post
	_ func(int, time.Duration, ghostferry.Logger, string, func() error) error                                                                                                                                                 = ghostferry.WithRetries
	_ func(context.Context, int, time.Duration, ghostferry.Logger, string, func() error) error                                                                                                                                = ghostferry.WithRetriesContext
	_ func(*ghostferry.StmtCache, ghostferry.SqlPreparer, string) (*sqlorig.Stmt, error)                                                                                                                                      = (*ghostferry.StmtCache).StmtFor
	_ func(ghostferry.Throttler)                                                                                                                                                                                              = ghostferry.WaitForThrottle
	_ func(*sql.DB) (mysql.Position, error)                                                                                                                                                                                   = ghostferry.ShowMasterStatusBinlogPosition
	_ func(string, uint32, error, *sql.DB) (mysql.Position, error)                                                                                                                                                            = ghostferry.NewMysqlPosition
	_ func(*sql.DB) (bool, error)                                                                                                                                                                                             = ghostferry.CheckDbIsAReplica
	_ func(*sql.DB, []*ghostferry.TableSchema, ghostferry.Logger) (map[*ghostferry.TableSchema]ghostferry.PaginationKey, []*ghostferry.TableSchema, error)                                                                    = ghostferry.MaxPaginationKeys
	_ func(*sql.DB, ghostferry.TableFilter, ghostferry.ColumnCompressionConfig, ghostferry.ColumnIgnoreConfig, ghostferry.ForceIndexConfig, *ghostferry.CascadingPaginationColumnConfig) (ghostferry.TableSchemaCache, error) = ghostferry.LoadTables
	_ func(ghostferry.RowData, int, *schema.TableColumn) (ghostferry.PaginationKey, error)                                                                                                                                    = ghostferry.NewPaginationKeyFromRow
	_ func(*schema.TableColumn) ghostferry.PaginationKey                                                                                                                                                                      = ghostferry.MinPaginationKey
	_ func(string, chan interface{}) *ghostferry.Metrics                                                                                                                                                                      = ghostferry.SetGlobalMetrics
	_ func(ghostferry.Logger) *slog.Logger                                                                                                                                                                                    = ghostferry.NewSlogLogger
	_ func(io.Writer)                                                                                                                                                                                                         = ghostferry.SetLogOutput
	_ func(*ghostferry.LagThrottlerConfig) (*ghostferry.LagThrottler, error)                                                                                                                                                  = ghostferry.NewLagThrottler
	_ func(*ghostferry.Ferry) *ghostferry.InlineVerifier                                                                                                                                                                      = (*ghostferry.Ferry).NewInlineVerifier
	_ func(*ghostferry.Ferry) *ghostferry.InlineVerifier                                                                                                                                                                      = (*ghostferry.Ferry).NewInlineVerifierWithoutStateTracker
	_ func(*ghostferry.Ferry) *ghostferry.ChecksumTableVerifier                                                                                                                                                               = (*ghostferry.Ferry).NewChecksumTableVerifier
	_ func(*ghostferry.Ferry) (*ghostferry.IterativeVerifier, error)                                                                                                                                                          = (*ghostferry.Ferry).NewIterativeVerifier
	_ func(*ghostferry.InlineVerifier, *sql.Tx, string, string, *ghostferry.RowBatch, bool) ([]ghostferry.InlineVerifierMismatches, error)                                                                                    = (*ghostferry.InlineVerifier).CheckFingerprintInline
	_ func(*ghostferry.InlineVerifier, context.Context)                                                                                                                                                                       = (*ghostferry.InlineVerifier).PeriodicallyVerifyBinlogEvents
	_ func(*ghostferry.IterativeVerifier) (ghostferry.VerificationResult, error)                                                                                                                                              = (*ghostferry.IterativeVerifier).VerifyOnce
	_ func(string, string, string, []schema.TableColumn, []interface{}) (string, []interface{}, error)                                                                                                                        = ghostferry.GetMd5HashesSql
	_ func(*ghostferry.IterativeVerifier, *sql.DB, string, string, string, []schema.TableColumn, []interface{}) (map[string][]byte, error)                                                                                    = (*ghostferry.IterativeVerifier).GetHashes
	_ func(*ghostferry.CompressionVerifier, *sql.DB, string, string, string, []schema.TableColumn, []interface{}) (map[string][]byte, error)                                                                                  = (*ghostferry.CompressionVerifier).GetCompressedHashes
	_ func(*ghostferry.CompressionVerifier, string, string, string, []byte) ([]byte, error)                                                                                                                                   = (*ghostferry.CompressionVerifier).Decompress
	_ func(ghostferry.TableColumnCompressionConfig, ghostferry.TableSchemaCache) (*ghostferry.CompressionVerifier, error)                                                                                                     = ghostferry.NewCompressionVerifier
	_ func(*sql.DB, *ghostferry.StateTracker, *ghostferry.BinlogStreamer) (*ghostferry.TargetVerifier, error)                                                                                                                 = ghostferry.NewTargetVerifier
	_ func(*ghostferry.TargetVerifier, []ghostferry.DMLEvent) error                                                                                                                                                           = (*ghostferry.TargetVerifier).BinlogEventListener
	_ func() *ghostferry.ReverifyStore                                                                                                                                                                                        = ghostferry.NewReverifyStore
	_ func(*ghostferry.ReverifyStore, int) []ghostferry.ReverifyBatch                                                                                                                                                         = (*ghostferry.ReverifyStore).FlushAndBatchByTable
	_ func(*ghostferry.WaitUntilReplicaIsCaughtUpToMaster, mysql.Position, int) (bool, error)                                                                                                                                 = (*ghostferry.WaitUntilReplicaIsCaughtUpToMaster).IsCaughtUp
)
