package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// valuesBucket holds prefix / app / key -> 8 bytes of expiry (Unix ms, 0 for never), value.
var valuesBucket = []byte("values")

func (s *Store) openFile(path string) error {
	if rest, ok := strings.CutPrefix(path, "//"); ok { // file:///absolute/path
		if !strings.HasPrefix(rest, "/") {
			return fmt.Errorf("store.url file:%s: want file:path or file:///path", path)
		}
		path = rest
	}
	if path == "" {
		return errors.New("store.url file: without a path: want for instance file:wxproxy.db")
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store file %s: folder %s does not exist", path, dir)
	} else if err == nil && !info.IsDir() {
		return fmt.Errorf("store file %s: %s is not a folder", path, dir)
	}
	var db *bbolt.DB
	err := checkFile(path)
	if err == nil {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:        time.Second,
			NoFreelistSync: true, // less to write for each change; found again at the next opening
			FreelistType:   bbolt.FreelistMapType,
		})
	}
	switch {
	case errors.Is(err, errDamaged):
		return fmt.Errorf("store file %s: %w. Move the file away and start again, or restore a copy that was made while no gateway was running. "+
			"A new file has no counts of this day and month (WeChat's own count is used where it can be read), "+
			"no tokens and no learned apps: these are fetched and learned again", path, err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("store file %s: in use by another process (one gateway per file; use Redis for several)", path)
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // without the file's name, which follows
	}
	if err != nil {
		return fmt.Errorf("store file %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		s.warnings = append(s.warnings, fmt.Sprintf(
			"store file %s: mode %#o lets others on this machine read its tokens: want 0600", path, info.Mode().Perm()))
	}
	b := &boltBackend{db: db, prefix: []byte(s.prefix)}
	if err := b.sweep(); err != nil {
		return errors.Join(fmt.Errorf("store file %s: %w", path, err), db.Close())
	}
	s.backend, s.bolt = b, db
	return nil
}

type boltBackend struct {
	db     *bbolt.DB
	prefix []byte
}

func (b *boltBackend) getAll(ctx context.Context, apps []string, key string) ([][]byte, error) {
	values := make([][]byte, len(apps))
	var err error
	for i := 0; i < len(apps) && err == nil; i++ {
		values[i], err = b.get(ctx, apps[i], key)
	}
	return values, err
}

func (b *boltBackend) get(ctx context.Context, app, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var value []byte
	var stale bool
	now := time.Now()
	err := b.db.View(func(tx *bbolt.Tx) error {
		value, stale = read(b.app(tx, app), key, now)
		value = bytes.Clone(value) // the file's own memory is ours only in here
		return nil
	})
	if err != nil || !stale {
		return value, err
	}
	return nil, b.db.Update(func(tx *bbolt.Tx) error {
		bucket := b.app(tx, app)
		if _, stale := read(bucket, key, now); !stale { // somebody has set it meanwhile
			return nil
		}
		return bucket.Delete([]byte(key))
	})
}

func (b *boltBackend) set(ctx context.Context, app, key string, value []byte, expiry time.Duration) error {
	_, err := b.update(ctx, app, key, func([]byte) ([]byte, bool) { return value, true }, expiry)
	return err
}

func (b *boltBackend) compareAndSet(ctx context.Context, app, key string, was, value []byte, expiry time.Duration) (bool, error) {
	return b.update(ctx, app, key, func(present []byte) ([]byte, bool) {
		return value, bytes.Equal(present, was)
	}, expiry)
}

func (b *boltBackend) lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	return b.update(ctx, app, key, func(present []byte) ([]byte, bool) {
		return []byte(holder), present == nil || string(present) == holder
	}, expiry)
}

func (b *boltBackend) release(ctx context.Context, app, key, holder string) error {
	_, err := b.update(ctx, app, key, func(present []byte) ([]byte, bool) {
		return nil, string(present) == holder
	}, 0)
	return err
}

// update asks change for the value to follow the present one, nil being none, and whether to
// write it at all, and reports what it said. No other change can come between.
func (b *boltBackend) update(ctx context.Context, app, key string,
	change func(present []byte) (next []byte, write bool), expiry time.Duration,
) (wrote bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = b.db.Update(func(tx *bbolt.Tx) error {
		now := time.Now()
		present, _ := read(b.app(tx, app), key, now)
		var next []byte
		if next, wrote = change(present); !wrote {
			return errUnchanged // nothing to sync to the disk
		}
		bucket, err := b.makeApp(tx, app)
		if err != nil {
			return err
		}
		if next == nil {
			return bucket.Delete([]byte(key))
		}
		var ends int64
		if expiry > 0 {
			ends = now.Add(expiry).UnixMilli()
		}
		return bucket.Put([]byte(key), append(binary.BigEndian.AppendUint64(nil, uint64(ends)), next...))
	})
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	return wrote && err == nil, err
}

var errUnchanged = errors.New("unchanged")

func (b *boltBackend) forget(ctx context.Context, app string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, owner *bbolt.Bucket) error {
			ours := owner.Bucket(b.prefix)
			if ours == nil || ours.Bucket([]byte(app)) == nil {
				return nil
			}
			return ours.DeleteBucket([]byte(app))
		})
	})
}

// ping can only say that the file is open: reading it would tell no more.
func (b *boltBackend) ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.db.View(func(*bbolt.Tx) error { return nil })
}

func (b *boltBackend) close() error { return b.db.Close() }

// sweep removes what has expired, of every prefix.
func (b *boltBackend) sweep() error {
	now := time.Now()
	return b.db.Update(func(tx *bbolt.Tx) error {
		values := tx.Bucket(valuesBucket)
		if values == nil {
			return nil
		}
		return eachBucket(values, func(prefix *bbolt.Bucket) error {
			return eachBucket(prefix, func(app *bbolt.Bucket) error {
				var stale [][]byte // a bucket must not change while it is walked
				err := app.ForEach(func(key, _ []byte) error {
					if _, s := read(app, string(key), now); s {
						stale = append(stale, bytes.Clone(key))
					}
					return nil
				})
				for _, key := range stale {
					err = errors.Join(err, app.Delete(key))
				}
				return err
			})
		})
	})
}

func eachBucket(b *bbolt.Bucket, do func(*bbolt.Bucket) error) error {
	return b.ForEachBucket(func(name []byte) error { return do(b.Bucket(name)) })
}

// app returns the app's bucket, or nil if it has none yet.
func (b *boltBackend) app(tx *bbolt.Tx, app string) *bbolt.Bucket {
	bucket := tx.Bucket(valuesBucket)
	for _, name := range [][]byte{b.prefix, []byte(app)} {
		if bucket == nil {
			return nil
		}
		bucket = bucket.Bucket(name)
	}
	return bucket
}

func (b *boltBackend) makeApp(tx *bbolt.Tx, app string) (*bbolt.Bucket, error) {
	bucket, err := tx.CreateBucketIfNotExists(valuesBucket)
	if err != nil {
		return nil, err
	}
	if bucket, err = bucket.CreateBucketIfNotExists(b.prefix); err != nil {
		return nil, err
	}
	return bucket.CreateBucketIfNotExists([]byte(app))
}

// read returns a key's value, or nil if it has none, and whether one is there that has expired.
func read(bucket *bbolt.Bucket, key string, now time.Time) (value []byte, stale bool) {
	if bucket == nil {
		return nil, false
	}
	v := bucket.Get([]byte(key))
	if len(v) < 8 {
		return nil, v != nil // none, or not written by us
	}
	ends := int64(binary.BigEndian.Uint64(v))
	if ends != 0 && now.UnixMilli() >= ends {
		return nil, true
	}
	return v[8:], false
}
