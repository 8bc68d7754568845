package alert

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/wneessen/go-mail"

	"wxproxy/internal/reason"
)

// mailer sends mail.
type mailer struct{ Sink }

// mailText is how many bytes a text has at most.
const mailText = 64 << 10

func (s mailer) send(ctx context.Context, m outgoing) *SendError {
	msg := mail.NewMsg()
	if msg.From(s.Mail.From) != nil || msg.To(s.Mail.To...) != nil {
		return &SendError{Text: "no mail address", Silence: true}
	}
	msg.Subject(m.head)
	msg.SetMessageIDWithValue(m.id + "@wxproxy")
	msg.SetDateWithValue(m.now)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, m.text(mailText))
	// go-mail leaves a connection open when the server refuses to let it in.
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close() // the server has answered, or will not
		}
	}()
	options := append(s.options(), mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		var err error
		conn, err = s.dial(ctx, network, address)
		return conn, err
	}))
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, mail.WithTimeout(deadline.Sub(m.now)))
	}
	client, err := mail.NewClient(s.Mail.Host, options...)
	if err != nil {
		return &SendError{Text: "the server's name or port is wrong", Silence: true}
	}
	connection, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return smtpError(err, "the server did not let the gateway in")
	}
	if err = client.SendWithSMTPClient(connection, msg); err != nil {
		return smtpError(err, "the server did not take the mail")
	}
	_ = client.CloseWithSMTPClient(connection) // it has the mail
	return nil
}

// dial connects to the server, with TLS from the start if it is implicit.
func (s mailer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var plain net.Dialer
	if s.Mail.TLS != "implicit" {
		return plain.DialContext(ctx, network, address)
	}
	secure := tls.Dialer{NetDialer: &plain, Config: s.tls()}
	return secure.DialContext(ctx, network, address)
}

func (s mailer) tls() *tls.Config {
	return &tls.Config{ServerName: s.Mail.Host, MinVersion: tls.VersionTLS12, RootCAs: s.Mail.roots}
}

// options are those of the connection and of the sign-in. go-mail does not know that a connection of dial has TLS, so
// for that one it is told that passwords may be sent.
func (s mailer) options() []mail.Option {
	options := []mail.Option{mail.WithPort(s.Mail.Port), mail.WithTLSConfig(s.tls())}
	signIn := mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover)
	switch s.Mail.TLS {
	case "implicit":
		options = append(options, mail.WithSSL())
		signIn = mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlainNoEnc, mail.SMTPAuthLoginNoEnc)
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.Mail.Username != "" && len(s.Secrets) > 0 {
		options = append(options, signIn, mail.WithUsername(s.Mail.Username), mail.WithPassword(s.Secrets[0]))
	}
	return options
}

// smtpError describes an error by its code. A server's words may quote addresses, and are left out.
func smtpError(err error, text string) *SendError {
	var sending *mail.SendError
	code := 0
	if errors.As(err, &sending) {
		code = sending.ErrorCode()
	} else if n := smtpCode(err.Error()); n != 0 {
		code = n
	}
	switch {
	case code >= 500:
		return &SendError{Code: fmt.Sprintf("SMTP %d", code), Text: text, Silence: true}
	case code >= 400:
		return &SendError{Code: fmt.Sprintf("SMTP %d", code), Text: text}
	}
	return &SendError{Text: reason.Of(err), Unknown: sending != nil && sending.Reason == mail.ErrSMTPDataClose}
}

// smtpCode finds the code of an answer that an error of go-mail quotes, 0 if there is none.
func smtpCode(text string) int {
	for i := 0; i+4 <= len(text); i++ {
		if n, err := strconv.Atoi(text[i : i+3]); err == nil && n >= 400 && n < 600 && (text[i+3] == ' ' || text[i+3] == '-') && (i == 0 || text[i-1] == ' ') {
			return n
		}
	}
	return 0
}
