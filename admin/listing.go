package admin

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How many listings are kept, and for how long after their first page.
const (
	maxListings = 16
	listingLife = 5 * time.Minute
)

// listings are orders of accounts that are paged through. The order is that of the first page: figures move while
// a client reads the pages, so each account is on one page, once, with its figures of the moment. The zero value is ready.
type listings struct {
	mu  sync.Mutex // covers what follows
	all []*listing // the oldest first
}

type listing struct {
	id    string
	begun time.Time
	apps  []App
}

// page is a part of a listing.
type page struct {
	apps  []App
	total int
	next  string // the cursor of what follows; "": nothing does
}

// begin returns the first page of apps. The order is kept when there are more.
func (l *listings) begin(apps []App, limit int) page {
	one := &listing{id: rand.Text(), begun: time.Now(), apps: apps}
	p := one.page(0, limit)
	if p.next == "" {
		return p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= maxListings {
		l.all = append(l.all[:0:0], l.all[1:]...)
	}
	l.all = append(l.all, one)
	return p
}

// page returns the page at a cursor. It is false for one whose listing is not kept any more.
func (l *listings) page(cursor string, limit int) (page, bool) {
	id, at, _ := strings.Cut(cursor, ".")
	from, err := strconv.Atoi(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.all {
		if one.id == id && err == nil && from >= 0 && from < len(one.apps) && time.Since(one.begun) < listingLife {
			return one.page(from, limit), true
		}
	}
	return page{}, false
}

func (l *listing) page(from, limit int) page {
	to := min(from+limit, len(l.apps))
	p := page{apps: l.apps[from:to], total: len(l.apps)}
	if to < len(l.apps) {
		p.next = l.id + "." + strconv.Itoa(to)
	}
	return p
}
