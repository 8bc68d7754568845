package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"wxproxy/config"
)

// certificate is the main listener's, read again when its files change. It is safe for concurrent
// use, but for reload.
type certificate struct {
	files   config.TLS
	current atomic.Pointer[tls.Certificate]
	pem     []byte // what current was read from
}

// loadCertificate reads the certificate, or returns nil when the listener is plain.
func loadCertificate(files config.TLS) (*certificate, error) {
	if files.CertFile == "" {
		return nil, nil //nolint:nilnil // no files and no certificate is not an error
	}
	c := &certificate{files: files}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the files and reports whether they hold another certificate than before. What is
// wrong with them changes nothing.
func (c *certificate) reload() (bool, error) {
	cert, err := os.ReadFile(c.files.CertFile)
	if err != nil {
		return false, config.FileError("tls.cert_file", c.files.CertFile, err)
	}
	key, err := os.ReadFile(c.files.KeyFile)
	if err != nil {
		return false, config.FileError("tls.key_file", c.files.KeyFile, err)
	}
	both := bytes.Join([][]byte{cert, key}, []byte{0})
	if bytes.Equal(both, c.pem) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("tls: %s and %s: %w", c.files.CertFile, c.files.KeyFile, err)
	}
	c.pem = both
	c.current.Store(&pair)
	return true, nil
}

// watch reads the certificate again when its files change, until ctx is done.
func (c *certificate) watch(ctx context.Context, log *zap.Logger) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	logged := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch changed, err := c.reload(); {
		case err != nil && err.Error() != logged:
			logged = err.Error()
			log.Error("certificate reload failed, keeping the previous one", zap.Error(err))
		case changed:
			logged = ""
			log.Info("certificate reloaded", zap.String("file", c.files.CertFile))
		}
	}
}

// config is the listener's: TLS 1.2 or newer, and HTTP/1.1 alone, as WeChat's clients speak it.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}
