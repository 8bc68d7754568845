package faults

import (
	"sync"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
	"wxproxy/sandbox"
)

// Commands of many counters go to Redis together. What befalls one of them in the middle takes the
// answers of all behind it along, and nothing is sold twice or lost for it.
func TestFaultsInTheMiddleOfABatch(t *testing.T) {
	const quota, callers = 60, 4
	paths := []string{
		groupsPath, tagsPath, "/cgi-bin/menu/get", "/cgi-bin/get_current_selfmenu_info", "/cgi-bin/user/get",
		"/cgi-bin/material/get_materialcount", "/cgi-bin/template/get_industry", "/cgi-bin/template/get_all_private_template",
		"/cgi-bin/get_current_autoreply_info", "/cgi-bin/getcallbackip", "/cgi-bin/get_api_domain_ip", "/cgi-bin/draft/count",
		"/cgi-bin/customservice/getkflist", "/cgi-bin/customservice/getonlinekflist", "/cgi-bin/user/tag/get",
		"/cgi-bin/message/mass/speed/get",
	}
	quotas := make(map[string][]string)
	for _, path := range paths {
		quotas[path] = []string{"60/day"}
	}
	server := redistest.Start(t)
	direct := server.Client(t)
	relay := relayTo(t, server)
	j := newJudge(t, sandbox.Options{})
	set := rules(t, location(t, noon()), quotas)
	all := []*node{newNode(t, j, counters(t, relay.Addr()), time.Now, set), newNode(t, j, counters(t, relay.Addr()), time.Now, set)}
	script := counting(t)
	orders := []*Ordered{
		order(t, relay, Fault{Match: script, After: 40, Every: 97, Times: 6, Do: LoseReply}),
		order(t, relay, Fault{Match: script, After: 60, Every: 89, Times: 6, Do: LoseRequest}),
		order(t, relay, Fault{Match: script, After: 20, Every: 61, Times: 8, Do: CutAfter}),
		order(t, relay, Fault{Match: script, After: 30, Every: 53, Times: 8, Do: CutBefore}),
		order(t, relay, Fault{Match: script, After: 10, Every: 31, Times: 20, Do: Double, Wait: 20 * time.Millisecond}),
	}
	ctx := t.Context()
	var wg sync.WaitGroup
	for _, n := range all {
		for _, path := range paths {
			for range callers {
				wg.Go(func() {
					for began := time.Now(); time.Since(began) < 20*time.Second; {
						switch verdict, wait, _ := n.call(ctx, path); verdict {
						case limits.RefusedQuota:
							return
						case limits.RefusedStore:
							time.Sleep(min(wait, 20*time.Millisecond))
						}
					}
					t.Errorf("%s: neither full nor over", path)
				})
			}
		}
	}
	wg.Wait()
	fired := 0
	for _, o := range orders {
		o.Cancel()
		fired += o.Fired()
	}
	t.Logf("%d faults; %d commands came right before another one", fired, relay.Followed())
	if relay.Followed() < int64(len(paths)) {
		t.Errorf("%d commands came right before another one: there were no batches", relay.Followed())
	}
	time.Sleep(idle) // what was held for nothing goes back
	for _, path := range paths {
		for range quota + 1 {
			if verdict, _, _ := all[0].call(ctx, path); verdict == limits.RefusedQuota {
				break
			} else if verdict != limits.Pass {
				t.Errorf("%s: %s with no fault left", path, verdict)
			}
		}
		if executed := j.Executed(app, path); executed != quota {
			t.Errorf("%s: WeChat executed %d, want %d", path, executed, quota)
		}
		all[0].countedIs(t, direct, path, quota)
	}
}
