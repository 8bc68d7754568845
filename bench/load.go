package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The bodies of the load.
const smallBody = `{"touser":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","msgtype":"text","text":{"content":"hello"}}`

var body2K = `{"touser":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","msgtype":"text","text":{"content":"` + strings.Repeat("benchmark ", 197)[:1964] + `"}}`

// loaded is what wrk says of its calls.
type loaded struct {
	Calls, Micros, Bytes, Failed int64
	P50, P99, Max                int64 // microseconds
}

// writeLoad writes wrk's script.
func writeLoad(dir string) (string, error) {
	text, err := files.ReadFile("files/load.lua")
	if err != nil {
		return "", err
	}
	quote := func(body string) string { return strings.ReplaceAll(body, `"`, `\"`) }
	path := filepath.Join(dir, "load.lua")
	return path, os.WriteFile(path, []byte(strings.NewReplacer("@SMALL@", quote(smallBody), "@LARGE@", quote(body2K)).Replace(string(text))), 0o600)
}

// wrk loads an address for a time.
func (b *bench) wrk(ctx context.Context, address, mode string, apps, conns int, d time.Duration) (loaded, error) {
	argv := []string{b.tools.wrk, "-t1", "-c" + strconv.Itoa(conns), "-d" + strconv.Itoa(int(d.Seconds())) + "s", "--timeout", "5s", "-s", b.script, "http://" + address, "--", mode, strconv.Itoa(apps)}
	if b.pinned {
		argv = append([]string{"taskset", "-c", "0"}, argv...)
	}
	var l loaded
	out, err := command(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return l, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	_, result, ok := bytes.Cut(out, []byte("\nRESULT "))
	if !ok {
		return l, fmt.Errorf("wrk says nothing:\n%s", out)
	}
	if err := json.NewDecoder(bytes.NewReader(result)).Decode(&l); err != nil {
		return l, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	if l.Calls == 0 || l.Failed > 0 {
		return l, otherWorkError{what: fmt.Sprintf("%d of %d calls failed", l.Failed, l.Calls), said: string(out)}
	}
	return l, nil
}

// paced is what an open-loop load has seen: calls begin at their time whether or not others have
// ended.
type paced struct {
	Calls, Failed int
	Micros        []int64 // of each call, less what the upstream says that it took; ascending
}

func (p *paced) at(quantile float64) int64 {
	if len(p.Micros) == 0 {
		return 0
	}
	return p.Micros[min(int(quantile*float64(len(p.Micros))), len(p.Micros)-1)]
}

// pace makes rate calls a second for a time. It is run as a process of its own, to be pinned.
func pace(ctx context.Context, url string, rate int, d time.Duration) (*paced, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 4096, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}
	var (
		mu sync.Mutex // covers p
		p  paced
		wg sync.WaitGroup
	)
	call := func() {
		began := time.Now()
		took, err := one(ctx, client, url)
		spent := time.Since(began).Microseconds() - took
		mu.Lock()
		defer mu.Unlock()
		p.Calls++
		if err != nil {
			p.Failed++
			return
		}
		p.Micros = append(p.Micros, spent)
	}
	began := time.Now()
	for i := range int(d.Seconds() * float64(rate)) {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		wg.Go(call)
	}
	wg.Wait()
	slices.Sort(p.Micros)
	return &p, ctx.Err()
}

// one makes a call and returns how long the upstream says that it took.
func one(ctx context.Context, client *http.Client, url string) (int64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // G704: an address of this run
	if err != nil {
		return 0, err
	}
	res, err := client.Do(r) //nolint:gosec // G704: as above
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var text [256]byte
	n := 0
	for err == nil && n < len(text) {
		var more int
		more, err = res.Body.Read(text[n:])
		n += more
	}
	if string(text[:n]) != answerText {
		return 0, errors.New("another answer")
	}
	took, _ := strconv.ParseInt(res.Header.Get("X-Took"), 10, 64) // absent: 0
	return took, nil
}

// paced runs pace in a process of its own.
func (b *bench) paced(ctx context.Context, url string, rate int, d time.Duration) (*paced, error) {
	argv := []string{b.tools.self, "pace", url, strconv.Itoa(rate), d.String()}
	if b.pinned {
		argv = append([]string{"taskset", "-c", "0"}, argv...)
	}
	cmd := command(ctx, argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pace: %w", err)
	}
	var p paced
	if err := json.Unmarshal(out, &p); err != nil {
		return nil, fmt.Errorf("pace: %w", err)
	}
	if p.Calls == 0 || p.Failed > 0 {
		return nil, fmt.Errorf("pace: %d calls, %d failed", p.Calls, p.Failed)
	}
	return &p, nil
}
