package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// repeat is how often the tests that count calls under load are run, each time on a fresh account.
var repeat = flag.Int("faults.repeat", 1, "how often the tests F1 to F3, F12 and F13 are repeated")

// idle is how long after the last call everything is stated: a block goes back after one idle
// second, and is looked at once a second.
const idle = 2500 * time.Millisecond

// program is the built program. There is none under the race detector: newFleet skips the test.
var program string

// quiet says nothing of dials that fail: they are meant to.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	flag.Parse()
	redis.SetLogger(quiet{})
	folder, err := os.MkdirTemp("", "wxproxy-faults-")
	if err == nil && !Race {
		program = filepath.Join(folder, "wxproxy")
		build := exec.CommandContext(context.Background(), "go", "build", "-o", program, "wxproxy/cmd/wxproxy")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "building wxproxy: %v\n", err)
		_ = os.RemoveAll(folder)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// waitFor polls until something is so, for at most 15 seconds.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 15 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
