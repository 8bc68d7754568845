package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"wxproxy/internal/reason"
	"wxproxy/internal/words"
)

// networkState says whether WeChat can be reached.
type networkState struct{ reached bool }

// How long the steps of a look at the network may take, each.
const (
	dnsLimit  = 3 * time.Second
	dialLimit = 2 * time.Second
	httpLimit = 4 * time.Second
)

// lookAtNetwork goes the way of a call to upstream.url, step by step.
func (d *doctor) lookAtNetwork(ctx context.Context) []Finding {
	state := &networkState{}
	defer d.network.Store(state)
	upstream := d.Config.Upstream.URL
	port := cmp.Or(upstream.Port(), map[string]string{"https": "443", "http": "80"}[upstream.Scheme])
	findings := d.lookAtProxies()
	addresses, took, f := resolve(ctx, upstream.Hostname())
	findings = append(findings, f...)
	if len(addresses) == 0 {
		return findings
	}
	open, connect, f := connectEach(ctx, addresses, port)
	findings = append(findings, f...)
	if len(open) == 0 {
		return findings
	}
	var certificate words.List
	if upstream.Scheme == "https" {
		about, f := lookAtCertificate(ctx, net.JoinHostPort(open[0].String(), port), upstream.Hostname())
		findings = append(findings, f...)
		if about == nil {
			return findings
		}
		certificate = append(certificate, about)
	}
	first, f := lookAtAnswer(ctx, upstream)
	findings = append(findings, f...)
	state.reached = first > 0
	if !state.reached {
		return findings
	}
	var names []string
	for _, a := range addresses {
		names = append(names, a.String())
	}
	fine := words.New(words.DoctorNetworkFine, "host", upstream.Host, "addresses", strings.Join(names, " "), "dns", short(took), "connect", short(connect), "answer", short(first))
	if len(certificate) > 0 {
		fine = words.New(words.DoctorNetworkSecure, "connection", fine, "certificate", certificate[0])
	}
	return orOK(findings, fine)
}

// proxyVariables are those that other programs go by.
var proxyVariables = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}

// lookAtProxies looks for variables that an operator may take to have an effect. Their values may hold passwords.
func (d *doctor) lookAtProxies() []Finding {
	var set []string
	for _, name := range proxyVariables {
		if d.Getenv(name) != "" {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return nil
	}
	return []Finding{note(words.New(words.DoctorProxyVariable, "names", strings.Join(set, ", ")), words.New(words.DoctorProxyVariableMend))}
}

// resolve looks a host up.
func resolve(ctx context.Context, host string) ([]netip.Addr, time.Duration, []Finding) {
	ctx, cancel := context.WithTimeout(ctx, dnsLimit)
	defer cancel()
	began := time.Now()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	took := time.Since(began)
	if err != nil {
		why := words.New(words.DoctorNoSuchHost)
		if of, ok := errors.AsType[*net.DNSError](err); !ok || !of.IsNotFound {
			why = words.New(words.DoctorDNSSilent)
		}
		return nil, took, []Finding{fault(words.New(words.DoctorDNS, "host", host, "reason", why), words.New(words.DoctorDNSMend))}
	}
	var findings []Finding
	for i, a := range addresses {
		addresses[i] = a.Unmap()
		if ofWeChat(host) && (a.Unmap().IsPrivate() || a.IsLoopback()) {
			findings = append(findings, warning(words.New(words.DoctorPrivateAddress, "host", host, "address", a.Unmap()), words.New(words.DoctorPrivateAddressMend)))
		}
	}
	if took > time.Second {
		findings = append(findings, note(words.New(words.DoctorDNSSlow, "host", host, "took", short(took)), words.New(words.DoctorDNSMend)))
	}
	return addresses, took, findings
}

func ofWeChat(host string) bool {
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".weixin.qq.com")
}

// mostAddresses is how many addresses of a host are connected to.
const mostAddresses = 8

// connectEach connects to each address, all at once. It returns those that answer, and the shortest time.
func connectEach(ctx context.Context, addresses []netip.Addr, port string) (open []netip.Addr, best time.Duration, findings []Finding) {
	addresses = addresses[:min(len(addresses), mostAddresses)]
	type result struct {
		address netip.Addr
		took    time.Duration
		err     error
	}
	results := make(chan result, len(addresses))
	for _, a := range addresses {
		go func() {
			dialer := net.Dialer{Timeout: dialLimit}
			began := time.Now()
			conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
			if err == nil {
				_ = conn.Close() // it was only to be opened
			}
			results <- result{a, time.Since(began), err}
		}()
	}
	var silent []string
	var why error
	for range addresses {
		r := <-results
		if r.err != nil {
			silent, why = append(silent, net.JoinHostPort(r.address.String(), port)), r.err
			continue
		}
		if len(open) == 0 || r.took < best {
			best = r.took
		}
		open = append(open, r.address)
	}
	slices.Sort(silent)
	slices.SortFunc(open, netip.Addr.Compare)
	silentSix := !slices.ContainsFunc(open, netip.Addr.Is6) && len(silent) == countOf(addresses, netip.Addr.Is6)
	switch names := strings.Join(silent, " "); {
	case len(open) == 0:
		findings = append(findings, fault(words.New(words.DoctorNoConnection, "addresses", names, "reason", errors.New(reason.Of(why))), words.New(words.DoctorNoConnectionMend)))
	case len(silent) == 0:
	case silentSix:
		findings = append(findings, note(words.New(words.DoctorSixUnreachable, "addresses", names), words.New(words.DoctorSixUnreachableMend)))
	default:
		findings = append(findings, warning(words.New(words.DoctorSomeSilent, "addresses", names), words.New(words.DoctorNoConnectionMend)))
	}
	return open, best, findings
}

func countOf(addresses []netip.Addr, is func(netip.Addr) bool) (n int) {
	for _, a := range addresses {
		if is(a) {
			n++
		}
	}
	return n
}

// soon is when the end of a certificate is near.
const soon = 14 * 24 * time.Hour

// lookAtCertificate makes a TLS connection and judges the certificate by itself, to say what is wrong with it. about
// is nil when there was none that is good.
func lookAtCertificate(ctx context.Context, address, host string) (about *words.Error, findings []Finding) {
	ctx, cancel := context.WithTimeout(ctx, httpLimit)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // nothing is sent on this connection; the certificate is verified below
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, []Finding{fault(words.New(words.DoctorNoTLS, "address", address, "reason", errors.New(reason.Of(err))), words.New(words.DoctorNoTLSMend))}
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	leaf := state.PeerCertificates[0]
	days := int(time.Until(leaf.NotAfter).Hours() / 24)
	if f, bad := judge(state.PeerCertificates, host); bad {
		return nil, []Finding{f}
	}
	if time.Until(leaf.NotAfter) < soon {
		findings = append(findings, note(words.New(words.DoctorCertificateEnds, "host", host, "days", days), words.New(words.DoctorCertificateEndsMend)))
	}
	return words.New(words.DoctorCertificate, "version", tls.VersionName(state.Version), "issuer", issuer(leaf), "days", days), findings
}

// judge says what is wrong with the certificate of a host.
func judge(chain []*x509.Certificate, host string) (Finding, bool) {
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Intermediates: between})
	if err == nil {
		return Finding{}, false
	}
	now := time.Now()
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	named := cmp.Or(strings.Join(names[:min(len(names), 5)], ", "), leaf.Subject.CommonName)
	switch {
	case now.After(leaf.NotAfter):
		return fault(words.New(words.DoctorExpired, "host", host, "date", leaf.NotAfter.UTC().Format(time.DateOnly), "issuer", issuer(leaf)), words.New(words.DoctorExpiredMend, "host", host)), true
	case now.Before(leaf.NotBefore):
		return fault(words.New(words.DoctorNotYetValid, "host", host, "date", leaf.NotBefore.UTC().Format(time.DateOnly)), words.New(words.DoctorClockMend)), true
	case leaf.VerifyHostname(host) != nil:
		return fault(words.New(words.DoctorWrongName, "host", host, "names", named, "issuer", issuer(leaf)), words.New(words.DoctorWrongNameMend)), true
	}
	if errors.As(err, new(x509.SystemRootsError)) {
		return fault(words.New(words.DoctorNoRoots), words.New(words.DoctorNoRootsMend)), true
	}
	return fault(words.New(words.DoctorUnknownIssuer, "host", host, "issuer", issuer(leaf)), words.New(words.DoctorUnknownIssuerMend, "issuer", issuer(leaf))), true
}

// issuer is who has signed a certificate, as people call it.
func issuer(c *x509.Certificate) string {
	return cmp.Or(strings.Join(slices.Concat(c.Issuer.Organization, []string{c.Issuer.CommonName}), " "), "?")
}

// probePath answers 41001 without a token: no account is asked for, and nothing is counted.
const probePath = "/cgi-bin/get_api_domain_ip"

// lookAtAnswer sends a request without a token and judges the answer. It returns when the first byte of WeChat's
// answer came after the request; 0 when it was none of WeChat's.
func lookAtAnswer(ctx context.Context, upstream *url.URL) (first time.Duration, findings []Finding) {
	ctx, cancel := context.WithTimeout(ctx, httpLimit)
	defer cancel()
	var sent, came time.Time
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest:         func(httptrace.WroteRequestInfo) { sent = time.Now() },
		GotFirstResponseByte: func() { came = time.Now() },
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, upstream.JoinPath(probePath).String(), nil)
	if err != nil {
		return 0, []Finding{fault(words.New(words.DoctorNoAnswer, "host", upstream.Host, "reason", err), nil)}
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return 0, []Finding{fault(words.New(words.DoctorNoAnswer, "host", upstream.Host, "reason", errors.New(reason.Of(err))), words.New(words.DoctorNoConnectionMend))}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	var answer struct{ Errcode *int }
	switch {
	case response.Header.Get("X-Wxproxy-Decision") != "":
		return 0, []Finding{fault(words.New(words.DoctorOwnAnswer, "host", upstream.Host), words.New(words.DoctorOwnAnswerMend))}
	case err != nil, response.StatusCode != http.StatusOK, json.Unmarshal(body, &answer) != nil, answer.Errcode == nil:
		kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
		return 0, []Finding{fault(words.New(words.DoctorNotWeChat, "host", upstream.Host, "status", response.StatusCode, "type", cmp.Or(kind, "-")), words.New(words.DoctorNotWeChatMend))}
	}
	return max(came.Sub(sent), time.Microsecond), wechatClock(response.Header.Get("Date"), came)
}

// wechatClock compares this machine's clock with the Date of an answer, which has whole seconds.
func wechatClock(date string, came time.Time) []Finding {
	at, err := http.ParseTime(date)
	if err != nil {
		return nil
	}
	ahead := came.Sub(at.Add(time.Second / 2))
	way := words.DoctorAhead
	if ahead < 0 {
		way = words.DoctorBehind
	}
	seen := words.New(words.DoctorWeChatClock, "off", short(ahead.Abs().Round(time.Second)), "way", way)
	switch {
	case ahead.Abs() > time.Minute:
		return []Finding{warning(seen, words.New(words.DoctorClockMend))}
	case ahead.Abs() > 5*time.Second:
		return []Finding{note(seen, words.New(words.DoctorClockMend))}
	}
	return nil
}
