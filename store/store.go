// Package store opens store.url, a Redis or a file of our own, and keeps small values of each
// app in it: with an expiry, changed only by who knows the old one, or held as a lease.
//
// It also hands out what it has opened, so that the counters of package limits use the same
// connections, or the same file. Every key of an app is
//
//	Prefix() + "{" + appid + "}:" + rest
//
// in Redis, where the braces keep an app in one slot of a cluster, and in a file it is a bucket
// Prefix() / appid inside the bucket of the package that owns it: "values" is ours, "counters"
// that of limits.
package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"
)

// ErrUnreachable is wrapped by the error of Open when no server answered, as opposed to one that
// answered and cannot be used. It may be worth another try.
var ErrUnreachable = errors.New("cannot be reached")

// Options says what Open opens. The zero value is the file wxproxy.db in the process's folder.
type Options struct {
	// URL is store.url: file:wxproxy.db (the default), redis://, rediss://, unix:///path,
	// redis+cluster://host1,host2 or redis+sentinel://host1,host2/0?master=name, the last two
	// also with rediss+. User and password in it are those of the Redis servers; a sentinel's
	// are ?sentinel_username= and ?sentinel_password=.
	URL string

	// Password of the Redis servers. It wins over one in URL.
	Password string

	// Prefix begins every key; the default is "wxp".
	Prefix string

	// Upstream is upstream.url. The first 8 hex digits of its SHA-256 are part of every key, so
	// that a sandbox on the same Redis gives production neither its counts nor its tokens.
	Upstream string
}

// Store keeps values per app. It is safe for concurrent use.
//
// In a file every change is on disk before the call returns. Redis keeps what its own
// persistence keeps, and a command whose answer is lost may have been carried out: it is never
// tried twice, and its error says only that the answer is missing. Redis has 250 ms for each
// command, GetAll and Forget excepted.
type Store struct {
	backend  backend
	prefix   string
	warnings []string
	redis    redis.UniversalClient // nil for a file
	bolt     *bbolt.DB             // nil for Redis
}

// A backend does what the methods of Store of the same names promise. Values are not empty.
type backend interface {
	get(ctx context.Context, app, key string) ([]byte, error)
	getAll(ctx context.Context, apps []string, key string) ([][]byte, error)
	update(ctx context.Context, app, key string, was []byte, change change) error
	lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error)
	release(ctx context.Context, app, key, holder string) error
	forget(ctx context.Context, app string) error
	close() error
}

// change returns the value to follow present, nil being none, and how long it is kept. A nil value leaves
// everything as it is.
type change = func(present []byte) (next []byte, expiry time.Duration, err error)

// errUnchanged means that a change leaves everything as it is.
var errUnchanged = errors.New("unchanged")

var (
	goodPrefix = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)
	goodApp    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// Open opens the store and checks that it can serve: that a file is ours alone, or that a Redis
// can be reached (or the error wraps ErrUnreachable), takes the password, is 5.0 or newer and a
// master, and runs scripts. What works but should be otherwise is left in Warnings. No error
// contains a password.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := Check(o); err != nil {
		return nil, err
	}
	o.URL, o.Prefix = cmp.Or(o.URL, defaultURL), cmp.Or(o.Prefix, defaultPrefix)
	s := &Store{prefix: o.Prefix + ":" + fingerprint(o.Upstream) + ":"}
	var err error
	if path, ok := strings.CutPrefix(o.URL, "file:"); ok {
		err = s.openFile(path)
	} else {
		err = s.openRedis(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

const (
	defaultURL    = "file:wxproxy.db"
	defaultPrefix = "wxp"
)

// Check returns what is wrong with options that Open would refuse without looking at the store.
func Check(o Options) error {
	if prefix := cmp.Or(o.Prefix, defaultPrefix); !goodPrefix.MatchString(prefix) {
		return fmt.Errorf("store.prefix %q: want 1 to 64 of A-Z a-z 0-9 . _ : -", prefix)
	}
	if o.URL == "" || strings.HasPrefix(o.URL, "file:") {
		return nil
	}
	_, err := parseURL(o)
	return err
}

// fingerprint is the same for two spellings of one upstream.
func fingerprint(upstream string) string {
	upstream = strings.TrimRight(upstream, "/")
	if u, err := url.Parse(upstream); err == nil {
		u.Host = strings.ToLower(u.Host)
		upstream = u.String()
	}
	sum := sha256.Sum256([]byte(upstream))
	return hex.EncodeToString(sum[:4])
}

// Redis returns the client of the Redis, or nil if the store is a file. It tries nothing twice
// and obeys the deadlines of contexts; on a cluster it follows redirections.
func (s *Store) Redis() redis.UniversalClient { return s.redis }

// Bolt returns the open file, or nil if the store is a Redis.
func (s *Store) Bolt() *bbolt.DB { return s.bolt }

// Prefix returns what every key begins with, for instance "wxp:1a2b3c4d:".
func (s *Store) Prefix() string { return s.prefix }

// Warnings returns what Open found that works but loses or exposes something.
func (s *Store) Warnings() []string { return s.warnings }

// Get returns the value of an app's key, or nil if there is none or it has expired.
func (s *Store) Get(ctx context.Context, app, key string) ([]byte, error) {
	if err := check(app, key); err != nil {
		return nil, err
	}
	value, err := s.backend.get(ctx, app, key)
	return value, wrap("get", app, key, err)
}

// GetAll returns the value that each of several apps has under a key, as Get does, in a round trip for
// several hundred of them.
func (s *Store) GetAll(ctx context.Context, apps []string, key string) ([][]byte, error) {
	for _, app := range apps {
		if err := check(app, key); err != nil {
			return nil, err
		}
	}
	values, err := s.backend.getAll(ctx, apps, key)
	return values, wrap("get", fmt.Sprintf("%d apps", len(apps)), key, err)
}

// Update replaces the value of an app's key by what change makes of it, which is gone after expiry; 0
// keeps it for ever. was is the value as the caller has read it last, nil for none: change is called with
// it, and again with the present value for as long as that is another one. So its last call is the one
// that counts, and it has to decide by was only what it may decide by an old value. When change returns
// nil or the present value, nothing is written. Its error is returned as it is.
func (s *Store) Update(ctx context.Context, app, key string, was []byte, change func(present []byte) (next []byte, expiry time.Duration, err error)) error {
	if err := check(app, key); err != nil {
		return err
	}
	var left error // why the value is left as it is
	err := s.backend.update(ctx, app, key, was, func(present []byte) ([]byte, time.Duration, error) {
		next, expiry, err := change(present)
		if left = err; err == nil && (len(next) == 0 || bytes.Equal(next, present)) {
			left = errUnchanged
		}
		return next, expiry, left
	})
	switch {
	case left == nil:
		return wrap("update", app, key, err)
	case errors.Is(left, errUnchanged):
		return nil
	}
	return left
}

// Lease makes holder the only one to hold the key's lease until expiry has passed, and reports
// whether it did. Who holds it already gets it anew. Leases and values do not share keys.
func (s *Store) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	if err := check(app, key); err != nil {
		return false, err
	}
	if holder == "" || expiry <= 0 {
		return false, fmt.Errorf("lease %s of %s: holder %q, expiry %s: want a name, and more than 0", key, app, holder, expiry)
	}
	held, err := s.backend.lease(ctx, app, leaseKey(key), holder, expiry)
	return held, wrap("lease", app, key, err)
}

// Release ends the lease if holder still has it.
func (s *Store) Release(ctx context.Context, app, key, holder string) error {
	if err := check(app, key); err != nil {
		return err
	}
	return wrap("release", app, key, s.backend.release(ctx, app, leaseKey(key), holder))
}

// Forget removes everything the store holds of an app under the prefix, its counters and leases
// too. A gateway that still serves the app writes it anew.
func (s *Store) Forget(ctx context.Context, app string) error {
	if err := check(app, "*"); err != nil {
		return err
	}
	return wrap("forget", app, "", s.backend.forget(ctx, app))
}

// Close closes the connections or the file. What was handed out of them ends too.
func (s *Store) Close() error { return s.backend.close() }

func leaseKey(key string) string { return "lease:" + key }

// check keeps an appid that a stranger may have sent from reaching into other apps' keys.
func check(app, key string) error {
	if !goodApp.MatchString(app) {
		return fmt.Errorf("appid %.64q: want 1 to 64 of A-Z a-z 0-9 _ -", app)
	}
	if key == "" {
		return fmt.Errorf("store key of %s: want one that is not empty", app)
	}
	return nil
}

func wrap(op, app, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, strings.TrimSpace(key+" of "+app), withoutArguments(err))
}
