package config

import "testing"

func TestMaskedURL(t *testing.T) {
	tests := []struct{ url, want string }{
		{"file:wxproxy.db", "file:wxproxy.db"},
		{"redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"},
		{"redis://:canary@127.0.0.1", "redis://***@127.0.0.1"},
		{"redis://canary@127.0.0.1", "redis://***@127.0.0.1"},
		{"redis://u:can/ary@127.0.0.1/1", "redis://***@127.0.0.1/1"},
		{"redis://u:can@ary@127.0.0.1/1", "redis://***@127.0.0.1/1"},
		{"redis+cluster://u:canary@a:1,b:2", "redis+cluster://***@a:1,b:2"},
		{"redis+sentinel://a:1/m?sentinel_password=canary&db=1", "redis+sentinel://a:1/m?sentinel_password=***&db=1"},
		{"unix:///run/redis.sock?Password=canary", "unix:///run/redis.sock?Password=***"},
	}
	for _, tt := range tests {
		if got := maskedURL(tt.url); got != tt.want {
			t.Errorf("maskedURL(%q) = %q, want %q", tt.url, got, tt.want)
		}
	}
}
