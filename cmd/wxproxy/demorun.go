package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"wxproxy/admin"
	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/sandbox"
)

// demoRun is a demo that shows itself until it is interrupted.
type demoRun struct {
	l      words.Language
	out    io.Writer
	folder string
	wechat *sandbox.Server
	keys   map[string]string // by service

	userGets int64 // the quota of userGet

	gateway, admin string // URLs
	token          string // of the admin listener
}

func (d *demoRun) config() string { return filepath.Join(d.folder, config.MainFile) }

// show starts the services and tells what happens.
func (d *demoRun) show(ctx context.Context) error {
	page, err := d.page(ctx)
	if err != nil {
		return unlessInterrupted(ctx, err)
	}
	stream, err := d.ask(ctx, http.MethodGet, "/api/v1/tail")
	if err != nil {
		return unlessInterrupted(ctx, err)
	}
	n := newNarrator(d.l, d.out)
	d.begin(n, page)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	calls, tellings, over := make(chan tailLine), make(chan func()), make(chan struct{})
	tell := func(f func()) {
		select {
		case tellings <- f:
		case <-ctx.Done():
		}
	}
	services := &demoServices{gateway: d.gateway, keys: d.keys, wechat: d.wechat, userGets: d.userGets, around: func(path string, times int64) {
		tell(func() {
			n.tell(d.l.Text(words.DemoTellAround, "count", times, "rule", strings.ReplaceAll(strings.TrimPrefix(path, "/cgi-bin/"), "/", ".")))
		})
	}}
	wg.Go(func() { services.run(ctx, over) })
	wg.Go(func() { follow(ctx, stream.Body, calls) })
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-over:
			if !pause(ctx, 3*time.Second) { // what was shown last is to be read
				return
			}
			tell(func() { d.rest(ctx, n) })
		}
	})
	err = n.run(ctx, calls, tellings)
	cancel()
	wg.Wait()
	n.print("\n" + d.l.Text(words.DemoSum, "executed", d.wechat.Executed("", ""), "refused", n.refused) + "\n")
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) { // the reader has closed it
		return nil
	}
	return err
}

// unlessInterrupted returns an error, but for one of a demo that is interrupted.
func unlessInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // interrupted
	}
	return err
}

// begin says what there is and what to do.
func (d *demoRun) begin(n *narrator, page string) {
	command, width := commandName(), n.textWidth()
	var b strings.Builder
	paragraph := func(c colour, text string) {
		for _, line := range wrap(text, width) {
			b.WriteString(n.paint(c, line) + "\n")
		}
	}
	paragraph(uncoloured, d.l.Text(words.DemoIntro, "wechat", d.wechat.URL, "gateway", d.gateway))
	b.WriteByte('\n')
	paragraph(bold, d.l.Text(words.DemoPage))
	b.WriteString("  " + page + "\n\n")
	paragraph(bold, d.l.Text(words.DemoServices))
	for _, service := range []struct {
		name string
		does words.Message
	}{{demoCRM, words.DemoCRM}, {demoCampaign, words.DemoCampaign}, {demoReporter, words.DemoReporter}} {
		does := strings.Join(wrap(d.l.Text(service.does), width-12), "\n"+strings.Repeat(" ", 12))
		fmt.Fprintf(&b, "  %-8s  %s\n", service.name, does)
	}
	b.WriteByte('\n')
	paragraph(bold, d.l.Text(words.DemoTry))
	fmt.Fprintf(&b, "  curl -i '%s/cgi-bin/menu/create' -d '{\"button\":[]}'\n", d.gateway)
	fmt.Fprintf(&b, "  %s usage --config %s\n  curl %s/metrics\n\n", command, d.config(), d.admin)
	paragraph(bold, d.l.Text(words.DemoEnd))
	n.print(b.String() + "\n")
}

// rest says that the demo is over and goes on.
func (d *demoRun) rest(ctx context.Context, n *narrator) {
	n.period = restPeriod
	for _, r := range n.kinds {
		r.summing = true
	}
	n.tell(d.l.Text(words.DemoTellRest, "seconds", int(restPeriod.Seconds())))
	if page, err := d.page(ctx); err == nil {
		n.print("  " + page + "\n\n")
	}
}

// commandName is how the person has started this program.
func commandName() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/wxproxy"
	}
	return os.Args[0]
}

// page is the address of the pages with a new code.
func (d *demoRun) page(ctx context.Context) (string, error) {
	response, err := d.ask(ctx, http.MethodPost, "/api/v1/session/code")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var issued admin.SessionCode
	if err := json.NewDecoder(response.Body).Decode(&issued); err != nil {
		return "", err
	}
	return d.admin + "/#code=" + issued.Code, nil
}

// ask sends a request to the admin listener. The status of the answer is 200.
func (d *demoRun) ask(ctx context.Context, method, path string) (*http.Response, error) {
	client, base := clientFor(d.admin)
	r, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	response, err := client.Do(r)
	if err == nil && response.StatusCode != http.StatusOK {
		err = words.New(words.GatewayError, "address", d.admin, "error", apiError(response))
		_ = response.Body.Close()
	}
	return response, err
}

// follow sends the calls of a stream on until it ends.
func follow(ctx context.Context, stream io.ReadCloser, calls chan<- tailLine) {
	defer stream.Close()
	defer close(calls)
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		var c tailLine
		if json.Unmarshal(lines.Bytes(), &c) != nil || c.Time.IsZero() {
			continue // a heartbeat, or lines that were dropped
		}
		select {
		case calls <- c:
		case <-ctx.Done():
			return
		}
	}
}
