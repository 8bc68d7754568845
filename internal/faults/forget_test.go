package faults

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// An account is taken out of the configuration of two gateways and forgotten through one of them.
// When Redis loses everything after that, each gateway restores what it has counted, and the other
// one nothing of the account that is forgotten.
func TestForgottenStaysForgotten(t *testing.T) {
	t.Parallel()
	const kept, gone, calls = 0, 1, 7
	for _, loss := range []struct {
		name string
		do   func(t *testing.T, f *fleet)
	}{
		{"flushed", func(t *testing.T, f *fleet) {
			t.Helper()
			if err := f.direct.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}},
		{"killed", func(t *testing.T, f *fleet) {
			t.Helper()
			f.redis.Stop()
			for range 10 { // so that the outage is noticed
				for _, p := range f.gateways {
					f.hear(t.Context(), p, call{app: kept, path: sendPath})
				}
			}
			f.redis.Restart()
		}},
	} {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, setup{gateways: 2, apps: 2, rules: []rule{{"send", sendPath, "100/day", ""}, {"text", textPath, "100/month", ""}}})
			for _, app := range []int{kept, gone} {
				for _, path := range []string{sendPath, textPath, menuPath} {
					if got := f.fire(t.Context(), load{call: call{app: app, path: path}, callers: 2, calls: 2 * calls}); got.of[passed] != 2*calls {
						t.Fatalf("answers %v, want %d %s", got, 2*calls, passed)
					}
				}
			}
			time.Sleep(idle) // everything is reported
			f.without(t, gone)
			// The other gateway first takes the configuration over, as it does by itself within seconds.
			f.reload(t, f.gateways...)
			if status, text := f.ask(t, f.gateways[0], http.MethodPost, "/api/v1/forget?app="+appid(gone)); status != http.StatusOK {
				t.Fatalf("forget is answered %d %s", status, text)
			}
			if keys := f.keys(t, gone); len(keys) > 0 {
				t.Errorf("after the account was forgotten there are %v", keys)
			}
			loss.do(t, f)
			within(t, 5*time.Second, "the other account is restored", func() bool {
				for _, p := range slices.Backward(f.gateways) { // the other one is the first to see the loss
					f.hear(t.Context(), p, call{app: kept, path: sendPath})
				}
				return f.counted(t, kept, "text", "m") >= 2*calls && f.counted(t, kept, "send", "d") >= f.executed(kept, sendPath)
			})
			time.Sleep(idle)
			if keys := f.keys(t, gone); len(keys) > 0 {
				t.Errorf("after Redis lost everything the forgotten account has %v", keys)
			}
		})
	}
}

// without takes an account out of the file of the configuration.
func (f *fleet) without(t *testing.T, app int) {
	t.Helper()
	path := filepath.Join(f.folder, "wxproxy.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("  - {name: a%d, appid: %s, secret: %s}\n", app, appid(app), secret)
	if !strings.Contains(string(text), line) {
		t.Fatalf("%s has no line %q", path, line)
	}
	writeFile(t, path, strings.Replace(string(text), line, "", 1))
}

// keys are those of an account in Redis.
func (f *fleet) keys(t *testing.T, app int) []string {
	t.Helper()
	keys, err := f.direct.Keys(t.Context(), "*"+appid(app)+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
