// Package intern holds equal strings once: of ten thousand tables, most names of columns and types
// are the same.
package intern

// Strings are strings that are held already.
type Strings map[string]string

// Of returns a string that equals text and is the same for all who ask.
func (s Strings) Of(text string) string {
	if held, ok := s[text]; ok {
		return held
	}
	s[text] = text
	return text
}
