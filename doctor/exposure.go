package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"time"

	"wxproxy/config"
	"wxproxy/internal/words"
)

// lookAtExposure looks for what lets others in, or listen in. Keys that can be guessed are warnings of the
// configuration.
func (d *doctor) lookAtExposure(context.Context) []Finding {
	c := d.Config
	var findings []Finding
	open := config.Reachable(c.Listen)
	if c.TLS.CertFile != "" {
		findings = append(findings, ownCertificate(c.TLS)...)
	} else if open {
		findings = append(findings, plain(c.Listen, words.DoctorPlain, words.DoctorPlainMend))
	}
	if open && c.Anonymous == config.Yes {
		findings = append(findings, warning(words.New(words.DoctorOpen, "setting", "anonymous: true", "address", c.Listen), words.New(words.DoctorOpenMend)))
	}
	if open && c.Learn == config.Yes {
		findings = append(findings, warning(words.New(words.DoctorOpen, "setting", "learn: true", "address", c.Listen), words.New(words.DoctorOpenMend)))
	}
	if mode := c.ListenMode; strings.HasPrefix(c.Listen, "unix:") && mode&0o007 != 0 {
		findings = append(findings, note(words.New(words.DoctorSocketMode, "address", c.Listen, "mode", mode.String()), words.New(words.DoctorSocketModeMend)))
	}
	if config.Reachable(c.Admin.Listen) {
		findings = append(findings, plain(c.Admin.Listen, words.DoctorAdminOpen, words.DoctorAdminOpenMend))
	}
	return orOK(findings, words.New(words.DoctorExposureFine, "address", c.Listen, "admin", c.Admin.Listen))
}

// plain says that a listener that others reach has no TLS: it is a warning where the machine has an address of the
// internet, and a note in a network of one's own.
func plain(address string, seen, mend words.Message) Finding {
	if publicAddress(address) {
		return warning(words.New(seen, "address", address), words.New(mend))
	}
	return note(words.New(seen, "address", address), words.New(mend))
}

// publicAddress reports whether a listener has an address of the internet.
func publicAddress(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	public := func(a netip.Addr) bool { return a.IsGlobalUnicast() && !a.IsPrivate() }
	if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
		return public(a.Unmap())
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, one := range all {
		if prefix, err := netip.ParsePrefix(one.String()); err == nil && public(prefix.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// ownCertificate looks at how long the certificate of the main listener is good.
func ownCertificate(files config.TLS) []Finding {
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return nil // a fault of the configuration
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil
	}
	left := time.Until(leaf.NotAfter)
	seen := words.New(words.DoctorOwnCertificate, "file", files.CertFile, "date", leaf.NotAfter.UTC().Format(time.DateOnly))
	switch {
	case left < 0:
		return []Finding{fault(seen, words.New(words.DoctorOwnCertificateMend))}
	case left < soon:
		return []Finding{warning(seen, words.New(words.DoctorOwnCertificateMend))}
	}
	return nil
}
