package token

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// However the calls come, no window sees more than it may, and none come too close.
func TestAllowanceHolds(t *testing.T) {
	for _, tt := range []struct {
		name string
		a    allowance
	}{{"stable", stableAllowance}, {"classic", classicAllowance}} {
		t.Run(tt.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
				var past, all []int64
				for _, wait := range rapid.SliceOfN(rapid.Int64Range(0, int64(tt.a.window/8)), 1, 100).Draw(t, "waits") {
					now = now.Add(time.Duration(wait))
					at := tt.a.next(now, past)
					if rapid.Bool().Draw(t, "patient") && at.After(now) {
						now = at
					}
					if tt.a.next(now, past).After(now) {
						continue
					}
					past = append(tt.a.recent(now, past), now.UnixMilli())
					all = append(all, now.UnixMilli())
				}
				if len(past) > tt.a.most {
					t.Fatalf("%d are kept, want at most %d", len(past), tt.a.most)
				}
				for i := range all {
					if i > 0 && all[i]-all[i-1] < tt.a.gap.Milliseconds() {
						t.Fatalf("two within %d ms", all[i]-all[i-1])
					}
					if j := i - tt.a.most; j >= 0 && all[i]-all[j] < tt.a.window.Milliseconds() {
						t.Fatalf("%d within %d ms", tt.a.most+1, all[i]-all[j])
					}
				}
			})
		})
	}
}

func TestAllowanceIgnoresWrongClocks(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	past := []int64{0, now.Add(-25 * time.Hour).UnixMilli(), now.Add(time.Hour * 24 * 365).UnixMilli()}
	if got := stableAllowance.next(now, past); got.After(now) {
		t.Errorf("next = %s, want at once", got)
	}
}

func TestRecordSurvivesTheStore(t *testing.T) {
	who := asker{"wx1", "id", "gateway"}
	now := time.UnixMilli(1795400000123)
	var r record
	r.put(&live{token: "T", fetched: now, ends: now.Add(2 * time.Hour)}, "a")
	r.Dead, r.Forced = digest("dead"), []int64{1, 2}
	_ = r.refuse(now, who, &Rejected{ErrCode: 40164, IP: "192.0.2.1", answer: []byte("{}\xff")})
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got := parse[record](raw)
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("parse (-want +got):\n%s", diff)
	}
	if strings.Contains(string(raw), "dead\":\"dead") || strings.Contains(string(raw), `"s"`) {
		t.Errorf("record %s tells a secret", raw)
	}
}

func TestRecordLive(t *testing.T) {
	now := time.UnixMilli(1795400000000)
	tests := []struct {
		name string
		r    record
		want bool
	}{
		{"good", record{Token: "T", Ends: now.Add(time.Minute).UnixMilli()}, true},
		{"none", record{Ends: now.Add(time.Minute).UnixMilli()}, false},
		{"ended", record{Token: "T", Ends: now.UnixMilli()}, false},
		{"refused", record{Token: "T", Dead: digest("T"), Ends: now.Add(time.Minute).UnixMilli()}, false},
		{"another was refused", record{Token: "T", Dead: digest("S"), Ends: now.Add(time.Minute).UnixMilli()}, true},
		{"ends too late", record{Token: "T", Ends: now.Add(25 * time.Hour).UnixMilli()}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.r.live(now) != nil; got != tt.want {
				t.Errorf("live = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBlocked(t *testing.T) {
	now := time.UnixMilli(1795400000000)
	tests := []struct {
		name   string
		secret string
		id     string
		code   int
		after  time.Duration
		want   bool
	}{
		{"just now", "id", "b", 40125, 0, true},
		{"nearly over", "id", "b", 40125, 9999 * time.Millisecond, true},
		{"over", "id", "b", 40125, 10 * time.Second, false},
		{"another secret", "other", "b", 40125, 0, false},
		{"over for another address", "id", "b", 40164, 10 * time.Second, false},
		{"not yet over for the address that was refused", "id", "a", 40164, 10 * time.Second, true},
		{"over for the address that was refused", "id", "a", 40164, 10*time.Second + headStart, false},
		{"a clock that is wrong", "id", "b", 40125, -time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r record
			_ = r.refuse(now, asker{"wx1", tt.secret, "a"}, &Rejected{ErrCode: tt.code})
			if got := r.blocked(now.Add(tt.after), asker{"wx1", "id", tt.id}) != nil; got != tt.want {
				t.Errorf("blocked = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBackOff(t *testing.T) {
	who := asker{"wx1", "id", "a"}
	now := time.UnixMilli(1795400000000)
	var r record
	var got []time.Duration
	for _, code := range []int{40125, 40125, 45009, 40125, 40125, 40125, 40125, 40125} {
		got = append(got, r.refuse(now, who, &Rejected{ErrCode: code}).Until.Sub(now))
	}
	want := []time.Duration{
		10 * time.Second, 20 * time.Second, time.Minute, 40 * time.Second, 80 * time.Second,
		160 * time.Second, 5 * time.Minute, 5 * time.Minute,
	}
	if !slices.Equal(got, want) {
		t.Errorf("back-off %s, want %s", got, want)
	}
	if got := r.refuse(now, asker{"wx1", "new", "a"}, &Rejected{ErrCode: 40125}).Until.Sub(now); got != 10*time.Second {
		t.Errorf("back-off of a new secret %s, want 10 s", got)
	}
}

func TestAddressIn(t *testing.T) {
	tests := []struct{ errmsg, want string }{
		{"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 617682e0-1-2", "203.0.113.9"},
		{"invalid ip 2001:db8::1, not in whitelist", "2001:db8::1"},
		{"invalid ip 203.0.113.9, not in whitelist hint: [x]", "203.0.113.9"},
		{"invalid ip 999.0.113.9", ""},
		{"invalid ip", ""},
		{"ip <script>", ""},
	}
	for _, tt := range tests {
		if got := addressIn(40164, tt.errmsg); got != tt.want {
			t.Errorf("addressIn(%q) = %q, want %q", tt.errmsg, got, tt.want)
		}
	}
	if got := addressIn(40125, tests[0].errmsg); got != "" {
		t.Errorf("addressIn of another errcode = %q, want none", got)
	}
}

// Whatever WeChat, or somebody in between, answers: a token that goes into queries is harmless,
// and no error quotes the answer.
func FuzzParseAnswer(f *testing.F) {
	f.Add(`{"access_token":"abc","expires_in":7200}`)
	f.Add(`{"access_token":"abc","expires_in":"7200","errcode":null}`)
	f.Add(`{"errcode":40164,"errmsg":"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist"}`)
	f.Add(`{"errcode":-1}`)
	f.Add(`<html>`)
	a := App{AppID: "wx1", Secret: "c4n4ry"}
	f.Fuzz(func(t *testing.T, body string) {
		token, lifetime, err := parseAnswer(a, []byte(body))
		r, refused := errors.AsType[*Rejected](err)
		switch {
		case err == nil:
			if !validToken(token) || lifetime <= 0 || lifetime > longest {
				t.Errorf("token %q for %s", token, lifetime)
			}
		case refused:
			if r.ErrCode == 0 || r.ErrCode == -1 || len(r.answer) > 4<<10 || strings.Contains(string(r.answer), a.Secret) {
				t.Errorf("%+v with answer %q", r, r.answer)
			}
		case len(err.Error()) > 100:
			t.Errorf("error %v: that long?", err)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"token":"T","fetched_ms":1,"ends_ms":2,"dead":"x","forced_ms":[1],"block":{"errcode":1,"until_ms":3,"step":-9}}`))
	f.Add([]byte(`{"block":{"step":9223372036854775807}}`))
	now := time.UnixMilli(1795400000000)
	who := asker{appid: "wx1", gateway: "a"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := parse[record](raw)
		if l := r.live(now); l != nil && (!validToken(l.token) || l.renewAt(early).After(l.ends)) {
			t.Errorf("live %+v", l)
		}
		if e := r.blocked(now, who); e != nil && e.Until.Sub(now) > maxBackOff+headStart {
			t.Errorf("blocked until %s", e.Until)
		}
		if at := stableAllowance.next(now, r.Forced); at.Sub(now) > 48*time.Hour {
			t.Errorf("the next in %s", at.Sub(now))
		}
		if e := r.refuse(now, who, &Rejected{ErrCode: 40125}); e.Until.Sub(now) > maxBackOff || e.Until.Before(now) {
			t.Errorf("refused until %s", e.Until)
		}
	})
}
