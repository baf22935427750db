package connector

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
)

// keptFile is what was last accepted from the edge, in the state directory, so that a start without the edge has rules.
const keptFile = "ingress-edge.json"

// kept are rules that were accepted from the edge.
type kept struct {
	// Version is the edge's; 0 means that nothing was accepted yet.
	Version uint64 `json:"version"`
	// YAML is empty when the edge keeps none any more.
	YAML string `json:"yaml"`
}

// rules decides which ingress rules are in force: those of the file, or those kept at the edge. Either way the newest that
// are good are; bad ones change nothing and are told of.
type rules struct {
	dir, file, from string
	bounds          ingress.Bounds
	logger          *zap.Logger
	results         *prometheus.CounterVec
	refused         prometheus.Gauge
	version         prometheus.Gauge
	watcher         *conf.Watcher
	first           *ingress.Rules // to start with

	mu      sync.Mutex // guards all below; held while rules are read and swapped, so that the last word is the last one said
	swap    func(*ingress.Rules)
	own     bool     // the file has the word
	stay    bool     // the file had it, is gone, and the edge keeps none: its rules stay in force
	edge    kept     // what the edge keeps, as far as it was good; not in force while own or stay is set
	named   []string // files that the rules name
	problem string
}

var _ controlclient.Rules = (*rules)(nil)

// newRules finds the rules to start with. A file that is bad at the start is an error; rules of the edge that can no longer
// be used, perhaps because the clinic narrowed ingress_allow, are a problem that is told of.
func newRules(cfg Config, logger *zap.Logger) (*rules, error) {
	bounds, err := ingress.ParseBounds(cfg.IngressAllow)
	if err != nil {
		return nil, fmt.Errorf("ingress_allow: %w", err)
	}
	r := &rules{
		dir: cfg.StateDir, file: cfg.Ingress, from: cfg.IngressFrom, bounds: bounds, logger: logger, swap: func(*ingress.Rules) {},
		results: cfg.Metrics.Counter("sallyport_ingress_loads_total", "Ingress rules that were read, by where they came from and what became of them.", "from", "result"),
		refused: cfg.Metrics.Gauge("sallyport_ingress_refused", "1 while the newest ingress rules are bad and older ones are in force.").WithLabelValues(),
		version: cfg.Metrics.Gauge("sallyport_ingress_version", "Version of the rules kept at the edge that are in force; 0 for none of them.").WithLabelValues(),
	}
	_, err = os.Stat(r.file)
	r.own = r.from == IngressFile || r.from == IngressAuto && !errors.Is(err, fs.ErrNotExist)
	if text, err := os.ReadFile(r.file); err == nil {
		r.named = ingress.Files(text)
	}
	r.watcher = conf.NewWatcher(0, r.watched) // before the files are read: what changes meanwhile is read again
	known, remembered, errKnown := r.recall()
	if errKnown == nil {
		r.edge = known
	}
	if r.own {
		_, r.first, err = readRules(r.file)
		return r, err
	}
	r.first = remembered
	if errKnown != nil {
		r.refuse(IngressEdge, fmt.Errorf("the remembered rules cannot be used: %w", errKnown))
	}
	r.version.Set(float64(r.edge.Version))
	return r, nil
}

// recall reads what was last taken from the edge.
func (r *rules) recall() (kept, *ingress.Rules, error) {
	text, err := os.ReadFile(filepath.Join(r.dir, keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, ingress.NoRules(), nil
	}
	var known kept
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	var rules *ingress.Rules
	if err == nil {
		rules, err = pushed([]byte(known.YAML), &r.bounds)
	}
	if err != nil {
		return kept{}, ingress.NoRules(), err
	}
	return known, rules, nil
}

// pushed reads rules of the edge; none is a set of rules too.
func pushed(text []byte, bounds *ingress.Bounds) (*ingress.Rules, error) {
	if len(text) == 0 {
		return ingress.NoRules(), nil
	}
	rules, faults := ingress.LoadPushed(text, bounds)
	return rules, errors.Join(faults...)
}

// readRules reads an ingress file; the error joins every fault in it. The text comes with an error too, as far as there is any.
func readRules(path string) ([]byte, *ingress.Rules, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("ingress rules: %w", err)
	}
	rules, faults := ingress.Load(text)
	for i, fault := range faults {
		faults[i] = fmt.Errorf("%s: %w", path, fault)
	}
	return text, rules, errors.Join(faults...)
}

// LoadRules reads an ingress file; the error joins every fault in it.
func LoadRules(path string) (*ingress.Rules, error) {
	_, rules, err := readRules(path)
	return rules, err
}

// RulesAtStart returns the ingress rules that a start with this configuration would have, and where they come from. The error
// joins every fault in a file of the connector's own.
func (c Config) RulesAtStart() (*ingress.Rules, IngressStatus, error) {
	c = c.withDefaults()
	r, err := newRules(c, c.Logger)
	if err != nil {
		return nil, IngressStatus{From: IngressFile}, err
	}
	return r.first, r.status(), nil
}

// reload reads the file and puts its rules in force if they are good.
func (r *rules) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from == IngressEdge {
		r.logger.Info("nothing to read again: this connector takes its rules from the edge")
		return
	}
	text, rules, err := readRules(r.file)
	if errors.Is(err, fs.ErrNotExist) && r.from == IngressAuto {
		r.yield()
		return
	}
	if text != nil {
		r.named = ingress.Files(text)
	}
	if err != nil {
		r.refuse(IngressFile, err)
		return
	}
	r.own, r.stay = true, false
	r.version.Set(0)
	r.enforce(IngressFile, rules)
}

// yield has the edge's rules take over from a file that is gone; those of the file stay while there are none.
func (r *rules) yield() {
	if !r.own {
		return // there was no file before
	}
	r.own, r.named = false, nil
	r.logger.Warn("the ingress file is gone: the rules kept at the edge count from now on", zap.String("file", r.file))
	rules, err := pushed([]byte(r.edge.YAML), &r.bounds)
	switch {
	case r.edge.YAML == "":
		r.stay = true
		r.refuse(IngressFile, fmt.Errorf("%s is gone, and the edge keeps no rules: what the file said stays in force until it does, or until the next start", r.file))
	case err != nil:
		r.stay = true
		r.refuse(IngressEdge, fmt.Errorf("%s is gone, and version %d from the edge cannot be used: %w", r.file, r.edge.Version, err))
	default:
		r.version.Set(float64(r.edge.Version))
		r.enforce(IngressEdge, rules)
	}
}

// refuse notes that the newest rules are bad; those before stay in force.
func (r *rules) refuse(from string, err error) {
	r.problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	r.refused.Set(1)
	r.results.WithLabelValues(from, "refused").Inc()
	r.logger.Error("ingress rules refused; the rules before stay in force", zap.String("from", from), zap.String("problem", r.problem))
}

// enforce puts good rules in force.
func (r *rules) enforce(from string, rules *ingress.Rules) {
	r.problem = ""
	r.refused.Set(0)
	r.results.WithLabelValues(from, "accepted").Inc()
	r.swap(rules)
	r.logger.Info("ingress rules in force", zap.String("from", from), zap.Int("rules", rules.Len()), zap.Uint64("version", r.edge.Version))
}

// Running implements controlclient.Rules.
func (r *rules) Running() (version uint64, digest []byte, ownFile bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own || r.stay || r.edge.Version == 0 {
		return 0, nil, r.own
	}
	sum := sha256.Sum256([]byte(r.edge.YAML))
	return r.edge.Version, sum[:], false
}

// Configure implements controlclient.Rules: check, remember, swap. The edge may say a version twice. While a file has the word, good
// rules are remembered for the time after it.
func (r *rules) Configure(version uint64, text []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := kept{Version: version, YAML: string(text)}
	switch {
	case version == 0:
		return errors.New("rules without a version")
	case r.own && r.from == IngressFile:
		return controlclient.ErrOwnFile
	case next == r.edge && !r.stay && !r.own:
		return nil
	}
	rules, err := pushed(text, &r.bounds)
	if err == nil {
		err = r.remember(next)
	}
	if r.own {
		if err == nil {
			r.edge = next
		}
		return controlclient.ErrOwnFile
	}
	if err != nil {
		r.refuse(IngressEdge, fmt.Errorf("version %d: %w", version, err))
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	r.edge = next
	if r.stay && len(text) == 0 {
		return nil // none at the edge either
	}
	r.stay = false
	r.version.Set(float64(version))
	r.enforce(IngressEdge, rules)
	return nil
}

// remember writes the rules down before they count: after a start the connector must not fall back behind what it acknowledged.
func (r *rules) remember(k kept) error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return writeFile(r.dir, keptFile, text)
}

// attach gives the rules that are found from now on to swap.
func (r *rules) attach(swap func(*ingress.Rules)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swap = swap
}

// watched lists the files that the rules come from.
func (r *rules) watched() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{r.file}, r.named...)
}

// watch reads the file again when it, or a file that it names, has changed, until ctx ends.
func (r *rules) watch(ctx context.Context) error {
	if r.from == IngressEdge {
		<-ctx.Done()
		return nil
	}
	r.watcher.Run(ctx, r.reload)
	return nil
}

// ingressNone is IngressStatus.From without any rules.
const ingressNone = "none"

// IngressStatus is where the rules come from, in Status.
type IngressStatus struct {
	// From is file or edge, or none where there are no rules yet.
	From string `json:"from"`
	// Version is that of the edge's rules; 0 when they are not the edge's.
	Version uint64 `json:"version,omitempty"`
	// Problem says why the newest rules were not taken; those before are in force then.
	Problem string `json:"problem,omitempty"`
}

func (r *rules) status() IngressStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := IngressStatus{From: IngressFile, Problem: r.problem}
	switch {
	case r.own, r.stay:
	case r.edge.YAML == "":
		s.From, s.Version = ingressNone, r.edge.Version
	default:
		s.From, s.Version = IngressEdge, r.edge.Version
	}
	return s
}
