package token_test

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wxproxy/token"
	facts "wxproxy/wechat"
)

var mutations = flag.Int("mutations", 200_000, "how many changed proxy tokens TestReadMutated reads")

const (
	shopID = "wx0123456789abcdef"
	blogID = "wxfedcba9876543210"

	shopSecret, shopOld = "canary-shop-new", "canary-shop-old"
	blogSecret          = "canary-blog"
	crmKey, crmOld      = "canary-crm-new", "canary-crm-old"
	payKey              = "canary-pay"
)

// noon is when the tokens of these tests are issued.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 123, time.UTC)

func newKeyring(tb testing.TB, accounts []token.Account, callers ...token.Caller) *token.Keyring {
	tb.Helper()
	k, err := token.NewKeyring(accounts, callers)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// rotating has two secrets of one app and two keys of one caller. crm may call for both apps, pay
// for blog only.
func rotating(tb testing.TB) *token.Keyring {
	tb.Helper()
	return newKeyring(tb,
		[]token.Account{{AppID: shopID, Secrets: []string{shopSecret, shopOld}}, {AppID: blogID, Secrets: []string{blogSecret}}},
		token.Caller{Name: "crm", Keys: []string{crmKey, crmOld}, Apps: []string{shopID, blogID}},
		token.Caller{Name: "pay", Keys: []string{payKey}, Apps: []string{blogID}},
	)
}

func issue(tb testing.TB, k *token.Keyring, appid, secret string) string {
	tb.Helper()
	shown, _, err := k.Issue(appid, secret, noon)
	if err != nil {
		tb.Fatalf("Issue(%s): %v", appid, err)
	}
	return shown
}

// denied returns the errcode and whether the token is foreign, as package proxy finds them.
func denied(tb testing.TB, err error) (errcode int, foreign bool) {
	tb.Helper()
	if err == nil {
		return 0, false
	}
	for _, canary := range []string{"canary", "wxp1"} {
		if text := fmt.Sprintf("%s %+v %#v", err, err, err); strings.Contains(text, canary) {
			tb.Errorf("error %s tells %s", text, canary)
		}
	}
	if errors.Is(err, facts.ErrUnknownToken) {
		return int(facts.Unauthorized), true
	}
	code, ok := errors.AsType[facts.Errcode](fmt.Errorf("wrapped: %w", err))
	if !ok {
		tb.Fatalf("error %T has no errcode", err)
	}
	return int(code), false
}

func TestIssue(t *testing.T) {
	k := rotating(t)
	tests := []struct {
		name          string
		appid, secret string
		caller        string
		errcode       int
	}{
		{"AppSecret", shopID, shopSecret, "", 0},
		{"old AppSecret", shopID, shopOld, "", 0},
		{"caller's key", shopID, crmKey, "crm", 0},
		{"caller's old key", shopID, crmOld, "crm", 0},
		{"caller's other app", blogID, crmKey, "crm", 0},
		{"unknown appid", "wx0", shopSecret, "", 40013},
		{"no appid", "", shopSecret, "", 40013},
		{"another app's AppSecret", shopID, blogSecret, "", 40125},
		{"nobody's key", shopID, "canary", "", 40125},
		{"no secret", shopID, "", "", 40125},
		{"longer secret", shopID, shopSecret + "x", "", 40125},
		{"shorter secret", shopID, shopSecret[:len(shopSecret)-1], "", 40125},
		{"caller of another app", shopID, payKey, "pay", 48001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			shown, caller, err := k.Issue(tt.appid, tt.secret, noon)
			if code, _ := denied(t, err); code != tt.errcode || caller != tt.caller {
				t.Fatalf("Issue = caller %q, errcode %d (%v), want %q, %d", caller, code, err, tt.caller, tt.errcode)
			}
			if tt.errcode != 0 {
				if shown != "" {
					t.Errorf("Issue = a token beside the error %v", err)
				}
				return
			}
			if n := len(shown); n <= 32 || n > 512 || url.QueryEscape(shown) != shown {
				t.Errorf("Issue = %q of %d bytes, want 33 to 512 that a query takes as they are", shown, n)
			}
			appid, caller, err := k.Read(shown, noon)
			if appid != tt.appid || caller != tt.caller || err != nil {
				t.Errorf("Read = %q, %q, %v, want %q, %q", appid, caller, err, tt.appid, tt.caller)
			}
		})
	}
}

// The longest names there can be still make a token that every SDK can keep.
func TestIssueLongest(t *testing.T) {
	appid, name := strings.Repeat("a", 64), strings.Repeat("n", 128)
	k := newKeyring(t, []token.Account{{AppID: appid, Secrets: []string{"s"}}}, token.Caller{Name: name, Keys: []string{"k"}, Apps: []string{appid}})
	shown := issue(t, k, appid, "k")
	if a, c, err := k.Read(shown, noon); len(shown) > 512 || a != appid || c != name || err != nil {
		t.Errorf("Read of %d bytes = %q, %q, %v", len(shown), a, c, err)
	}
	k = newKeyring(t, []token.Account{{AppID: "a", Secrets: []string{"s"}}})
	if shown = issue(t, k, "a", "s"); len(shown) <= 32 {
		t.Errorf("the shortest token has %d bytes, want more than 32", len(shown))
	}
}

// The format is in every service's cache: what a version of ours has issued the next has to read.
func TestIssueFormat(t *testing.T) {
	k := newKeyring(t, []token.Account{{AppID: shopID, Secrets: []string{"0123456789abcdef0123456789abcdef"}}},
		token.Caller{Name: "crm", Keys: []string{"a key of its own"}, Apps: []string{shopID}})
	for secret, want := range map[string]string{
		"0123456789abcdef0123456789abcdef": goldenNobody,
		"a key of its own":                 goldenCaller,
	} {
		if got := issue(t, k, shopID, secret); got != want {
			t.Errorf("Issue = %s, want %s", got, want)
		}
	}
}

const (
	goldenNobody = "wxp1.End4MDEyMzQ1Njc4OWFiY2RlZgAAAAAAawQqwA.XqTf-b9lMspxT6Zn1YQPz-5pIdelNv55HxOMSmcFIjJ2E5Qj"
	goldenCaller = "wxp1.End4MDEyMzQ1Njc4OWFiY2RlZgNjcm0AAAAAawQqwA.1vF1XxnQx-s2ClVGtz78TqsMlMxVUvT_2Z3zK281eJeBdCOs"
)

// handMade is what design and RFC 5869 say of a token, told once more.
func handMade(tb testing.TB, appid, caller string, issued int64, secret, key string) string {
	tb.Helper()
	field := func(s string) string { return string(rune(len(s))) + s } // below 128
	extract := func(secret, salt string) string {
		b, err := hkdf.Extract(sha256.New, []byte(secret), []byte(salt))
		if err != nil {
			tb.Fatal(err)
		}
		return string(b)
	}
	material := extract(secret, "wxproxy: AppSecret")
	if key != "" {
		material += extract(key, "wxproxy: key of a caller")
	}
	derive := func(info string, n int) []byte {
		b, err := hkdf.Key(sha256.New, []byte(material), nil, field(info)+field(appid)+field(caller), n)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	payload := binary.BigEndian.AppendUint64([]byte(field(appid)+field(caller)), uint64(issued))
	text := "wxp1." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, derive("wxproxy: proxy token 1: MAC", 32))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(append(derive("wxproxy: proxy token 1: key id", 4), mac.Sum(nil)...))
}

// seal puts the payload of one token before the seal of another.
func seal(payloadOf, sealOf string) string {
	return payloadOf[:strings.LastIndexByte(payloadOf, '.')] + sealOf[strings.LastIndexByte(sealOf, '.'):]
}

func TestRead(t *testing.T) {
	k := rotating(t)
	own, crm := issue(t, k, shopID, shopSecret), issue(t, k, shopID, crmKey)
	at := noon.Unix()
	day := 24 * time.Hour
	other := newKeyring(t,
		[]token.Account{{AppID: shopID, Secrets: []string{"another"}}, {AppID: "wx9", Secrets: []string{"x"}}},
		token.Caller{Name: "crm", Keys: []string{"x2"}, Apps: []string{shopID}},
		token.Caller{Name: "pay", Keys: []string{"x3"}, Apps: []string{shopID}},
		token.Caller{Name: "erp", Keys: []string{"x4"}, Apps: []string{shopID}},
	)
	raw := func(payload string) string {
		return seal("wxp1."+base64.RawURLEncoding.EncodeToString([]byte(payload))+".", own)
	}
	tests := []struct {
		name    string
		shown   string
		age     time.Duration
		caller  string
		errcode int
	}{
		{name: "an app's", shown: own},
		{name: "a caller's", shown: crm, caller: "crm"},
		{name: "made by hand, of the old secret", shown: handMade(t, shopID, "", at, shopOld, "")},
		{name: "made by hand, of the old secret and key", shown: handMade(t, shopID, "crm", at, shopOld, crmOld), caller: "crm"},
		{name: "at the end of its day", shown: crm, age: day - time.Second, caller: "crm"},
		{name: "a day old", shown: crm, age: day, errcode: 42001},
		{name: "a month old", shown: own, age: 30 * day, errcode: 42001},
		{name: "issued in 5 minutes", shown: own, age: -5 * time.Minute},
		{name: "issued in more than 5 minutes", shown: own, age: -5*time.Minute - time.Second, errcode: 48001},

		{name: "of a replaced AppSecret", shown: issue(t, other, shopID, "another"), errcode: 42001},
		{name: "of a replaced AppSecret, a day old", shown: issue(t, other, shopID, "another"), age: day, errcode: 42001},
		{name: "of a replaced AppSecret, issued tomorrow", shown: issue(t, other, shopID, "another"), age: -day, errcode: 48001},
		{name: "of a replaced key", shown: handMade(t, shopID, "crm", at, shopSecret, "x2"), errcode: 42001},
		{name: "of a caller's replaced AppSecret", shown: handMade(t, shopID, "crm", at, "another", crmKey), errcode: 42001},
		{name: "a caller's without its key", shown: handMade(t, shopID, "crm", at, shopSecret, ""), errcode: 42001},

		{name: "of an unknown app", shown: issue(t, other, "wx9", "x"), errcode: 48001},
		{name: "of an unknown caller", shown: issue(t, other, shopID, "x4"), errcode: 48001},
		{name: "of a caller that may not", shown: issue(t, other, shopID, "x3"), errcode: 48001},
		{name: "of a caller that may not, with the right keys", shown: handMade(t, shopID, "pay", at, shopSecret, payKey), caller: "pay"},
		{name: "another app's seal", shown: seal(crm, issue(t, k, blogID, crmKey)), errcode: 42001}, // that key id is unknown here
		{name: "another caller's seal", shown: seal(issue(t, k, blogID, crmKey), issue(t, k, blogID, payKey)), errcode: 42001},
		{name: "the app's seal for a caller", shown: seal(crm, own), errcode: 42001},
		{name: "a caller's seal for the app", shown: seal(own, crm), errcode: 42001},
		{name: "an older token's seal", shown: seal(own, handMade(t, shopID, "", at-1, shopSecret, "")), errcode: 48001},
		{name: "a day old and forged", shown: seal(own, handMade(t, shopID, "", at-1, shopSecret, "")), age: day, errcode: 48001},

		{name: "no seal", shown: own[:strings.LastIndexByte(own, '.')], errcode: 48001},
		{name: "empty seal", shown: own[:strings.LastIndexByte(own, '.')+1], errcode: 48001},
		{name: "truncated", shown: own[:len(own)-1], errcode: 48001},
		{name: "padded", shown: own + "=", errcode: 48001},
		{name: "followed by more", shown: own + "A", errcode: 48001},
		{name: "followed by a line end", shown: own + "\n", errcode: 48001},
		{name: "a line end in the seal", shown: own[:len(own)-1] + "\n", errcode: 48001},
		{name: "a line end in the payload", shown: "wxp1.\n" + own[5:], errcode: 48001},
		{name: "padded payload", shown: seal(own[:strings.LastIndexByte(own, '.')]+"=.", own), errcode: 48001},
		{name: "three dots", shown: own + "." + own[len(own)-48:], errcode: 48001},
		{name: "only a prefix", shown: "wxp1.", errcode: 48001},
		{name: "very long", shown: "wxp1." + strings.Repeat("A", 1<<20), errcode: 48001},
		{name: "long, with a seal", shown: seal("wxp1."+strings.Repeat("A", 500)+".", own), errcode: 48001},
		{name: "empty payload", shown: raw(""), errcode: 48001},
		{name: "payload of one length", shown: raw("\x05"), errcode: 48001},
		{name: "payload without a caller", shown: raw("\x01a"), errcode: 48001},
		{name: "payload without a time", shown: raw("\x01a\x00"), errcode: 48001},
		{name: "payload with more behind", shown: raw("\x12" + shopID + "\x0012345678" + "x"), errcode: 48001},
		{name: "time before all times", shown: raw("\x12" + shopID + "\x00\xff\xff\xff\xff\xff\xff\xff\xff"), errcode: 48001},
		{name: "time before all times, of a replaced AppSecret", shown: seal(raw("\x12"+shopID+"\x00\xff\xff\xff\xff\xff\xff\xff\xff"), issue(t, other, shopID, "another")), errcode: 48001},
		{name: "time after all times", shown: raw("\x12" + shopID + "\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), errcode: 48001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			appid, caller, err := k.Read(tt.shown, noon.Add(tt.age))
			code, foreign := denied(t, err)
			want := shopID
			if tt.errcode != 0 {
				want = ""
			}
			if code != tt.errcode || foreign || appid != want || caller != tt.caller {
				t.Errorf("Read = %q, %q, errcode %d, foreign %v (%v), want %q, %q, %d", appid, caller, code, foreign, err, want, tt.caller, tt.errcode)
			}
		})
	}
}

func TestReadForeign(t *testing.T) {
	k := rotating(t)
	own := issue(t, k, shopID, shopSecret)
	for _, shown := range []string{"", "x", "57_" + strings.Repeat("x", 120), "wxp1", "WXP1" + own[4:], "wxp2" + own[4:], " " + own, own[5:]} {
		_, _, err := k.Read(shown, noon)
		if code, foreign := denied(t, err); code != 48001 || !foreign || !errors.Is(err, token.ErrNotOurs) {
			t.Errorf("Read(%.12q) = %v, want ErrNotOurs", shown, err)
		}
	}
}

// While [new, old] is configured whatever either has signed is good, and the new signs. A gateway
// that has one of them only reads what it can and asks the rest to fetch again.
func TestKeyringRotation(t *testing.T) {
	ring := func(keys []string, secrets ...string) *token.Keyring {
		return newKeyring(t, []token.Account{{AppID: shopID, Secrets: secrets}}, token.Caller{Name: "crm", Keys: keys, Apps: []string{shopID}})
	}
	both := ring([]string{crmKey, crmOld}, shopSecret, shopOld)
	for _, secret := range []string{shopSecret, shopOld} {
		for _, key := range []string{crmKey, crmOld} {
			one := ring([]string{key}, secret)
			for _, shows := range []string{secret, key} {
				shown := issue(t, one, shopID, shows)
				_, want, err := one.Read(shown, noon)
				if err != nil {
					t.Fatal(err)
				}
				if _, caller, err := both.Read(shown, noon); caller != want || err != nil {
					t.Errorf("a token of %s and %s: Read = %q, %v, want %q", secret, key, caller, err, want)
				}
				again := issue(t, both, shopID, shows)
				_, _, err = one.Read(again, noon)
				code, _ := denied(t, err)
				wantCode := 42001
				if secret == shopSecret && (shows == secret || key == crmKey) {
					wantCode = 0
				}
				if code != wantCode {
					t.Errorf("a token of both, for %s, where only %s and %s are: errcode %d, want %d", shows, secret, key, code, wantCode)
				}
			}
		}
	}
	if got, want := issue(t, both, shopID, crmOld), issue(t, both, shopID, crmKey); got != want {
		t.Errorf("the old key gets a token signed otherwise than the new one")
	}
}

func TestKeyringCaller(t *testing.T) {
	k := rotating(t)
	for key, want := range map[string]string{crmKey: "crm", crmOld: "crm", payKey: "pay", "": "", "canary": "", shopSecret: ""} {
		if got, ok := k.Caller(key); got != want || ok != (want != "") {
			t.Errorf("Caller(%s) = %q, %v, want %q", key, got, ok, want)
		}
	}
	for _, tt := range []struct {
		caller, appid string
		want          bool
	}{{"crm", shopID, true}, {"crm", blogID, true}, {"pay", blogID, true}, {"pay", shopID, false}, {"pay", "", false}, {"", shopID, false}, {"erp", shopID, false}} {
		if got := k.May(tt.caller, tt.appid); got != tt.want {
			t.Errorf("May(%q, %q) = %v, want %v", tt.caller, tt.appid, got, tt.want)
		}
	}
}

func TestNewKeyringFaults(t *testing.T) {
	shop := token.Account{AppID: shopID, Secrets: []string{"canary-1"}}
	tests := []struct {
		name     string
		accounts []token.Account
		callers  []token.Caller
		want     string
	}{
		{name: "nothing"},
		{name: "an app alone", accounts: []token.Account{shop}},
		{name: "a key twice in one caller", accounts: []token.Account{shop}, callers: []token.Caller{{Name: "crm", Keys: []string{"k", "k"}}}},
		{name: "two apps of one secret", accounts: []token.Account{shop, {AppID: blogID, Secrets: []string{"canary-1"}}}},
		{name: "no appid", accounts: []token.Account{{Secrets: []string{"s"}}}, want: `appid "": want 1 to 64 bytes`},
		{name: "long appid", accounts: []token.Account{{AppID: strings.Repeat("a", 65), Secrets: []string{"s"}}}, want: `appid "` + strings.Repeat("a", 65) + `": want 1 to 64 bytes`},
		{name: "no secret", accounts: []token.Account{{AppID: "wx1"}}, want: "app wx1: no secret"},
		{name: "empty secret", accounts: []token.Account{{AppID: "wx1", Secrets: []string{"canary", ""}}}, want: "app wx1: secret 2 is empty"},
		{name: "app twice", accounts: []token.Account{shop, shop}, want: "app " + shopID + ": configured twice"},
		{name: "no name", callers: []token.Caller{{Keys: []string{"k"}}}, want: `caller "": want a name of 1 to 128 bytes`},
		{name: "no key", callers: []token.Caller{{Name: "crm"}}, want: "caller crm: no key"},
		{name: "empty key", callers: []token.Caller{{Name: "crm", Keys: []string{""}}}, want: "caller crm: key 1 is empty"},
		{name: "caller twice", callers: []token.Caller{{Name: "crm", Keys: []string{"k"}}, {Name: "crm", Keys: []string{"l"}}}, want: "caller crm: configured twice"},
		{name: "unknown app", callers: []token.Caller{{Name: "crm", Keys: []string{"k"}, Apps: []string{"wx1"}}}, want: `caller crm: app "wx1" is not configured`},
		{name: "one key of two callers", callers: []token.Caller{{Name: "crm", Keys: []string{"canary"}}, {Name: "pay", Keys: []string{"k", "canary"}}}, want: "caller pay: key 2 is also a key of crm"},
		{name: "an AppSecret for a key", accounts: []token.Account{shop}, callers: []token.Caller{{Name: "crm", Keys: []string{"canary-1"}}}, want: "caller crm: key 1 is an AppSecret of " + shopID},
		{name: "all at once", accounts: []token.Account{{AppID: "wx1"}}, callers: []token.Caller{{Name: "crm"}}, want: "app wx1: no secret\ncaller crm: no key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := token.NewKeyring(tt.accounts, tt.callers)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || (k == nil) != (err != nil) {
				t.Errorf("NewKeyring = %v, %q, want %q", k, got, tt.want)
			}
		})
	}
}

// Whatever is printed, no secret and nothing made of one is in it.
func TestKeyringIsNotPrinted(t *testing.T) {
	k := rotating(t)
	hash := sha256.Sum256([]byte(shopSecret))
	a := token.Account{AppID: shopID, Secrets: []string{shopSecret}}
	c := token.Caller{Name: "crm", Keys: []string{crmKey}, Apps: []string{shopID}}
	for _, v := range []any{k, a, &a, c, &c, []token.Account{a}, map[string]token.Caller{"crm": c}, struct{ K *token.Keyring }{k}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			text := fmt.Sprintf(format, v)
			for _, bad := range []string{"canary", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%d", hash[:3]), fmt.Sprintf("%x", hash[:3])} {
				if strings.Contains(text, strings.Trim(bad, "[]")) {
					t.Errorf("%s of %T is %s", format, v, text)
				}
			}
		}
	}
}

// mutate changes a token in one of the ways that strangers would. It may give back the same.
func mutate(r *rand.Rand, shown string, others []string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\x00\xff"
	b := []byte(shown)
	for range 1 + r.IntN(3) {
		if len(b) == 0 {
			return ""
		}
		i := r.IntN(len(b))
		switch r.IntN(8) {
		case 0:
			b[i] = alphabet[r.IntN(len(alphabet))]
		case 1:
			b[i] ^= 1 << r.IntN(8)
		case 2:
			b = append(b[:i], b[i+1:]...)
		case 3:
			b = append(b[:i], append([]byte{alphabet[r.IntN(len(alphabet))]}, b[i:]...)...)
		case 4:
			b = b[:i]
		case 5: // another token's end
			o := others[r.IntN(len(others))]
			b = append(b[:i], o[min(i, len(o)):]...)
		case 6: // another payload under the same seal, or none
			if dot := strings.LastIndexByte(string(b), '.'); dot > 5 {
				payload, _ := base64.RawURLEncoding.DecodeString(string(b[5:dot]))
				if len(payload) > 0 {
					payload[r.IntN(len(payload))] ^= byte(1 + r.IntN(255))
				}
				b = append([]byte("wxp1."+base64.RawURLEncoding.EncodeToString(payload)), b[dot:]...)
			}
		case 7: // the last character of either half, whose last bits could be spare
			for _, at := range []int{len(b) - 1, strings.LastIndexByte(string(b), '.') - 1} {
				if at > 0 && r.IntN(2) == 0 {
					b[at] = alphabet[r.IntN(64)]
				}
			}
		}
	}
	return string(b)
}

// No change to a token makes another one, and every refusal has one of the two errcodes.
func TestReadMutated(t *testing.T) {
	k := rotating(t)
	valid := map[string]bool{}
	var tokens []string
	for _, appid := range []string{shopID, blogID} {
		for _, secret := range []string{shopSecret, blogSecret, crmKey, payKey} {
			if shown, _, err := k.Issue(appid, secret, noon); err == nil {
				valid[shown] = true
				tokens = append(tokens, shown)
			}
		}
	}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			codes := map[int]int{}
			for range *mutations / workers {
				shown := mutate(r, tokens[r.IntN(len(tokens))], tokens)
				appid, _, err := k.Read(shown, noon)
				if err == nil {
					if !valid[shown] {
						t.Errorf("Read(%q) = %s, want it refused", shown, appid)
					}
					codes[0]++
					continue
				}
				code, _ := denied(t, err)
				if code != 48001 && code != 42001 {
					t.Errorf("Read(%q) = %v, want a *Denied with 48001 or 42001", shown, err)
					return
				}
				codes[code]++
			}
			t.Logf("errcode: tokens: %v", codes)
		})
	}
	wg.Wait()
}

func FuzzRead(f *testing.F) {
	k := rotating(f)
	own, crm := issue(f, k, shopID, shopSecret), issue(f, k, shopID, crmKey)
	for _, seed := range []string{
		own, crm, issue(f, k, blogID, payKey), handMade(f, shopID, "crm", noon.Unix(), shopOld, crmOld), seal(crm, own), "", "wxp1.", "wxp1..", own[:80], own + "=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, shown string) {
		appid, caller, err := k.Read(shown, noon)
		if err != nil {
			code, foreign := denied(t, err)
			if foreign == strings.HasPrefix(shown, "wxp1.") || code != 48001 && code != 42001 {
				t.Errorf("Read(%q) = errcode %d, foreign %v", shown, code, foreign)
			}
			return
		}
		// It is good: then it is the one token there is of this time and these keys.
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(shown, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		issued := int64(binary.BigEndian.Uint64(payload[len(payload)-8:]))
		for _, secret := range []string{shopSecret, shopOld, blogSecret} {
			for _, key := range []string{"", crmKey, crmOld, payKey} {
				if (key == "") == (caller == "") && handMade(t, appid, caller, issued, secret, key) == shown {
					return
				}
			}
		}
		t.Errorf("Read(%q) = %s, %q, which nobody issued", shown, appid, caller)
	})
}

// Ten thousand apps are read from a file and are there at once.
func TestKeyringOfManyApps(t *testing.T) {
	var accounts []token.Account
	caller := token.Caller{Name: "crm", Keys: []string{crmKey, crmOld}}
	for i := range 10_000 {
		appid := fmt.Sprintf("wx%016x", i)
		accounts = append(accounts, token.Account{AppID: appid, Secrets: []string{"new" + appid, "old" + appid}})
		caller.Apps = append(caller.Apps, appid)
	}
	began := time.Now()
	k := newKeyring(t, accounts, caller)
	took := time.Since(began)
	t.Logf("10,000 apps with two secrets each took %s", took)
	if took > 5*time.Second { // many times what it takes, for a busy machine under the race detector
		t.Errorf("10,000 apps took %s", took)
	}
	var wg sync.WaitGroup // whoever comes first derives the keys
	for range 8 {
		wg.Go(func() {
			for i := 0; i < 10_000; i += 100 {
				appid := fmt.Sprintf("wx%016x", i)
				if got, caller, err := k.Read(issue(t, k, appid, crmKey), noon); got != appid || caller != "crm" || err != nil {
					t.Errorf("Read = %q, %q, %v, want %q", got, caller, err, appid)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkNewKeyring10000(b *testing.B) {
	var accounts []token.Account
	for i := range 10_000 {
		accounts = append(accounts, token.Account{AppID: fmt.Sprintf("wx%016x", i), Secrets: []string{fmt.Sprintf("%032x", i)}})
	}
	b.ReportAllocs()
	for b.Loop() {
		newKeyring(b, accounts)
	}
}

func BenchmarkIssue(b *testing.B) {
	k := rotating(b)
	b.ReportAllocs()
	for b.Loop() {
		issue(b, k, shopID, crmKey)
	}
}

func BenchmarkRead(b *testing.B) {
	k := rotating(b)
	own, crm := issue(b, k, shopID, shopSecret), issue(b, k, shopID, crmKey)
	oldest := handMade(b, shopID, "crm", noon.Unix(), shopOld, crmOld)
	forged := crm[:len(crm)-1] + "A"
	for _, bb := range []struct{ name, shown string }{{"app", own}, {"caller", crm}, {"caller of old keys", oldest}, {"forged", forged}, {"foreign", strings.Repeat("x", 136)}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = k.Read(bb.shown, noon)
			}
		})
	}
}
