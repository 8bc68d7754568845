package history

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Bolt keeps history in the embedded store, in a bucket of each account:
//
//	history / <prefix> / <appid> / h20261123|hour|part -> sums
//	                               m20261123           -> sums of the day
//	                               r2954880|part       -> calls of each minute of a slot
type Bolt struct {
	db     *bbolt.DB
	prefix []byte
	now    func() time.Time

	mu    sync.Mutex
	swept string // the day on which what is over was removed last
}

// NewBolt returns history in an open file. prefix is the store's.
func NewBolt(db *bbolt.DB, prefix string) *Bolt {
	return &Bolt{db: db, prefix: []byte(prefix), now: time.Now}
}

var historyBucket = []byte("history")

// boltBatch is how many accounts one transaction writes: counters wait for it.
const boltBatch = 50

// Write implements [Store].
func (s *Bolt) Write(ctx context.Context, parts []Parts) error {
	for batch := range slices.Chunk(parts, boltBatch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.db.Update(func(tx *bbolt.Tx) error {
			for _, a := range batch {
				if err := s.write(tx, a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return s.sweep()
}

func (s *Bolt) write(tx *bbolt.Tx, a Parts) error {
	bucket, err := s.makeApp(tx, a.App)
	if err != nil {
		return err
	}
	bucket.FillPercent = 0.9 // hours follow each other: a page that was split is not written any more
	put := func(key string, value []byte) {
		if err == nil {
			err = bucket.Put([]byte(key), value)
		}
	}
	for _, h := range a.Hours {
		put("h"+h.Day+"|"+hourField(h.Part), h.Sums)
		if h.Over && err == nil {
			err = bucket.Delete([]byte("m" + h.Day))
		}
	}
	for _, m := range a.Minutes {
		put("r"+strconv.FormatInt(m.Slot, 10)+"|"+m.Name, m.Packed)
	}
	return err
}

// Hours implements [Store].
func (s *Bolt) Hours(ctx context.Context, days []Day) ([][]Part, error) {
	all := make([][]Part, len(days))
	err := s.view(ctx, func(tx *bbolt.Tx) {
		for i, d := range days {
			scan(s.app(tx, d.App), "h"+d.Day+"|", func(rest string, value []byte) {
				if part, ok := parseHourField(rest, value); ok {
					all[i] = append(all[i], part)
				}
			})
		}
	})
	return all, err
}

// Days implements [Store].
func (s *Bolt) Days(ctx context.Context, days []Day) ([][]byte, error) {
	all := make([][]byte, len(days))
	err := s.view(ctx, func(tx *bbolt.Tx) {
		for i, d := range days {
			if bucket := s.app(tx, d.App); bucket != nil {
				all[i] = bytes.Clone(bucket.Get([]byte("m" + d.Day)))
			}
		}
	})
	return all, err
}

// Minutes implements [Store].
func (s *Bolt) Minutes(ctx context.Context, apps []string, slots []int64) ([][]Minutes, error) {
	all := make([][]Minutes, len(apps))
	err := s.view(ctx, func(tx *bbolt.Tx) {
		for i, app := range apps {
			for _, slot := range slots {
				scan(s.app(tx, app), "r"+strconv.FormatInt(slot, 10)+"|", func(name string, value []byte) {
					all[i] = append(all[i], Minutes{slot, name, value})
				})
			}
		}
	})
	return all, err
}

// Roll implements [Store], in one transaction.
func (s *Bolt) Roll(ctx context.Context, day Day, merge func([]Part) []byte) error {
	hours, err := s.Hours(ctx, []Day{day})
	if err != nil {
		return err
	}
	sums := merge(hours[0])
	if sums == nil {
		return nil
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		bucket := s.app(tx, day.App)
		if bucket == nil {
			return nil // forgotten meanwhile
		}
		n := 0
		changed := false
		scan(bucket, "h"+day.Day+"|", func(rest string, value []byte) {
			part, ok := parseHourField(rest, value)
			changed = changed || n >= len(hours[0]) || !ok || part.Name != hours[0][n].Name || !bytes.Equal(part.Sums, hours[0][n].Sums)
			n++
		})
		if changed || n != len(hours[0]) {
			return nil
		}
		return bucket.Put([]byte("m"+day.Day), sums)
	})
	if err != nil {
		return fmt.Errorf("history: roll up: %w", err)
	}
	return nil
}

func (s *Bolt) view(ctx context.Context, do func(*bbolt.Tx)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.db.View(func(tx *bbolt.Tx) error { do(tx); return nil })
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// scan calls each with what follows a prefix in the keys of a bucket, which may be nil, and a copy of the
// values.
func scan(bucket *bbolt.Bucket, prefix string, each func(rest string, value []byte)) {
	if bucket == nil {
		return
	}
	c := bucket.Cursor()
	for k, v := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		each(string(k[len(prefix):]), bytes.Clone(v))
	}
}

// sweep removes what is over, once a day.
func (s *Bolt) sweep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UTC()
	if s.swept == dayOf(now) {
		return nil
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		apps := s.apps(tx)
		if apps == nil {
			return nil
		}
		return apps.ForEachBucket(func(app []byte) error { return sweepApp(apps.Bucket(app), now) })
	})
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	s.swept = dayOf(now)
	return nil
}

func sweepApp(bucket *bbolt.Bucket, now time.Time) error {
	var over [][]byte // a bucket must not change while a cursor walks over it
	for _, kept := range []struct{ kind, from string }{
		{"h", dayOf(now.AddDate(0, 0, -HoursKept-2))},
		{"m", dayOf(now.AddDate(0, 0, -DaysKept-2))},
		{"r", strconv.FormatInt(slotOf(now.Unix()/60)-2, 10)},
	} {
		c := bucket.Cursor()
		end := []byte(kept.kind + kept.from)
		for k, _ := c.Seek([]byte(kept.kind)); k != nil && bytes.Compare(k, end) < 0; k, _ = c.Next() {
			over = append(over, bytes.Clone(k))
		}
	}
	for _, key := range over {
		if err := bucket.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// apps returns the bucket of all accounts, or nil.
func (s *Bolt) apps(tx *bbolt.Tx) *bbolt.Bucket {
	if bucket := tx.Bucket(historyBucket); bucket != nil {
		return bucket.Bucket(s.prefix)
	}
	return nil
}

func (s *Bolt) app(tx *bbolt.Tx, app string) *bbolt.Bucket {
	if apps := s.apps(tx); apps != nil {
		return apps.Bucket([]byte(app))
	}
	return nil
}

func (s *Bolt) makeApp(tx *bbolt.Tx, app string) (*bbolt.Bucket, error) {
	bucket, err := tx.CreateBucketIfNotExists(historyBucket)
	if err != nil {
		return nil, err
	}
	if bucket, err = bucket.CreateBucketIfNotExists(s.prefix); err != nil {
		return nil, err
	}
	return bucket.CreateBucketIfNotExists([]byte(app))
}
