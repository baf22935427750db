package connector

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Source is where a connector reads its configuration again.
type Source = conf.Source[Config]

// Follow makes Run read the configuration again when its file, or a file that it names, changes. Call it before Run.
func (c *Connector) Follow(source Source) { c.reloader.Follow(source) }

// Reload reads the configuration and the ingress file again, as it is also done by itself when they change. What is bad changes
// nothing; log, metrics and /ready tell of it.
func (c *Connector) Reload() {
	c.reloader.Reload()
	c.rules.reload()
}

func (c *Connector) newReloader() *conf.Reloader[Config] {
	return conf.NewReloader(c.cfg, conf.Reloading[Config]{
		Apply: c.reconfigure, Restart: "connector restart", Logger: c.logger, Metrics: c.metrics,
		Files: func(cfg Config) []string {
			return slices.DeleteFunc([]string{cfg.CAFile, cfg.ProxyPasswordFile}, func(path string) bool { return path == "" })
		},
	})
}

// reconfigure puts next in force as far as that goes while the connector runs; what can fail comes first.
func (c *Connector) reconfigure(now, next Config, _ []string) (Config, error) {
	moved := now
	moved.Proxy, moved.ProxyPasswordFile, moved.CAFile, moved.TLSInspection = next.Proxy, next.ProxyPasswordFile, next.CAFile, next.TLSInspection
	moved.DrainTimeout = cmp.Or(next.DrainTimeout, now.DrainTimeout)
	if moved.Validate() == nil { // else it needs the transport that next has, which waits
		if err := c.links.follow(moved); err != nil {
			return now, err
		}
		now = moved
	}
	if now.Log.Level != next.Log.Level {
		set, err := c.reloader.SetLevel(next.Log.Level)
		if err != nil {
			return now, fmt.Errorf("log.level: %w", err) // not after Validate
		}
		if set {
			now.Log.Level = next.Log.Level
		}
	}
	c.inForce.Store(&now)
	return now, nil
}

// way is what tells two ways out of the building apart: the settings, and what is in the files that they name. A file that cannot
// be read is told of where it is used.
func (c Config) way() []byte {
	sum := sha256.New()
	bare, password := c.Proxy.Apart()
	fmt.Fprintf(sum, "%q %q %t %t", bare.String(), password, c.Proxy.Direct(), c.TLSInspection)
	for _, path := range []string{c.ProxyPasswordFile, c.CAFile} {
		text, _ := os.ReadFile(path)
		fmt.Fprintf(sum, " %q", text)
	}
	return sum.Sum(nil)
}

// follow has links opened the way that cfg says, and replaced by such where it is another way: each lane keeps its links until it
// has one that took the new way, and what runs on them goes on. An error means that nothing has changed.
func (e *edges) follow(cfg Config) error {
	own, err := cfg.Target(e.identity)
	if err != nil {
		return err
	}
	way := cfg.way()
	e.mu.Lock()
	defer e.mu.Unlock()
	targets := map[*set]tunnel.Target{}
	for _, s := range e.sets {
		if targets[s], err = e.targetOf(cfg, own, s.edge); err != nil {
			return err
		}
	}
	e.cfg.Proxy, e.cfg.ProxyPasswordFile, e.cfg.CAFile, e.cfg.TLSInspection = cfg.Proxy, cfg.ProxyPasswordFile, cfg.CAFile, cfg.TLSInspection
	e.cfg.DrainTimeout = cfg.DrainTimeout
	if bytes.Equal(way, e.way) {
		return nil
	}
	e.way, e.own = way, own
	e.logger.Info("links take another way out from now on", zap.Stringer("proxy", cfg.Proxy), zap.Bool("tls_inspection", cfg.TLSInspection))
	for s, target := range targets {
		s.reroute(newDialers(e.cfg, target))
	}
	return nil
}

// reroute has the lanes open links by other dialers, and such links take the place of those that are there.
func (l *links) reroute(d dialers) {
	for _, lane := range l.lanes {
		lane.mu.Lock()
		lane.dial, lane.better = d.fast, d.better
		if lane.kind == tunnelv1.Lane_LANE_BULK {
			lane.dial, lane.better = d.bulk, nil
		}
		lane.way++
		lane.renew = len(lane.serving) > 0
		lane.backoff, lane.due = tunnel.Backoff{}, lane.asked
		if lane.abort != nil {
			lane.abort()
		}
		lane.mu.Unlock()
		lane.wake()
	}
}
