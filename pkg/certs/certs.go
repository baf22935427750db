// Package certs owns the edge's TLS: its parameters, the certificates (from files that are read again when they change, or
// issued by a local CA for trying out), and how a connector checks that it talks to its edge. It does not know what a host
// is for; whether a host exists at all it asks.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/metric"
)

// Pair names a certificate chain (leaf first) and its key, both PEM.
type Pair struct {
	CertFile string `conf:"cert_file" help:"PEM file with the certificate and its chain"`
	KeyFile  string `conf:"key_file" help:"PEM file with the private key"`
}

// DefaultPoll is how often files are looked at: a replacement is in use that long after it was written.
const DefaultPoll = 2 * time.Second

// Config says where certificates come from. At least one of Pairs and LocalCA is needed; a pair is preferred where both
// could serve.
type Config struct {
	Pairs []Pair
	// LocalCA is the directory that InitLocalCA wrote.
	LocalCA string
	// HostAllowed reports whether a canonical host is one of the edge's (route.Current.Known). Required: no other name gets
	// an answer, even if a certificate covers it.
	HostAllowed func(host string) bool
	Poll        time.Duration // DefaultPoll when 0
	Now         func() time.Time
	Logger      *zap.Logger
	Metrics     *metric.Registry // may be nil
}

// Manager answers TLS handshakes. It is safe for concurrent use.
type Manager struct {
	cfg    Config
	issuer *issuer // nil without a local CA
	loaded atomic.Pointer[[]*tls.Certificate]

	mu    sync.Mutex // guards files and what is in them
	files []*file

	failures *prometheus.CounterVec
	expires  *prometheus.GaugeVec
}

// New reads every certificate and fails if one cannot be used: an edge does not start with half its names.
func New(cfg Config) (*Manager, error) {
	if cfg.HostAllowed == nil {
		return nil, errors.New("certificates: no list of hosts")
	}
	if len(cfg.Pairs) == 0 && cfg.LocalCA == "" {
		return nil, errors.New("certificates: give certificate files or a local CA")
	}
	if cfg.Poll == 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	m := &Manager{cfg: cfg}
	if cfg.Metrics != nil {
		m.failures = cfg.Metrics.Counter("sallyport_certificates_reload_failures_total", "Changed certificate files that could not be used; the last good ones stay in use.")
		m.expires = cfg.Metrics.Gauge("sallyport_certificates_expiry_seconds", "Unix time at which the first certificate from a file ends.")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return m, nil
}

func (m *Manager) open() error {
	var faults []error
	files, err := m.read(m.cfg.Pairs)
	if err != nil {
		faults = append(faults, err)
	}
	m.files = files
	if m.cfg.LocalCA != "" {
		ca, err := openCA(m.cfg.LocalCA, m.cfg.Now())
		if err != nil {
			faults = append(faults, err)
		} else {
			m.issuer = newIssuer(ca, m.cfg.Now)
		}
	}
	m.publish()
	return errors.Join(faults...)
}

// read reads every pair; the error joins what is wrong with any.
func (m *Manager) read(pairs []Pair) ([]*file, error) {
	files, faults := make([]*file, 0, len(pairs)), []error(nil)
	for _, p := range pairs {
		f := &file{pair: p}
		if _, err := f.load(m.cfg.Now()); err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, f)
	}
	return files, errors.Join(faults...)
}

// Check says what is wrong with the files of these pairs for somebody who serves them at now; nil: they can be served.
func Check(pairs []Pair, now time.Time) error {
	var faults []error
	for _, p := range pairs {
		if _, err := readPair(p, now); err != nil {
			faults = append(faults, fmt.Errorf("certificates: %w", err))
		}
	}
	return errors.Join(faults...)
}

// Replace serves the certificates of these pairs from now on, and none of the pairs before. If one of them cannot be used the
// error says why, and nothing has changed.
func (m *Manager) Replace(pairs []Pair) error {
	if len(pairs) == 0 && m.issuer == nil {
		return errors.New("certificates: give certificate files or a local CA")
	}
	files, err := m.read(pairs)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = files
	m.publish()
	return nil
}

// Run looks for changed files until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.reload()
		}
	}
}

func (m *Manager) reload() {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for _, f := range m.files {
		fresh, err := f.load(m.cfg.Now())
		changed = changed || fresh
		if err != nil {
			if m.failures != nil {
				m.failures.WithLabelValues().Inc()
			}
			m.cfg.Logger.Error("certificate not replaced, the last good one stays in use",
				zap.String("file", f.pair.CertFile), zap.Time("ends", f.cert.Leaf.NotAfter), zap.Error(err))
		}
		if fresh {
			m.cfg.Logger.Info("certificate replaced", zap.String("file", f.pair.CertFile), zap.Time("ends", f.cert.Leaf.NotAfter))
		}
	}
	if changed {
		m.publish()
	}
}

// publish shows the files' certificates to handshakes; the caller holds mu.
func (m *Manager) publish() {
	all := make([]*tls.Certificate, 0, len(m.files))
	var first time.Time
	for _, f := range m.files {
		all = append(all, f.cert)
		if end := f.cert.Leaf.NotAfter; first.IsZero() || end.Before(first) {
			first = end
		}
	}
	m.loaded.Store(&all)
	if m.expires != nil && !first.IsZero() {
		m.expires.WithLabelValues().Set(float64(first.Unix()))
	}
}

// GetCertificate chooses by server name. It returns neither certificate nor error for a missing or unknown name: with no
// other certificate in the configuration, crypto/tls then sends the alert unrecognized_name (RFC 6066 §3), while any error
// would become internal_error.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := strings.ToLower(hello.ServerName)
	if host == "" || !m.cfg.HostAllowed(host) {
		return nil, nil
	}
	if c := m.fromFiles(hello, host); c != nil {
		return c, nil
	}
	if m.issuer == nil {
		m.cfg.Logger.Warn("no certificate covers a host of ours", zap.String("host", host))
		return nil, nil
	}
	return m.issuer.leaf(host, m.cfg.HostAllowed)
}

// fromFiles prefers a certificate that the client's algorithms support; one that only covers the name is better than none.
func (m *Manager) fromFiles(hello *tls.ClientHelloInfo, host string) *tls.Certificate {
	var covers *tls.Certificate
	for _, c := range *m.loaded.Load() {
		if c.Leaf.VerifyHostname(host) != nil {
			continue
		}
		if hello.SupportsCertificate(c) == nil {
			return c
		}
		if covers == nil {
			covers = c
		}
	}
	return covers
}
