package faults

import (
	"fmt"
	"testing"
	"time"

	"wxproxy/sandbox"
)

// Each account has places for 512 paths inside a /*, counted one by one; the rest share a counter.
// Calls to made-up paths that never left, because WeChat cannot be reached, take no place for good:
// a real path has one of its own afterwards. And where all places are taken, a 45009 for one path
// without a place closes no other.
func TestPlacesOfPaths(t *testing.T) {
	t.Parallel()
	const madeUp, places = 600, 512
	f := newFleet(t, setup{gateways: 1, rules: []rule{{"send", sendPath, "100/day", ""}}})
	gateway := f.gateways[0]
	if said := f.hear(t.Context(), gateway, call{path: sendPath}); said != passed { // the token is there
		t.Fatalf("a call is answered %s", said)
	}

	address := f.wechat.URL[len("http://"):]
	if err := f.wechat.Close(); err != nil {
		t.Fatal(err)
	}
	const unsent = "refused-upstream -1" // the call never left, and is given back
	waitFor(t, "kept connections are gone", func() bool { return f.hear(t.Context(), gateway, call{path: sendPath}) == unsent })
	for i := range madeUp {
		if said := f.hear(t.Context(), gateway, call{path: fmt.Sprint("/cgi-bin/made-up/", i), get: true}); said != unsent {
			t.Fatalf("with WeChat gone a call is answered %s", said)
		}
	}
	again, err := sandbox.Listen(address, f.setup.wechat)
	if err != nil {
		t.Fatal(err)
	}
	f.wechat = again // which newFleet closes
	within(t, 10*time.Second, "WeChat is back", func() bool { return f.hear(t.Context(), gateway, call{path: sendPath}) == passed })
	counts := func(path string) {
		t.Helper()
		c := call{path: path, get: true}
		if said := f.hear(t.Context(), gateway, c); said != passed {
			t.Errorf("%s is answered %s", path, said)
		}
		within(t, time.Second, path+" has a counter of its own", func() bool { return f.row(t, gateway, 0, "other", path, "day").Used == 1 })
	}
	counts(tagsPath)

	// More real paths than there are places.
	answered := f.wechat.Order(sandbox.Fault{Path: "/cgi-bin/real/*", Body: `{"errcode":0,"errmsg":"ok"}`, Times: -1})
	for i := range places + 20 {
		if said := f.hear(t.Context(), gateway, call{path: fmt.Sprint("/cgi-bin/real/", i), get: true}); said != passed {
			t.Fatalf("path %d is answered %s", i, said)
		}
	}
	if answered.Fired() != places+20 {
		t.Fatalf("%d real paths were called, want %d", answered.Fired(), places+20)
	}
	within(t, 3*time.Second, "paths without a place share a counter", func() bool { return f.row(t, gateway, 0, "other", "*", "day").Used >= 20 })
	const first, second = "/cgi-bin/menu/get", groupsPath
	reached := f.wechat.Order(sandbox.Fault{Path: first, ErrCode: 45009, Times: -1})
	if said := f.hear(t.Context(), gateway, call{path: first, get: true}); said != "pass 45009" || reached.Fired() != 1 {
		t.Fatalf("%s is answered %s", first, said)
	}
	for _, path := range []string{second, "/cgi-bin/real/1", fmt.Sprint("/cgi-bin/real/", places+10), "/cgi-bin/user/get"} {
		for range 3 {
			if said := f.hear(t.Context(), gateway, call{path: path, get: true}); said != passed {
				t.Errorf("after a 45009 for %s, %s is answered %s", first, path, said)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
