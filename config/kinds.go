package config

import (
	"fmt"
	"io/fs"
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

// scalar reads a single value of a kind, and returns false when there is a fault.
func (v value) scalar(kind string) (any, bool) {
	v.secret, v.unsetOK = slices.Contains([]string{"secret", "token", "caller"}, kind), kind == "token"
	text, ok := v.text()
	if !ok {
		return nil, false
	}
	got, err := parse(kind, text)
	if err != nil {
		v.reject(text, err)
		return nil, false
	}
	_, rest, _ := strings.Cut(text, "://")
	if !strings.Contains(v.node.Value, "${") && text != "" && (kind == "secret" || kind == "token" || kind == "store" && strings.Contains(rest, "@")) {
		v.doc.literal = true
	}
	return got, true
}

// parse reads a text of a kind; its error is that of errWant, errBare or errQuoting. Those of kinds that name
// no type give a string.
func parse(kind, text string) (any, error) {
	if low, high, ok := strings.Cut(kind, ".."); ok {
		return parseNumber(text, low, high)
	}
	if words := strings.Split(kind, "|"); len(words) > 1 {
		return oneOf(text, words...)
	}
	switch kind {
	case "version":
		if text != "1" {
			return "", errWant("1")
		}
		return text, nil
	case "text":
		return text, nil
	case "flag":
		word, err := oneOf(text, "true", "false")
		return word == "true", err
	case "tri":
		word, err := oneOf(text, "true", "false", "auto")
		return map[string]Tri{"true": Yes, "false": No, "auto": Auto}[word], err
	case "address":
		return parseAddress(text)
	case "host":
		return parseHost(text)
	case "mode":
		mode, err := strconv.ParseUint(text, 8, 32)
		if err != nil || mode == 0 || mode > 0o777 {
			return nil, errWant("the mode of a file in octal, as in 0660")
		}
		return fs.FileMode(mode), nil
	case "glob":
		return matching(text, ruleGlob, "the name of a rule, in which a * stands for any letters, as in message.*")
	case "prefix":
		return parsePrefix(text)
	case "upstream":
		return parseUpstream(text)
	case "store":
		return parseStoreURL(text)
	case "key prefix":
		return matching(text, storePrefix, "1 to 32 of [A-Za-z0-9._-]")
	case "size":
		return parseSize(text)
	case "timeout":
		return parseDuration(text, time.Nanosecond, time.Hour, "a duration over 0s and up to 1h, as in 30s")
	case "delay":
		return parseDuration(text, 0, time.Hour, "a duration from 0s to 1h, as in 10s")
	case "interval": // 0 is never
		const want = "0s, or a duration from 1m to 24h, as in 30m"
		if d, err := time.ParseDuration(text); err == nil && d == 0 {
			return d, nil
		}
		return parseDuration(text, time.Minute, 24*time.Hour, want)
	case "reminder": // 0 is never
		if d, err := time.ParseDuration(text); err == nil && d == 0 {
			return d, nil
		}
		return parseDuration(text, 5*time.Minute, 7*24*time.Hour, "0s, or a duration from 5m to 168h, as in 4h")
	case "hour":
		return parseHour(text)
	case "event":
		return parseEvent(text)
	case "page":
		return parsePage(text)
	case "mail server":
		return parseMailServer(text)
	case "mail address":
		return parseMailAddress(text)
	case "date":
		if _, err := time.Parse(time.DateOnly, text); err != nil {
			return "", errWant("a date, as in 2026-11-23")
		}
		return text, nil
	case "zone":
		zone, err := time.LoadLocation(text)
		if err != nil || text == "" || text == "Local" { // the last two depend on the host
			return nil, errWant("a time zone by its name, as in " + DefaultZone)
		}
		return zone, nil
	case "file":
		if pem.MatchString(text) {
			return "", errBare("%s: want the path of the file that holds it", outline(text))
		}
		return text, nil
	case "log file":
		if text == "" || strings.HasSuffix(text, "/") {
			return "", errWant("the path of a file")
		}
		return text, nil
	case "name", "caller":
		if !isName(text) {
			return "", errWant(wantName)
		}
		return text, nil
	case "appid":
		if appSecret.MatchString(text) {
			return "", errWant(wantAppID + ": is it swapped with the secret?")
		}
		return matching(text, appID, wantAppID)
	case "secret", "token":
		if fault := checkSecret(text); fault != "" && (kind == "secret" || text != "") {
			return "", errBare("%s: want the %s itself", fault, kind)
		}
		return text, nil
	case "path":
		return text, errQuoting(limits.CheckPath(text), text, "a path, as in /cgi-bin/menu/create or /cgi-bin/*")
	case "quota":
		b, err := limits.ParseBudget(text)
		return b, errQuoting(err, text, wantBudget)
	case "period quota":
		q, err := limits.ParseQuota(text)
		return q, errQuoting(err, text, "N/day or N/month")
	case "pace":
		if text == "none" { // takes a parent's pace away
			return limits.Pace{}, nil
		}
		p, err := limits.ParsePace(text)
		return p, errQuoting(err, text, "N/second or N/minute, optionally followed by burst N, or none")
	case "inject":
		word, err := oneOf(text, "account", "none")
		return map[string]limits.Inject{"none": limits.InjectNone, "account": limits.InjectAccount}[word], err
	case "on_store_error":
		word, err := oneOf(text, "refuse", "local")
		return map[string]limits.OnStoreError{"refuse": limits.StoreErrorRefuse, "local": limits.StoreErrorLocal}[word], err
	case "fuse":
		word, err := oneOf(text, "off", "watch", "on")
		return map[string]limits.Fuse{"off": limits.FuseOff, "watch": limits.FuseWatch, "on": limits.FuseOn}[word], err
	}
	panic("config: no kind " + kind)
}

// textError is why a text is not of its kind.
type textError struct {
	words string // what stands in a fault after the text
	bare  bool   // the text does not stand there, nor do words hold it
	safe  string // in place of words for a text that is not shown; "" is words
}

func (e *textError) Error() string { return e.words }

func errWant(want string) error { return &textError{words: "want " + want} }

// errBare returns an error for a text that may hold a secret, so that the text is not shown.
func errBare(format string, args ...any) error {
	return &textError{words: fmt.Sprintf(format, args...), bare: true}
}

// errQuoting is an error of package limits, which quotes the text, and in its words too; nil stays nil.
func errQuoting(err error, text, want string) error {
	if err == nil {
		return nil
	}
	_, words, _ := strings.Cut(err.Error(), strconv.Quote(text)+": ")
	return &textError{words: words, safe: "want " + want}
}

// reject notes that a text is not of its kind.
func (v value) reject(text string, err error) {
	e, ok := err.(*textError) //nolint:errorlint // parse returns no other
	switch {
	case !ok || e.bare:
		v.fault("%s", err)
	case e.safe != "" && v.shown(text) != strconv.Quote(text):
		v.fault("%s: %s", v.shown(text), e.safe)
	default:
		v.fault("%s: %s", v.shown(text), e.words)
	}
}

func oneOf(text string, words ...string) (string, error) {
	if slices.Contains(words, text) {
		return text, nil
	}
	last := len(words) - 1
	return "", errWant(strings.Join(words[:last], ", ") + " or " + words[last])
}

func matching(text string, form *regexp.Regexp, want string) (string, error) {
	if !form.MatchString(text) {
		return "", errWant(want)
	}
	return text, nil
}

func parseNumber(text, low, high string) (int64, error) {
	least, err := strconv.ParseInt(low, 10, 64)
	most, err2 := strconv.ParseInt(high, 10, 64)
	if err != nil || err2 != nil {
		panic("config: no range: " + low + ".." + high)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, errWant("a whole number from " + low + " to " + high)
	}
	return n, nil
}

func parseDuration(text string, least, most time.Duration, want string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, errWant(want)
	}
	return d, nil
}

var (
	ruleGlob    = regexp.MustCompile(`^[a-z0-9._*-]{1,64}$`)
	storePrefix = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)
	sizeText    = regexp.MustCompile(`^([0-9]{1,12})(B|KB|KiB|MB|MiB|GB|GiB)?$`)
	sizeUnits   = map[string]int64{"": 1, "B": 1, "KB": 1e3, "KiB": 1 << 10, "MB": 1e6, "MiB": 1 << 20, "GB": 1e9, "GiB": 1 << 30}
)

// maxSize bounds a size. What the gateway keeps of a body may lie in memory.
const maxSize = 1 << 30

func parseSize(text string) (int64, error) {
	if m := sizeText.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if unit := sizeUnits[m[2]]; err == nil && 1 <= n && n <= maxSize/unit {
			return n * unit, nil
		}
	}
	return 0, errWant("a size from 1 to 1GiB, as in 32MiB, 32MB or a number of bytes")
}

// parseAddress reads a place to listen on. Port 0 is any free one.
func parseAddress(text string) (string, error) {
	const want = "host:port or unix:/path"
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.HasSuffix(path, "/") {
			return "", errWant(want)
		}
		return text, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errWant(want)
	}
	if n, err := strconv.ParseUint(port, 10, 64); err != nil || n > 65535 {
		return "", errWant(want + ", the port from 0 to 65535")
	}
	if host != "" && !isHost(host) {
		return "", errWant(want)
	}
	return text, nil
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

// parseHost reads a name or an address as a Host header has it, without its port.
func parseHost(text string) (string, error) {
	ip, err := netip.ParseAddr(text)
	if plain := ip.Unmap().WithZone("").String(); err == nil && plain != text {
		return "", errWant(plain)
	}
	if !isHost(text) || appSecret.MatchString(text) {
		return "", errWant("a name or an address without a port, as in gateway.example.com or 10.0.0.5")
	}
	return text, nil
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

// parsePrefix reads a range of addresses, or one.
func parsePrefix(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errWant("an IP address or a range, as in 10.0.0.0/8")
	}
	if p != p.Masked() {
		return netip.Prefix{}, errWant(p.Masked().String())
	}
	return p, nil
}

// parseUpstream reads the address of WeChat or of what stands for it. A URL may hold a password, so it
// is never quoted.
func parseUpstream(text string) (*url.URL, error) {
	const want = "want http://host or https://host, with a port if need be"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		return nil, errBare("no web address: %s", want)
	case u.User != nil:
		return nil, errBare("a user name or password in it: %s", want)
	case u.Path != "" && u.Path != "/":
		return nil, errBare("a path in it: %s", want)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return nil, errBare("a query or fragment in it: %s", want)
	case !isHost(u.Hostname()) || strings.HasSuffix(u.Host, ":"):
		return nil, errBare("no host in it: %s", want)
	case !isPort(u.Port()):
		return nil, errBare("the port in it: want one from 1 to 65535")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// isPort reports whether port is none or one to connect to.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 64)
	return port == "" || err == nil && 1 <= n && n <= 65535
}

// parseStoreURL reads where counters and tokens live. What follows the scheme is for package store to
// read; it may hold a password, so it is never quoted.
func parseStoreURL(text string) (string, error) {
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if path == "" || strings.HasSuffix(path, "/") {
			return "", errBare("file: without the name of a file: want as in file:wxproxy.db")
		}
		return text, nil
	}
	schemes := []string{"redis", "rediss", "unix", "redis+cluster", "redis+sentinel"}
	scheme, rest, _ := strings.Cut(text, "://")
	switch {
	case !slices.Contains(schemes, scheme):
		return "", errBare("no store: want file:PATH or one of %s://", strings.Join(schemes, "://, "))
	case rest == "" || scheme == "unix" && !strings.Contains(rest, "/"):
		return "", errBare("%s:// without an address", scheme)
	}
	return text, nil
}

const wantName = "1 to 64 of [a-z0-9._-], the first a letter or digit"

// isName reports whether a text can be the name of an app, a caller, a profile or a rule. Names are logged, so
// an AppSecret is none.
func isName(text string) bool {
	return limits.CheckRuleName(text) == nil && !appSecret.MatchString(text)
}

// appID is wider than WeChat's own wx and 16 hex digits: test ids and gh_ ids are of use with a
// sandbox. It has no braces, for it becomes a hash tag of Redis Cluster.
var appID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{5,63}$`)

const wantAppID = "6 to 64 of [A-Za-z0-9_-], the first a letter, as in wx0123456789abcdef"

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

// Secrets is a secret or key, or two of which the newest comes first while one replaces the other.
type Secrets []string

// read reads one secret or [new, old].
func (s *Secrets) read(v value) {
	add := func(_ int, v value) {
		text, ok := v.scalar("secret")
		if ok && slices.Contains(*s, text.(string)) {
			v.fault("the same secret twice: want [new, old]")
		} else if ok {
			*s = append(*s, text.(string))
		}
	}
	*s = nil
	if n := len(v.node.Content); v.node.Kind != yaml.SequenceNode {
		add(0, v)
	} else if n < 1 || n > 2 {
		v.fault("a list of %d: want one secret or [new, old]", n)
	} else {
		v.list(add)
	}
}

// NotBuilt is what a file may name in order to leave it empty: this version has none.
type NotBuilt []string

func (*NotBuilt) read(v value) {
	if len(v.node.Content) > 0 || v.node.Kind == yaml.ScalarNode && !v.null() {
		v.fault("not yet: this version has no %s", v.name.Value) // it must not look as if it worked
	}
}

const wantBudget = "N/day, N/month, a list of them, unlimited, unknown or denied"

// budget reads what a table says of a rule.
func (v value) budget() (b limits.Budget, ok bool) {
	if v.node.Kind != yaml.SequenceNode {
		got, ok := v.scalar("quota")
		if !ok {
			return b, false
		}
		return got.(limits.Budget), true
	}
	var texts []string
	v.list(func(_ int, v value) {
		if q, ok := v.scalar("period quota"); ok {
			texts = append(texts, q.(limits.Quota).String())
		}
	})
	switch n := len(v.node.Content); {
	case n == 0:
		v.fault("an empty list: want %s", wantBudget)
		return b, false
	case len(texts) < n: // noted
		return b, false
	}
	b, err := limits.ParseBudget(texts...)
	if err != nil {
		v.fault("%s: want at most one N/day and one N/month", strings.Join(texts, ", "))
	}
	return b, err == nil
}
