// Package certs makes throwaway certificates for tests of TLS.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates; File is its own, as PEM.
type Authority struct {
	File string

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	directory   string
}

// Pair is the PEM files of a certificate and of its key.
type Pair struct{ Cert, Key string }

// NewAuthority makes an authority whose files are removed after the test.
func NewAuthority(t *testing.T) *Authority {
	t.Helper()
	a := &Authority{directory: t.TempDir()}
	a.key = newKey(t)
	template := template("a throwaway authority", time.Hour)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der := sign(t, template, template, a.key, a.key)
	var err error
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.File = filepath.Join(a.directory, "ca.pem")
	write(t, a.File, "CERTIFICATE", der)
	return a
}

// Issue makes a certificate for names and addresses.
func (a *Authority) Issue(t *testing.T, name string, lifetime time.Duration, hosts ...string) Pair {
	t.Helper()
	template := template(name, lifetime)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key := newKey(t)
	der := sign(t, template, a.certificate, key, a.key)
	pair := Pair{Cert: filepath.Join(a.directory, name+".pem"), Key: filepath.Join(a.directory, name+".key")}
	write(t, pair.Cert, "CERTIFICATE", der)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, pair.Key, "PRIVATE KEY", secret)
	return pair
}

func template(name string, lifetime time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // never fails
	now := time.Now()
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(lifetime)}
	c.KeyUsage = x509.KeyUsageDigitalSignature
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
