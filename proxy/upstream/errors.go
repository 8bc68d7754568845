package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// The errors of this package. No text quotes what the other side has sent: that may hold secrets, and ends in
// logs.
var (
	ErrTimeout   = errors.New("upstream made no progress in time")
	ErrClosed    = errors.New("upstream closed the connection before the end of its answer")
	ErrProtocol  = errors.New("upstream's answer is not HTTP/1.1")
	ErrHeader    = errors.New("the header of upstream's answer is too long")
	ErrSwitching = errors.New("upstream switches protocols, which the call did not ask for")
	ErrOwn       = errors.New("the upstream address is this process's own listener")
	ErrUsed      = errors.New("the connection was used already")
	ErrLength    = errors.New("a request's body must be as long as its ContentLength")
	ErrRequest   = errors.New("a request's method, target, host or header holds a byte that must not stand there")
)

// dialError says in words of this package why a connection was not made. The cause may quote the certificate.
type dialError struct {
	text  string
	cause error
}

func (e *dialError) Error() string { return e.text }
func (e *dialError) Unwrap() error { return e.cause }

// dialFailure returns why a connection was not made. ctx is the caller's, bounded by ErrTimeout.
func dialFailure(ctx context.Context, step string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ErrTimeout) {
		return cause
	}
	var (
		slow    net.Error
		op      *net.OpError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		noTLS   tls.RecordHeaderError
	)
	text := "upstream does not speak TLS as it must"
	switch {
	case ctx.Err() != nil, errors.As(err, &slow) && slow.Timeout():
		return fmt.Errorf("%s: %w", step, ErrTimeout)
	case errors.As(err, &host):
		text = "the certificate is for another name"
	case errors.As(err, &unknown):
		text = "the certificate's issuer is unknown"
	case errors.As(err, &invalid):
		text = "the certificate is not valid"
	case errors.As(err, &op):
		text = op.Error()
	case errors.Is(err, io.EOF):
		text = "upstream closed the connection"
	case errors.As(err, &noTLS):
		text = "upstream does not speak TLS"
	}
	return &dialError{step + ": " + text, err}
}

// failure returns why reading or writing for the call of ctx failed.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	switch {
	case isTimeout(err):
		return ErrTimeout
	case errors.Is(err, ErrHeader), errors.Is(err, ErrSwitching), errors.Is(err, ErrClosed), errors.Is(err, ErrTimeout):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrClosed, io.ErrUnexpectedEOF)
	case errors.As(err, &op):
		return fmt.Errorf("%w: %w", ErrClosed, op)
	}
	return ErrProtocol // the text may quote the answer
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}
