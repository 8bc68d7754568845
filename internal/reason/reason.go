// Package reason describes why an HTTP request has no answer, without a word of the request or of what came
// back. The texts of most errors quote one of them: net/url the URL, which may hold a secret, net/http
// and net/textproto the lines of an answer that they cannot read, which may hold a token.
package reason

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
)

// Of describes an error of an http.Client, an http.RoundTripper or the body of an answer by its kind. Of
// its text it keeps that of an error of the network, which names addresses, and that of a TLS alert.
func Of(err error) string {
	var (
		op      *net.OpError
		dns     *net.DNSError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		alert   tls.AlertError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &host):
		return "the certificate is for another name"
	case errors.As(err, &unknown):
		return "the certificate's issuer is unknown"
	case errors.As(err, &invalid):
		return "the certificate is not valid"
	case errors.As(err, &record):
		return "no TLS"
	case errors.As(err, &alert):
		return alert.Error()
	case errors.As(err, &op):
		return op.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before an answer"
	}
	return "no HTTP, or a connection that broke"
}
