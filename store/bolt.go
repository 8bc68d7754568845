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
	if err := db.Update(func(tx *bbolt.Tx) error { return b.sweep(tx, time.Now()) }); err != nil {
		return errors.Join(fmt.Errorf("store file %s: %w", path, err), db.Close())
	}
	s.backend, s.bolt = b, db
	return nil
}

type boltBackend struct {
	db     *bbolt.DB
	prefix []byte
	swept  time.Time // when all that had expired was removed; belongs to the one write transaction of db
}

// sweepInterval is how often what has expired is removed. Nobody may ever ask for it again.
const sweepInterval = 10 * time.Minute

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
		if _, stale := read(b.app(tx, app), key, now); !stale { // another call has written it since
			return nil
		}
		return b.remove(tx, app, key)
	})
}

func (b *boltBackend) lease(ctx context.Context, app, key, holder string, expiry time.Duration) (held bool, err error) {
	err = b.update(ctx, app, key, nil, func(present []byte) ([]byte, time.Duration, error) {
		held = present == nil || string(present) == holder
		if !held {
			return nil, 0, errUnchanged
		}
		return []byte(holder), expiry, nil
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return held && err == nil, err
}

func (b *boltBackend) release(ctx context.Context, app, key, holder string) error {
	err := b.update(ctx, app, key, nil, func(present []byte) ([]byte, time.Duration, error) {
		if string(present) != holder {
			return nil, 0, errUnchanged
		}
		return nil, 0, nil
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return err
}

// update replaces a value, or removes it if change returns none. No other change can come between, so it
// needs no former value. A change that errs syncs nothing to the disk.
func (b *boltBackend) update(ctx context.Context, app, key string, _ []byte, change change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.db.Update(func(tx *bbolt.Tx) error {
		now := time.Now()
		present, _ := read(b.app(tx, app), key, now)
		next, expiry, err := change(present)
		if err != nil {
			return err
		}
		if now.Sub(b.swept) >= sweepInterval {
			if err := b.sweep(tx, now); err != nil {
				return err
			}
		}
		if next == nil {
			return b.remove(tx, app, key)
		}
		bucket, err := b.makeApp(tx, app)
		if err != nil {
			return err
		}
		var ends int64
		if expiry > 0 {
			ends = now.Add(expiry).UnixMilli()
		}
		return bucket.Put([]byte(key), append(binary.BigEndian.AppendUint64(nil, uint64(ends)), next...))
	})
}

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

func (b *boltBackend) close() error { return b.db.Close() }

// sweep removes what has expired, of every prefix, and the buckets of apps that have nothing left.
func (b *boltBackend) sweep(tx *bbolt.Tx, now time.Time) error {
	b.swept = now
	values := tx.Bucket(valuesBucket)
	if values == nil {
		return nil
	}
	return values.ForEachBucket(func(name []byte) error {
		prefix := values.Bucket(name)
		var empty [][]byte // a bucket must not change while it is walked
		err := prefix.ForEachBucket(func(name []byte) error {
			app := prefix.Bucket(name)
			var stale [][]byte
			left := 0
			err := app.ForEach(func(key, _ []byte) error {
				if _, s := read(app, string(key), now); s {
					stale = append(stale, bytes.Clone(key))
				} else {
					left++
				}
				return nil
			})
			if left == 0 {
				empty = append(empty, bytes.Clone(name))
				return err
			}
			for _, key := range stale {
				err = errors.Join(err, app.Delete(key))
			}
			return err
		})
		for _, name := range empty {
			err = errors.Join(err, prefix.DeleteBucket(name))
		}
		return err
	})
}

// remove removes a key that is there, and the app's bucket with its last one.
func (b *boltBackend) remove(tx *bbolt.Tx, app, key string) error {
	bucket := b.app(tx, app)
	if bucket == nil { // swept
		return nil
	}
	if err := bucket.Delete([]byte(key)); err != nil {
		return err
	}
	if first, _ := bucket.Cursor().First(); first != nil {
		return nil
	}
	return tx.Bucket(valuesBucket).Bucket(b.prefix).DeleteBucket([]byte(app))
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
