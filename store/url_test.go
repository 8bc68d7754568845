package store

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// want is what a test looks at in a server, whichever of the three kinds it is.
type want struct {
	Name              string
	Kind              string
	Addrs             []string
	DB                int
	User, Password    string
	SentinelUser      string
	SentinelPassword  string
	TLS               string // "", or the name that certificates are checked for
	Private, Unsafe   bool
	Retries, Dials    int
	Dial, Read, Write time.Duration
	Pool              int
}

func seen(s server) want {
	w := want{Name: s.name, Private: s.private, Unsafe: s.unsafe}
	switch {
	case s.single != nil:
		o := s.single
		w.Kind, w.Addrs, w.DB, w.User, w.Password = o.Network, []string{o.Addr}, o.DB, o.Username, o.Password
		w.Retries, w.Dials, w.Dial, w.Read, w.Write, w.Pool = o.MaxRetries, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolSize
		if o.TLSConfig != nil {
			w.TLS = o.TLSConfig.ServerName
		}
	case s.cluster != nil:
		o := s.cluster
		w.Kind, w.Addrs, w.User, w.Password = "cluster", o.Addrs, o.Username, o.Password
		w.Retries, w.Dials, w.Dial, w.Read, w.Write, w.Pool = o.MaxRetries, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolSize
		if o.TLSConfig != nil {
			w.TLS = "each" + o.TLSConfig.ServerName
		}
	case s.failover != nil:
		o := s.failover
		w.Kind, w.Addrs, w.DB, w.User, w.Password = "sentinel", o.SentinelAddrs, o.DB, o.Username, o.Password
		w.SentinelUser, w.SentinelPassword = o.SentinelUsername, o.SentinelPassword
		w.Retries, w.Dials, w.Dial, w.Read, w.Write, w.Pool = o.MaxRetries, o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolSize
		if o.TLSConfig != nil {
			w.TLS = "each" + o.TLSConfig.ServerName
		}
	}
	return w
}

func TestParseURL(t *testing.T) {
	tests := []struct {
		url  string
		file string // what password_file held
		want want
	}{
		{url: "redis://localhost", want: want{Name: "redis://localhost", Kind: "tcp", Addrs: []string{"localhost:6379"}, Private: true}},
		{url: "redis://u:p%40%2Fp@10.0.0.1:7000/3?pool_size=5", want: want{
			Name: "redis://10.0.0.1:7000", Kind: "tcp", Addrs: []string{"10.0.0.1:7000"}, DB: 3, User: "u", Password: "p@/p", Pool: 5,
		}},
		{url: "redis://u:old@[::1]:7000", file: "new", want: want{
			Name: "redis://[::1]:7000", Kind: "tcp", Addrs: []string{"[::1]:7000"}, User: "u", Password: "new", Private: true,
		}},
		{url: "redis://localhost?max_retries=9&read_timeout=2s", want: want{
			Name: "redis://localhost", Kind: "tcp", Addrs: []string{"localhost:6379"}, Private: true, Read: 2 * time.Second,
		}},
		{url: "rediss://db.example", want: want{Name: "rediss://db.example", Kind: "tcp", Addrs: []string{"db.example:6379"}, TLS: "db.example"}},
		{url: "rediss://db.example?skip_verify=true", want: want{
			Name: "rediss://db.example", Kind: "tcp", Addrs: []string{"db.example:6379"}, TLS: "db.example", Unsafe: true,
		}},
		{url: "unix:///run/redis@1.sock?db=2", file: "p", want: want{
			Name: "unix:///run/redis@1.sock", Kind: "unix", Addrs: []string{"/run/redis@1.sock"}, DB: 2, Password: "p", Private: true,
		}},
		{url: "redis+cluster://u:p@a:1,b:2,c/", want: want{
			Name: "redis+cluster://a:1,b:2,c", Kind: "cluster", Addrs: []string{"a:1", "b:2", "c:6379"}, User: "u", Password: "p",
		}},
		{url: "rediss+cluster://a", want: want{Name: "rediss+cluster://a", Kind: "cluster", Addrs: []string{"a:6379"}, TLS: "each"}},
		{url: "redis+sentinel://u:p@a,b:2/3?master=main&sentinel_username=s&sentinel_password=sp", want: want{
			Name: "redis+sentinel://a,b:2 master main", Kind: "sentinel", Addrs: []string{"a:26379", "b:2"}, DB: 3,
			User: "u", Password: "p", SentinelUser: "s", SentinelPassword: "sp",
		}},
		{url: "rediss+sentinel://127.0.0.1?master_name=main", want: want{
			Name: "rediss+sentinel://127.0.0.1 master main", Kind: "sentinel", Addrs: []string{"127.0.0.1:26379"}, TLS: "each", Private: true,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			tt.want.Retries, tt.want.Dials = -1, 1
			tt.want.Dial, tt.want.Write = dialTimeout, ioTimeout
			if tt.want.Read == 0 {
				tt.want.Read = ioTimeout
			}
			if tt.want.Pool == 0 {
				tt.want.Pool = mostConns
			}
			got, err := parseURL(Options{URL: tt.url, Password: tt.file})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, seen(got)); diff != "" {
				t.Errorf("parseURL (-want +got):\n%s", diff)
			}
			if got.password != (tt.want.Password != "") {
				t.Errorf("password known = %v", got.password)
			}
		})
	}
}

func TestParseURLErrors(t *testing.T) {
	const schemes = "want file:, redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://"
	const noHost = "store.url redis://...: no host: want host or host:port, and in front of it :password@ or user:password@, or password_file"
	const rest = "what follows the host cannot be read: want /N with the number of a database, and ?option=value of go-redis"
	tests := []struct{ url, want string }{
		// a password in the place of something else
		{"redis://:hunter2", noHost},
		{"redis://user:hunter2", noHost},
		{"redis://hunter2$", noHost},
		{"redis://a,b:hunter2", noHost},
		{"redis://c0ffee00hun00secret00c0ffee0000:6379", noHost},
		{"redis://:x@hunter2!", noHost},
		{"redis://[hunter2", noHost},
		{"redis://a/hunter2", "store.url redis://a: redis: invalid database number"},
		{"redis://a/1/hunter2", "store.url redis://a: " + rest},
		{"redis://a?hunter2", "store.url redis://a: " + rest},
		{"redis://a?pool_size=hunter2", "store.url redis://a: redis: invalid pool_size number"},
		{"redis://a?read_timeout=hunter2", "store.url redis://a: redis: invalid read_timeout duration"},
		{"rediss://a?skip_verify=hunter2", "store.url rediss://a: redis: invalid skip_verify boolean"},
		{"redis://a/%zzhunter2", "store.url redis://a: " + rest},
		{"redis+cluster://a?addr=hunter2", "store.url redis+cluster://a: " + rest},
		{"redis+sentinel://a/hunter2?master=m", "store.url redis+sentinel://a: redis: invalid database number"},
		{"redis+sentinel://a/%zzhunter2?master=m", "store.url redis+sentinel://a: " + rest},

		{"wxproxy.db", "store.url: " + schemes},
		{"http://a:hunter2@b", "store.url http://b: " + schemes},
		{"redis+magic://b", "store.url redis+magic://b: " + schemes},
		{"unix+cluster:///b", "store.url unix+cluster://: " + schemes},
		{"redis://", "store.url redis://: want a host in front of each port"},
		{"redis://:7000", "store.url redis://:7000: want a host in front of each port"},
		{"redis://a,b", "store.url redis://a,b: several hosts: want redis+cluster:// or redis+sentinel://"},
		{"redis://:hunter2@a/x", "store.url redis://a: redis: invalid database number"},
		{"redis://:hunter2@a?password=hunter2", "store.url redis://a: redis: unexpected option: password"},
		{"redis://:hunter2@a:port", noHost},
		{"redis://:hun/ter2@a", "store.url redis://...: write / ? # and @ of a password as %2F %3F %23 %40, or use password_file"},
		{"redis://:hunter2%@a", "store.url redis://...: user and password are not percent-encoded"},
		{"unix://run/redis.sock", "store.url unix://run: want three slashes before the path of a unix socket"},
		{"unix://", "store.url unix://: redis: empty unix socket path"},
		{"redis+cluster://a/1", "store.url redis+cluster://a: a cluster has no database numbers: want no path"},
		{"redis+sentinel://a", "store.url redis+sentinel://a: want ?master=name, the name that the sentinels give the master"},
		{"redis+sentinel://a?master=m&password=hunter2", "store.url redis+sentinel://a: want user and password of the Redis servers in front of the host, or password_file"},
		{"redis+sentinel://a?master=m&sentinel_password=hunter2&x=%zz", "store.url redis+sentinel://a: the query cannot be parsed"},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			_, err := parseURL(Options{URL: tt.url, Password: "hunter3"})
			if err == nil || err.Error() != tt.want {
				t.Fatalf("parseURL = %v, want %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "hun") {
				t.Errorf("%v tells a password", err)
			}
		})
	}
}

// Strangers do not write store.url, but a slip in one must not show the password.
func FuzzParseURL(f *testing.F) {
	schemes := []string{"redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "http"}
	for i := range schemes {
		f.Add(i, "a:1,b", "/3?master=m&addr=c:1")
	}
	f.Fuzz(func(t *testing.T, scheme int, host, rest string) {
		const canary = "c4n4ry"
		if strings.Contains(host+rest, canary) {
			return
		}
		s, err := parseURL(Options{URL: schemes[uint(scheme)%uint(len(schemes))] + "://user:" + canary + "@" + host + rest})
		if err != nil && strings.Contains(err.Error(), canary) || strings.Contains(s.name, canary) {
			t.Errorf("error %v, name %q: a password", err, s.name)
		}
	})
}

// go-redis quotes the answer that it cannot read. On a connection that is out of step it may be a token.
func TestNoErrorQuotesAnAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 512)); err == nil {
					_, _ = io.WriteString(conn, "c4n4ry\r\n")
				}
			})
		}
	})
	defer func() { l.Close(); wg.Wait() }()
	_, err = Open(t.Context(), Options{URL: "redis://" + l.Addr().String()})
	if err == nil || strings.Contains(err.Error(), "c4n4ry") || !strings.Contains(err.Error(), "none of Redis's") {
		t.Errorf("Open = %v, want an error that quotes nothing", err)
	}
}
