package main

import (
	"net"
	"net/netip"
	"slices"
)

// ownListener returns a function that reports whether a TCP connection, by its two addresses, leads to
// one of listeners: a call sent there comes in again, without end. A listener on every address is
// reached by each address of this host.
func ownListener(listeners ...net.Addr) func(remote, local net.Addr) bool {
	var own []netip.AddrPort
	for _, l := range listeners {
		if addr := addrPort(l); addr.IsValid() {
			own = append(own, addr)
		}
	}
	return func(remote, local net.Addr) bool {
		to := addrPort(remote)
		return to.IsValid() && slices.ContainsFunc(own, func(l netip.AddrPort) bool {
			switch {
			case l.Port() != to.Port():
				return false
			case l.Addr() == to.Addr():
				return true
			default:
				return l.Addr().IsUnspecified() && ofThisHost(to.Addr(), addrPort(local).Addr())
			}
		})
	}
}

// ofThisHost reports whether a connection from local to remote ends on this host.
func ofThisHost(remote, local netip.Addr) bool {
	if remote.IsLoopback() || remote == local {
		return true
	}
	addrs, _ := net.InterfaceAddrs() // none on an error
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		ip, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		addr, _ := netip.AddrFromSlice(ip.IP)
		return addr.Unmap() == remote
	})
}

// addrPort returns a TCP address, as IPv4 if it is one and without a zone. It is not valid for others.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}
