package server

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// StoredText is a view, trigger or routine of a server: what a statement may lead to without naming
// the tables that it changes.
type StoredText struct {
	Kind         string // VIEW, TRIGGER, FUNCTION, PROCEDURE, PACKAGE, …
	Schema, Name string
	// By is the name in a statement that leads to it: a trigger's table, else Name.
	By string
	// Text is its definition, empty where the account may not see it.
	Text string
	// SQLMode is the mode that Text was written in, by names; empty for views, which the server
	// writes itself.
	SQLMode string
}

// String returns kind and quoted name.
func (t StoredText) String() string { return t.Kind + " " + sqlesc.Table(t.Schema, t.Name) }

var storedTextQueries = []string{
	`SELECT 'VIEW', TABLE_SCHEMA, TABLE_NAME, TABLE_NAME, COALESCE(VIEW_DEFINITION, ''), '' FROM information_schema.VIEWS`,
	`SELECT 'TRIGGER', TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE, COALESCE(ACTION_STATEMENT, ''), SQL_MODE FROM information_schema.TRIGGERS`,
	`SELECT ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_NAME, COALESCE(ROUTINE_DEFINITION, ''), SQL_MODE FROM information_schema.ROUTINES`,
}

// globalPrivileges are those without which an account does not see every StoredText.
// The grantee is written 'user'@'host', and a user's name may hold an @.
const globalPrivileges = `SELECT COUNT(DISTINCT p.PRIVILEGE_TYPE)
	FROM information_schema.USER_PRIVILEGES p, (SELECT CURRENT_USER() AS name, SUBSTRING_INDEX(CURRENT_USER(), '@', -1) AS host) a
	WHERE p.PRIVILEGE_TYPE IN ('SELECT', 'SHOW VIEW', 'TRIGGER')
		AND p.GRANTEE = CONCAT('''', LEFT(a.name, CHAR_LENGTH(a.name) - CHAR_LENGTH(a.host) - 1), '''@''', a.host, '''')`

// StoredTexts returns the views, triggers and routines of all schemas. complete is false when the
// account may not see all of them: it needs SELECT, SHOW VIEW and TRIGGER on *.*, granted to itself.
func (s *Server) StoredTexts(ctx context.Context, q Querier) (texts []StoredText, complete bool, err error) {
	var granted int
	if err := q.QueryRowContext(ctx, globalPrivileges).Scan(&granted); err != nil {
		return nil, false, fmt.Errorf("%s: what the account may see: %w", s, err)
	}
	if granted < 3 || s.PartialRevokes {
		return nil, false, nil
	}
	for _, query := range storedTextQueries {
		if texts, err = appendStoredTexts(ctx, q, texts, query); err != nil {
			return nil, false, fmt.Errorf("%s: read views, triggers and routines: %w", s, err)
		}
	}
	return texts, true, nil
}

func appendStoredTexts(ctx context.Context, q Querier, texts []StoredText, query string) ([]StoredText, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t StoredText
		if err := rows.Scan(&t.Kind, &t.Schema, &t.Name, &t.By, &t.Text, &t.SQLMode); err != nil {
			return nil, err
		}
		texts = append(texts, t)
	}
	return texts, rows.Err()
}
