package proxy

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestWithToken(t *testing.T) {
	tests := []struct{ raw, want string }{
		// spellings of one parameter
		{"access_token=x", "access_token=T"},
		{"Access_Token=x", "access_token=T"},
		{"ACCESS_TOKEN=x", "access_token=T"},
		{"aCCESS_tOKEN=x", "access_token=T"},
		{"access%5Ftoken=x", "access_token=T"},
		{"access%5ftoken=x", "access_token=T"},
		{"%61ccess_token=x", "access_token=T"},
		{"%41ccess_token=x", "access_token=T"},
		{"acces%73_token=x", "access_token=T"},
		{"access_toke%6E=x", "access_token=T"},
		{"access_toke%6e=x", "access_token=T"},
		{"%61%63%63%65%73%73%5F%74%6F%6B%65%6E=x", "access_token=T"},
		{"%41%43%43%45%53%53%5f%54%4f%4b%45%4e=x", "access_token=T"},
		{"access_token", "access_token=T"},
		{"access_token=", "access_token=T"},
		{"access_token==", "access_token=T"},
		{"access_token=n=TOKEN", "access_token=T"},
		{"access_token=a%26b", "access_token=T"},
		{"access_token=x+y", "access_token=T"},
		{"access_token=%00", "access_token=T"},
		{"access_token=\xff", "access_token=T"},
		{"access_token=x&access_token=y", "access_token=T"},
		{"access_token=x&Access_Token=y&access%5Ftoken=z", "access_token=T"},
		// where it stands
		{"", "access_token=T"},
		{"a=1", "a=1&access_token=T"},
		{"a=1&access_token=x", "a=1&access_token=T"},
		{"access_token=x&a=1", "access_token=T&a=1"},
		{"a=1&access_token=x&b=2", "a=1&access_token=T&b=2"},
		{"a=1&access_token=x&b=2&ACCESS_TOKEN=y&c=3", "a=1&access_token=T&b=2&c=3"},
		{"a=1&access_token=x&b=2&access_token", "a=1&access_token=T&b=2"},
		{"access_token=x&access_token=y&a=1", "access_token=T&a=1"},
		// every other byte stays
		{"&", "&&access_token=T"},
		{"&&access_token=x&&", "&&access_token=T&&"},
		{"a=%e4%BD%a0&b=+%20&c&=d&access_token=x", "a=%e4%BD%a0&b=+%20&c&=d&access_token=T"},
		{"openid=o-1_2&lang=zh_CN&access_token=x", "openid=o-1_2&lang=zh_CN&access_token=T"},
		// what only looks like it
		{"access_token2=x", "access_token2=x&access_token=T"},
		{"xaccess_token=x", "xaccess_token=x&access_token=T"},
		{"component_access_token=x", "component_access_token=x&access_token=T"},
		{"access_toke=n", "access_toke=n&access_token=T"},
		{"access%255Ftoken=x", "access%255Ftoken=x&access_token=T"},
		{"access+token=x", "access+token=x&access_token=T"},
		{"a=access_token=x", "a=access_token=x&access_token=T"},
		{"access_token%3Dx", "access_token%3Dx&access_token=T"},
		{"access_token%=x", "access_token%=x&access_token=T"},
		{"acc\u212Bess_token=x", "acc\u212Bess_token=x&access_token=T"},
		{"a=1#&access_token=x", "a=1#&access_token=T"},
	}
	for _, tt := range tests {
		if got := withToken(tt.raw, "T"); got != tt.want {
			t.Errorf("withToken(%q) = %q, want %q", tt.raw, got, tt.want)
		}
	}
	if got, want := withToken("access_token=x", "a&b=c d"), "access_token=a%26b%3Dc+d"; got != want {
		t.Errorf("withToken of a strange token = %q, want %q", got, want)
	}
}

func TestQueryParses(t *testing.T) {
	tests := []struct {
		name string
		raw  string
		want bool
	}{
		{"empty", "", true},
		{"plain", "a=1&b=%E4%BD%A0", true},
		{"semicolon", "a=1;access_token=x", false},
		{"semicolon escaped", "a=1%3Bb", true},
		{"lone percent", "a=%", false},
		{"short escape", "a=%4", false},
		{"bad escape", "access_token=x%zz", false},
		{"bad second digit", "a=%4g", false},
		{"1000", strings.Repeat("a=1&", 999) + "a=1", true},
		{"1001", strings.Repeat("a=1&", 1000) + "a=1", false},
		{"1001 empty", strings.Repeat("&", 1000), false},
	}
	for _, tt := range tests {
		if got := queryParses(tt.raw); got != tt.want {
			t.Errorf("%s: queryParses = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzWithToken(f *testing.F) {
	for _, seed := range []string{"", "access_token=x", "a=1&Access%5Ftoken=2&b&&access_token", "&&", "a=%", "%61ccess_token", "access_token=x&access_token=y&c=;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := url.ParseQuery(raw); (err == nil) != queryParses(raw) && strings.Count(raw, "&") < maxParameters {
			t.Fatalf("queryParses(%q) = %v, url.ParseQuery says %v", raw, queryParses(raw), err)
		}
		if !queryParses(raw) {
			withToken(raw, "T") // must not panic
			return
		}
		got := withToken(raw, "T")
		// What an honest reader sees: one token, which is ours...
		values, err := url.ParseQuery(got)
		if err != nil {
			t.Fatalf("withToken(%q) = %q: %v", raw, got, err)
		}
		tokens := 0
		for name, of := range values {
			if asciiLower(name) == tokenParameter {
				tokens += len(of)
				if name != tokenParameter || of[0] != "T" {
					t.Errorf("withToken(%q) = %q", raw, got)
				}
			}
		}
		if tokens != 1 {
			t.Errorf("withToken(%q) = %q: %d tokens", raw, got, tokens)
		}
		// ...and all the rest as it was.
		if want := others(raw); others(got) != want {
			t.Errorf("withToken(%q) = %q: others %q, want %q", raw, got, others(got), want)
		}
		if again := withToken(got, "T"); again != got {
			t.Errorf("withToken twice = %q, want %q", again, got)
		}
	})
}

// others is a query without its access_tokens, by way of url.QueryUnescape.
func others(raw string) string {
	var kept []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil && asciiLower(plain) == tokenParameter {
			continue
		}
		kept = append(kept, pair)
	}
	text := strings.Join(kept, "&")
	return fmt.Sprintf("%q", text)
}

// asciiLower is not strings.ToLower: that takes the Kelvin sign for a k, which no name does.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func BenchmarkWithToken(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		withToken("openid=oABCDEFGHIJKLMN&lang=zh_CN&access_token=86_0123456789012345678901234567890123456789", testToken)
	}
}
