package ghostferry

import (
	"container/list"
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
		recent  list.List // of *cachedStmt, the most recently used first
		byQuery map[string]*list.Element
	}
}

type cachedStmt struct {
	query string
	stmt  *sqlorig.Stmt
}

// NewStmtCache returns an empty cache.
func NewStmtCache() *StmtCache { return &StmtCache{} }

// StmtFor returns the statement of a text, prepared by p when it is not in the cache.
func (c *StmtCache) StmtFor(p SqlPreparer, query string) (*sqlorig.Stmt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if element, ok := c.mu.byQuery[query]; ok {
		c.mu.recent.MoveToFront(element)
		return element.Value.(*cachedStmt).stmt, nil
	}
	stmt, err := p.Prepare(query)
	if err != nil {
		return nil, err
	}
	if c.mu.byQuery == nil {
		c.mu.byQuery = make(map[string]*list.Element)
	}
	c.mu.byQuery[query] = c.mu.recent.PushFront(&cachedStmt{query, stmt})
	if c.mu.recent.Len() > stmtCacheSize {
		_ = c.removeOldest()
	}
	return stmt, nil
}

// Close closes all statements and empties the cache, which stays usable.
func (c *StmtCache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for c.mu.recent.Len() > 0 {
		errs = append(errs, c.removeOldest())
	}
	return errors.Join(errs...)
}

// removeOldest needs the lock.
func (c *StmtCache) removeOldest() error {
	oldest := c.mu.recent.Remove(c.mu.recent.Back()).(*cachedStmt)
	delete(c.mu.byQuery, oldest.query)
	return oldest.stmt.Close()
}
