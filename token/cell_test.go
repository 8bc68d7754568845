package token

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wxproxy/store"
)

// figure is the simplest value of a cell: the larger one is the better one.
type figure struct {
	N int `json:"n"`
}

func (f figure) merge(o figure, _ time.Time) figure { return figure{max(f.N, o.N)} }
func (f figure) keep(time.Time) time.Duration       { return time.Hour }

// relay is a store whose operations may fail: all of them, or those after a number of them. A lossy one
// carries them out all the same.
type relay struct {
	Store
	down  atomic.Bool
	lossy bool
	last  int64 // 0 for no limit
	done  atomic.Int64
}

var errRelay = errors.New("the store does not answer")

func (r *relay) pass(do func() error) error {
	n := r.done.Add(1)
	if !r.down.Load() && (r.last == 0 || n <= r.last) {
		return do()
	}
	if r.lossy {
		_ = do()
	}
	return errRelay
}

func (r *relay) Get(ctx context.Context, app, key string) (value []byte, err error) {
	err = r.pass(func() error { value, err = r.Store.Get(ctx, app, key); return err })
	return value, err
}

func (r *relay) Update(ctx context.Context, app, key string, was []byte, change func([]byte) ([]byte, time.Duration, error)) error {
	return r.pass(func() error { return r.Store.Update(ctx, app, key, was, change) })
}

func (r *relay) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (held bool, err error) {
	err = r.pass(func() error { held, err = r.Store.Lease(ctx, app, key, holder, expiry); return err })
	return held && err == nil, err
}

func (r *relay) Release(ctx context.Context, app, key, holder string) error {
	return r.pass(func() error { return r.Store.Release(ctx, app, key, holder) })
}

// cells is a fleet of processes, each with a cell, on one store.
type cells struct {
	*relay
	file  *store.Store
	each  []*cell[figure]
	takes time.Duration // a fetch
	fetch fetcher[figure]
	began atomic.Int64 // fetches
	downs atomic.Int64 // failures of the store that were reported
}

func newCells(t *testing.T, processes int) *cells {
	t.Helper()
	file, err := store.Open(t.Context(), store.Options{URL: "file:" + filepath.Join(t.TempDir(), "wxproxy.db")})
	if err != nil {
		t.Fatal(err)
	}
	file.Bolt().NoSync = true
	w := &cells{relay: &relay{Store: file}, file: file, takes: time.Second}
	w.fetch = func(ctx context.Context, old figure, _ *lead[figure]) (figure, error) {
		n := w.began.Add(1)
		select {
		case <-time.After(w.takes):
			return figure{max(old.N, int(n)-1) + 1}, nil
		case <-ctx.Done():
			return old, ctx.Err()
		}
	}
	for i := range processes {
		c := &cell[figure]{app: "wx1", key: "figure", holder: fmt.Sprint("process", i)}
		c.fleet = &fleet{
			store: w.relay, now: time.Now, patience: 30 * time.Second, lease: 10 * time.Second,
			down: func(string, error) { w.downs.Add(1) },
		}
		w.each = append(w.each, c)
	}
	t.Cleanup(func() {
		for _, c := range w.each {
			c.close()
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// get has process i return a figure of at least n.
func (w *cells) get(ctx context.Context, i, n int) (figure, error) {
	c := w.each[i]
	f := c.join(ctx, func(ctx context.Context) (figure, error) {
		return c.renew(ctx, func(f figure) bool { return f.N >= n }, w.fetch)
	})
	if err := f.wait(ctx); err != nil {
		return figure{}, err
	}
	return f.value, f.err
}

func (w *cells) want(t *testing.T, i, atLeast, want int) {
	t.Helper()
	if got, err := w.get(t.Context(), i, atLeast); got.N != want || err != nil {
		t.Errorf("process %d: %d, %v, want %d", i, got.N, err, want)
	}
}

func (w *cells) wantStored(t *testing.T, want int) {
	t.Helper()
	raw, err := w.file.Get(t.Context(), "wx1", "figure")
	if got := parse[figure](raw); got.N != want || err != nil {
		t.Errorf("the store has %s, %v, want %d", raw, err, want)
	}
}

func (w *cells) wantFetches(t *testing.T, want int64) {
	t.Helper()
	if got := w.began.Load(); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}

// free fails unless the lease is free.
func (w *cells) free(t *testing.T) {
	t.Helper()
	if held, err := w.file.Lease(t.Context(), "wx1", "figure", "test", time.Second); !held || err != nil {
		t.Errorf("the lease is not free: %v, %v", held, err)
	}
	if err := w.file.Release(t.Context(), "wx1", "figure", "test"); err != nil {
		t.Error(err)
	}
}

func TestCell(t *testing.T) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, w *cells)
	}{
		{"many goroutines of two processes fetch once", func(t *testing.T, w *cells) {
			t.Helper()
			var wg sync.WaitGroup
			for i := range 400 {
				wg.Go(func() { w.want(t, i%2, 1, 1) })
			}
			wg.Wait()
			w.wantFetches(t, 1)
			w.wantStored(t, 1)
			w.free(t)
			for i := range 400 { // and once more, because this one will not do
				wg.Go(func() { w.want(t, i%2, 2, 2) })
			}
			wg.Wait()
			w.wantFetches(t, 2)
		}},
		{"the store is down", func(t *testing.T, w *cells) {
			t.Helper()
			w.down.Store(true)
			var wg sync.WaitGroup
			for i := range 400 {
				wg.Go(func() {
					if got, err := w.get(t.Context(), i%2, 1); got.N < 1 || err != nil {
						t.Errorf("process %d: %d, %v, want a figure", i%2, got.N, err)
					}
				})
			}
			wg.Wait()
			w.wantFetches(t, 2) // one of each process
			if got := w.downs.Load(); got != 2 {
				t.Errorf("%d failures of the store reported, want 2", got)
			}
			w.down.Store(false)
			w.want(t, 0, 1, w.each[0].value().N) // which gives the store what it has
			w.want(t, 1, 1, 2)
			w.want(t, 0, 1, 2)
			w.wantFetches(t, 2)
			w.wantStored(t, 2)
		}},
		{"the store goes down during the fetch", func(t *testing.T, w *cells) {
			t.Helper()
			go func() {
				time.Sleep(w.takes / 2)
				w.down.Store(true)
			}()
			w.want(t, 0, 1, 1)
			w.down.Store(false)
			time.Sleep(10 * time.Second) // the lease was not released
			w.want(t, 0, 1, 1)
			w.want(t, 1, 1, 1)
			w.wantFetches(t, 1)
		}},
		{"the store was emptied", func(t *testing.T, w *cells) {
			t.Helper()
			w.want(t, 0, 1, 1)
			if err := w.file.Forget(t.Context(), "wx1"); err != nil {
				t.Fatal(err)
			}
			w.want(t, 0, 1, 1)
			w.want(t, 1, 1, 1)
			w.wantFetches(t, 1)
		}},
		{"the lease is lost", func(t *testing.T, w *cells) {
			t.Helper()
			w.takes = 15 * time.Second // and the lease lasts for 10
			var wg sync.WaitGroup
			wg.Go(func() { w.want(t, 0, 1, 1) })
			synctest.Wait()
			wg.Go(func() { w.want(t, 1, 1, 2) }) // takes the lease after 10 s, and writes over the first's
			time.Sleep(12 * time.Second)
			w.wantFetches(t, 2)
			wg.Wait()
			w.want(t, 0, 1, 2)
			w.wantStored(t, 2)
			w.free(t)
		}},
		{"a note takes the lease anew", func(t *testing.T, w *cells) {
			t.Helper()
			w.fetch = func(ctx context.Context, old figure, l *lead[figure]) (figure, error) {
				w.began.Add(1)
				time.Sleep(8 * time.Second)
				if err := l.note(ctx, figure{1}); err != nil {
					t.Errorf("note: %v", err)
				}
				w.wantStored(t, 1)
				time.Sleep(8 * time.Second)
				return figure{2}, nil
			}
			var wg sync.WaitGroup
			for i := range 2 {
				wg.Go(func() { w.want(t, i, 2, 2) })
			}
			wg.Wait()
			w.wantFetches(t, 1)
		}},
		{"a note comes too late", func(t *testing.T, w *cells) {
			t.Helper()
			fetch := w.fetch
			w.fetch = func(ctx context.Context, old figure, l *lead[figure]) (figure, error) {
				time.Sleep(11 * time.Second) // the lease is over
				if err := w.file.Update(ctx, "wx1", "figure", nil, func([]byte) ([]byte, time.Duration, error) {
					return []byte(`{"n":7}`), time.Hour, nil
				}); err != nil {
					t.Error(err)
				}
				if err := l.note(ctx, old); !errors.Is(err, errTaken) {
					t.Errorf("note = %v, want errTaken", err)
					return fetch(ctx, old, l)
				}
				return old, errTaken
			}
			w.want(t, 0, 1, 7)
			w.wantFetches(t, 0)
		}},
		{"a holder that dies", func(t *testing.T, w *cells) {
			t.Helper()
			if held, err := w.file.Lease(t.Context(), "wx1", "figure", "dead", 10*time.Second); !held || err != nil {
				t.Fatal(held, err)
			}
			began := time.Now()
			w.want(t, 0, 1, 1)
			if took := time.Since(began) - w.takes; took < 10*time.Second || took > 10*time.Second+2*pollEvery {
				t.Errorf("it waited %s for the lease, want 10s", took)
			}
			if held, err := w.file.Lease(t.Context(), "wx1", "figure", "immortal", time.Hour); !held || err != nil {
				t.Fatal(held, err)
			}
			began = time.Now()
			if got, err := w.get(t.Context(), 0, 2); got.N != 1 || !errors.Is(err, ErrUnavailable) || time.Since(began) != 30*time.Second {
				t.Errorf("%d, %v after %s, want what is known and ErrUnavailable after 30s", got.N, err, time.Since(began))
			}
		}},
		{"a slow fetch", func(t *testing.T, w *cells) {
			t.Helper()
			w.takes = time.Minute
			began := time.Now()
			if _, err := w.get(t.Context(), 0, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 30*time.Second {
				t.Errorf("%v after %s, want its deadline after 30s", err, time.Since(began))
			}
			w.free(t)
			w.takes = time.Second
			w.want(t, 1, 1, 2)
		}},
		{"a fetch that fails", func(t *testing.T, w *cells) {
			t.Helper()
			w.want(t, 0, 1, 1)
			failure := errors.New("no figure")
			w.fetch = func(context.Context, figure, *lead[figure]) (figure, error) { return figure{9}, failure }
			if got, err := w.get(t.Context(), 0, 2); got.N != 1 || !errors.Is(err, failure) {
				t.Errorf("%d, %v, want what was known and its error", got.N, err)
			}
			w.wantStored(t, 1)
			w.free(t)
		}},
		{"a caller that goes away", func(t *testing.T, w *cells) {
			t.Helper()
			gone := errors.New("the client has gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				began := time.Now()
				if _, err := w.get(ctx, 0, 1); !errors.Is(err, gone) || time.Since(began) != w.takes/2 {
					t.Errorf("%v after %s, want the caller's own cause at once", err, time.Since(began))
				}
			})
			synctest.Wait()
			wg.Go(func() { w.want(t, 0, 1, 1) })
			time.Sleep(w.takes / 2)
			cancel(gone)
			wg.Wait()
			w.wantFetches(t, 1)
		}},
		{"closed", func(t *testing.T, w *cells) {
			t.Helper()
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := w.get(t.Context(), 0, 1); !errors.Is(err, context.Canceled) {
					t.Errorf("%v, want that the fetch was cancelled", err)
				}
			})
			synctest.Wait()
			w.each[0].close()
			wg.Wait()
			if _, err := w.get(t.Context(), 0, 1); !errors.Is(err, ErrClosed) {
				t.Errorf("%v, want ErrClosed", err)
			}
			w.free(t)
			w.want(t, 1, 1, 2)
		}},
		{"what is no figure", func(t *testing.T, w *cells) {
			t.Helper()
			if err := w.file.Update(t.Context(), "wx1", "figure", nil, func([]byte) ([]byte, time.Duration, error) {
				return []byte(`[{"n":5`), 0, nil
			}); err != nil {
				t.Fatal(err)
			}
			w.want(t, 0, 1, 1)
			w.wantStored(t, 1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tt.test(t, newCells(t, 2)) })
		})
	}
}

// Whichever operation of the store is the first to fail, there is a figure, of one fetch, and both
// processes have it once the store is back.
func TestCellStoreFails(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		for last := range int64(7) {
			t.Run(fmt.Sprintf("after %d operations, lossy %v", last, lossy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newCells(t, 2)
					w.lossy, w.last = lossy, last
					w.down.Store(last == 0)
					w.want(t, 0, 1, 1)
					w.last = 0
					w.down.Store(false)
					time.Sleep(10 * time.Second) // what may be left of a lease
					w.want(t, 0, 1, 1)
					w.want(t, 1, 1, 1)
					w.wantFetches(t, 1)
					w.wantStored(t, 1)
					w.free(t)
				})
			})
		}
	}
}

// Gateways that learn the same values know the same in the end, in whatever order they learn them.
func TestMergeLaws(t *testing.T) {
	now := time.UnixMilli(1795400000000)
	ms := rapid.Map(rapid.Int64Range(-3, 3), func(n int64) int64 { return now.UnixMilli() + n*int64(time.Hour/time.Millisecond) })
	text := rapid.SampledFrom([]string{"", "A", "B", "C"})
	records := rapid.Custom(func(t *rapid.T) record {
		r := record{Token: text.Draw(t, "token"), Fetched: ms.Draw(t, "fetched"), Ends: ms.Draw(t, "ends")}
		if dead := text.Draw(t, "dead"); dead != "" {
			r.Dead = digest(dead)
		}
		r.Forced = slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(ms, 0, 3).Draw(t, "forced"))))
		return r
	})
	tickets := rapid.Custom(func(t *rapid.T) ticket {
		ends := rapid.Int64Range(1, 3).Draw(t, "hours")
		return ticket{Text: "T" + text.Draw(t, "ticket"), Got: ms.Draw(t, "got"), Ends: now.Add(time.Duration(ends) * time.Hour).UnixMilli()}
	})
	rapid.Check(t, func(t *rapid.T) {
		checkMerge(t, now, records.Draw(t, "a"), records.Draw(t, "b"))
		checkMerge(t, now, tickets.Draw(t, "a"), tickets.Draw(t, "b"))
	})
}

// checkMerge fails unless two gateways that know a and b know the same after they have learned from each
// other, through the store, and nothing more by doing so again.
func checkMerge[T value[T]](t *rapid.T, now time.Time, a, b T) {
	first := a.merge(b, now)
	second := b.merge(first, now)
	first = first.merge(second, now)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Fatalf("%+v and %+v: two gateways differ:\n%s", a, b, diff)
	}
	if diff := cmp.Diff(first, first.merge(first, now)); diff != "" {
		t.Fatalf("%+v and %+v: not at rest:\n%s", a, b, diff)
	}
}
