package faults

import (
	"testing"
	"time"

	"wxproxy/limits"
)

// A request that comes late after its own second attempt was refused would take a call that nobody
// hears of: a refusal is not written down, so it does not make the late one stale. So what a gateway
// holds is stated once more after a refusal that took two attempts.
func TestLateRequestAfterARefusal(t *testing.T) {
	const quota = 2
	a, relay, direct := relayedNode(t, quota)
	b := newNode(t, a.judge, counters(t, direct.Options().Addr), time.Now, a.limiter.Rules(app))
	b.spend(t, quota-1)
	_, unsent := b.take(t.Context(), groupsPath)
	late := order(t, relay, Fault{Match: counting(t), Do: LateRequest, Hold: true})
	a.fullNow(t) // by the second attempt
	unsent.GiveBack()
	b.is(t, direct, quota-1)
	late.Release()
	waitFor(t, "the late request", func() bool { return len(late.Replies()) == 1 })
	t.Logf("the late request is answered %q", late.Replies())
	a.is(t, direct, quota-1) // at rest
	verdict, _, _ := b.call(t.Context(), groupsPath)
	if executed := a.judge.Executed(app, groupsPath); verdict != limits.Pass || executed != quota {
		t.Errorf("the last call: %s; WeChat executed %d, want %d", verdict, executed, quota)
	}
}
