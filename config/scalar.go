package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"wxproxy/limits"
)

// Tri is a switch that may be left to the program. The zero value is Auto.
type Tri uint8

// The positions of a Tri.
const (
	Auto Tri = iota
	Yes
	No
)

func (t Tri) String() string { return [...]string{"auto", "true", "false"}[t] }

// Every method of value below reads one type. Each notes a fault and returns the zero value where
// the text is not of it.

func (v value) tri() Tri {
	text, ok := v.text()
	if !ok {
		return Auto
	}
	for _, t := range []Tri{Auto, Yes, No} {
		if text == t.String() {
			return t
		}
	}
	v.wrong(text, "true, false or auto")
	return Auto
}

func (v value) flag() bool {
	text, ok := v.text()
	if ok && text != "true" && text != "false" {
		v.wrong(text, "true or false")
	}
	return text == "true"
}

func (v value) oneOf(texts ...string) string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	if !slices.Contains(texts, text) {
		v.wrong(text, strings.Join(texts, " or "))
		return ""
	}
	return text
}

// number reads a whole number from 1 to most.
func (v value) number(most int64) int64 {
	text, ok := v.text()
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > most {
		v.wrong(text, "a whole number from 1 to "+strconv.FormatInt(most, 10))
		return 0
	}
	return n
}

const maxTimeout = time.Hour

func (v value) duration() time.Duration {
	text, ok := v.text()
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxTimeout {
		v.wrong(text, "a duration over 0s and up to 1h, as in 30s")
		return 0
	}
	return d
}

// delay reads a duration that may be 0.
func (v value) delay() time.Duration {
	text, ok := v.text()
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxTimeout {
		v.wrong(text, "a duration from 0s to 1h, as in 10s")
		return 0
	}
	return d
}

var (
	sizeText  = regexp.MustCompile(`^([0-9]{1,12})(B|KB|KiB|MB|MiB|GB|GiB)?$`)
	sizeUnits = map[string]int64{"": 1, "B": 1, "KB": 1e3, "KiB": 1 << 10, "MB": 1e6, "MiB": 1 << 20, "GB": 1e9, "GiB": 1 << 30}
)

// maxSize bounds a size. What the gateway keeps of a body may lie in memory.
const maxSize = 1 << 30

func (v value) size() int64 {
	text, ok := v.text()
	if !ok {
		return 0
	}
	if m := sizeText.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if unit := sizeUnits[m[2]]; err == nil && 1 <= n && n <= maxSize/unit {
			return n * unit
		}
	}
	v.wrong(text, "a size from 1 to 1GiB, as in 32MiB, 32MB or a number of bytes")
	return 0
}

const wantAddress = "host:port or unix:/path"

// address reads a place to listen on. Port 0 is any free one.
func (v value) address() string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.HasSuffix(path, "/") {
			v.wrong(text, wantAddress)
			return ""
		}
		return text
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		v.wrong(text, wantAddress)
		return ""
	}
	if n, err := strconv.ParseUint(port, 10, 64); err != nil || n > 65535 {
		v.wrong(text, wantAddress+", the port from 0 to 65535")
		return ""
	}
	if host != "" && !isHost(host) {
		v.wrong(text, wantAddress)
		return ""
	}
	return text
}

var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`)

// isHost reports whether host is an IP address or a name. A name whose last label is a number is
// a mistyped address.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 10, 64)
	return err != nil && hostName.MatchString(host)
}

// host reads a name or an address as a Host header has it, without its port.
func (v value) host() string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	const want = "a name or an address without a port, as in gateway.example.com or 10.0.0.5"
	switch ip, err := netip.ParseAddr(text); {
	case err == nil && ip.Unmap().WithZone("").String() != text:
		v.wrong(text, ip.Unmap().WithZone("").String())
	case !isHost(text):
		v.wrong(text, want)
	default:
		return text
	}
	return ""
}

// Reachable reports whether others than this host can reach a listener at address, which is
// host:port or unix:/path. A name other than localhost may be anything, so it counts as reachable.
func Reachable(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return false
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true
	}
	if strings.EqualFold(host, "localhost") {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.Unmap().IsLoopback()
}

// prefix reads a range of addresses, or one.
func (v value) prefix() netip.Prefix {
	text, ok := v.text()
	if !ok {
		return netip.Prefix{}
	}
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		v.wrong(text, "an IP address or a range, as in 10.0.0.0/8")
		return netip.Prefix{}
	}
	if p != p.Masked() {
		v.wrong(text, p.Masked().String())
	}
	return p.Masked()
}

// upstream reads the address of WeChat or of what stands for it. A URL may hold a password, so it
// is never quoted.
func (v value) upstream() *url.URL {
	text, ok := v.text()
	if !ok {
		return nil
	}
	const want = "http://host or https://host, with a port if need be"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		v.fault("no web address: want %s", want)
	case u.User != nil:
		v.fault("a user name or password in it: want %s", want)
	case u.Path != "" && u.Path != "/":
		v.fault("a path in it: want %s", want)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		v.fault("a query or fragment in it: want %s", want)
	case !isHost(u.Hostname()) || strings.HasSuffix(u.Host, ":"):
		v.fault("no host in it: want %s", want)
	case !isPort(u.Port()):
		v.fault("the port in it: want one from 1 to 65535")
	default:
		return &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
	return nil
}

// isPort reports whether port is none or one to connect to.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 64)
	return port == "" || err == nil && 1 <= n && n <= 65535
}

var storeSchemes = []string{"redis", "rediss", "unix", "redis+cluster", "redis+sentinel"}

// storeURL reads where counters and tokens live. What follows the scheme is for package store to
// read; it may hold a password, so it is never quoted.
func (v value) storeURL() string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if path == "" || strings.HasSuffix(path, "/") {
			v.fault("file: without the name of a file: want as in file:wxproxy.db")
			return ""
		}
		return text
	}
	scheme, rest, _ := strings.Cut(text, "://")
	switch {
	case !slices.Contains(storeSchemes, scheme):
		v.fault("no store: want file:PATH or one of %s://", strings.Join(storeSchemes, "://, "))
	case rest == "" || scheme == "unix" && !strings.Contains(rest, "/"):
		v.fault("%s:// without an address", scheme)
	default:
		return text
	}
	return ""
}

// name reads the name of an app, a caller, a profile or a rule.
func (v value) name() string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	if !isName(text) {
		v.wrong(text, "1 to 64 of [a-z0-9._-], the first a letter or digit")
		return ""
	}
	return text
}

// isName reports whether a text can be the name of an app, a caller, a profile or a rule. Names are logged, so
// an AppSecret is none.
func isName(text string) bool {
	return limits.CheckRuleName(text) == nil && !appSecret.MatchString(text)
}

// appID is wider than WeChat's own wx and 16 hex digits: test ids and gh_ ids are of use with a
// sandbox. It has no braces, for it becomes a hash tag of Redis Cluster.
var appID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{5,63}$`)

const wantAppID = "6 to 64 of [A-Za-z0-9_-], the first a letter, as in wx0123456789abcdef"

func (v value) appID() string {
	text, ok := v.text()
	if !ok {
		return ""
	}
	if appSecret.MatchString(text) {
		v.wrong(text, wantAppID+": is it swapped with the secret?")
		return ""
	}
	if !appID.MatchString(text) {
		v.wrong(text, wantAppID)
		return ""
	}
	return text
}

// maxSecret bounds a secret or key: a caller's key is hashed for each call.
const maxSecret = 512

// checkSecret tells what is wrong with a secret or key, without its text; "" is nothing.
func checkSecret(text string) string {
	switch {
	case text == "":
		return "empty"
	case len(text) > maxSecret:
		return "longer than 512 bytes"
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "a blank or a byte that is not printable ASCII inside"
	}
	return ""
}

// secrets reads one secret or [new, old].
func (v value) secrets() []string {
	v.secret = true
	var texts []string
	add := func(v value) {
		v.secret = true
		text, ok := v.text()
		if !ok {
			return
		}
		if fault := checkSecret(text); fault != "" {
			v.fault("%s: want the secret itself", fault)
			return
		}
		if !strings.Contains(v.node.Value, "${") {
			v.doc.literal = true
		}
		if slices.Contains(texts, text) {
			v.fault("the same secret twice: want [new, old]")
			return
		}
		texts = append(texts, text)
	}
	if v.node.Kind != yaml.SequenceNode {
		add(v)
		return texts
	}
	if n := len(v.node.Content); n < 1 || n > 2 {
		v.fault("a list of %d: want one secret or [new, old]", n)
		return nil
	}
	v.list(add)
	return texts
}

const wantBudget = "N/day, N/month, a list of them, unlimited, unknown or denied"

// budget reads what a table says of a rule.
func (v value) budget() (b limits.Budget, ok bool) {
	if v.node.Kind != yaml.SequenceNode {
		text, ok := v.text()
		if !ok {
			return b, false
		}
		b, err := limits.ParseBudget(text)
		if err != nil {
			v.wrongBy(err, "quota", text, wantBudget)
		}
		return b, err == nil
	}
	var texts []string
	ok = true
	v.list(func(v value) {
		text, good := v.text()
		if good {
			if _, err := limits.ParseQuota(text); err != nil {
				v.wrongBy(err, "quota", text, "N/day or N/month")
				good = false
			}
		}
		ok = ok && good
		texts = append(texts, text)
	})
	if !ok {
		return b, false
	}
	if len(texts) == 0 {
		v.fault("an empty list: want %s", wantBudget)
		return b, false
	}
	b, err := limits.ParseBudget(texts...)
	if err != nil {
		v.fault("%s: want at most one N/day and one N/month", strings.Join(texts, ", "))
		return b, false
	}
	return b, true
}
