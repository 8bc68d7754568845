package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// selfSigned writes a certificate for api.weixin.qq.com with that serial number.
func selfSigned(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"api.weixin.qq.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// A hosts entry sends https://api.weixin.qq.com here. The certificate is replaced while calls
// run, and a bad one is not.
func TestTLS(t *testing.T) {
	t.Parallel()
	wechat := newWechat(t, sandbox.Options{})
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	selfSigned(t, cert, key, 1)
	config := write(t, wechat, "file:"+filepath.Join(t.TempDir(), "wxproxy.db"), table("10/day", "7/day"),
		"tls: {cert_file: \""+cert+"\", key_file: \""+key+"\"}\n")
	p := start(t, config, wechat)

	get := func() (serial int64, a answer) {
		t.Helper()
		secure := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{ServerName: "api.weixin.qq.com", InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
				serial = s.PeerCertificates[0].SerialNumber.Int64()
				return nil
			}},
		}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(p.url, "http:", "https:", 1)+"/"+appA+"/cgi-bin/get_api_domain_ip", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "api.weixin.qq.com"
		response, err := secure.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return serial, answer{status: response.StatusCode, decision: response.Header.Get("X-Wxproxy-Decision")}
	}
	if serial, a := get(); serial != 1 || a.status != 200 || a.decision != "pass" {
		t.Errorf("over TLS: certificate %d, %v, want 1 and pass", serial, a)
	}
	writeFile(t, cert, "no certificate")
	p.stderr.await(t, "line that the certificate is bad", message("certificate reload failed"))
	if serial, _ := get(); serial != 1 {
		t.Errorf("with a bad file: certificate %d, want the last good one", serial)
	}
	selfSigned(t, cert, key, 2)
	p.stderr.await(t, "line that the certificate was reloaded", message("certificate reloaded"))
	if serial, a := get(); serial != 2 || a.decision != "pass" {
		t.Errorf("after the change: certificate %d, %v, want 2 and pass", serial, a)
	}
	for _, r := range wechat.Requests() {
		if strings.Contains(r.Host, "weixin.qq.com") {
			t.Errorf("WeChat was sent the client's Host %q", r.Host)
		}
	}
}

// insecure is a client that trusts any certificate.
var insecure = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
