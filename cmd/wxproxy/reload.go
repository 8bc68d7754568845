package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"wxproxy/config"
)

const (
	// pollEvery is how often the files are read. Watching folders instead would miss the symlink swaps by
	// which container platforms change files.
	pollEvery = time.Second

	// restTime is for how long files must not change before they are believed, and restAtMost how long they are
	// waited for. An editor that writes in place, or two files that belong together, are seen half done otherwise.
	restTime   = 100 * time.Millisecond
	restAtMost = 2 * time.Second
)

var errChanging = errors.New("the files of the configuration change while they are read: reload again when they are complete")

// reloaded is how the last reload ended.
type reloaded struct {
	at  time.Time
	err error // why the configuration, the certificate or both were not reloaded
}

// readFile reads a file of the configuration and notes what it saw. g.reloading is held.
func (g *gateway) readFile(path string) ([]byte, fs.FileMode, error) {
	data, mode, err := config.ReadFile(path)
	g.seen[path] = sumOf(data, err)
	return data, mode, err
}

func sumOf(data []byte, err error) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%v\n%s", err, data))
}

// look reads the files of the last reading again, those that were not there too. It returns "" when they are
// as they were, or a digest of how they are.
func (g *gateway) look() string {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	return g.lookLocked()
}

func (g *gateway) lookLocked() string {
	same, now := true, make(map[string][sha256.Size]byte, len(g.seen))
	for path, sum := range g.seen {
		data, _, err := config.ReadFile(path)
		now[path] = sumOf(data, err)
		same = same && now[path] == sum
	}
	if same {
		return ""
	}
	return fmt.Sprint(now) // in the order of the paths
}

// readLocked reads the configuration and the certificate, which have faults of their own.
func (g *gateway) readLocked() (c *config.Config, pair *pair, fault, pairFault error) {
	clear(g.seen)
	load := g.load
	load.Running, load.Read = g.config.Load(), g.readFile
	c, fault = config.Load(load)
	if fault == nil && len(c.Apps) == 0 && !learns(c) {
		fault = errNoApps
	}
	if g.certificate != nil {
		pair, pairFault = readPair(g.certificate.files, g.readFile)
	}
	return c, pair, fault, pairFault
}

// reload reads the configuration and the certificate again, until two readings agree. A fault in one of the two
// changes nothing of that one.
func (g *gateway) reload(ctx context.Context) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	begun := time.Now()
	c, pair, fault, pairFault := g.readLocked()
	for resting := true; resting; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restTime):
		}
		switch {
		case g.lookLocked() == "":
			resting = false
		case time.Since(begun) > restAtMost:
			pair, fault, resting = nil, errChanging, false
			for path := range g.seen {
				g.seen[path] = [sha256.Size]byte{} // so that watch reads them again
			}
		default:
			c, pair, fault, pairFault = g.readLocked()
		}
	}
	if fault == nil {
		fault = g.take(c)
	}
	if fault != nil {
		g.log.Error("reload failed, keeping the previous configuration", zap.Error(fault))
	}
	switch {
	case pairFault != nil:
		g.log.Error("certificate reload failed, keeping the previous one", zap.Error(pairFault))
	case pair != nil && g.certificate.set(pair):
		g.log.Info("certificate reloaded", zap.String("file", g.certificate.files.CertFile))
	}
	err := errors.Join(fault, pairFault)
	g.metrics.Reloaded(err == nil)
	g.reloaded.Store(&reloaded{time.Now(), err})
	g.alerts.reloaded(err)
	return err
}

// take has the gateway go by a configuration that was reloaded.
func (g *gateway) take(c *config.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopErasuresLocked(c)
	if err := g.configure(context.Background(), c); err != nil {
		return err
	}
	g.log.Info("configuration reloaded", zap.Int("apps", len(c.Apps)), zap.Strings("files", c.Paths))
	for _, key := range c.Restart {
		g.log.Warn("changed in the file: takes effect after a restart", zap.String("key", key))
	}
	for _, w := range c.Warnings {
		g.log.Warn(w)
	}
	return nil
}

// watch reloads when the content of a file has changed and is the same at two readings, until ctx is done.
func (g *gateway) watch(ctx context.Context) {
	g.reloading.Lock()
	c, _, fault, pairFault := g.readLocked()
	g.reloading.Unlock()
	if fault != nil || pairFault != nil || c.Digest != g.config.Load().Digest { // changed since the start read it
		_ = g.reload(ctx) // logged
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	before := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := g.look()
		if now != "" && now == before {
			_ = g.reload(ctx) // logged
			now = ""
		}
		before = now
	}
}

// reloadOnSignal reloads at each SIGHUP until ctx is done.
func (g *gateway) reloadOnSignal(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := g.access.Reopen(); err != nil {
				g.log.Error("access log", zap.Error(err))
			}
			_ = g.reload(ctx) // logged
		}
	}
}
