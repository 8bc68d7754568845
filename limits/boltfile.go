package limits

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// countersBucket holds a bucket for each prefix, app and window. In a window's bucket a counter is
// "generation ceiling until grant at", until and at being its latch. A name with a | is no counter:
// |end is the window's end, |g its generation, and |+ before a counter's name its grant, as "calls until at".
// tryKey is written to see whether the file can be.
const (
	countersBucket = "counters"
	endKey         = "|end"
	tryKey         = "|try"
)

// boltFile reads windows from the file, and writes to it in a goroutine of its own: all that is
// waiting in one transaction.
type boltFile struct {
	db     *bbolt.DB
	prefix string
	now    func() time.Time

	mu      *sync.Mutex // Bolt's; it covers waiting, failed and closed
	waiting []*boltWrite
	failed  bool // the last transaction failed
	closed  bool

	wake chan struct{} // of one; the writer has something to do
	done chan struct{} // closed when the writer has ended
}

func newBoltFile(db *bbolt.DB, prefix string, now func() time.Time, mu *sync.Mutex) *boltFile {
	f := &boltFile{db: db, prefix: prefix, now: now, mu: mu, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go f.write()
	return f
}

var errClosed = errors.New("the store is closed")

// boltWrite is what the file has to hold for one request.
type boltWrite struct {
	puts []boltPut
	done chan error // has room for its one error
}

// boltPut is one value, with what it makes known of the file once it is there.
type boltPut struct {
	window  *boltWindow // nil: tryKey
	name    string
	text    string
	counter *boltCounter // nil: the window's generation
	onFile  CounterState
}

func newBoltWrite() *boltWrite { return &boltWrite{done: make(chan error, 1)} }

func (w *boltWrite) addGeneration(window *boltWindow) {
	w.puts = append(w.puts, boltPut{
		window: window, name: generationField, text: strconv.FormatInt(window.generation, 10),
		onFile: CounterState{Generation: window.generation},
	})
}

func (w *boltWrite) addCounter(window *boltWindow, name string, c *boltCounter, ceiling int64) {
	on := CounterState{Generation: c.Generation, Used: ceiling, Latch: c.Latch, Grant: c.Grant}
	text := fmt.Sprintf("%d %d %d %d %d", on.Generation, on.Used, on.Latch.Until, on.Grant.Calls, on.Latch.At)
	if on.Grant != c.onFile.Grant {
		w.puts = append(w.puts, boltPut{window: window, name: grantField + name, text: on.Grant.String()})
	}
	w.puts = append(w.puts, boltPut{window: window, name: name, text: text, counter: c, onFile: on})
}

func (w *boltWrite) addTry(now time.Time) {
	w.puts = append(w.puts, boltPut{name: tryKey, text: now.UTC().Format(time.RFC3339)})
}

// wait returns when the file holds what it has to.
func (w *boltWrite) wait(ctx context.Context) error {
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendLocked hands a write to the writer.
func (f *boltFile) sendLocked(w *boltWrite) {
	switch {
	case f.closed:
		w.done <- errClosed
	case len(w.puts) == 0:
		w.done <- nil
	default:
		f.waiting = append(f.waiting, w)
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// closeLocked ends the writer, once it has written what is waiting.
func (f *boltFile) closeLocked() {
	if !f.closed {
		f.closed = true
		close(f.wake)
	}
}

// write commits what is waiting until the file is closed.
func (f *boltFile) write() {
	defer close(f.done)
	for range f.wake {
		f.mu.Lock()
		batch := f.waiting
		f.waiting = nil
		f.mu.Unlock()
		if len(batch) == 0 {
			continue
		}
		err := f.commit(batch)
		for _, w := range batch {
			w.done <- err
		}
	}
}

func (f *boltFile) commit(batch []*boltWrite) error {
	err := f.db.Update(func(tx *bbolt.Tx) error {
		for _, w := range batch {
			for _, p := range w.puts {
				b, err := f.bucket(tx, p.window)
				if err == nil {
					err = b.Put([]byte(p.name), []byte(p.text))
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed = err != nil; f.failed {
		return fileError(err)
	}
	for _, w := range batch {
		for _, p := range w.puts {
			switch {
			case p.counter != nil:
				p.counter.onFile = p.onFile
			case p.window != nil && p.name == generationField:
				p.window.onFile = p.onFile.Generation
			}
		}
	}
	return nil
}

// bucket returns the bucket of a window, made with its end where it is new. When it is new, the
// app's windows that ended more than a day ago are dropped.
func (f *boltFile) bucket(tx *bbolt.Tx, w *boltWindow) (*bbolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists([]byte(countersBucket))
	if err != nil || w == nil {
		return b, err
	}
	if b, err = b.CreateBucketIfNotExists([]byte(f.prefix)); err != nil {
		return nil, err
	}
	if b, err = b.CreateBucketIfNotExists([]byte(w.app)); err != nil {
		return nil, err
	}
	if old := b.Bucket([]byte(w.name)); old != nil {
		return old, nil
	}
	if err := dropOld(b, f.now()); err != nil {
		return nil, err
	}
	if b, err = b.CreateBucket([]byte(w.name)); err != nil {
		return nil, err
	}
	return b, b.Put([]byte(endKey), []byte(strconv.FormatInt(w.end.UnixMilli(), 10)))
}

func dropOld(app *bbolt.Bucket, now time.Time) error {
	var old [][]byte
	err := app.ForEachBucket(func(name []byte) error {
		end, ok := parseFigure(string(app.Bucket(name).Get([]byte(endKey))))
		if ok && now.After(time.UnixMilli(end).AddDate(0, 0, 1)) {
			old = append(old, append([]byte(nil), name...))
		}
		return nil
	})
	for _, name := range old {
		err = errors.Join(err, app.DeleteBucket(name))
	}
	return err
}

// read reads a window's counters. Those that cannot be read are zero and marked as damaged.
func (f *boltFile) read(key windowKey, asked Window) (*boltWindow, error) {
	w := &boltWindow{windowKey: key, end: asked.End, counters: make(map[string]*boltCounter)}
	last := lastTime(asked)
	err := f.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(countersBucket))
		for _, name := range []string{f.prefix, key.app, key.name} {
			if b != nil {
				b = b.Bucket([]byte(name))
			}
		}
		if b == nil {
			return nil
		}
		err := b.ForEach(func(name, value []byte) error {
			switch field, text := string(name), string(value); {
			case field == generationField:
				var ok bool
				if w.generation, ok = parseGeneration(text, last); ok {
					w.onFile = w.generation
				} else {
					w.onFile, w.damaged = -1, text
				}
			case !strings.Contains(field, "|"):
				w.counters[field] = parseBoltCounter(text, last)
			}
			return nil
		})
		for name, c := range w.counters {
			if grant, ok := parseGrant(string(b.Get([]byte(grantField+name))), last); ok {
				c.Grant, c.onFile.Grant = grant, grant
			}
		}
		return err
	})
	return w, fileError(err)
}

// parseBoltCounter reads "generation ceiling until grant[ at]". For text that is not a counter it
// returns one that is marked as damaged.
func parseBoltCounter(text string, last int64) *boltCounter {
	words := strings.Split(text, " ")
	var f [5]int64
	ok := len(words) == 4 || len(words) == 5
	for i := 0; ok && i < len(words); i++ {
		f[i], ok = parseFigure(words[i])
	}
	on := CounterState{Generation: f[0], Used: f[1], Latch: Latch{Until: f[2], At: f[4]}, Grant: grantUntil(f[3], last)}
	if !ok || on.Generation > last || on.Latch.Until > last || on.Latch.At > last {
		return &boltCounter{record: record{Damaged: true}, onFile: CounterState{Used: -1}, text: text}
	}
	return &boltCounter{record: record{CounterState: on}, onFile: on}
}

// fileError returns an error of the file as a *StoreError: the file is there, and refuses.
func fileError(err error) error {
	if err == nil {
		return nil
	}
	return &StoreError{Text: err.Error()}
}
