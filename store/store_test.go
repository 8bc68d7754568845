package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"wxproxy/internal/redistest"
	"wxproxy/store"
)

const upstream = "https://api.weixin.qq.com"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var kinds = map[string]func(t *testing.T) store.Options{
	"file": func(t *testing.T) store.Options {
		t.Helper()
		return store.Options{URL: "file:" + filepath.Join(t.TempDir(), "wxproxy.db")}
	},
	"redis": func(t *testing.T) store.Options {
		t.Helper()
		return store.Options{URL: redistest.Start(t).URL()}
	},
	"unix socket and password": func(t *testing.T) store.Options {
		t.Helper()
		return store.Options{URL: "unix://" + redistest.Start(t, "--requirepass", "hunter2").Socket, Password: "hunter2"}
	},
	"cluster": func(t *testing.T) store.Options {
		t.Helper()
		var hosts []string
		for _, n := range redistest.StartCluster(t) {
			hosts = append(hosts, n.Addr)
		}
		return store.Options{URL: "redis+cluster://" + strings.Join(hosts, ",")}
	},
	"redis with store.ACL":   restrictedRedis,
	"cluster with store.ACL": restrictedCluster,
	"sentinel": func(t *testing.T) store.Options {
		t.Helper()
		master := redistest.Start(t, "--requirepass", "hunter2")
		sentinel := redistest.StartSentinel(t, "main", master)
		return store.Options{URL: "redis+sentinel://:hunter2@" + sentinel.Addr + "/0?master=main"}
	},
}

func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	if o.Upstream == "" {
		o.Upstream = upstream
	}
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// The one suite that every kind of store passes.
func TestStore(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t, options(t))

			t.Run("values", func(t *testing.T) {
				wantValue(t, s, "wxa", "token", "")
				set(t, s, "wxa", "token", "1\x00\r\n\xff", time.Hour)
				set(t, s, "wxb", "token", "2", 0)
				wantValue(t, s, "wxa", "token", "1\x00\r\n\xff")
				wantValue(t, s, "wxb", "token", "2")
				set(t, s, "wxa", "token", "3", 0)
				wantValue(t, s, "wxa", "token", "3")
			})

			t.Run("values of many apps", func(t *testing.T) {
				var apps []string
				for i := range 1200 {
					apps = append(apps, fmt.Sprintf("wxmany%d", i))
				}
				for i := 0; i < len(apps); i += 100 {
					set(t, s, apps[i], "record", apps[i], 0)
				}
				values, err := s.GetAll(t.Context(), apps, "record")
				if err != nil || len(values) != len(apps) {
					t.Fatalf("GetAll = %d values, %v, want %d", len(values), err, len(apps))
				}
				for i, value := range values {
					if want := map[bool]string{true: apps[i]}[i%100 == 0]; string(value) != want {
						t.Errorf("GetAll: %s has %q, want %q", apps[i], value, want)
					}
				}
			})

			t.Run("expiry", func(t *testing.T) {
				set(t, s, "wxe", "token", "short", 30*time.Millisecond)
				set(t, s, "wxe", "kept", "long", time.Hour)
				set(t, s, "wxe", "again", "short", 30*time.Millisecond)
				set(t, s, "wxe", "again", "for ever", 0)
				eventually(t, "the value to expire", func() bool { return value(t, s, "wxe", "token") == "" })
				wantValue(t, s, "wxe", "kept", "long")
				wantValue(t, s, "wxe", "again", "for ever")
				calls := 0
				if err := s.Update(t.Context(), "wxe", "token", nil, func([]byte) ([]byte, time.Duration, error) {
					calls++
					return []byte("new"), 30 * time.Millisecond, nil
				}); calls != 1 || err != nil {
					t.Errorf("Update of an expired key = %v after %d calls, want 1", err, calls)
				}
				eventually(t, "the new value to expire", func() bool { return value(t, s, "wxe", "token") == "" })
			})

			t.Run("update", func(t *testing.T) {
				refused := errors.New("refused")
				tests := []struct {
					name         string
					present, was string
					next         string
					err          error
					wantLast     string // what change was called with last
					wantAfter    string
				}{
					{name: "new", next: "1", wantAfter: "1"},
					{name: "not new", present: "1", next: "2", wantLast: "1", wantAfter: "2"},
					{name: "same", present: "1", was: "1", next: "2", wantLast: "1", wantAfter: "2"},
					{name: "different", present: "3", was: "1", next: "2", wantLast: "3", wantAfter: "2"},
					{name: "gone", was: "1", next: "2", wantLast: "", wantAfter: "2"},
					{name: "left as it is", present: "1", was: "1", next: "", wantLast: "1", wantAfter: "1"},
					{name: "the same again", present: "1", was: "1", next: "1", wantLast: "1", wantAfter: "1"},
					{name: "refused", present: "1", was: "1", next: "2", err: refused, wantLast: "1", wantAfter: "1"},
				}
				for i, tt := range tests {
					t.Run(tt.name, func(t *testing.T) {
						key := fmt.Sprintf("update%d", i)
						if tt.present != "" {
							set(t, s, "wxc", key, tt.present, 0)
						}
						last := "never called"
						err := s.Update(t.Context(), "wxc", key, bytesOf(tt.was), func(present []byte) ([]byte, time.Duration, error) {
							last = string(present)
							return bytesOf(tt.next), time.Hour, tt.err
						})
						if err != tt.err || last != tt.wantLast { //nolint:errorlint // the very error
							t.Errorf("Update = %v, change last called with %q, want %v and %q", err, last, tt.err, tt.wantLast)
						}
						wantValue(t, s, "wxc", key, tt.wantAfter)
					})
				}
			})

			// Nothing of what 16 write at once is lost.
			t.Run("updates at once", func(t *testing.T) {
				var wg sync.WaitGroup
				for range 16 {
					wg.Go(func() {
						if err := s.Update(t.Context(), "wxu", "count", nil, func(present []byte) ([]byte, time.Duration, error) {
							return append(present, 'x'), 0, nil
						}); err != nil {
							t.Errorf("Update: %v", err)
						}
					})
				}
				wg.Wait()
				wantValue(t, s, "wxu", "count", strings.Repeat("x", 16))
			})

			t.Run("one winner", func(t *testing.T) {
				var leases atomic.Int32
				var wg sync.WaitGroup
				for i := range 16 {
					wg.Go(func() {
						name := fmt.Sprintf("%d", i)
						if held, err := s.Lease(t.Context(), "wxw", "token", name, time.Hour); err != nil {
							t.Errorf("Lease: %v", err)
						} else if held {
							leases.Add(1)
						}
					})
				}
				wg.Wait()
				if leases.Load() != 1 {
					t.Errorf("of 16 at once %d got the lease, want 1", leases.Load())
				}
			})

			t.Run("lease", func(t *testing.T) {
				ctx := t.Context()
				lease := func(holder string, expiry time.Duration, want bool) {
					t.Helper()
					if got, err := s.Lease(ctx, "wxl", "token", holder, expiry); got != want || err != nil {
						t.Errorf("Lease by %s = %v, %v, want %v", holder, got, err, want)
					}
				}
				release := func(holder string) {
					t.Helper()
					if err := s.Release(ctx, "wxl", "token", holder); err != nil {
						t.Errorf("Release by %s: %v", holder, err)
					}
				}
				release("a") // nobody has it
				lease("a", time.Hour, true)
				lease("b", time.Hour, false)
				lease("a", time.Hour, true) // anew
				release("b")                // not b's
				lease("b", time.Hour, false)
				wantValue(t, s, "wxl", "token", "") // a lease is no value
				release("a")
				lease("b", 50*time.Millisecond, true)
				eventually(t, "the lease to expire", func() bool {
					held, err := s.Lease(ctx, "wxl", "token", "c", time.Hour)
					return held && err == nil
				})
				release("b") // too late
				lease("d", time.Hour, false)
			})

			t.Run("forget", func(t *testing.T) {
				ctx := t.Context()
				for _, app := range []string{"wxf", "wxf2"} {
					for i := range 30 {
						set(t, s, app, fmt.Sprintf("key%d", i), "x", 0)
					}
					if _, err := s.Lease(ctx, app, "token", "a", time.Hour); err != nil {
						t.Fatal(err)
					}
					putCounter(t, s, app)
				}
				if err := s.Forget(ctx, "wxf"); err != nil {
					t.Fatalf("Forget: %v", err)
				}
				if left := keysOf(t, s, "wxf"); len(left) > 0 {
					t.Errorf("left of wxf: %q, want nothing", left)
				}
				if left := keysOf(t, s, "wxf2"); len(left) != 32 {
					t.Errorf("%d keys left of wxf2, want 32", len(left))
				}
				if err := s.Forget(ctx, "never-seen"); err != nil {
					t.Errorf("Forget of an app that is not there: %v", err)
				}
			})

			t.Run("bad input", func(t *testing.T) {
				ctx := t.Context()
				for _, app := range []string{"", "wx}", "wx*", "a:b", "ä", strings.Repeat("x", 65)} {
					if err := s.Update(ctx, app, "token", nil, to("1", 0)); err == nil {
						t.Errorf("Update of app %q: no error", app)
					}
					if err := s.Forget(ctx, app); err == nil {
						t.Errorf("Forget of app %q: no error", app)
					}
				}
				if _, err := s.Get(ctx, "wxa", ""); err == nil {
					t.Error("Get of an empty key: no error")
				}
				if _, err := s.Lease(ctx, "wxa", "token", "a", 0); err == nil {
					t.Error("Lease without an expiry: no error")
				}
				if _, err := s.Lease(ctx, "wxa", "token", "", time.Hour); err == nil {
					t.Error("Lease without a holder: no error")
				}
			})

			t.Run("context", func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_, err := s.Get(ctx, "wxa", "token")
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Get with a cancelled context = %v, want it to say so", err)
				}
				if err := s.Update(ctx, "wxa", "token", nil, to("1", 0)); !errors.Is(err, context.Canceled) {
					t.Errorf("Update with a cancelled context = %v, want it to say so", err)
				}
			})
		})
	}
}

// putCounter does what package limits does with what the store hands out.
func putCounter(t *testing.T, s *store.Store, app string) {
	t.Helper()
	if r := s.Redis(); r != nil {
		if err := r.HSet(t.Context(), s.Prefix()+"{"+app+"}:d20261123", "other", "0 1 1").Err(); err != nil {
			t.Fatal(err)
		}
		return
	}
	err := s.Bolt().Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("counters"))
		if err == nil {
			b, err = b.CreateBucketIfNotExists([]byte(s.Prefix()))
		}
		if err == nil {
			b, err = b.CreateBucketIfNotExists([]byte(app))
		}
		if err == nil {
			err = b.Put([]byte("d20261123"), []byte("1"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func keysOf(t *testing.T, s *store.Store, app string) (keys []string) {
	t.Helper()
	if r := s.Redis(); r != nil {
		var mu sync.Mutex
		collect := func(ctx context.Context, c *redis.Client) error {
			found := c.Scan(ctx, 0, s.Prefix()+"{"+app+"}:*", 1000).Iterator()
			mu.Lock()
			defer mu.Unlock()
			for found.Next(ctx) {
				keys = append(keys, found.Val())
			}
			return found.Err()
		}
		var err error
		if cluster, ok := r.(*redis.ClusterClient); ok {
			err = cluster.ForEachMaster(t.Context(), collect)
		} else {
			err = collect(t.Context(), r.(*redis.Client))
		}
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	err := s.Bolt().View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(owner []byte, b *bbolt.Bucket) error {
			if b = b.Bucket([]byte(s.Prefix())); b == nil {
				return nil
			}
			if b = b.Bucket([]byte(app)); b == nil {
				return nil
			}
			return b.ForEach(func(k, _ []byte) error {
				keys = append(keys, string(owner)+"/"+string(k))
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// One Redis serves several gateways, and those of another upstream or prefix see nothing of them.
func TestShared(t *testing.T) {
	url := redistest.Start(t).URL()
	a := open(t, store.Options{URL: url})
	b := open(t, store.Options{URL: url, Upstream: "https://API.weixin.qq.com/"}) // the same
	set(t, a, "wxa", "token", "1", 0)
	wantValue(t, b, "wxa", "token", "1")

	others := []*store.Store{
		open(t, store.Options{URL: url, Upstream: "http://127.0.0.1:9000"}),
		open(t, store.Options{URL: url, Prefix: "other"}),
	}
	for _, o := range others {
		wantValue(t, o, "wxa", "token", "")
		if err := o.Forget(t.Context(), "wxa"); err != nil {
			t.Errorf("Forget: %v", err)
		}
	}
	wantValue(t, a, "wxa", "token", "1")
	if got, want := a.Prefix(), "wxp:6f02dffa:"; got != want {
		t.Errorf("Prefix() = %q, want %q", got, want)
	}
	if got, want := a.Redis().Exists(t.Context(), "wxp:6f02dffa:{wxa}:token").Val(), int64(1); got != want {
		t.Errorf("the key named in the package's comment: %d, want %d", got, want)
	}
}

// A Redis that is busy for longer than one answer may take is opened all the same.
func TestOpenOfABusyServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Freeze()
	time.AfterFunc(400*time.Millisecond, server.Thaw)
	s, err := store.Open(t.Context(), store.Options{URL: server.URL(), Upstream: upstream})
	if err != nil {
		t.Fatalf("Open of a Redis that was frozen for 400 ms: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A frozen Redis answers nothing in time, and then carries out what it was sent: once.
func TestNothingIsTriedTwice(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, s *store.Store, nodes ...*redistest.Server) {
		t.Helper()
		ctx := t.Context()
		keys := []string{"{a}", "{b}", "{c}"}[:len(nodes)] // one on each node
		for _, key := range keys {
			if err := s.Redis().Set(ctx, key, 0, 0).Err(); err != nil { // connects, too
				t.Fatal(err)
			}
		}
		for _, n := range nodes {
			n.Freeze()
		}
		for _, key := range keys {
			began := time.Now()
			err := s.Redis().Incr(ctx, key).Err()
			if took := time.Since(began); err == nil || took > time.Second {
				t.Errorf("INCR on a frozen server = %v after %s, want an error within a second", err, took)
			}
		}
		for _, n := range nodes {
			n.Thaw()
		}
		for _, key := range keys {
			eventually(t, "INCR to be carried out", func() bool {
				n, err := s.Redis().Get(ctx, key).Int()
				return err == nil && n > 0
			})
			if n, err := s.Redis().Get(ctx, key).Int(); n != 1 || err != nil {
				t.Errorf("%s after one INCR = %d, %v, want 1", key, n, err)
			}
		}
	}
	t.Run("redis", func(t *testing.T) {
		r := redistest.Start(t)
		test(t, open(t, store.Options{URL: r.URL()}), r)
	})
	t.Run("cluster", func(t *testing.T) {
		nodes := redistest.StartCluster(t)
		test(t, open(t, store.Options{URL: "redis+cluster://" + nodes[0].Addr}), nodes...)
	})
}

func TestRedisComesAndGoes(t *testing.T) {
	r := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := open(t, store.Options{URL: r.URL()})
	set(t, s, "wxa", "token", "1", 0)
	r.Stop()
	if _, err := s.Get(t.Context(), "wxa", "token"); err == nil {
		t.Error("Get without a server: no error")
	}
	r.Restart() // which forgets the scripts
	eventually(t, "Redis to be back", func() bool {
		_, err := s.Get(t.Context(), "wxa", "token")
		return err == nil
	})
	if err := s.Update(t.Context(), "wxa", "token", []byte("1"), to("2", 0)); err != nil {
		t.Errorf("Update after a restart: %v", err)
	}
	wantValue(t, s, "wxa", "token", "2")
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "wxproxy.db")
	s, err := store.Open(t.Context(), store.Options{URL: "file://" + path, Upstream: upstream})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	set(t, s, "wxa", "kept", "1", 0)
	set(t, s, "wxa", "stale", "2", time.Millisecond)
	if s.Redis() != nil || s.Bolt() == nil {
		t.Error("Redis() and Bolt(): want only a file")
	}

	_, err = store.Open(t.Context(), store.Options{URL: "file:" + path})
	want := "store file " + path + ": in use by another process (one gateway per file; use Redis for several)"
	if err == nil || err.Error() != want {
		t.Errorf("a second Open = %v, want %s", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	time.Sleep(2 * time.Millisecond) // until stale is
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s = open(t, store.Options{URL: "file:" + path})
	if got, want := s.Warnings(), []string{"store file " + path + ": mode 0644 lets others on this machine read its tokens: want 0600"}; !slices.Equal(got, want) {
		t.Errorf("Warnings() = %q, want %q", got, want)
	}
	wantValue(t, s, "wxa", "kept", "1")
	if got, want := keysOf(t, s, "wxa"), []string{"values/kept"}; !slices.Equal(got, want) {
		t.Errorf("in the file: %q, want %q: what has expired is swept", got, want)
	}
}

// What has expired leaves the file while it is open, though nobody asks for it again: the file does not
// grow with the number of apps that were ever named.
func TestFileIsSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "wxproxy.db")
		s := open(t, store.Options{URL: "file:" + path})
		s.Bolt().NoSync = true
		set(t, s, "wxkept", "token", "1", 0)
		var sizes []int64
		for round := range 4 {
			for i := range 1000 {
				app := fmt.Sprintf("wx%d-%d", round, i)
				set(t, s, app, "learned", strings.Repeat("x", 200), 10*time.Second)
				if held, err := s.Lease(t.Context(), app, "learned", "a", time.Hour); !held || err != nil {
					t.Fatalf("Lease = %v, %v, want true", held, err)
				}
				if err := s.Release(t.Context(), app, "learned", "a"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Minute)
			set(t, s, "wxkept", "token", fmt.Sprint(round), 0) // any write
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, info.Size())
		}
		if sizes[3] > sizes[0] {
			t.Errorf("the file has %d bytes after each 1000 apps: want that it stays as large as with the first", sizes)
		}
		var apps []string
		if err := s.Bolt().View(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("values")).Bucket([]byte(s.Prefix())).ForEachBucket(func(app []byte) error {
				apps = append(apps, string(app))
				return nil
			})
		}); err != nil || !slices.Equal(apps, []string{"wxkept"}) {
			t.Errorf("%d apps in the file, %v, want wxkept alone", len(apps), err)
		}
	})
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("not a database\n", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := redistest.Start(t, "--requirepass", "hunter2")
	replica := redistest.Start(t, "--replicaof", "127.0.0.1 1")
	noEval := redistest.Start(t, "--user", "default", "on", "nopass", "~*", "+@all", "-eval", "-evalsha")
	plain := redistest.Start(t)
	noAuth := redistest.Start(t, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	at := func(s *redistest.Server) string { return "redis://" + s.Addr }
	tests := []struct {
		name        string
		o           store.Options
		want        string
		unreachable bool
	}{
		{"no folder", store.Options{URL: "file:" + dir + "/a/b.db"}, "store file " + dir + "/a/b.db: folder " + dir + "/a does not exist", false},
		{"folder is a file", store.Options{URL: "file:" + dir + "/text/b.db"}, "store file " + dir + "/text/b.db: " + dir + "/text is not a folder", false},
		{"file is a folder", store.Options{URL: "file:" + dir}, "store file " + dir + ": is a directory", false},
		{"not a database", store.Options{URL: "file:" + dir + "/text"}, "store file " + dir + "/text: invalid database", false},
		{"no path", store.Options{URL: "file:"}, "store.url file: without a path: want for instance file:wxproxy.db", false},
		{"remote file", store.Options{URL: "file://host/a.db"}, "store.url file://host/a.db: want file:path or file:///path", false},
		{"prefix", store.Options{Prefix: "a{b}"}, `store.prefix "a{b}": want 1 to 64 of A-Z a-z 0-9 . _ : -`, false},
		{"nobody there", store.Options{URL: "redis://u:hunter2@127.0.0.1:1"}, "store redis://127.0.0.1:1: cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused", true},
		{"no cluster", store.Options{URL: "redis+cluster://u:hunter2@127.0.0.1:1"}, "store redis+cluster://127.0.0.1:1: cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused", true},
		{"no socket", store.Options{URL: "unix://" + dir + "/none"}, "store unix://" + dir + "/none: cannot be reached: dial unix " + dir + "/none: connect: no such file or directory", true},
		{"no password", store.Options{URL: at(guarded)}, "store " + at(guarded) + ": NOAUTH Authentication required.", false},
		{"wrong password", store.Options{URL: at(guarded), Password: "hunter3"}, "store " + at(guarded) + ": WRONGPASS invalid username-password pair or user is disabled.", false},
		{"replica", store.Options{URL: at(replica)}, "store " + at(replica) + `: it will not do: role is "slave": want the master`, false},
		{"no scripts", store.Options{URL: at(noEval)}, "store " + at(noEval) + ": EVAL, which every count needs: NOPERM this user has no permissions to run the 'eval' command", false},
		{"no AUTH", store.Options{URL: "redis://u:hunter2@" + noAuth.Addr}, "store " + at(noAuth) + ": ERR unknown command 'auth'", false},
		{"database", store.Options{URL: at(plain) + "/99"}, "store " + at(plain) + ": ERR DB index is out of range", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := store.Open(t.Context(), tt.o)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("Open = %v, want %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("Open = %v, which tells a password", err)
			}
			if got := errors.Is(err, store.ErrUnreachable); got != tt.unreachable {
				t.Errorf("errors.Is(err, ErrUnreachable) = %v, want %v", got, tt.unreachable)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	evicts := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	s := open(t, store.Options{URL: evicts.URL()})
	want := []string{"store redis://" + evicts.Addr + ": maxmemory-policy is allkeys-lru, which throws counts away when memory is short: want noeviction"}
	if got := s.Warnings(); !slices.Equal(got, want) {
		t.Errorf("Warnings() = %q, want %q", got, want)
	}
	mute := redistest.Start(t, "--rename-command", "CONFIG", "")
	if got := open(t, store.Options{URL: mute.URL()}).Warnings(); len(got) > 0 {
		t.Errorf("Warnings() = %q, want none", got)
	}
}

func set(t *testing.T, s *store.Store, app, key, value string, expiry time.Duration) {
	t.Helper()
	if err := s.Update(t.Context(), app, key, nil, to(value, expiry)); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// to is a change to a value, whatever there was.
func to(value string, expiry time.Duration) func([]byte) ([]byte, time.Duration, error) {
	return func([]byte) ([]byte, time.Duration, error) { return []byte(value), expiry, nil }
}

// bytesOf returns nil for "".
func bytesOf(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

func value(t *testing.T, s *store.Store, app, key string) string {
	t.Helper()
	v, err := s.Get(t.Context(), app, key)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if v != nil && len(v) == 0 {
		t.Fatal("Get: an empty value, want nil")
	}
	return string(v)
}

func wantValue(t *testing.T, s *store.Store, app, key, want string) {
	t.Helper()
	if got := value(t, s, app, key); got != want {
		t.Errorf("Get(%s, %s) = %q, want %q", app, key, got, want)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
