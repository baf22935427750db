package ingress

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// maxAnswerHead bounds the head of an answer, interim ones together with the final one, in bytes.
	maxAnswerHead = 64 << 10
	// maxInterims is how many interim answers one exchange may get.
	maxInterims = 16
	// continueAfter is how long an origin may take to ask for a body that was announced with 100-continue.
	continueAfter = time.Second
	// writeBuffer holds any head that fits an origin's limits, so that it leaves in one piece.
	writeBuffer = 16 << 10
	readBuffer  = 32 << 10
	// settleAfter is how long an origin that was not usable must have been so again before it gets people whom another one
	// serves: long enough for a Tomcat that comes up, falls over and comes up again.
	settleAfter = time.Minute
)

var errInterims = errors.New("too many interim answers")

// origin is one local server: its connections, the queue in front of it, and how it fares. It outlives a change of the rules
// that leaves it as it is.
type origin struct {
	url       *url.URL
	tls       TLS
	timeouts  Timeouts
	probe     Probe
	key       string
	dialer    *dialer
	transport *http.Transport
	// checks makes a new connection for every check: what is asked is whether the origin takes one, and with which certificate.
	checks *http.Transport
	queue  *queue
	logger *zap.Logger
	now    func() time.Time
	kick   chan struct{} // asks for a check soon

	mu   sync.Mutex // guards the rest
	name string
	// checkHost is the name that checks ask for; rules that share the origin may have others.
	checkHost string
	circuit   circuit
	health    health
	// usableSince is when it last became usable after it was not; zero if it always was.
	usableSince time.Time
	lost        bool // it is not usable now
}

func newOrigin(r *Rule, target *Target, key string, in *Ingress) *origin {
	d := &dialer{
		host: target.URL.Hostname(), address: authority(target.URL), timeouts: r.Timeouts, source: r.Source, buffers: &in.buffers,
		unlocal: r.Preset == presetOSCAR || r.Pushed,
	}
	if target.URL.Scheme == "https" {
		d.tls = target.TLS.config(d.host)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &origin{
		url: target.URL, tls: target.TLS, timeouts: r.Timeouts, probe: r.Health, key: key,
		dialer: d, queue: newQueue(r.Parallel, r.Queue), logger: in.logger, now: in.now, kick: make(chan struct{}, 1),
		transport: &http.Transport{
			DialContext: d.dial, DialTLSContext: d.dial, Protocols: &protocols,
			DisableCompression: true, MaxIdleConnsPerHost: r.Parallel, IdleConnTimeout: r.Timeouts.KeepAlive,
			ResponseHeaderTimeout: r.Timeouts.ResponseHeader, ExpectContinueTimeout: continueAfter,
			MaxResponseHeaderBytes: maxAnswerHead, WriteBufferSize: writeBuffer, ReadBufferSize: readBuffer,
		},
		checks: &http.Transport{
			DialContext: d.dial, DialTLSContext: d.dial, Protocols: &protocols, DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: maxAnswerHead,
		},
	}
}

// allow returns nil for an exchange that may go to the origin, or why none goes now.
func (o *origin) allow() *failure {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.circuit.allow(o.now())
}

// answered notes an answer to an exchange, whatever it says.
func (o *origin) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	o.health.answeredAt = now
	if o.circuit.answered() {
		o.health.problem, o.health.state = "", StateOK
		o.logger.Info("origin answers again", zap.String("origin", o.name))
	}
	o.settle(now)
}

// failed notes what kept an exchange from its answer, as far as that says something about the origin.
func (o *origin) failed(f *failure) {
	if f.state == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.evidence(1, f)
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// evidence moves the circuit; mu is held.
func (o *origin) evidence(weight int, f *failure) {
	now := o.now()
	if o.circuit.failed(now, weight, f.opened()) {
		o.health.state, o.health.problem = f.state, f.code
		o.logger.Error("origin does not answer: exchanges are refused until it does", zap.String("origin", o.name),
			zap.String("state", f.state), zap.String("code", f.code))
		o.queue.drop(o.circuit.cause)
	}
	o.settle(now)
}

// settle notes whether the origin became usable or ceased to be; mu is held.
func (o *origin) settle(now time.Time) {
	lost := o.circuit.state != circuitClosed || o.health.unfit >= unfitAfter
	if o.lost && !lost {
		o.usableSince = now
	}
	o.lost = lost
}

// standing is how fit an origin is to be chosen.
type standing int

const (
	standsOpen    standing = iota // its circuit is open
	standsUnfit                   // it answers, its checks do not find what they want
	standsFresh                   // usable, but only lately so
	standsSettled                 // usable
)

func (o *origin) standing() standing {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.circuit.state != circuitClosed:
		return standsOpen
	case o.lost:
		return standsUnfit
	case !o.usableSince.IsZero() && o.now().Sub(o.usableSince) < settleAfter:
		return standsFresh
	}
	return standsSettled
}

func (o *origin) close() {
	o.transport.CloseIdleConnections()
	o.checks.CloseIdleConnections()
}
