package binlog

import "strings"

// token is a word, a quoted name, a string or one other character of a statement.
type token struct {
	kind tokenKind
	text string // of a quoted name what it stands for
}

type tokenKind uint8

const (
	wordToken tokenKind = iota
	quotedToken
	stringToken
	otherToken
)

func (t *token) isName() bool        { return t.kind == wordToken || t.kind == quotedToken }
func (t *token) is(mark string) bool { return t.kind == otherToken && t.text == mark }

// tokenize cuts a statement into tokens as the server does: comments are left out, of
// versioned ones only the marks, because the server executes what is in them (it makes
// plain comments of those that it does not execute before it logs them).
func tokenize(q Query) []token {
	var tokens []token
	text := q.Text
	for i := 0; i < len(text); {
		end := i + 1
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f' || c == 0:
		case c == '/' && strings.HasPrefix(text[i:], "/*"):
			end = skipComment(text, i)
		case c == '*' && strings.HasPrefix(text[i:], "*/"):
			end = i + 2 // of a versioned comment
		case c == '#', c == '-' && isLineComment(text[i:]):
			end = skipLine(text, i)
		case c == '`', c == '"' && q.mode&modeANSIQuotes != 0:
			end = skipQuoted(text, i, false)
			quote := text[i : i+1]
			tokens = append(tokens, token{quotedToken, strings.ReplaceAll(text[i+1:max(i+1, end-1)], quote+quote, quote)})
		case c == '[' && q.mode&modeMSSQL != 0:
			end = skipQuotedBy(text, i, ']', false)
			tokens = append(tokens, token{quotedToken, strings.ReplaceAll(text[i+1:max(i+1, end-1)], "]]", "]")})
		case c == '\'', c == '"':
			end = skipQuoted(text, i, q.mode&modeNoBackslashEscapes == 0)
			tokens = append(tokens, token{kind: stringToken})
		case isWordByte(c):
			for end < len(text) && isWordByte(text[end]) {
				end++
			}
			tokens = append(tokens, token{wordToken, text[i:end]})
		default:
			tokens = append(tokens, token{otherToken, text[i:end]})
		}
		i = end
	}
	return tokens
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// isLineComment: two hyphens begin a comment when white space or nothing follows.
func isLineComment(text string) bool {
	return strings.HasPrefix(text, "--") && (len(text) == 2 || text[2] <= ' ')
}

// skipComment returns the end of the comment at i; of a versioned comment only the
// opening is skipped.
func skipComment(text string, i int) int {
	if strings.HasPrefix(text[i:], "/*!") || strings.HasPrefix(text[i:], "/*M!") {
		i += 3
		for i < len(text) && (text[i] == '!' || text[i] >= '0' && text[i] <= '9') {
			i++
		}
		return i
	}
	end := strings.Index(text[i+2:], "*/")
	if end < 0 {
		return len(text)
	}
	return i + 2 + end + 2
}

func skipLine(text string, i int) int {
	end := strings.IndexByte(text[i:], '\n')
	if end < 0 {
		return len(text)
	}
	return i + end + 1
}

// skipQuoted returns the index after the closing quote; doubled quotes escape, and
// backslashes where they do.
func skipQuoted(text string, i int, backslashes bool) int {
	return skipQuotedBy(text, i, text[i], backslashes)
}

func skipQuotedBy(text string, i int, quote byte, backslashes bool) int {
	for i++; i < len(text); i++ {
		switch {
		case text[i] == '\\' && backslashes:
			i++
		case text[i] == quote:
			if i+1 < len(text) && text[i+1] == quote {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(text)
}
