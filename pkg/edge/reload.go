package edge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/mail"
)

// Source is where an edge reads its configuration again.
type Source struct {
	// File is read again when it has changed; empty leaves it to Reload.
	File string
	// Load reads the whole configuration and finds every fault, as at start.
	Load func() (Config, error)
	// SetLevel changes the level of the log; nil leaves log.level to a restart.
	SetLevel func(level string) error
}

// reloader puts a changed configuration in force: the new one is checked whole, then what can change while the edge serves
// does; the rest is named and waits for a restart. A configuration with any fault changes nothing.
type reloader struct {
	edge    *Edge
	source  Source
	watcher *conf.Watcher // nil without a file
	results *prometheus.CounterVec

	mu      sync.Mutex // guards all below; held while a configuration is read and put in force
	running Config
	waiting []string // keys that a restart would change
	problem string   // why the newest configuration was not taken
}

// The results of sallyport_config_reload_total.
const (
	reloadApplied  = "applied"
	reloadWaiting  = "needs_restart" // in part or whole
	reloadRejected = "rejected"
)

// Follow makes Run read the configuration again when its file changes, and Reload whenever it is called. Call it before Run.
func (e *Edge) Follow(source Source) {
	r := &e.reloader
	r.source = source
	if source.File != "" {
		r.watcher = conf.NewWatcher(0, r.watched)
	}
}

// Reload reads the configuration again and puts in force what can change while the edge serves. A faulty one changes nothing;
// the log, the metrics and /ready tell of it. Without Follow it does nothing.
func (e *Edge) Reload() { e.reloader.reload() }

// run reads the configuration again when its file has changed, until ctx ends. The first look is at once: what was written
// between the edge's start and Follow has not been seen by the watcher.
func (r *reloader) run(ctx context.Context) error {
	if r.watcher == nil {
		<-ctx.Done()
		return nil
	}
	r.reload()
	r.watcher.Run(ctx, r.reload)
	return nil
}

// watched lists the files that the configuration is made of. Certificates are not among them: they are watched where they are
// served from.
func (r *reloader) watched() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	files := []string{r.source.File}
	if r.running.Mail.CAFile != "" {
		files = append(files, r.running.Mail.CAFile)
	}
	return files
}

func (r *reloader) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.source.Load == nil {
		return
	}
	next, err := r.source.Load()
	if err == nil {
		err = r.apply(next)
	}
	if err == nil {
		return
	}
	r.problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	r.results.WithLabelValues(reloadRejected).Inc()
	r.edge.logger.Error("configuration rejected; the one before stays in force", zap.String("problem", r.problem))
}

// apply puts next in force as far as that goes; an error means that nothing has changed. What can fail comes first.
func (r *reloader) apply(next Config) error {
	mailer, err := mail.FromConfig(next.Mail)
	if err != nil {
		return err
	}
	now := r.running
	changed := conf.Changed(&now, &next)
	// The local CA stands in when there are no files; which of the two it is, is settled at start.
	if slices.Contains(changed, "certificates") && len(now.Certificates) > 0 && len(next.Certificates) > 0 {
		if err := r.edge.certs.Replace(next.pairs()); err != nil {
			return err
		}
		now.Certificates = next.Certificates
	}
	r.edge.mailer.Use(mailer) // also when only the file that it names has changed
	now.Mail = next.Mail
	if r.source.SetLevel != nil && now.Log.Level != next.Log.Level {
		if err := r.source.SetLevel(next.Log.Level); err != nil {
			return fmt.Errorf("log.level: %w", err) // not after Validate
		}
		now.Log.Level = next.Log.Level
	}
	now.Edges, now.Drain = next.Edges, next.Drain
	waited := r.waiting
	r.waiting = conf.Changed(&now, &next)
	done := slices.DeleteFunc(changed, func(key string) bool { return slices.Contains(r.waiting, key) })
	r.running = now
	r.edge.inForce.Store(&now)
	r.edge.tellEdges()
	r.tell(done, waited)
	return nil
}

// tell says what became of a configuration without faults, unless nothing did.
func (r *reloader) tell(done, waited []string) {
	recovered := r.problem != ""
	r.problem = ""
	if len(done) == 0 && slices.Equal(r.waiting, waited) && !recovered {
		return
	}
	if len(r.waiting) > 0 {
		r.results.WithLabelValues(reloadWaiting).Inc()
		r.edge.logger.Warn("configuration read again: some of it needs edge restart", zap.Strings("in_force", done), zap.Strings("needs_restart", r.waiting))
		return
	}
	r.results.WithLabelValues(reloadApplied).Inc()
	r.edge.logger.Info("configuration read again and in force", zap.Strings("changed", done))
}

// status is what /ready says of the configuration; empty when all of the newest one is in force.
func (r *reloader) status() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.problem != "":
		return "rejected: " + r.problem
	case len(r.waiting) > 0:
		return "needs edge restart: " + strings.Join(r.waiting, ", ")
	}
	return ""
}
