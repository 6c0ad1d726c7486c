package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// template is an initialised data directory with an account, copied for each server.
type template struct {
	dir      string
	password string // of root@127.0.0.1 and root@localhost
}

// The files of a template directory.
const (
	templateData     = "data"
	templatePassword = "password"
)

// ensureTemplate returns the template of the program, initialised once per version
// and user (a server's files can be read by their owner only).
func ensureTemplate(ctx context.Context, o Options, p *program) (*template, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, fmt.Sprintf("template-%s-%s-%d", p.flavour, p.version, os.Geteuid()))
	var flags []string
	if o.LowerCaseTables {
		dir, flags = dir+"-lower", []string{lowerCaseFlag}
	}
	if t, err := readTemplate(dir); err == nil {
		return t, nil
	}
	lock, err := lockFile(ctx, o, cache, "template.lock")
	if err != nil {
		return nil, err
	}
	t, err := readTemplate(dir)
	if err != nil {
		o.logf("initialising a data directory for %s %s (once)", p.flavour, p.version)
		if err = makeTemplate(ctx, p, dir, flags); err == nil {
			t, err = readTemplate(dir)
		}
	}
	return t, errors.Join(err, lock.unlock())
}

// readTemplate reads a template directory, which has its name only when complete.
func readTemplate(dir string) (*template, error) {
	password, err := os.ReadFile(filepath.Join(dir, templatePassword))
	if err != nil {
		return nil, fmt.Errorf("servers: template: %w", err)
	}
	return &template{dir: dir, password: string(password)}, nil
}

// makeTemplate initialises a data directory next to dir and renames it to dir.
func makeTemplate(ctx context.Context, p *program, dir string, flags []string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "init-")
	if err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	defer os.RemoveAll(work)
	password := rand.Text()
	data := filepath.Join(work, templateData)
	if p.flavour == MariaDB {
		err = bootstrapMariaDB(ctx, p, work, data, password, flags)
	} else {
		err = initializeMySQL(ctx, p, work, data, password, flags)
	}
	if err != nil {
		return fmt.Errorf("servers: initialise a data directory for %s %s: %w", p.flavour, p.version, err)
	}
	// The server's identity is in auto.cnf: two copies must not share it.
	if err := os.Remove(filepath.Join(data, "auto.cnf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("servers: %w", err)
	}
	if err := os.WriteFile(filepath.Join(work, templatePassword), []byte(password), 0o600); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	return os.Rename(work, dir)
}

// accountStatements create the accounts of a throwaway server.
func accountStatements(password string) string {
	return "ALTER USER 'root'@'localhost' IDENTIFIED BY '" + password + "';\n" +
		"CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY '" + password + "';\n" +
		"GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
}

// bootFlags are the flags of a server that only prepares a data directory.
func (p *program) bootFlags(work, data string) []string {
	flags := append([]string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + work}, p.dirFlags()...)
	if os.Geteuid() == 0 {
		flags = append(flags, "--user=root")
	}
	return flags
}

// initializeMySQL lets the server make its data directory, keys and certificates.
func initializeMySQL(ctx context.Context, p *program, work, data, password string, flags []string) error {
	accounts := filepath.Join(work, "accounts.sql")
	if err := os.WriteFile(accounts, []byte(accountStatements(password)), 0o600); err != nil {
		return err
	}
	cmd := p.command(ctx, append(append(p.bootFlags(work, data), flags...),
		"--initialize-insecure", "--init-file="+accounts, "--mysqlx=OFF", "--innodb-redo-log-capacity=32M"))
	if _, err := output(cmd); err != nil {
		return err
	}
	return os.Remove(accounts)
}

// bootstrapMariaDB feeds the system tables' definitions to a bootstrapping server:
// what mariadb-install-db does, without its need for an installed server.
func bootstrapMariaDB(ctx context.Context, p *program, work, data, password string, flags []string) error {
	if err := os.MkdirAll(filepath.Join(data, "mysql"), 0o700); err != nil {
		return err
	}
	share := "/usr/share/mysql"
	if p.prefix != "" {
		share = filepath.Join(p.prefix, share)
	}
	var sql strings.Builder
	sql.WriteString("USE mysql;\nSET @auth_root_socket=NULL;\n")
	for _, file := range []string{
		"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql",
		"maria_add_gis_sp_bootstrap.sql", "mysql_sys_schema.sql",
	} {
		text, err := os.ReadFile(filepath.Join(share, file))
		if err != nil {
			return err
		}
		sql.Write(text)
		sql.WriteString("\n")
	}
	sql.WriteString("FLUSH PRIVILEGES;\nDROP USER IF EXISTS 'root'@'127.0.0.1';\n")
	sql.WriteString(accountStatements(password))
	cmd := p.command(ctx, append(append(p.bootFlags(work, data), flags...),
		"--bootstrap", "--silent-startup", "--innodb-log-file-size=32M", "--enforce-storage-engine=",
		"--max-allowed-packet=16M", "--net-buffer-length=16K"))
	cmd.Stdin = strings.NewReader(sql.String())
	_, err := output(cmd)
	return err
}
