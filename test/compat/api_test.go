package compat

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// packageDirs are the packages of the contract, from the module's root.
var packageDirs = map[string]string{
	"ghostferry": ".", "sqlwrapper": "sqlwrapper", "copydb": "examples/copydb", "sharding": "examples/sharding",
}

// exportedAPI returns what a package exports as the contract writes it: each entry, such as
// "method Ferry.Run" or "field Ferry.Tables", with its type in a normal form.
func exportedAPI(t *testing.T, dir string) map[string]string {
	t.Helper()
	dir = filepath.Join("..", "..", dir)
	pkg, err := build.ImportDir(dir, 0)
	require.NoError(t, err)
	api := make(map[string]string)
	files := token.NewFileSet()
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(files, filepath.Join(dir, name), nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				addFunc(api, d)
			case *ast.GenDecl:
				addDecl(api, d)
			}
		}
	}
	return api
}

func addFunc(api map[string]string, d *ast.FuncDecl) {
	signature := normalType(d.Type)
	if d.Recv == nil {
		api["func "+d.Name.Name] = signature
		return
	}
	receiver := normalType(d.Recv.List[0].Type)
	api["method "+strings.TrimPrefix(receiver, "*")+"."+d.Name.Name] = "(" + receiver + ")" + signature
}

func addDecl(api map[string]string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.ValueSpec:
			for _, name := range s.Names {
				api[d.Tok.String()+" "+name.Name] = ""
			}
		case *ast.TypeSpec:
			addType(api, s)
		}
	}
}

func addType(api map[string]string, s *ast.TypeSpec) {
	name := s.Name.Name
	switch t := s.Type.(type) {
	case *ast.StructType:
		api["type "+name] = "struct"
		for _, field := range t.Fields.List {
			for _, fieldName := range field.Names {
				api["field "+name+"."+fieldName.Name] = normalType(field.Type)
			}
			if len(field.Names) == 0 {
				api["embed "+name+"."+normalType(field.Type)] = ""
			}
		}
	case *ast.InterfaceType:
		api["type "+name] = "interface"
		for _, method := range t.Methods.List {
			for _, methodName := range method.Names {
				api["imethod "+name+"."+methodName.Name] = normalType(method.Type)
			}
			if len(method.Names) == 0 {
				api["embed "+name+"."+normalType(method.Type)] = ""
			}
		}
	default:
		api["type "+name] = normalType(s.Type)
	}
}

// normalType writes a type without the names of parameters and results, and with one name
// for each package and for the empty interface.
func normalType(expr ast.Expr) string {
	if f, ok := expr.(*ast.FuncType); ok {
		results := fieldTypes(f.Results)
		text := "(" + strings.Join(fieldTypes(f.Params), ", ") + ")"
		switch len(results) {
		case 0:
			return text
		case 1:
			return text + " " + results[0]
		}
		return text + " (" + strings.Join(results, ", ") + ")"
	}
	return strings.NewReplacer(
		"interface{}", "any", "ghostferry.", "", "sq.", "squirrel.", "atomic.AtomicBoolean", "AtomicBoolean",
	).Replace(types.ExprString(expr))
}

func fieldTypes(list *ast.FieldList) (texts []string) {
	if list == nil {
		return nil
	}
	for _, field := range list.List {
		for range max(1, len(field.Names)) {
			texts = append(texts, normalType(field.Type))
		}
	}
	return texts
}

// contractEntry is a line of the contract.
type contractEntry struct {
	starred bool   // hosts are known to depend on it
	pkg     string // a key of packageDirs
	key     string // as of exportedAPI
	form    string // its type in the normal form of exportedAPI; empty where only the name counts
	owner   string // the type that it belongs to, or its own name
}

// parseEntry reads what follows a line's package, such as "method (*Ferry).Run()".
func parseEntry(pkg string, starred bool, text string) (contractEntry, error) {
	e := contractEntry{pkg: pkg, starred: starred}
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "const", "var":
		e.owner, _, _ = strings.Cut(rest, " ")
		e.key = kind + " " + e.owner
	case "type":
		name, form, _ := strings.Cut(rest, " ")
		e.key, e.form, e.owner = "type "+name, form, name
		if form != "struct" && form != "interface" {
			form = strings.TrimPrefix(form, "= ")
			expr, err := parser.ParseExpr(form)
			if err != nil {
				return e, fmt.Errorf("%s: %w", text, err)
			}
			e.form = normalType(expr)
		}
	case "embed":
		owner, form, _ := strings.Cut(rest, " ")
		e.key, e.owner = "embed "+owner+"."+strings.ReplaceAll(form, "ghostferry.", ""), owner
	case "field":
		name, form, _ := strings.Cut(rest, " ")
		e.key = "field " + name
		e.owner, _, _ = strings.Cut(name, ".")
		return e, e.setForm(form, text)
	case "func", "imethod":
		open := strings.Index(rest, "(")
		e.key = kind + " " + rest[:open]
		e.owner, _, _ = strings.Cut(rest[:open], ".")
		return e, e.setForm("func"+rest[open:], text)
	case "method":
		end := strings.Index(rest, ")")
		receiver := rest[1:end]
		open := end + strings.Index(rest[end:], "(")
		e.owner = strings.TrimPrefix(receiver, "*")
		e.key = "method " + e.owner + rest[end+1:open]
		err := e.setForm("func"+rest[open:], text)
		e.form = "(" + receiver + ")" + e.form
		return e, err
	default:
		return e, fmt.Errorf("%s: unknown kind %q", text, kind)
	}
	return e, nil
}

func (e *contractEntry) setForm(form, text string) error {
	expr, err := parser.ParseExpr(form)
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	e.form = normalType(expr)
	return nil
}

// name is the last word of the key, which code that uses the entry has to mention.
func (e contractEntry) name() string {
	return e.key[strings.LastIndexAny(e.key, " .*")+1:]
}

// usedNames are the names that the host's code mentions: selected from a package or value,
// set in a literal, or declared as a method.
func usedNames(t *testing.T) map[string]bool {
	t.Helper()
	used := make(map[string]bool)
	names, err := filepath.Glob("host*_test.go")
	require.NoError(t, err)
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.SelectorExpr:
				used[n.Sel.Name] = true
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok {
					used[key.Name] = true
				}
			case *ast.FuncDecl:
				used[n.Name.Name] = true
			}
			return true
		})
	}
	return used
}
