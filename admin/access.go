package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// The reasons for which a request is refused before anything is looked at.
const (
	WrongHost       = "wrong-host"        // 421: by a name that is not ours, as after DNS rebinding
	CrossOrigin     = "cross-origin"      // 403: by a page of another site that does more than link to us
	WrongToken      = "wrong-token"       // 401
	WrongCode       = "wrong-code"        // 403: a one-time code that was used, or is too old
	TooManyAttempts = "too-many-attempts" // 429: wrong tokens of this client wait for their answers
)

// Refusal is a request that was refused for one of these reasons.
type Refusal struct {
	Reason string
	Client string // its address
	Host   string // as the request spells it; of WrongHost only
}

// Action is a change that an operator has asked for with the token.
type Action struct {
	Name    string // sign-in, reload, clear, forget or grant
	App     string // its alias or appid; "" for all
	Rule    string // of a clear; "" is the whole app. Of a grant its counter
	Outcome string // "done", or why not; a reload reports its faults itself
	Client  string // the address that asked
	Token   string // with which token, by Options.TokenName

	// Of a grant.
	Calls  int64
	Until  time.Time
	Reason string
}

// hosted reports whether a request names this listener: by a loopback name, by the address that it came
// in at, or by a configured name, each with any port. A page whose name was rebound to this machine
// sends its own name. Only HTTP/1.0, which no browser speaks, has requests without any.
func (a *Admin) hosted(r *http.Request) bool {
	if r.Host == "" {
		return !r.ProtoAtLeast(1, 1)
	}
	name, ok := hostname(r.Host)
	if !ok {
		return false
	}
	if loopbackName(name) || slices.ContainsFunc(a.o.Hosts, func(host string) bool { return strings.EqualFold(host, name) }) {
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	tcp, ok := local.(*net.TCPAddr)
	return ok && name == tcp.AddrPort().Addr().Unmap().WithZone("").String()
}

// crossOrigin reports whether a page of another site sent a request, unless it is a link to here.
// [http.CrossOriginProtection] lets every GET pass, because it changes nothing; but a scrape costs the store a
// read, and usage may ask WeChat.
func (a *Admin) crossOrigin(r *http.Request) bool {
	asked := *r
	if r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		asked.Method = http.MethodPost
	}
	return a.origins.Check(&asked) != nil
}

// hostname returns a Host without its port and brackets. It is false for what is neither.
func hostname(host string) (string, bool) {
	if inside, ok := strings.CutPrefix(host, "["); ok {
		name, port, ok := strings.Cut(inside, "]")
		return name, ok && strings.Contains(name, ":") && (port == "" || port[0] == ':')
	}
	name, port, _ := strings.Cut(host, ":")
	return name, name != "" && !strings.Contains(port, ":")
}

// loopbackName reports whether a host is a usual name of this machine. A page can spell loopback in more
// ways, as [::ffff:127.0.0.1] or 0.0.0.0, and no operator does.
func loopbackName(host string) bool {
	return host == "127.0.0.1" || host == "::1" || strings.EqualFold(host, "localhost")
}

// fromThisMachine reports whether a request comes from a program on this machine, and not through a
// proxy on it.
func fromThisMachine(r *http.Request) bool {
	name, _ := hostname(r.Host)
	for _, forwarded := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip"} {
		if len(r.Header[forwarded]) > 0 {
			return false
		}
	}
	return peer(r).IsLoopback() && (r.Host == "" || loopbackName(name))
}

// peer returns the address of the client, the zero Addr on a UNIX socket.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// client is the address of the client for a log.
func client(r *http.Request) string {
	if addr := peer(r); addr.IsValid() {
		return addr.String()
	}
	return "unix socket"
}

// refuse counts and reports a request that was refused, and answers it.
func (a *Admin) refuse(w http.ResponseWriter, r *http.Request, status int, reason, text string) {
	a.o.Metrics.adminRefused.WithLabelValues(reason).Inc()
	if a.o.Refused != nil {
		refusal := Refusal{Reason: reason, Client: client(r)}
		if reason == WrongHost {
			refusal.Host = r.Host
		}
		a.o.Refused(refusal)
	}
	reply(w, status, problem{Error: text})
}

// authenticate reports whether a request shows the token. When it returns false it has answered.
func (a *Admin) authenticate(w http.ResponseWriter, r *http.Request) bool {
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok { // the question what is wanted
		unauthorized(w)
		return false
	}
	switch a.attempts.judge(r.Context(), network(peer(r)), a.right(shown)) {
	case TooManyAttempts:
		w.Header().Set("Retry-After", "1")
		a.refuse(w, r, http.StatusTooManyRequests, TooManyAttempts, "too many wrong tokens from this address: want one request at a time with the admin token")
	case WrongToken:
		w.Header().Set("WWW-Authenticate", challenge)
		a.refuse(w, r, http.StatusUnauthorized, WrongToken, "wrong token: "+wantToken)
	default:
		return true
	}
	return false
}

const (
	challenge = `Bearer realm="wxproxy admin"`
	wantToken = "want Authorization: Bearer with the admin token"
)

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", challenge)
	reply(w, http.StatusUnauthorized, problem{Error: wantToken})
}

// right compares a token in constant time.
func (a *Admin) right(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], a.token[:]) == 1 && a.o.Token != ""
}

// How fast tokens can be tried: ten at once, then ten a second from one network.
const (
	freeAttempts  = 10
	maxWaiting    = 10
	wrongDelay    = time.Second
	attemptsLast  = 15 * time.Minute // without a wrong token, until a client starts over
	maxAttempters = 1024
)

// attempts counts the wrong tokens of each client and delays the answers to them. A right token is answered at
// once, also to a client that has sent wrong ones, as a scraper with an old token has beside the operator on the
// same machine. Only a client with maxWaiting requests waiting is not: else the answer that comes at once would be
// the right one's, however many are tried.
type attempts struct {
	mu sync.Mutex
	by map[netip.Prefix]*attempt // at most maxAttempters
}

type attempt struct {
	wrong   int
	waiting int
	last    time.Time
}

// judge returns "" for a right token, or why it is refused, once the answer is due or ctx ends.
func (a *attempts) judge(ctx context.Context, from netip.Prefix, right bool) (reason string) {
	reason, at := a.count(from, right)
	if at == nil {
		return reason
	}
	select {
	case <-time.After(wrongDelay):
	case <-ctx.Done():
	}
	a.mu.Lock()
	at.waiting--
	a.mu.Unlock()
	return reason
}

// count counts a wrong token. It returns the attempt that waits, or nil.
func (a *attempts) count(from netip.Prefix, right bool) (reason string, waits *attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, at := time.Now(), a.by[from]
	switch {
	case at != nil && at.waiting >= maxWaiting:
		return TooManyAttempts, nil
	case right:
		return "", nil
	case at == nil || at.waiting == 0 && now.Sub(at.last) > attemptsLast:
		a.makeRoomLocked()
		at = &attempt{}
		a.by[from] = at
	}
	at.wrong++
	at.last = now
	if at.wrong <= freeAttempts {
		return WrongToken, nil
	}
	at.waiting++
	return WrongToken, at
}

// makeRoomLocked drops the client that has been quiet for longest when there is no room for another.
func (a *attempts) makeRoomLocked() {
	if len(a.by) < maxAttempters {
		return
	}
	var oldest netip.Prefix
	var last time.Time
	for from, at := range a.by {
		if last.IsZero() || at.last.Before(last) {
			oldest, last = from, at.last
		}
	}
	delete(a.by, oldest)
}

// network is what one client has the addresses of: an IPv4 address, 64 bits of IPv6, or the UNIX socket.
func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the zero Prefix for the zero Addr
	return prefix
}

// done is the outcome of a change that was made.
const done = "done"

// acted reports what became of a change.
func (a *Admin) acted(r *http.Request, action Action) {
	if a.o.Acted != nil {
		action.Client, action.Token = client(r), a.o.TokenName
		a.o.Acted(action)
	}
}
