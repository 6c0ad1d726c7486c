// Package sqlesc is the one place where identifiers and literals become SQL text.
//
// The literal functions assume a session with NO_BACKSLASH_ESCAPES in its sql_mode and a
// connection character set in which no multi-byte character contains the byte 0x27 (utf8mb4,
// binary, latin1): then a quote is the only byte with a meaning inside a literal. Every session
// set up by internal/server fulfils both.
package sqlesc

import "bytes"

// Ident returns name quoted as one SQL identifier: a`b becomes `a“b`.
func Ident(name string) string {
	return string(AppendIdent(make([]byte, 0, len(name)+2), name))
}

// AppendIdent appends name, quoted as one SQL identifier, to dst.
func AppendIdent(dst []byte, name string) []byte {
	dst = append(dst, '`')
	for i := range len(name) {
		if name[i] == '`' {
			dst = append(dst, '`')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '`')
}

// Table returns `schema`.`table`. An empty schema gives the table alone, which the server looks
// up in the session's default schema.
func Table(schema, table string) string {
	dst := make([]byte, 0, len(schema)+len(table)+5)
	if schema != "" {
		dst = append(AppendIdent(dst, schema), '.')
	}
	return string(AppendIdent(dst, table))
}

// Idents returns the quoted names separated by commas, in their order.
func Idents(names []string) string {
	var dst []byte
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendIdent(dst, name)
	}
	return string(dst)
}

// AppendString appends s as a string literal of the connection's character set: '…' in which only
// the quote is doubled.
func AppendString(dst []byte, s []byte) []byte {
	dst = append(dst, '\'')
	for {
		i := bytes.IndexByte(s, '\'')
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, '\'', '\'')
		s = s[i+1:]
	}
	dst = append(dst, s...)
	return append(dst, '\'')
}

// AppendBinary appends b as a literal of the binary character set: its bytes reach the column as
// they are, whatever the connection's character set says.
func AppendBinary(dst []byte, b []byte) []byte {
	return AppendString(append(dst, "_binary"...), b)
}

// String returns s as a string literal; see AppendString.
func String(s string) string {
	return string(AppendString(make([]byte, 0, len(s)+2), []byte(s)))
}
