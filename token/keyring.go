package token

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"

	"wxproxy/wechat"
)

const (
	// acceptedSeconds is how long a proxy token is accepted: two SDKs never look at expires_in.
	acceptedSeconds = 24 * 60 * 60

	// clockSkewSeconds is how far the clock of the gateway that issued a token may be ahead of ours.
	clockSkewSeconds = 5 * 60
)

// A proxy token is
//
//	wxp1.PAYLOAD.SEAL
//
// PAYLOAD is base64url of a byte with the length of the appid, the appid, the same for the name
// of the caller, which is empty for nobody, and 8 bytes with the time of issue in Unix seconds.
// SEAL is base64url of 4 bytes that tell the key, and the HMAC-SHA256 of all that is before the
// second dot, under that key. Two spellings of one payload are two payloads to the MAC.
const (
	proxyTokenPrefix  = "wxp1."
	maxAppIDBytes     = 64  // as in package store
	maxCallerBytes    = 128 // so that a token has at most 5 + 270 + 1 + 48 bytes; SDKs keep 512
	keyIDBytes        = 4
	sealBytes         = keyIDBytes + sha256.Size
	sealTextBytes     = sealBytes / 3 * 4
	maxPayloadBytes   = 1 + maxAppIDBytes + 1 + maxCallerBytes + 8
	latestIssueSecond = 1 << 40
)

// Account is an app and the AppSecrets that prove who may call for it. However it is printed,
// they are not.
type Account struct {
	AppID   string
	Secrets []string // the newest first
}

// Format implements fmt.Formatter.
func (a Account) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s}", a.AppID) }

// Caller is a service, the keys that prove that it is, and the apps that it may call for. However
// it is printed, the keys are not.
type Caller struct {
	Name string
	Keys []string // the newest first
	Apps []string // appids

	ThirdParty bool // a third-party platform
}

// Format implements fmt.Formatter.
func (c Caller) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s %q}", c.Name, c.Apps) }

// Denied is the error of Issue and Read.
//
//nolint:errname // token.Denied says it; token.DeniedError would say it twice
type Denied struct {
	err    error // a wechat.Errcode, the one to answer with, or wechat.ErrUnknownToken
	reason string
}

// ErrNotOurs is the error of Read for what is no proxy token at all. It may be a token of WeChat's.
var ErrNotOurs error = &Denied{wechat.ErrUnknownToken, "not a proxy token"}

// What else Issue and Read return. 42001 makes an SDK fetch a new token, so it is only for those
// who get one that is good: some SDKs answer it, as 40001 and 40014, by fetching without end.
var (
	errUnknownAppID = &Denied{wechat.InvalidAppID, "app is not configured"}
	errWrongSecret  = &Denied{wechat.InvalidSecret, "neither an AppSecret of the app nor the key of a caller"}
	errNotAllowed   = &Denied{wechat.Unauthorized, "the caller may not call for the app"}
	errForged       = &Denied{wechat.Unauthorized, "proxy token: not issued here, or changed since"}
	errNobody       = &Denied{wechat.Unauthorized, "proxy token: of an app or a caller that is not configured"}
	errFromFuture   = &Denied{wechat.Unauthorized, "proxy token: issued in the future"}
	errTooOld       = &Denied{wechat.TokenExpired, "proxy token: too old"}
	errReplaced     = &Denied{wechat.TokenExpired, "proxy token: signed with a key that was replaced"}
)

func (d *Denied) Error() string { return d.reason }

// Unwrap returns the wechat.Errcode to answer with, or wechat.ErrUnknownToken.
func (d *Denied) Unwrap() error { return d.err }

// Keyring knows who calls, by AppSecrets, by keys of callers and by the proxy tokens that it
// issues to those who show one. It holds only hashes of them and keys derived from them. A
// Keyring never changes: a reload makes a new one, and the tokens of the old one go on being good
// for what is still configured, there and on every other gateway. Its methods are safe for
// concurrent use.
//
// A proxy token is signed with a key derived from the newest AppSecret of its app and, for a
// caller, from the newest key of that caller; one signed with any that is configured is good. So
// to rotate either, add the new one on every gateway before it comes first: [old, new], then
// [new, old], and [new] when the tokens that were signed with the old one are no longer used.
type Keyring struct {
	accounts map[string]*account
	callers  map[string]*caller
	keys     map[[sha256.Size]byte]*caller // by the hash of each key
	lengths  []bool                        // by the length of a text: whether any key is as long
}

// root is the HKDF pseudorandom key of an AppSecret or of a caller's key.
type root [sha256.Size]byte

type account struct {
	appid   string
	hashes  [][sha256.Size]byte // of the secrets
	roots   []root              // of the secrets, the newest first
	signers sync.Map            // *caller, which is nil for nobody -> []*signer; derived when first used
}

type caller struct {
	name  string
	roots []root // of the keys, the newest first
	apps  map[string]bool

	thirdParty bool
}

// nobody has the tokens of those who show an AppSecret.
var nobody *caller

// signer makes and checks the seals of one app's and one caller's tokens.
type signer struct {
	id   [keyIDBytes]byte
	macs sync.Pool // of hash.Hash, an HMAC with the key in it: a new one costs as much as two MACs
}

// Salts and infos keep what is derived for one purpose from what is derived for another.
const (
	accountSalt = "wxproxy: AppSecret"
	callerSalt  = "wxproxy: key of a caller"
	macInfo     = "wxproxy: proxy token 1: MAC"
	keyIDInfo   = "wxproxy: proxy token 1: key id"
)

// NewKeyring returns a Keyring of accounts and callers. Its error names every fault: an empty
// name, secret or key, one that is there twice, a key that would prove two things, an app that is
// not among the accounts. It shows no secret and no key.
func NewKeyring(accounts []Account, callers []Caller) (*Keyring, error) {
	k := &Keyring{
		accounts: make(map[string]*account, len(accounts)),
		callers:  make(map[string]*caller, len(callers)),
		keys:     make(map[[sha256.Size]byte]*caller, len(callers)),
	}
	secrets := make(map[[sha256.Size]byte]*account, len(accounts))
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	for _, c := range accounts {
		a := &account{appid: c.AppID}
		switch {
		case c.AppID == "" || len(c.AppID) > maxAppIDBytes:
			fault("appid %.80q: want 1 to %d bytes", c.AppID, maxAppIDBytes)
		case k.accounts[c.AppID] != nil:
			fault("app %s: configured twice", c.AppID)
		case len(c.Secrets) == 0:
			fault("app %s: no secret", c.AppID)
		}
		k.accounts[c.AppID] = a
		for i, secret := range c.Secrets {
			if secret == "" {
				fault("app %s: secret %d is empty", c.AppID, i+1)
				continue
			}
			hash := sha256.Sum256([]byte(secret))
			secrets[hash] = a
			r, err := newRoot(secret, accountSalt)
			if err != nil {
				fault("app %s: secret %d: %w", c.AppID, i+1, err)
			}
			a.hashes, a.roots = append(a.hashes, hash), append(a.roots, r)
		}
	}
	for _, c := range callers {
		n := &caller{name: c.Name, thirdParty: c.ThirdParty, apps: make(map[string]bool, len(c.Apps))}
		switch {
		case c.Name == "" || len(c.Name) > maxCallerBytes:
			fault("caller %.140q: want a name of 1 to %d bytes", c.Name, maxCallerBytes)
		case k.callers[c.Name] != nil:
			fault("caller %s: configured twice", c.Name)
		case len(c.Keys) == 0:
			fault("caller %s: no key", c.Name)
		}
		k.callers[c.Name] = n
		for i, key := range c.Keys {
			if key == "" {
				fault("caller %s: key %d is empty", c.Name, i+1)
				continue
			}
			hash := sha256.Sum256([]byte(key))
			if a := secrets[hash]; a != nil {
				fault("caller %s: key %d is an AppSecret of %s", c.Name, i+1, a.appid)
			}
			if other := k.keys[hash]; other != nil && other != n {
				fault("caller %s: key %d is also a key of %s", c.Name, i+1, other.name)
			}
			k.keys[hash] = n
			k.lengths = append(k.lengths, make([]bool, max(0, len(key)+1-len(k.lengths)))...)
			k.lengths[len(key)] = true
			r, err := newRoot(key, callerSalt)
			if err != nil {
				fault("caller %s: key %d: %w", c.Name, i+1, err)
			}
			n.roots = append(n.roots, r)
		}
		for _, appid := range c.Apps {
			if k.accounts[appid] == nil {
				fault("caller %s: app %.80q is not configured", c.Name, appid)
			}
			n.apps[appid] = true
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return k, nil
}

// Format implements fmt.Formatter: nothing that is derived from a secret is printed either.
func (k *Keyring) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{%d apps, %d callers}", len(k.accounts), len(k.callers))
}

// Issue returns a proxy token for who shows secret at a token endpoint. That is an AppSecret of
// the app, whose token names no caller, or a key of a caller that may call for the app. Its error
// is a *Denied: an unknown appid, a wrong secret, or a caller that may not call for the app which
// is named all the same.
func (k *Keyring) Issue(appid, secret string, now time.Time) (proxyToken, callerName string, err error) {
	a := k.accounts[appid]
	if a == nil {
		return "", "", errUnknownAppID
	}
	hash := sha256.Sum256([]byte(secret))
	isSecret := 0
	for i := range a.hashes {
		isSecret |= subtle.ConstantTimeCompare(a.hashes[i][:], hash[:])
	}
	if isSecret == 1 {
		return a.sign(nobody, now), "", nil
	}
	c := k.keys[hash]
	if c == nil {
		return "", "", errWrongSecret
	}
	if !c.apps[appid] {
		return "", c.name, errNotAllowed
	}
	return a.sign(c, now), c.name, nil
}

// Read returns the app and the caller of a proxy token, the latter "" if it was issued for an
// AppSecret. Whether the caller may call for the app now is for May to tell. Its error is a *Denied, ErrNotOurs among them. Errcode 42001 means that the token
// was ours: it is too old, or its key was replaced. A caller with the present key gets another.
func (k *Keyring) Read(shown string, now time.Time) (appid, callerName string, err error) {
	rest, ours := strings.CutPrefix(shown, proxyTokenPrefix)
	if !ours {
		return "", "", ErrNotOurs
	}
	text, sealText, _ := strings.Cut(rest, ".")
	if len(sealText) != sealTextBytes {
		return "", "", errForged
	}
	var payload [maxPayloadBytes]byte
	if base64.RawURLEncoding.DecodedLen(len(text)) > len(payload) {
		return "", "", errForged
	}
	n, err := base64.RawURLEncoding.Decode(payload[:], []byte(text))
	if err != nil {
		return "", "", errForged
	}
	var seal [sealBytes]byte // the decoder skips line ends, which leave it too short
	if n, err := base64.RawURLEncoding.Decode(seal[:], []byte(sealText)); err != nil || n != sealBytes {
		return "", "", errForged
	}
	p, ok := parsePayload(payload[:n])
	if !ok {
		return "", "", errForged
	}
	a := k.accounts[string(p.appid)]
	c := nobody
	if len(p.caller) > 0 {
		c = k.callers[string(p.caller)]
	}
	if a == nil || c == nobody && len(p.caller) > 0 {
		return "", "", errNobody
	}
	ageSeconds := now.Unix() - p.issued
	if ageSeconds < -clockSkewSeconds {
		return "", "", errFromFuture
	}
	signed := shown[:len(shown)-sealTextBytes-1]
	switch known, good := a.check(c, signed, seal); {
	case good && ageSeconds < acceptedSeconds:
		if c != nobody {
			callerName = c.name
		}
		return a.appid, callerName, nil
	case good:
		return "", "", errTooOld
	case known, c != nobody && !c.apps[a.appid]: // one that may not call gets no other token, so no 42001
		return "", "", errForged
	}
	return "", "", errReplaced
}

// Caller returns the name of the caller that a key belongs to. It costs next to nothing for a text of another
// length than any key has: the gateway asks of many texts whether they are one.
func (k *Keyring) Caller(key string) (name string, ok bool) {
	if len(key) >= len(k.lengths) || !k.lengths[len(key)] {
		return "", false
	}
	c := k.keys[sha256.Sum256([]byte(key))]
	if c == nil {
		return "", false
	}
	return c.name, true
}

// May reports whether a caller may call for an app. Nobody, which is "", has no rights by name.
func (k *Keyring) May(callerName, appid string) bool {
	c := k.callers[callerName]
	return c != nil && c.apps[appid]
}

// ThirdParty reports whether a caller is a third-party platform.
func (k *Keyring) ThirdParty(callerName string) bool {
	c := k.callers[callerName]
	return c != nil && c.thirdParty
}

// payload is what a proxy token says.
type payload struct {
	appid, caller []byte
	issued        int64 // Unix seconds
}

func parsePayload(b []byte) (p payload, ok bool) {
	var okApp, okCaller bool
	p.appid, b, okApp = cutField(b)
	p.caller, b, okCaller = cutField(b)
	if !okApp || !okCaller || len(b) != 8 {
		return payload{}, false
	}
	issued := binary.BigEndian.Uint64(b)
	p.issued = int64(issued)
	return p, issued < latestIssueSecond
}

// cutField splits a field off that is preceded by its length.
func cutField(b []byte) (field, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	end := 1 + int(b[0])
	return b[1:end], b[end:], true
}

// appendField is the reverse of cutField. No field is longer than 255 bytes: NewKeyring sees to it.
func appendField(b []byte, field string) []byte {
	return append(append(b, byte(len(field))), field...)
}

// sign returns a token signed with the newest keys.
func (a *account) sign(c *caller, now time.Time) string {
	callerName := ""
	if c != nobody {
		callerName = c.name
	}
	payload := appendField(appendField(nil, a.appid), callerName)
	payload = binary.BigEndian.AppendUint64(payload, uint64(now.Unix()))
	b := base64.RawURLEncoding.AppendEncode([]byte(proxyTokenPrefix), payload)
	s := a.signersOf(c)[0]
	seal := s.mac(string(b), s.id[:])
	return string(base64.RawURLEncoding.AppendEncode(append(b, '.'), seal))
}

// check reports whether the key of a seal is known, and if so whether the seal is good.
func (a *account) check(c *caller, signed string, seal [sealBytes]byte) (known, good bool) {
	for _, s := range a.signersOf(c) {
		if s.id != [keyIDBytes]byte(seal[:keyIDBytes]) { // not secret: every token shows it
			continue
		}
		known = true
		if hmac.Equal(s.mac(signed, nil), seal[keyIDBytes:]) {
			return true, true
		}
	}
	return known, false
}

// mac appends the MAC of what is signed to b.
func (s *signer) mac(signed string, b []byte) []byte {
	h := s.macs.Get().(hash.Hash)
	defer s.macs.Put(h)
	h.Reset()
	h.Write([]byte(signed))
	return h.Sum(b)
}

// signersOf returns one signer for every AppSecret and key of c that may go together, that of the
// newest of both first. There can be a million pairs of apps and callers, of which few are used.
func (a *account) signersOf(c *caller) []*signer {
	if v, ok := a.signers.Load(c); ok {
		return v.([]*signer)
	}
	var signers []*signer
	for _, secret := range a.roots {
		if c == nobody {
			signers = append(signers, newSigner(secret[:], a.appid, ""))
			continue
		}
		for _, key := range c.roots {
			both := slices.Concat(secret[:], key[:]) // 32 bytes each
			signers = append(signers, newSigner(both, a.appid, c.name))
		}
	}
	v, _ := a.signers.LoadOrStore(c, signers)
	return v.([]*signer)
}

func newRoot(secret, salt string) (root, error) {
	b, err := hkdf.Extract(sha256.New, []byte(secret), []byte(salt))
	if err != nil { // where only FIPS 140 is allowed, and the secret is too short for that
		return root{}, err
	}
	return root(b), nil
}

// newSigner derives a signer. HKDF refuses only what is too long or, to FIPS 140, too short.
func newSigner(material []byte, appid, callerName string) *signer {
	derive := func(info string, length int) []byte {
		info = string(appendField(appendField(appendField(nil, info), appid), callerName))
		b, err := hkdf.Key(sha256.New, material, nil, info, length)
		if err != nil {
			panic("token: deriving a key: " + err.Error())
		}
		return b
	}
	key := derive(macInfo, sha256.Size)
	return &signer{
		id:   [keyIDBytes]byte(derive(keyIDInfo, keyIDBytes)),
		macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }},
	}
}
