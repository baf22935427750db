package conf

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// Source is where a running program reads its configuration again.
type Source[T any] struct {
	// File is read again when it has changed; empty leaves it to Reload.
	File string
	// Load reads the whole configuration and finds every fault, as at start.
	Load func() (T, error)
	// SetLevel changes the level of the log; nil leaves log.level to a restart.
	SetLevel func(level string) error
}

// Reloading is what a Reloader works with.
type Reloading[T any] struct {
	// Apply puts in force what of next can change while the program runs, and returns the configuration that is in force then;
	// changed lists the keys in which next differs from now. An error means that nothing has changed.
	Apply func(now, next T, changed []string) (T, error)
	// Files lists what a configuration is made of beside its file; nil is none.
	Files func(T) []string
	// Restart is the command that puts the rest in force, for people to read.
	Restart string
	Logger  *zap.Logger
	Metrics *metric.Registry
}

// Reloader puts a changed configuration in force: the new one is checked whole, then what can change while the program runs
// does; the rest is named and waits for a restart. A configuration with any fault changes nothing; log, metrics and Status tell.
type Reloader[T any] struct {
	Reloading[T]
	results *prometheus.CounterVec
	source  Source[T]
	watcher *Watcher // nil without a file

	mu      sync.Mutex // guards all below; held while a configuration is read and put in force
	running T
	waiting []string // keys that a restart would change
	problem string   // why the newest configuration was not taken
}

// The results of sallyport_config_reload_total.
const (
	reloadApplied  = "applied"
	reloadWaiting  = "needs_restart" // in part or whole
	reloadRejected = "rejected"
)

// NewReloader begins with the configuration that the program was started with.
func NewReloader[T any](running T, r Reloading[T]) *Reloader[T] {
	return &Reloader[T]{
		Reloading: r, running: running,
		results: r.Metrics.Counter("sallyport_config_reload_total", "Times that the configuration was read again and had changed, by what became of it.", "result"),
	}
}

// Follow makes Run read the configuration again when its file changes, and Reload whenever it is called. Call it before Run.
func (r *Reloader[T]) Follow(source Source[T]) {
	r.source = source
	if source.File != "" {
		r.watcher = NewWatcher(0, r.watched)
	}
}

// SetLevel is the source's; it reports false where the level waits for a restart.
func (r *Reloader[T]) SetLevel(level string) (bool, error) {
	if r.source.SetLevel == nil {
		return false, nil
	}
	return true, r.source.SetLevel(level)
}

// Run reads the configuration again when its file has changed, until ctx ends. The first look is at once: what was written
// between the program's start and Follow has not been seen by the watcher.
func (r *Reloader[T]) Run(ctx context.Context) error {
	if r.watcher == nil {
		<-ctx.Done()
		return nil
	}
	r.Reload()
	r.watcher.Run(ctx, r.Reload)
	return nil
}

func (r *Reloader[T]) watched() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	files := []string{r.source.File}
	if r.Files != nil {
		files = append(files, r.Files(r.running)...)
	}
	return files
}

// Reload reads the configuration again. Without Follow it does nothing.
func (r *Reloader[T]) Reload() {
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
	r.Logger.Error("configuration rejected; the one before stays in force", zap.String("problem", r.problem))
}

func (r *Reloader[T]) apply(next T) error {
	before := r.running
	changed := Changed(&before, &next)
	now, err := r.Apply(before, next, changed)
	if err != nil {
		return err
	}
	waited := r.waiting
	r.running, r.waiting = now, Changed(&now, &next)
	r.tell(slices.DeleteFunc(changed, func(key string) bool { return slices.Contains(r.waiting, key) }), waited)
	return nil
}

// tell says what became of a configuration without faults, unless nothing did.
func (r *Reloader[T]) tell(done, waited []string) {
	recovered := r.problem != ""
	r.problem = ""
	if len(done) == 0 && slices.Equal(r.waiting, waited) && !recovered {
		return
	}
	if len(r.waiting) > 0 {
		r.results.WithLabelValues(reloadWaiting).Inc()
		r.Logger.Warn("configuration read again: some of it needs "+r.Restart, zap.Strings("in_force", done), zap.Strings("needs_restart", r.waiting))
		return
	}
	r.results.WithLabelValues(reloadApplied).Inc()
	r.Logger.Info("configuration read again and in force", zap.Strings("changed", done))
}

// Status says what is wrong with the newest configuration, or which of its keys wait for a restart; empty when all of it is in
// force.
func (r *Reloader[T]) Status() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.problem != "":
		return "rejected: " + r.problem
	case len(r.waiting) > 0:
		return "needs " + r.Restart + ": " + strings.Join(r.waiting, ", ")
	}
	return ""
}
