package main

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"wxproxy/config"
)

// certificate is the main listener's. It is safe for concurrent use.
type certificate struct {
	files   config.TLS
	current atomic.Pointer[pair]
}

// pair is a certificate with its key, and what it was read from.
type pair struct {
	tls.Certificate
	pem string
}

// loadCertificate reads the certificate, or returns nil when the listener is plain.
func loadCertificate(files config.TLS) (*certificate, error) {
	if files.CertFile == "" {
		return nil, nil //nolint:nilnil // no files and no certificate is not an error
	}
	p, err := readPair(files, config.ReadFile)
	if err != nil {
		return nil, err
	}
	c := &certificate{files: files}
	c.set(p)
	return c, nil
}

func readPair(files config.TLS, read func(string) ([]byte, fs.FileMode, error)) (*pair, error) {
	cert, _, err := read(files.CertFile)
	key, _, keyErr := read(files.KeyFile) // also after an error: what is read is watched
	if err != nil {
		return nil, config.FileError("tls.cert_file", files.CertFile, err)
	}
	if keyErr != nil {
		return nil, config.FileError("tls.key_file", files.KeyFile, keyErr)
	}
	parsed, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls: %s and %s: %w", files.CertFile, files.KeyFile, err)
	}
	return &pair{parsed, string(cert) + "\x00" + string(key)}, nil
}

// set replaces the certificate and reports whether it is another one.
func (c *certificate) set(p *pair) bool {
	old := c.current.Swap(p)
	return old == nil || old.pem != p.pem
}

// config is the listener's: TLS 1.2 or newer, and HTTP/1.1 alone, as WeChat's clients speak it.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &c.current.Load().Certificate, nil
		},
	}
}

// end is when the certificate ends.
func (c *certificate) end() time.Time { return c.current.Load().Leaf.NotAfter }
