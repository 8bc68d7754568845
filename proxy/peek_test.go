package proxy

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPeekErrcode(t *testing.T) {
	tests := []struct {
		name  string
		text  string
		code  int
		state peeked
	}{
		{"ok", `{"errcode":0,"errmsg":"ok"}`, 0, present},
		{"dead token", `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 6"}`, 40001, present},
		{"busy", `{"errcode":-1,"errmsg":"system error"}`, -1, present},
		{"errcode only", `{"errcode":45009}`, 45009, present},
		{"leading blanks", "\r\n\t {\n  \"errcode\" : 42001 ,\"errmsg\":\"x\"}", 42001, present},
		{"string", `{"errcode":"40014","errmsg":""}`, 40014, present},
		{"negative string", `{"errcode":"-1"}`, -1, present},
		{"errmsg first", `{"errmsg":"ok","errcode":45009}`, 45009, present},
		{"errmsg with quotes", `{"errmsg":"a \"b\\\" c, {","errcode":45009}`, 45009, present},
		{"errmsg with control characters", "{\"errmsg\":\"a\x01\n\xffb\",\"errcode\":45009}", 45009, present},
		{"number first", `{"msgid":1234567890123,"errcode":0}`, 0, present},
		{"word first", `{"ok":true,"errcode":7}`, 7, present},
		{"wrapped", `{"base_resp":{"errcode":40001,"errmsg":"x"}}`, 40001, present},
		{"wrapped, errmsg first", `{"base_resp":{"errmsg":"x","errcode":40001}}`, 40001, present},
		{"escaped slashes", `{"errcode":40125,"errmsg":"view more at http:\/\/t.cn\/x"}`, 40125, present},
		{"third key", `{"a":"b","c":"d","errcode":1}`, 0, absent},
		{"a list", `{"data":[1],"errcode":1}`, 0, absent},
		{"wrapped twice", `{"base_resp":{"base_resp":{"errcode":1}}}`, 0, absent},
		{"in a string", `{"nickname":"\",\"errcode\":40001,\""}`, 0, absent},
		{"user", `{"subscribe":1,"openid":"o6"}`, 0, absent},
		{"array", `[{"errcode":1}]`, 0, absent},
		{"text", `errcode`, 0, absent},
		{"html", `<html>`, 0, absent},
		{"empty", ``, 0, absent},
		{"no digits", `{"errcode":}`, 0, absent},
		{"null", `{"errcode":null}`, 0, absent},
		{"fraction", `{"errcode":1.5}`, 0, absent},
		{"exponent", `{"errcode":1e3}`, 0, absent},
		{"huge", `{"errcode":12345678901234567890}`, 0, absent},
		{"long", `{"errcode":268546011001,"errmsg":""}`, 268546011001, present},
		{"long and negative", `{"errcode":-1000604102}`, -1000604102, present},
		{"string and text", `{"errcode":"40001x"}`, 0, absent},
		{"byte order mark", "\ufeff{\"errcode\":1}", 0, absent},
	}
	for _, tt := range tests {
		code, state := peekErrcode([]byte(tt.text), true)
		if int(code) != tt.code || state != tt.state {
			t.Errorf("%s: peekErrcode = %d, %d, want %d, %d", tt.name, code, state, tt.code, tt.state)
		}
		// However the bytes come, what was once said stays.
		for end := range len(tt.text) {
			code, state := peekErrcode([]byte(tt.text[:end]), false)
			if state != cut && (int(code) != tt.code || state != tt.state) {
				t.Errorf("%s: peekErrcode(%q) = %d, %d, want %d, %d", tt.name, tt.text[:end], code, state, tt.code, tt.state)
			}
		}
	}
	if _, state := peekErrcode([]byte(`{"errcode":4500`), true); state != absent {
		t.Errorf("peekErrcode of a whole answer without an end = %d, want %d", state, absent)
	}
}

func TestPeekRID(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{"errcode":40001,"errmsg":"invalid credential rid: 617682e0-09059ac5-34a8e2ea"}`, "617682e0-09059ac5-34a8e2ea"},
		{`{"errcode":48001,"errmsg":"api unauthorized, rid: 617682e0-09059ac5-34a8e2ea, hints"}`, "617682e0-09059ac5-34a8e2ea"},
		{`{"errcode":1,"errmsg":"rid: 617682e0-09059ac5-34a8`, ""},
		{`{"errcode":1,"errmsg":"rid: short"}`, ""},
		{`{"errcode":1,"errmsg":"rid: <script>"}`, ""},
		{`{"errcode":1,"errmsg":"rid: ` + strings.Repeat("a", 41) + `"}`, ""},
		{`{"errcode":0,"errmsg":"ok"}`, ""},
	}
	for _, tt := range tests {
		if got := peekRID([]byte(tt.text)); got != tt.want {
			t.Errorf("peekRID(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func FuzzPeekErrcode(f *testing.F) {
	for _, seed := range []string{
		`{"errcode":0,"errmsg":"ok"}`, `{"errmsg":"ok","errcode":"45009"}`, `{"base_resp":{"errcode":1}}`, `{"a":1e5,"errcode":-1 }`, `{"errcode":`, "\x1f\x8b", `{"a\`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		code, state := peekErrcode(b, true)
		if rid := peekRID(b); len(rid) > 40 {
			t.Errorf("peekRID(%q) = %q", b, rid)
		}
		unpack(b)
		for end := range b {
			if part, early := peekErrcode(b[:end], false); early != cut && (part != code || early != state) {
				t.Fatalf("peekErrcode(%q) = %d, %d, but of all of %q it is %d, %d", b[:end], part, early, b, code, state)
			}
		}
		if state != present || !json.Valid(b) {
			return
		}
		// In JSON that is JSON the code is really there.
		var answer struct {
			Errcode json.RawMessage
			Base    struct{ Errcode json.RawMessage } `json:"base_resp"`
		}
		if json.Unmarshal(b, &answer) != nil {
			return
		}
		if len(answer.Errcode) == 0 && len(answer.Base.Errcode) == 0 {
			t.Errorf("peekErrcode(%q) = %d, encoding/json finds none", b, code)
		}
	})
}

func BenchmarkPeekErrcode(b *testing.B) {
	text := []byte(okText)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = peekErrcode(text, true)
	}
}
