package mysqlerr

import (
	"errors"
	"regexp"
	"strings"

	replication "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"
)

// redactions are the places where servers quote values of rows in their error texts:
//
//	1062  Duplicate entry 'VALUE' for key 'name'
//	1366  Incorrect string value: 'VALUE' for column …, Incorrect integer value: …
//	1292  Truncated incorrect DOUBLE value: 'VALUE', Incorrect datetime value: …
//	1525, 1411, 3140 …  Incorrect … value: 'VALUE', Invalid JSON text: "…" at position
//	1064  … near 'PART OF THE STATEMENT' at line N
//	1690  BIGINT value is out of range in '(EXPRESSION)'
//
// The end of a value is the last thing that can follow it, because values may hold quotes.
var redactions = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`(?s)(Duplicate entry )'.*?' (for key)`), `$1'…' $2`},
	{regexp.MustCompile(`(?s)([Ii]ncorrect [A-Za-z() 0-9]*value: )'.*?'( for (?:column|function)| at row|$)`), `$1'…'$2`},
	{regexp.MustCompile(`(?s)( near )'.*' (at line \d+)`), `$1'…' $2`},
	{regexp.MustCompile(`(?s)(Invalid JSON text[^:]*: )".*?"( at position|$)`), `$1"…"$2`},
	{regexp.MustCompile(`(?s)(value is out of range in )'.*'`), `$1'…'`},
	{regexp.MustCompile(`(?s)(Wrong value for .*?: )'.*?'`), `$1'…'`},
	{regexp.MustCompile(`(?s)(Cannot convert string )'.*?' (from )`), `$1'…' $2`},
}

// Redact replaces the values of rows that a server's error text quotes by an ellipsis. Names
// of keys, columns and tables stay.
func Redact(text string) string {
	if !strings.ContainsAny(text, `'"`) {
		return text
	}
	for _, r := range redactions {
		text = r.find.ReplaceAllString(text, r.replace)
	}
	return text
}

// Redacted returns a server's error with values of rows left out of its text; every other
// error as it is.
func Redacted(err error) error {
	var fromDriver *mysql.MySQLError
	if errors.As(err, &fromDriver) {
		if text := Redact(fromDriver.Message); text != fromDriver.Message {
			fromDriver.Message = text // an error of ours alone: the driver keeps none
		}
		return err
	}
	var fromReplication *replication.MyError
	if errors.As(err, &fromReplication) {
		fromReplication.Message = Redact(fromReplication.Message)
	}
	return err
}
