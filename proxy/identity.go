package proxy

import (
	"context"
	"time"

	"wxproxy/wechat"
)

// Anonymous says whether a call may come without any proof of who sends it.
type Anonymous uint8

const (
	// AnonymousAuto allows it to programs of this machine only.
	AnonymousAuto Anonymous = iota
	// AnonymousNever refuses it.
	AnonymousNever
	// AnonymousAlways allows it to everybody who can reach the listener.
	AnonymousAlways
)

// Identity knows who calls by keys and by proxy tokens. *token.Keyring is the one in use. Its
// methods are called by many goroutines at once.
type Identity interface {
	// Issue returns a proxy token for who shows an AppSecret of the app, or the key of a caller.
	// Its error wraps a wechat.Errcode.
	Issue(appid, secret string, now time.Time) (proxyToken, caller string, err error)
	// Read returns the app and the caller of a proxy token, the latter "" where it names none.
	// Its error wraps a wechat.Errcode, or wechat.ErrUnknownToken for what is no proxy token at all.
	Read(shown string, now time.Time) (appid, caller string, err error)
	// Caller returns the name of the caller that a key belongs to.
	Caller(key string) (name string, ok bool)
	// May reports whether a caller may call for an app.
	May(caller, appid string) bool
	// ThirdParty reports whether a caller is a third-party platform.
	ThirdParty(caller string) bool
}

// Learned knows tokens of WeChat's that this gateway, or another one, saw being issued.
// *token.Learned is the one in use. Its methods are called by many goroutines at once.
type Learned interface {
	// App returns the app that a token was issued for.
	App(ctx context.Context, shown string) (appid string, ok bool)
	// Remember keeps whom a token was issued for, until its end.
	Remember(ctx context.Context, accessToken, appid string, life time.Duration) error
	// Fetch gets a token for an app that is not configured; the answer is one in WeChat's form. known
	// reports whether WeChat has issued a token for the app: anybody can make an appid up.
	Fetch(ctx context.Context, endpoint, appid, secret string) (answer []byte, known bool, err error)
	// Dead forgets a token that WeChat called dead.
	Dead(ctx context.Context, shown string)
}

// noIdentity is what there is without an Identity: nobody has a key, and no proxy tokens are issued.
type noIdentity struct{}

func (noIdentity) Issue(string, string, time.Time) (proxyToken, caller string, err error) {
	return "", "", wechat.InvalidSecret
}

func (noIdentity) Read(string, time.Time) (appid, caller string, err error) {
	return "", "", wechat.ErrUnknownToken
}

func (noIdentity) Caller(string) (string, bool) { return "", false }
func (noIdentity) May(string, string) bool      { return false }
func (noIdentity) ThirdParty(string) bool       { return false }
