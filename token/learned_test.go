package token_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// memoryStore is a Store that can be looked into, counted and taken down.
type memoryStore struct {
	down  atomic.Bool
	words atomic.Int64 // calls of its methods

	mu     sync.Mutex
	values map[string]memoryValue // app + " " + key; leases have " lease:" for the space
}

type memoryValue struct {
	value []byte
	ends  time.Time // zero: never
}

func newMemoryStore() *memoryStore { return &memoryStore{values: map[string]memoryValue{}} }

var errMemoryDown = errors.New("the store is down")

// change replaces a value if change says so. Both are nil if there is none.
func (m *memoryStore) change(ctx context.Context, id string, expiry time.Duration, change func(present []byte) (next []byte, ok bool)) (bool, error) {
	m.words.Add(1)
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if m.down.Load() {
		return false, errMemoryDown
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.values[id]
	if !v.ends.IsZero() && !time.Now().Before(v.ends) {
		v = memoryValue{}
	}
	next, ok := change(v.value)
	if !ok {
		return false, nil
	}
	v = memoryValue{value: slices.Clone(next)}
	if expiry > 0 {
		v.ends = time.Now().Add(expiry)
	}
	if m.values[id] = v; next == nil {
		delete(m.values, id)
	}
	return true, nil
}

func (m *memoryStore) Get(ctx context.Context, app, key string) (value []byte, err error) {
	_, err = m.change(ctx, app+" "+key, 0, func(present []byte) ([]byte, bool) {
		value = slices.Clone(present)
		return nil, false
	})
	return value, err
}

func (m *memoryStore) CompareAndSet(ctx context.Context, app, key string, was, value []byte, expiry time.Duration) (bool, error) {
	if len(value) == 0 {
		return false, errors.New("want a value that is not empty")
	}
	return m.change(ctx, app+" "+key, expiry, func(present []byte) ([]byte, bool) { return value, bytes.Equal(present, was) })
}

func (m *memoryStore) Lease(ctx context.Context, app, key, holder string, expiry time.Duration) (bool, error) {
	return m.change(ctx, app+" lease:"+key, expiry, func(present []byte) ([]byte, bool) {
		return []byte(holder), present == nil || string(present) == holder
	})
}

func (m *memoryStore) Release(ctx context.Context, app, key, holder string) error {
	_, err := m.change(ctx, app+" lease:"+key, 0, func(present []byte) ([]byte, bool) { return nil, string(present) == holder })
	return err
}

func (m *memoryStore) put(app, key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[app+" "+key] = memoryValue{value: []byte(value)}
}

func (m *memoryStore) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.values)
}

// dump is all that is in it.
func (m *memoryStore) dump() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var text string
	for _, id := range slices.Sorted(maps.Keys(m.values)) {
		text += fmt.Sprintf("%s = %s\n", id, m.values[id].value)
	}
	return text
}
