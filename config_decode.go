package ghostferry

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// DecodeConfig reads one JSON object into a configuration: a *[Config], or a pointer
// to a struct that embeds it (or anything else that encoding/json could fill). Field
// names are matched as encoding/json matches them.
//
// Unlike encoding/json it refuses names that it does not know, with the nearest known
// name as a suggestion, and names that occur twice, and it reports every fault at
// once: the error joins one [*ConfigError] a fault, whose Field is the path of the
// setting, for instance "Source.TLS.CertPath". Settings without a fault are filled in
// even so.
func DecodeConfig(r io.Reader, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("decode configuration: a pointer to a struct is needed, not %T", into)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}

	// The whole text first, so that a syntax error is reported once and with its line.
	var document json.RawMessage
	if err := json.Unmarshal(data, &document); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return &ConfigError{Problem: fmt.Sprintf("configuration is not valid JSON, line %d: %v", lineOf(data, syntax.Offset), err), Err: err}
		}
		return &ConfigError{Problem: fmt.Sprintf("configuration is not valid JSON: %v", err), Err: err}
	}

	decoder := &configDecoder{}
	decoder.value("", document, target.Elem())
	return joinErrors(decoder.faults)
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n"))
}

// configDecoder walks the JSON and the Go value together and collects faults.
type configDecoder struct {
	faults []error
}

func (d *configDecoder) fault(path, problem, remedy string, err error) {
	d.faults = append(d.faults, &ConfigError{Field: path, Problem: problem, Remedy: remedy, Err: err})
}

// value fills one setting.
func (d *configDecoder) value(path string, raw json.RawMessage, into reflect.Value) {
	if isNull := string(raw) == "null"; isNull || readsItself(into) {
		d.leaf(path, raw, into)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		if into.IsNil() {
			into.Set(reflect.New(into.Type().Elem()))
		}
		d.value(path, raw, into.Elem())
	case reflect.Struct:
		d.object(path, raw, into)
	case reflect.Map:
		d.mapping(path, raw, into)
	case reflect.Slice:
		d.list(path, raw, into)
	case reflect.Interface:
		if into.NumMethod() == 0 {
			d.scalar(path, raw, into)
			return
		}
		d.fault(path, path+" cannot be set in JSON", "set it in code", nil)
	case reflect.Func, reflect.Chan:
		d.fault(path, path+" cannot be set in JSON", "set it in code", nil)
	default:
		d.leaf(path, raw, into)
	}
}

// readsItself says whether a type has its own JSON form.
func readsItself(into reflect.Value) bool {
	if !into.CanAddr() {
		return false
	}
	switch into.Addr().Interface().(type) {
	case json.Unmarshaler, encoding.TextUnmarshaler:
		return true
	}
	return false
}

func (d *configDecoder) leaf(path string, raw json.RawMessage, into reflect.Value) {
	err := json.Unmarshal(raw, into.Addr().Interface())
	if err == nil {
		return
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		d.fault(path, fmt.Sprintf("%s is %s, it must be %s", path, shown(path, raw), jsonKind(into.Type())), "", err)
		return
	}
	d.fault(path, fmt.Sprintf("%s: %v", path, err), "", err)
}

// scalar fills a setting of any type: with a text, or with a number as it is written, since a
// float64 would round large ones.
func (d *configDecoder) scalar(path string, raw json.RawMessage, into reflect.Value) {
	var text string
	var number json.Number
	switch {
	case json.Unmarshal(raw, &text) == nil:
		into.Set(reflect.ValueOf(text))
	case json.Unmarshal(raw, &number) == nil:
		into.Set(reflect.ValueOf(number))
	default:
		d.fault(path, fmt.Sprintf("%s is %s, it must be a text or a number", path, shown(path, raw)), "", nil)
	}
}

func (d *configDecoder) object(path string, raw json.RawMessage, into reflect.Value) {
	members, err := membersOf(raw)
	if err != nil {
		d.fault(path, fmt.Sprintf("%s is %s, it must be an object", orWhole(path), shown(path, raw)), "", err)
		return
	}
	known := settingsOf(into.Type())
	seen := make(map[string]bool, len(members))
	for _, member := range members {
		memberPath := joinPath(path, member.name)
		setting, ok := known.find(member.name)
		if !ok {
			d.fault(memberPath, memberPath+" is not a known setting", known.suggestion(member.name), nil)
			continue
		}
		if seen[setting.name] {
			d.fault(memberPath, memberPath+" is set twice", "remove one of the two", nil)
			continue
		}
		seen[setting.name] = true
		d.value(joinPath(path, setting.name), member.value, fieldByIndex(into, setting.index))
	}
}

func (d *configDecoder) mapping(path string, raw json.RawMessage, into reflect.Value) {
	members, err := membersOf(raw)
	if err != nil {
		d.fault(path, fmt.Sprintf("%s is %s, it must be an object", path, shown(path, raw)), "", err)
		return
	}
	if into.IsNil() {
		into.Set(reflect.MakeMapWithSize(into.Type(), len(members)))
	}
	seen := make(map[string]bool, len(members))
	for _, member := range members {
		memberPath := joinPath(path, member.name)
		if seen[member.name] {
			d.fault(memberPath, memberPath+" is set twice", "remove one of the two", nil)
			continue
		}
		seen[member.name] = true

		key := reflect.New(into.Type().Key()).Elem()
		if err := setMapKey(key, member.name); err != nil {
			d.fault(memberPath, fmt.Sprintf("%s: the name must be %s", memberPath, jsonKind(key.Type())), "", err)
			continue
		}
		value := reflect.New(into.Type().Elem()).Elem()
		d.value(memberPath, member.value, value)
		into.SetMapIndex(key, value)
	}
}

// setMapKey reads a member's name as encoding/json does for integer and text keys.
func setMapKey(key reflect.Value, name string) error {
	if key.Kind() == reflect.String {
		key.SetString(name)
		return nil
	}
	return json.Unmarshal([]byte(name), key.Addr().Interface())
}

func (d *configDecoder) list(path string, raw json.RawMessage, into reflect.Value) {
	if into.Type().Elem().Kind() == reflect.Uint8 { // bytes are a text in base64
		d.leaf(path, raw, into)
		return
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		d.fault(path, fmt.Sprintf("%s is %s, it must be a list", path, shown(path, raw)), "", err)
		return
	}
	list := reflect.MakeSlice(into.Type(), len(elements), len(elements))
	for i, element := range elements {
		d.value(fmt.Sprintf("%s[%d]", path, i), element, list.Index(i))
	}
	into.Set(list)
}

// member is a name and a value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// membersOf lists an object's members in their order, repeated names included, which
// a map would hide.
func membersOf(raw json.RawMessage) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	start, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	if start != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var members []member
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a name is missing")
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		members = append(members, member{name: name, value: value})
	}
	return members, nil
}

// setting is a field that can be set in JSON.
type setting struct {
	name  string
	index []int
}

type settings []setting

// settingsOf lists a struct's settings, those of embedded structs included.
func settingsOf(structType reflect.Type) settings {
	var known settings
	for _, field := range reflect.VisibleFields(structType) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		embedded := field.Anonymous && name == ""
		if !field.IsExported() || name == "-" || embedded {
			continue
		}
		if name == "" {
			name = field.Name
		}
		known = append(known, setting{name: name, index: field.Index})
	}
	return known
}

func (s settings) find(name string) (setting, bool) {
	for _, one := range s {
		if one.name == name {
			return one, true
		}
	}
	for _, one := range s {
		if strings.EqualFold(one.name, name) {
			return one, true
		}
	}
	return setting{}, false
}

// suggestion asks whether a similar name was meant: one with few other letters, or
// one of which the given name is a part.
func (s settings) suggestion(name string) string {
	best, bestDistance := "", len(name)/3+2
	lower := strings.ToLower(name)
	for _, one := range s {
		candidate := strings.ToLower(one.name)
		distance := editDistance(lower, candidate)
		if len(lower) >= 4 && (strings.HasPrefix(candidate, lower) || strings.HasSuffix(candidate, lower)) {
			distance = min(distance, 2)
		}
		if distance < bestDistance {
			best, bestDistance = one.name, distance
		}
	}
	if best == "" {
		return "remove it"
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is the least number of inserted, deleted and replaced bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := diagonal
			if a[i-1] != b[j-1] {
				replace++
			}
			diagonal = row[j]
			row[j] = min(replace, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// fieldByIndex finds a field and makes the embedded structs on the way that are nil.
func fieldByIndex(value reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if value.Kind() == reflect.Pointer {
			if value.IsNil() {
				value.Set(reflect.New(value.Type().Elem()))
			}
			value = value.Elem()
		}
		value = value.Field(i)
	}
	return value
}

func orWhole(path string) string {
	if path == "" {
		return "configuration"
	}
	return path
}

// shown is a value in a message: numbers and the like as they are, all others by their
// kind only. They are long, or secret.
func shown(path string, raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a text"
	}
	if strings.HasSuffix(strings.ToLower(path), "pass") {
		return "not a text"
	}
	return string(raw)
}

// jsonKind names what a type looks like in JSON.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "an integer"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		if t.Bits() == 16 {
			return "an integer between 0 and 65535"
		}
		return "an integer that is not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text in quotes"
	}
	return "a " + t.String()
}
