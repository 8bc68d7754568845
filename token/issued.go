package token

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// issuedGrace is how long a token names its app beyond its end, for clocks that differ. It is
	// short, because a token that proves nothing to WeChat should prove nothing here.
	issuedGrace = time.Minute

	// How long memory is believed before the store is asked again.
	knownFor   = time.Minute
	unknownFor = time.Second

	maxKnown   = 10_000 // tokens in memory, and as many that are unknown
	maxLookups = 1_000  // a second, of tokens that are not in memory: beyond it they are unknown

	issuedPrefix = "token:" // + hex SHA-256 of a token, of LearnedApp -> issue
)

// issued knows which app a token was issued to. A token in use costs a round trip a minute, one that is
// unknown a round trip a second. Unknown ones have a place of their own: however much garbage is shown, it
// cannot push out what is known.
type issued struct {
	store Store // may be nil
	now   func() time.Time

	mu      sync.Mutex // covers what follows
	known   *simplelru.LRU[tokenHash, knownIssue]
	unknown *simplelru.LRU[tokenHash, time.Time] // until when the store need not be asked
	second  int64                                // the Unix second that lookups is of
	lookups int
}

type tokenHash [sha256.Size]byte

func hashOf(accessToken string) tokenHash { return sha256.Sum256([]byte(accessToken)) }

func (h tokenHash) key() string { return issuedPrefix + hex.EncodeToString(h[:]) }

// issue is what the store holds of a token, as JSON.
type issue struct {
	App   string `json:"app"`             // "" if the token is unknown
	Share string `json:"share,omitempty"` // the key of the record that shares it
	Ends  int64  `json:"ends_ms"`
}

type knownIssue struct {
	issue
	fresh time.Time // until when the store need not be asked
}

// newIssue is of a token that is good until ends.
func newIssue(appid, share string, ends int64) issue {
	return issue{App: appid, Share: share, Ends: ends + issuedGrace.Milliseconds()}
}

func newIssued(store Store, now func() time.Time) *issued {
	return &issued{store: store, now: now, known: newLRU[tokenHash, knownIssue](maxKnown), unknown: newLRU[tokenHash, time.Time](maxKnown)}
}

func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic("token: " + err.Error()) // a size below 1
	}
	return lru
}

// remember adds what a token was issued for, in memory and for the fleet.
func (s *issued) remember(ctx context.Context, accessToken string, i issue) error {
	hash := hashOf(accessToken)
	s.learn(hash, i, knownFor)
	if s.store == nil {
		return nil
	}
	if err := s.write(context.WithoutCancel(ctx), hash, nil, i); err != nil {
		s.learn(hash, i, unknownFor) // the next call with the token tries again
		return fmt.Errorf("learned token of %s: %w", i.App, err)
	}
	return nil
}

func (s *issued) write(ctx context.Context, hash tokenHash, raw []byte, i issue) error {
	return s.store.Update(ctx, LearnedApp, hash.key(), raw, func([]byte) ([]byte, time.Duration, error) {
		text, err := json.Marshal(i)
		return text, time.UnixMilli(i.Ends).Sub(s.now()), err
	})
}

// find returns what is known of a token.
func (s *issued) find(ctx context.Context, shown string) (issue, bool) {
	if !validToken(shown) {
		return issue{}, false
	}
	hash, now := hashOf(shown), s.now()
	known, ask := s.recall(hash, now)
	if !ask || s.store == nil {
		return known, known.App != ""
	}
	raw, err := s.store.Get(ctx, LearnedApp, hash.key())
	if err != nil {
		return known, known.App != ""
	}
	if i := parse[issue](raw); goodAppID.MatchString(i.App) && now.UnixMilli() < i.Ends {
		known = i
	} else if known.App != "" {
		_ = s.write(ctx, hash, raw, known) // the store was emptied; if that fails, the next time
	}
	if known.App == "" {
		s.mu.Lock()
		s.unknown.Add(hash, now.Add(unknownFor))
		s.mu.Unlock()
		return issue{}, false
	}
	s.learn(hash, known, knownFor)
	return known, true
}

// recall returns what is in memory of a token, and whether to ask the store. Of those who come when it
// is time to ask again only the first has to.
func (s *issued) recall(hash tokenHash, now time.Time) (i issue, ask bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known.Get(hash); ok && now.UnixMilli() < k.Ends {
		if ask = !now.Before(k.fresh); ask {
			k.fresh = now.Add(unknownFor)
			s.known.Add(hash, k)
		}
		return k.issue, ask
	}
	if until, ok := s.unknown.Get(hash); ok && now.Before(until) {
		return issue{}, false
	}
	if second := now.Unix(); second != s.second {
		s.second, s.lookups = second, 0
	}
	s.lookups++
	return issue{}, s.lookups <= maxLookups
}

// learn keeps what a token was issued for in memory; for so long it is believed without the store.
func (s *issued) learn(hash tokenHash, i issue, believed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.Add(hash, knownIssue{issue: i, fresh: s.now().Add(believed)})
}
