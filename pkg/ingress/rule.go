package ingress

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

// Rules are the ingress rules of one connector in their order. They never change; a new file makes new Rules.
type Rules struct{ list []Rule }

// Rule sends what it matches to one origin, or answers with a status.
type Rule struct {
	// Index counts from 1; Line is where the rule stands in its file.
	Index, Line int
	// Host is canonical (lower case, no port); empty matches every host.
	Host string
	// Path is a canonical prefix, matched per segment; "/" matches every path.
	Path string
	// Status answers without an origin.
	Status int
	// Origin is scheme and authority of the local server, the first of Origins; nil for a rule with a Status.
	Origin *url.URL
	// Origins are the servers that may serve the rule, in order of preference. They must share what they keep: one database.
	Origins []Target
	// Balance is BalanceFailover or BalanceSpread.
	Balance string
	// Preset is "oscar" or empty.
	Preset string
	// Contexts are the context paths of the preset.
	Contexts []string
	// Descriptions lets service descriptions and listings through, which the preset refuses otherwise.
	Descriptions bool
	// TLS is that of Origin.
	TLS      TLS
	Timeouts Timeouts
	// Parallel is how many exchanges each origin works on at once, Queue how many more may wait. A long poll holds a place
	// while it waits; a WebSocket only until it is open.
	Parallel, Queue int
	// Source is the local address to dial from; unset lets the system choose, except that the preset never appears as
	// 127.0.0.1.
	Source netip.Addr
	// Pushed says that the rule is kept at the edge (LoadPushed).
	Pushed bool
	Health Probe
}

// Target is one of a rule's origins.
type Target struct {
	// Name is told to the edge; empty means origin-1, origin-2, …
	Name string
	URL  *url.URL
	TLS  TLS
}

// The ways in which several origins share the work.
const (
	BalanceFailover = "failover" // the first that is usable serves everybody
	BalanceSpread   = "spread"   // people are spread over all; each stays with one
)

// TLS says how an https origin proves itself: by the system's authorities unless the rule names others.
type TLS struct {
	// Roots are the authorities of ca_file; nil means the system's, or none where Pin is set.
	Roots *x509.CertPool
	// CAFile is where Roots came from, and Authorities what the file held.
	CAFile      string
	Authorities []byte
	// Pin is the SHA-256 of the origin's public key (SubjectPublicKeyInfo); see PrintPin.
	Pin []byte
	// ServerName replaces the origin's host in SNI and in the check of the certificate.
	ServerName string
}

// Timeouts bound the waits for an origin. There is none on a body and none on the whole.
type Timeouts struct {
	Dial, TLS time.Duration
	// ResponseHeader runs from the end of the request to the head of the answer; 0 means no limit.
	ResponseHeader time.Duration
	// KeepAlive is how long an unused connection is kept; the preset's default is 15 s.
	KeepAlive time.Duration
	// Queue is how long an exchange waits for its turn.
	Queue time.Duration
}

// DefaultTimeouts are the values of a rule that says nothing.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Dial: 30 * time.Second, TLS: 10 * time.Second, ResponseHeader: 300 * time.Second, KeepAlive: 90 * time.Second,
		Queue: 60 * time.Second,
	}
}

// Probe is the light request that asks whether an origin is well.
type Probe struct {
	// Path is fetched with GET and no credentials; empty means the preset's, or "/".
	Path string
	// Statuses are those that count as well; none takes anything below 500.
	Statuses []int
	// Interval is the pause between two checks, Timeout what one may take.
	Interval, Timeout time.Duration
}

// wants reports whether a check that got status is content.
func (p *Probe) wants(status int) bool {
	return len(p.Statuses) == 0 && status < 500 || slices.Contains(p.Statuses, status)
}

// Len is the number of rules.
func (rs *Rules) Len() int { return len(rs.list) }

// All returns the rules in their order. They are shared: read only.
func (rs *Rules) All() []Rule { return rs.list }

// Match returns the first rule for host (a port is ignored) and canonical path, and its place counted from 0. It always
// finds one: Load refuses rules without a catch-all at their end.
func (rs *Rules) Match(host, path string) (*Rule, int) {
	host = canonicalHost(host)
	for i := range rs.list {
		r := &rs.list[i]
		if (r.Host == "" || r.Host == host) && urlpath.HasPrefix(path, r.Path) {
			return r, i
		}
	}
	last := len(rs.list) - 1
	return &rs.list[last], last
}

// Name is a short label for metrics and logs.
func (r *Rule) Name() string { return "rule-" + strconv.Itoa(r.Index) }

// String says what the rule does in one line.
func (r *Rule) String() string {
	host, target := r.Host, fmt.Sprintf("status %d", r.Status)
	if host == "" {
		host = "any host"
	}
	if r.Origin != nil {
		target = r.Origin.String()
		for _, other := range r.Origins[1:] {
			target += ", " + other.URL.String()
		}
		if len(r.Origins) > 1 {
			target += " by " + r.Balance
		}
	}
	if r.Preset != "" {
		target += " (" + r.Preset + " at " + strings.Join(r.Contexts, ", ") + ")"
	}
	return fmt.Sprintf("rule %d (line %d): %s, %s → %s", r.Index, r.Line, host, r.Path, target)
}

// originKey is equal for rules that may share an origin's connections and places in its queue.
func (r *Rule) originKey(t *Target) string {
	return fmt.Sprintf("%s %s %x %x %s %+v %d %d %s %t %t %+v", t.URL, t.Name, t.TLS.Authorities, t.TLS.Pin, t.TLS.ServerName, r.Timeouts,
		r.Parallel, r.Queue, r.Source, r.Preset == presetOSCAR, r.Pushed, r.Health)
}

// hosts are the authorities of the origins.
func (r *Rule) hosts() []string {
	hosts := make([]string, len(r.Origins))
	for i := range r.Origins {
		hosts[i] = r.Origins[i].URL.Host
	}
	return hosts
}

// covers reports whether everything that o matches is matched by r.
func (r *Rule) covers(o *Rule) bool {
	return (r.Host == "" || r.Host == o.Host) && urlpath.HasPrefix(o.Path, r.Path)
}

func canonicalHost(host string) string {
	if strings.Contains(host, ":") { // SplitHostPort makes an error of a host without a port
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}
