package ingress

import (
	"errors"
	"hash/maphash"
	"net/http"
	"time"
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
)

var errInterims = errors.New("too many interim answers")

// origin is one local server: its connections, the queue in front of it, and how it fared.
type origin struct {
	rule      *Rule
	dialer    *dialer
	transport *http.Transport
	queue     *queue
	seed      maphash.Seed
	health    health
	now       func() time.Time
}

func newOrigin(r *Rule, now func() time.Time) *origin {
	d := &dialer{
		host: r.Origin.Hostname(), address: authority(r.Origin), timeouts: r.Timeouts, source: r.Source,
		unlocal: r.Preset == presetOSCAR || r.Pushed, now: now,
	}
	if r.Origin.Scheme == "https" {
		d.tls = r.TLS.config(d.host)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &origin{
		rule: r, dialer: d, queue: newQueue(r.Parallel, r.Queue), seed: maphash.MakeSeed(), now: now,
		transport: &http.Transport{
			DialContext: d.dial, DialTLSContext: d.dial, Protocols: &protocols,
			DisableCompression: true, MaxIdleConnsPerHost: r.Parallel, IdleConnTimeout: r.Timeouts.KeepAlive,
			ResponseHeaderTimeout: r.Timeouts.ResponseHeader, ExpectContinueTimeout: continueAfter,
			MaxResponseHeaderBytes: maxAnswerHead, WriteBufferSize: writeBuffer, ReadBufferSize: readBuffer,
		},
	}
}

// fairKey is who an exchange belongs to for the queue: the assertion is the same for all exchanges of one session.
func (o *origin) fairKey(assertion, clientIP string) uint64 {
	if assertion == "" {
		assertion = clientIP
	}
	return maphash.String(o.seed, assertion)
}
