package main

import (
	"net"
	"testing"
)

func TestOwnListener(t *testing.T) {
	t.Parallel()
	tcp := func(address string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	mapped := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To16(), Port: 8080}
	unix := &net.UnixAddr{Name: "/run/wxproxy.sock", Net: "unix"}
	for _, tt := range []struct {
		name          string
		listeners     []net.Addr
		remote, local net.Addr
		own           bool
	}{
		{"the listener", []net.Addr{tcp("127.0.0.1:8080")}, tcp("127.0.0.1:8080"), tcp("127.0.0.1:40000"), true},
		{"the second one", []net.Addr{tcp("10.1.2.3:8080"), tcp("127.0.0.1:8081")}, tcp("127.0.0.1:8081"), tcp("127.0.0.1:40000"), true},
		{"another port", []net.Addr{tcp("127.0.0.1:8080")}, tcp("127.0.0.1:8081"), tcp("127.0.0.1:40000"), false},
		{"another loopback address", []net.Addr{tcp("127.0.0.1:8080")}, tcp("127.0.0.2:8080"), tcp("127.0.0.1:40000"), false},
		{"another host", []net.Addr{tcp("10.1.2.3:8080")}, tcp("10.1.2.4:8080"), tcp("10.1.2.3:40000"), false},
		{"mapped", []net.Addr{tcp("127.0.0.1:8080")}, mapped, tcp("127.0.0.1:40000"), true},
		{"everywhere, by loopback", []net.Addr{tcp("[::]:8080")}, tcp("127.0.0.1:8080"), tcp("127.0.0.1:40000"), true},
		{"everywhere, by loopback of IPv6", []net.Addr{tcp("[::]:8080")}, tcp("[::1]:8080"), tcp("[::1]:40000"), true},
		{"everywhere of IPv4", []net.Addr{tcp("0.0.0.0:8080")}, tcp("127.0.0.9:8080"), tcp("127.0.0.1:40000"), true},
		{"everywhere, by its own address", []net.Addr{tcp("[::]:8080")}, tcp("192.0.2.7:8080"), tcp("192.0.2.7:40000"), true},
		{"everywhere, another host", []net.Addr{tcp("[::]:8080")}, tcp("192.0.2.8:8080"), tcp("192.0.2.7:40000"), false},
		{"everywhere, another port", []net.Addr{tcp("[::]:8080")}, tcp("127.0.0.1:8081"), tcp("127.0.0.1:40000"), false},
		{"everywhere, no local address", []net.Addr{tcp("[::]:8080")}, tcp("192.0.2.8:8080"), nil, false},
		{"a zone", []net.Addr{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 8080, Zone: "eth0"}}, tcp("[fe80::1]:8080"), tcp("[fe80::1]:40000"), true},
		{"a socket", []net.Addr{unix}, unix, unix, false},
		{"a socket and a port", []net.Addr{unix, tcp("127.0.0.1:8080")}, tcp("127.0.0.1:8080"), tcp("127.0.0.1:40000"), true},
		{"no listener", nil, tcp("127.0.0.1:8080"), tcp("127.0.0.1:40000"), false},
	} {
		if own := ownListener(tt.listeners...)(tt.remote, tt.local); own != tt.own {
			t.Errorf("%s: %s to %s with listeners %v: %t, want %t", tt.name, tt.local, tt.remote, tt.listeners, own, tt.own)
		}
	}
}

// A listener on every address is reached by each address of the host, from whichever it has.
func TestOwnListenerByInterface(t *testing.T) {
	t.Parallel()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	own := ownListener(&net.TCPAddr{IP: net.IPv6unspecified, Port: 8080})
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !own(&net.TCPAddr{IP: ip.IP, Port: 8080}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000}) {
			t.Errorf("%s is of this host and not known as such", ip.IP)
		}
	}
}
