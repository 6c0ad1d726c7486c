package ghostferry

import (
	sqlorig "database/sql"
	"errors"
	"sync"
)

// stmtCacheSize bounds the statements that a cache keeps prepared: on the server each
// costs memory, and their number is limited for all clients together.
const stmtCacheSize = 256

// SqlPreparer prepares statements: a pool or a transaction, wrapped or not.
type SqlPreparer interface {
	Prepare(string) (*sqlorig.Stmt, error)
}

// StmtCache keeps prepared statements by their text. When it is full, the one used
// least recently is closed; a statement is therefore to be used before the next
// StmtFor. Its zero value is ready.
type StmtCache struct {
	mu struct {
		sync.Mutex
		statements map[string]*cachedStmt
		uses       uint64 // counts StmtFor
	}
}

type cachedStmt struct {
	*sqlorig.Stmt
	lastUse uint64
}

// NewStmtCache returns an empty cache.
func NewStmtCache() *StmtCache { return &StmtCache{} }

// StmtFor returns the statement of a text, prepared by p when it is not in the cache.
func (c *StmtCache) StmtFor(p SqlPreparer, query string) (*sqlorig.Stmt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	cached := c.mu.statements[query]
	if cached == nil {
		stmt, err := p.Prepare(query)
		if err != nil {
			return nil, err
		}
		if len(c.mu.statements) >= stmtCacheSize {
			c.removeOldest()
		}
		if c.mu.statements == nil {
			c.mu.statements = make(map[string]*cachedStmt)
		}
		cached = &cachedStmt{Stmt: stmt}
		c.mu.statements[query] = cached
	}
	c.mu.uses++
	cached.lastUse = c.mu.uses
	return cached.Stmt, nil
}

// Close closes all statements and empties the cache, which stays usable.
func (c *StmtCache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, cached := range c.mu.statements {
		errs = append(errs, cached.Close())
	}
	c.mu.statements = nil
	return errors.Join(errs...)
}

// removeOldest needs the lock.
func (c *StmtCache) removeOldest() {
	var oldest string
	for query, cached := range c.mu.statements {
		if oldest == "" || cached.lastUse < c.mu.statements[oldest].lastUse {
			oldest = query
		}
	}
	// What a failed close leaves behind goes with its connection.
	_ = c.mu.statements[oldest].Close()
	delete(c.mu.statements, oldest)
}
