package server

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ToUTF8 converts a text from the character set of a collation, given by its number, to
// UTF-8. Character sets that are part of UTF-8, and numbers that the server does not list
// (it has no other sets there), leave it as it is.
func (s *Server) ToUTF8(ctx context.Context, q Querier, collation uint16, text string) (string, error) {
	var charset string
	err := q.QueryRowContext(ctx, "SELECT CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID = ?", collation).Scan(&charset)
	if errors.Is(err, sql.ErrNoRows) {
		return text, nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: character set of collation %d: %w", s, collation, err)
	}
	if strings.HasPrefix(charset, "utf8") || charset == "ascii" || charset == "binary" {
		return text, nil
	}
	// The name comes from the server's list; the text is written in hexadecimal digits.
	err = q.QueryRowContext(ctx, "SELECT CONVERT(CONVERT(0x"+hex.EncodeToString([]byte(text))+" USING "+charset+") USING utf8mb4)").Scan(&text)
	if err != nil {
		return "", fmt.Errorf("%s: convert a text from %s: %w", s, charset, err)
	}
	return text, nil
}
