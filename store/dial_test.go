package store

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"wxproxy/internal/redistest"
)

// An answer that lay there when its deadline passed is read; nothing is waited for.
func TestAnswerReadAfterItsDeadline(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		server <- conn
	}()
	client, err := dialer(time.Second, nil)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	far := <-server
	defer far.Close()

	read := func(c net.Conn) (string, error) {
		p := make([]byte, 100)
		n, err := c.Read(p)
		return string(p[:n]), err
	}
	past := time.Now().Add(-time.Second)
	if err := client.SetReadDeadline(past); err != nil {
		t.Fatal(err)
	}
	if text, err := read(client); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing has come: %q, %v, want that the deadline has passed", text, err)
	}
	if _, err := far.Write([]byte("+PONG\r\n")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // it arrives
	if text, err := read(client.(*punctual).Conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a plain connection reads %q, %v past its deadline: then there is no need for another kind", text, err)
	}
	if text, err := read(client); err != nil || text != "+PONG\r\n" {
		t.Errorf("an answer that has come: %q, %v", text, err)
	}
	if text, err := read(client); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("all was read: %q, %v, want that the deadline has passed", text, err)
	}
	if err := client.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if text, err := read(client); err == nil {
		t.Errorf("closed: %q, want an error", text)
	}
}

// Connections are there, and have said hello, before the first call needs one.
func TestConnectionsFromTheBeginning(t *testing.T) {
	server := redistest.Start(t)
	for _, tt := range []struct {
		query string
		want  uint32
	}{{"", readyConns}, {"?pool_size=3", 3}} {
		s, err := Open(t.Context(), Options{URL: server.URL() + tt.query})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stats := s.redis.PoolStats()
		if stats.TotalConns != tt.want || stats.IdleConns != tt.want {
			t.Errorf("%q: %d connections, %d of them idle, want %d", tt.query, stats.TotalConns, stats.IdleConns, tt.want)
		}
	}
}
