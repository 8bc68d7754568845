package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// authority signs certificates. The one of TestMain is the only one that this process trusts.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

var trusted authority

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "doctor")
	if err != nil {
		panic(err)
	}
	trusted = newAuthority("Trust Test CA")
	file := filepath.Join(folder, "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.certificate.Raw}), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", file) // read once, when the first certificate is verified
	os.Setenv("SSL_CERT_DIR", folder)
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

func newAuthority(name string) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return authority{certificate, key}
}

// sign returns a certificate for a name or an address, good from one time to another.
func (a authority) sign(t *testing.T, name string, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// looking returns a doctor for an upstream.
func looking(t *testing.T, upstream string) *doctor {
	t.Helper()
	d := &doctor{Options: load(t, fmt.Sprintf("upstream: {url: %q}\n", upstream))}
	if d.ConfigErr != nil {
		t.Fatal(d.ConfigErr)
	}
	return d
}

// A certificate that is wrong is described by what is wrong with it and by who has issued it.
func TestCertificates(t *testing.T) {
	now := time.Now()
	past, future := now.Add(-48*time.Hour), now.Add(1000*time.Hour)
	expired := past.UTC().Format(time.DateOnly)
	corporate := newAuthority("Example Corp Proxy CA")
	for _, tt := range []struct {
		name        string
		certificate tls.Certificate
		en, zh      string
		reached     bool
	}{
		{"good", trusted.sign(t, "127.0.0.1", past, future), "ok: ", "", true},
		{"ends", trusted.sign(t, "127.0.0.1", past, now.Add(100*time.Hour)), "note: the certificate of 127.0.0.1 is good for 4 days only\n-> WeChat renews its own; if upstream.url is a relay of yours, renew its certificate\n", "", true},
		{
			"expired", trusted.sign(t, "127.0.0.1", past.Add(-time.Hour), past),
			"fault: the certificate of 127.0.0.1 has expired on " + expired + "; it is by Trust Test CA\n-> see this machine's clock first; if it is right, 127.0.0.1 is not WeChat but a relay, whose certificate is to be renewed\n",
			"fault: 127.0.0.1 的证书已于 " + expired + " 过期，由 Trust Test CA 签发\n-> 先看本机的时钟；时钟没错的话，127.0.0.1 就不是微信而是中转，请更新它的证书\n", false,
		},
		{
			"another name", trusted.sign(t, "relay.example.com", past, future),
			"fault: the certificate at 127.0.0.1 is for relay.example.com; it is by Trust Test CA\n-> the name leads to another server than WeChat: see /etc/hosts, the internal DNS and upstream.url\n",
			"fault: 127.0.0.1 处的证书属于 relay.example.com，由 Trust Test CA 签发\n-> 这个域名指向了别的服务器：检查 /etc/hosts、内部 DNS 和 upstream.url\n", false,
		},
		{
			"intercepted", corporate.sign(t, "127.0.0.1", past, future),
			"fault: the certificate of 127.0.0.1 is by Example Corp Proxy CA, which this machine does not trust: TLS is intercepted, or root certificates are missing\n-> have the network not intercept this connection, because the AppSecret passes through it; else update ca-certificates, or install the certificate of Example Corp Proxy CA\n",
			"fault: 127.0.0.1 的证书由 Example Corp Proxy CA 签发，本机不信任：TLS 被中间设备截获，或缺少根证书\n-> 让网络不要截获这个连接，因为 AppSecret 从中经过；否则更新 ca-certificates，或安装 Example Corp Proxy CA 的证书\n", false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(sandbox.New(sandbox.Options{}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{tt.certificate}}
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // it was only to be looked at
			server.StartTLS()
			defer server.Close()
			d := looking(t, server.URL)
			findings := d.lookAtNetwork(t.Context())
			if tt.en == "ok: " {
				if got := lines(words.English, findings); !strings.HasPrefix(got, "ok: 127.0.0.1:") || !strings.Contains(got, "TLS 1.3, certificate by Trust Test CA, good for 41 days") {
					t.Errorf("got %s", got)
				}
			} else {
				wantLines(t, findings, tt.en, tt.zh)
			}
			if got := d.network.Load().reached; got != tt.reached {
				t.Errorf("reached %t, want %t", got, tt.reached)
			}
		})
	}
}

func TestNetwork(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) }))
	defer page.Close()
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Wxproxy-Decision", "refused-auth")
		_, _ = w.Write([]byte(`{"errcode":48001}`))
	}))
	defer own.Close()
	wechat := newWeChat(t, accounts(1))
	for _, tt := range []struct{ name, upstream, en, zh string }{
		{
			"refused", "http://" + closed.Addr().String(),
			"fault: no connection to " + closed.Addr().String() + ": dial tcp " + closed.Addr().String() + ": connect: connection refused\n-> open the way out in firewall, security group and routes (NAT): TCP to upstream.url\n",
			"fault: 连不上 " + closed.Addr().String() + "：dial tcp " + closed.Addr().String() + ": 连接: 连接被拒绝\n-> 在防火墙、安全组和路由（NAT）里放行到 upstream.url 的 TCP\n",
		},
		{
			"a login page", page.URL,
			"fault: the answer of " + page.Listener.Addr().String() + " is none of WeChat's: HTTP 200, text/html\n-> a firewall, a login page or another server answers in its place: see what curl -v shows\n",
			"fault: " + page.Listener.Addr().String() + " 的应答不是微信的：HTTP 200，text/html\n-> 是防火墙、登录页或别的服务器在应答：用 curl -v 看看\n",
		},
		{
			"a gateway", own.URL,
			"fault: upstream.url leads to " + own.Listener.Addr().String() + ", which is a wxproxy\n-> want https://api.weixin.qq.com, or one of WeChat's other hosts\n", "",
		},
		{
			"plain", strings.Replace(wechat.URL, "http://", "https://", 1),
			"fault: " + strings.TrimPrefix(wechat.URL, "http://") + " makes no TLS connection: no TLS\n-> something between here and WeChat takes part in TLS, or the port is not HTTPS: see firewall and upstream.url\n", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := looking(t, tt.upstream)
			wantLines(t, d.lookAtNetwork(t.Context()), tt.en, tt.zh)
			if d.network.Load().reached {
				t.Error("reached")
			}
		})
	}
	if n := wechat.Executed("", ""); n != 0 {
		t.Errorf("%d calls were executed, want none: the probe shows no token", n)
	}
}

func TestDNS(t *testing.T) {
	findings := looking(t, "https://does-not-exist.invalid").lookAtNetwork(t.Context())
	got := lines(words.English, findings)
	if !strings.HasPrefix(got, "fault: does-not-exist.invalid is not resolved: ") || !strings.Contains(got, "nameserver in /etc/resolv.conf") {
		t.Errorf("got %s", got)
	}
	if got := lines(words.Chinese, findings); !strings.HasPrefix(got, "fault: does-not-exist.invalid 解析不了：") {
		t.Errorf("got %s", got)
	}
}

// A proxy of the environment is not used, and its address, which may hold a password, is not shown.
func TestProxyVariables(t *testing.T) {
	d := looking(t, newWeChat(t, accounts(1)).URL)
	d.Getenv = func(name string) string {
		return map[string]string{"https_proxy": "http://user:topsecret@proxy:3128", "ALL_PROXY": "socks5://x"}[name]
	}
	wantLines(t, d.lookAtNetwork(t.Context()),
		"note: https_proxy, ALL_PROXY is set and not used: the gateway connects to WeChat directly\n-> where only a proxy leads out, open the way to upstream.url for this machine, or run the gateway where there is one\n",
		"note: 设置了 https_proxy, ALL_PROXY，但不会用到：网关直接连接微信\n-> 如果只有经代理才能出去，请给本机开通到 upstream.url 的路，或在能直连的机器上运行网关\n")
}

func TestWeChatClock(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		ahead time.Duration // of this machine
		want  string
	}{
		{0, ""},
		{-2 * time.Second, ""},
		{20 * time.Second, "note: this machine's clock is 20s ahead of WeChat's\n-> synchronise both clocks by NTP: timedatectl set-ntp true, or chronyd\n"},
		{-10 * time.Minute, "warning: this machine's clock is 10m0s behind WeChat's\n-> synchronise both clocks by NTP: timedatectl set-ntp true, or chronyd\n"},
	} {
		date := now.Add(-tt.ahead).UTC().Truncate(time.Second)
		wantLines(t, wechatClock(date.Format(http.TimeFormat), date.Add(tt.ahead+time.Second/2)), tt.want, "")
	}
	if found := wechatClock("", now); found != nil {
		t.Error("an answer without a Date tells the time")
	}
}

// Some addresses that do not answer are told of; those of IPv6 alone are usual, and only a note.
func TestAddresses(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	four, other, six := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1")
	for _, tt := range []struct {
		addresses []netip.Addr
		want      string
	}{
		{[]netip.Addr{four}, ""},
		{[]netip.Addr{four, six}, "note: IPv6 does not lead out: [::1]:" + port + "; calls go by IPv4\n-> nothing has to be done; without IPv6 in the machine's network a connection is made faster\n"},
		{[]netip.Addr{four, other}, "warning: no connection to some addresses: 127.0.0.2:" + port + "\n-> open the way out in firewall, security group and routes (NAT): TCP to upstream.url\n"},
	} {
		open, _, findings := connectEach(t.Context(), tt.addresses, port)
		wantLines(t, findings, tt.want, "")
		if len(open) != 1 || open[0] != four {
			t.Errorf("%v: open are %v, want 127.0.0.1", tt.addresses, open)
		}
	}
	if !ofWeChat("API.weixin.qq.com.") || ofWeChat("weixin.qq.com.example.com") {
		t.Error("ofWeChat")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if open, _, findings := connectEach(ctx, []netip.Addr{four}, port); len(open) != 0 || len(findings) != 1 {
		t.Errorf("open %v with a context that is done", open)
	}
}
