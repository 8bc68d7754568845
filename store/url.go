package store

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// How long a Redis may take. No call of a client waits longer than 250 ms for a store.
const (
	dialTimeout = 200 * time.Millisecond
	ioTimeout   = 250 * time.Millisecond
)

// How many connections there are to each server, unless the URL says otherwise.
const (
	readyConns = 8 // from the beginning: a new one takes longest when there is least time for it
	mostConns  = 32
)

// server is a Redis as store.url names it.
type server struct {
	name     string // for errors and warnings: no user, no password
	password bool   // whether one is known
	private  bool   // loopback addresses or a unix socket only
	unsafe   bool   // certificates are not checked

	// exactly one of these
	single   *redis.Options
	cluster  *redis.ClusterOptions
	failover *redis.FailoverOptions
}

// parseURL reads store.url. No error quotes what may be a password: user and password are taken out first,
// what stands in their place or in a host's is shown only if it is a host, and errors of go-redis and net/url
// are not passed on with what they quote.
func parseURL(o Options) (server, error) {
	scheme, rest, ok := strings.Cut(o.URL, "://")
	if !ok {
		return server{}, errors.New("store.url: want file:, redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://")
	}
	authority, rest := splitAt(rest, "/?#")
	if scheme != "unix" && strings.Contains(rest, "@") {
		return server{}, fmt.Errorf("store.url %s://...: write / ? # and @ of a password as %%2F %%3F %%23 %%40, or use password_file", scheme)
	}
	var user, password string
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ = strings.Cut(authority[:i], ":")
		authority = authority[i+1:]
		var errs [2]error
		user, errs[0] = url.PathUnescape(user)
		password, errs[1] = url.PathUnescape(password)
		if errors.Join(errs[:]...) != nil {
			return server{}, fmt.Errorf("store.url %s://...: user and password are not percent-encoded", scheme)
		}
	}
	if o.Password != "" {
		password = o.Password
	}
	if scheme != "unix" && !areHosts(authority) {
		return server{}, fmt.Errorf("store.url %s://...: no host: want host or host:port, and in front of it :password@ or user:password@, or password_file", scheme)
	}
	s := server{name: scheme + "://" + authority, password: password != ""}
	if err := s.parse(scheme, authority, rest, user, password); err != nil {
		return server{}, fmt.Errorf("store.url %s: %w", s.name, err)
	}
	return s, nil
}

func (s *server) parse(scheme, authority, rest, user, password string) (err error) {
	scheme, kind, _ := strings.Cut(scheme, "+")
	hosts := strings.Split(authority, ",")
	for i, h := range hosts {
		if scheme != "unix" && (h == "" || strings.HasPrefix(h, ":")) {
			return errors.New("want a host in front of each port")
		}
		hosts[i] = withPort(h, kind)
	}
	s.private = !slices.ContainsFunc(hosts, func(h string) bool { return !isLoopback(h) })
	base := scheme + "://" + hosts[0] + rest
	var secure *tls.Config
	switch {
	case kind == "" && scheme == "unix":
		if authority != "" {
			return errors.New("want three slashes before the path of a unix socket")
		}
		path, _ := splitAt(rest, "?#")
		s.name, s.private = "unix://"+path, true
		if s.single, err = redis.ParseURL("unix://" + rest); err != nil {
			return withoutValues(err)
		}
		s.tuneSingle(user, password)
	case kind == "" && (scheme == "redis" || scheme == "rediss"):
		if len(hosts) > 1 {
			return errors.New("several hosts: want redis+cluster:// or redis+sentinel://")
		}
		if s.single, err = redis.ParseURL(base); err != nil {
			return withoutValues(err)
		}
		secure = s.single.TLSConfig
		s.tuneSingle(user, password)
	case kind == "cluster" && (scheme == "redis" || scheme == "rediss"):
		if path, _ := splitAt(rest, "?#"); path != "" && path != "/" {
			return errors.New("a cluster has no database numbers: want no path")
		}
		if s.cluster, err = redis.ParseClusterURL(base); err != nil {
			return withoutValues(err)
		}
		secure = s.cluster.TLSConfig
		s.tuneCluster(hosts, user, password)
	case kind == "sentinel" && (scheme == "redis" || scheme == "rediss"):
		base, sentinelUser, sentinelPassword, err := sentinelQuery(base)
		if err != nil {
			return err
		}
		if s.failover, err = redis.ParseFailoverURL(base); err != nil {
			return withoutValues(err)
		}
		if s.failover.MasterName == "" {
			return errors.New("want ?master=name, the name that the sentinels give the master")
		}
		secure = s.failover.TLSConfig
		s.failover.SentinelUsername, s.failover.SentinelPassword = sentinelUser, sentinelPassword
		s.tuneFailover(hosts, user, password)
	default:
		return errors.New("want file:, redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://")
	}
	if secure != nil {
		secure.MinVersion = tls.VersionTLS12
		if kind != "" {
			secure.ServerName = "" // each server's own name, not the first one's
		}
		s.unsafe = secure.InsecureSkipVerify
	}
	return nil
}

var (
	hostPort = regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[0-9A-Za-z:.%]+\])(:[0-9]{1,5})?$`)
	// random is a password of digits and letters, as no host is named.
	random = regexp.MustCompile(`^[A-Za-z]*[0-9][0-9A-Za-z]*$`)
	// named is what errors of go-redis say before they quote a value.
	named = regexp.MustCompile(`^redis: (invalid [a-z_]+ (number|duration|boolean)|empty unix socket path|unexpected option: [a-z_, ]+$)`)
)

// areHosts reports whether an authority is a list of hosts, and no password.
func areHosts(authority string) bool {
	for host := range strings.SplitSeq(authority, ",") {
		name, _, _ := strings.Cut(host, ":")
		if !hostPort.MatchString(host) || len(name) >= 20 && random.MatchString(name) {
			return false
		}
	}
	return true
}

// withoutValues returns an error of go-redis or net/url about a URL as far as it quotes no part of that.
func withoutValues(err error) error {
	if text := named.FindString(err.Error()); text != "" {
		return errors.New(text)
	}
	return errors.New("what follows the host cannot be read: want /N with the number of a database, and ?option=value of go-redis")
}

// The three kinds of options of go-redis have the same fields and no common type.

func (s *server) tuneSingle(user, password string) {
	o := s.single
	o.Username, o.Password = user, password
	o.MaxRetries = -1 // a call tried again may count twice
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.Protocol = 2          // RESP3 adds only pushes that nothing here listens to
	o.PipelinePoolSize = -1 // pipelines take the connections that single commands take
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	timeouts(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, mostConns)
	o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
}

func (s *server) tuneCluster(hosts []string, user, password string) {
	o := s.cluster
	o.Addrs = append(hosts, o.Addrs[1:]...) // ?addr= adds more
	o.Username, o.Password = user, password
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.Protocol = 2
	o.PipelinePoolSize = -1
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false // replicas lag behind
	timeouts(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, mostConns)
	o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
}

func (s *server) tuneFailover(hosts []string, user, password string) {
	o := s.failover
	s.name += " master " + o.MasterName
	o.SentinelAddrs = append(hosts, o.SentinelAddrs[1:]...)
	o.Username, o.Password = user, password
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.Protocol = 2
	o.PipelinePoolSize = -1
	o.DisableIdentity = true
	o.ReplicaOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
	timeouts(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, mostConns)
	o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
}

// timeouts sets what the URL has not set itself.
func timeouts(dial, read, write, pool *time.Duration) {
	for d, want := range map[*time.Duration]time.Duration{
		dial: dialTimeout, read: ioTimeout, write: ioTimeout, pool: ioTimeout,
	} {
		if *d == 0 {
			*d = want
		}
	}
}

// sentinelQuery takes out of the query what go-redis has another name for, or none.
func sentinelQuery(base string) (rest, user, password string, err error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", "", "", withoutValues(err)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", "", "", errors.New("the query cannot be parsed")
	}
	if q.Has("username") || q.Has("password") {
		return "", "", "", errors.New("want user and password of the Redis servers in front of the host, or password_file")
	}
	user, password = q.Get("sentinel_username"), q.Get("sentinel_password")
	if q.Has("master") {
		q.Set("master_name", q.Get("master"))
	}
	for _, name := range []string{"sentinel_username", "sentinel_password", "master"} {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String(), user, password, nil
}

// splitAt cuts s in front of the first of the bytes in at.
func splitAt(s, at string) (before, from string) {
	if i := strings.IndexAny(s, at); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

func withPort(host, kind string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host
	}
	if kind == "sentinel" {
		return host + ":26379"
	}
	return host + ":6379"
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
