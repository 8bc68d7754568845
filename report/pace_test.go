package report

import (
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"

	"wxproxy/internal/redistest"
	"wxproxy/limits"
)

// A pace decides as redis_rate does in a real Redis, at the same times by Redis's clock. Where the decision
// depends on when between two readings of that clock the call came, either is right.
func TestPaceIsThatOfRedisRate(t *testing.T) {
	client := redistest.Start(t).Client(t)
	rate := redis_rate.NewLimiter(client)
	now := func() time.Duration {
		at, err := client.Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(at.UnixNano())
	}
	for _, tt := range []limits.Pace{{Rate: 50, Per: time.Second, Burst: 7}, {Rate: 3000, Per: time.Minute, Burst: 1}, {Rate: 7, Per: time.Second, Burst: 20}} {
		strict, loose := *newPace(tt), *newPace(tt) // the latest and the earliest that its state may be
		compared, refused := 0, 0
		for began := time.Now(); time.Since(began) < 700*time.Millisecond; {
			before := now()
			got, err := rate.AllowN(t.Context(), tt.String(), redis_rate.Limit{Rate: tt.Rate, Period: tt.Per, Burst: tt.Burst}, 1)
			if err != nil {
				t.Fatal(err)
			}
			after := now()
			first, last := strict.take(before), loose.take(after)
			if first == last {
				compared++
				if (got.Allowed > 0) != first {
					t.Fatalf("%s: redis_rate allows %d, the pace %t", tt, got.Allowed, first)
				}
			}
			if got.Allowed == 0 {
				refused++
			}
			strict.next, loose.next = after+got.ResetAfter, before+got.ResetAfter // Redis's from here on
		}
		if compared == 0 || refused == 0 {
			t.Errorf("%s: %d decisions compared, %d refused, want some of each", tt, compared, refused)
		}
	}
}
