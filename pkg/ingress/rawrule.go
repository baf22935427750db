package ingress

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

// The file as it is written. Leaves keep their line, so that a fault can name it.
type rawFile struct {
	Rules []rawRule `yaml:"rules"`
}

type rawRule struct {
	Host         leaf        `yaml:"host"`
	Path         leaf        `yaml:"path"`
	Status       leaf        `yaml:"status"`
	Service      leaf        `yaml:"service"` // "status:404": the same, as other tunnels' files have it
	Origin       leaf        `yaml:"origin"`
	Origins      []rawOrigin `yaml:"origins"`
	Balance      leaf        `yaml:"balance"`
	Preset       leaf        `yaml:"preset"`
	Context      leafList    `yaml:"context"`
	Descriptions leaf        `yaml:"service_descriptions"`
	TLS          rawTLS      `yaml:"tls"`
	Timeouts     rawTimeouts `yaml:"timeouts"`
	Parallel     leaf        `yaml:"parallel"`
	Queue        leaf        `yaml:"queue"`
	Source       leaf        `yaml:"source"`
	Health       rawHealth   `yaml:"health"`
}

type rawTLS struct {
	CAFile     leaf `yaml:"ca_file"`
	Pin        leaf `yaml:"pin_sha256"`
	ServerName leaf `yaml:"server_name"`
}

type rawTimeouts struct {
	Dial           leaf `yaml:"dial"`
	TLS            leaf `yaml:"tls"`
	ResponseHeader leaf `yaml:"response_header"`
	KeepAlive      leaf `yaml:"keep_alive"`
	Queue          leaf `yaml:"queue"`
}

type rawHealth struct {
	Path     leaf     `yaml:"path"`
	Status   leafList `yaml:"status"`
	Interval leaf     `yaml:"interval"`
	Timeout  leaf     `yaml:"timeout"`
}

// rawOrigin is an address, or an address with what is its own.
type rawOrigin struct {
	URL  leaf    `yaml:"url"`
	Name leaf    `yaml:"name"`
	TLS  *rawTLS `yaml:"tls"`
}

var _ yaml.Unmarshaler = (*rawOrigin)(nil)

func (o *rawOrigin) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return o.URL.UnmarshalYAML(n)
	}
	if n.Kind != yaml.MappingNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want an address, or url, name and tls", n.Line)}}
	}
	// A custom decoder does not inherit the strictness about keys.
	for i := 0; i+1 < len(n.Content); i += 2 {
		var err error
		switch k := n.Content[i]; k.Value {
		case "url":
			err = o.URL.UnmarshalYAML(n.Content[i+1])
		case "name":
			err = o.Name.UnmarshalYAML(n.Content[i+1])
		case "tls":
			o.TLS, err = decodeTLS(n.Content[i+1])
		default:
			err = &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: unknown key %s", k.Line, k.Value)}}
		}
		if err != nil {
			return err
		}
	}
	if o.URL.line == 0 {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: the origin needs a url", n.Line)}}
	}
	return nil
}

func decodeTLS(n *yaml.Node) (*rawTLS, error) {
	if n.Kind != yaml.MappingNode {
		return nil, &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want ca_file, pin_sha256 or server_name", n.Line)}}
	}
	t := &rawTLS{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		fields := map[string]*leaf{"ca_file": &t.CAFile, "pin_sha256": &t.Pin, "server_name": &t.ServerName}
		field := fields[n.Content[i].Value]
		if field == nil {
			return nil, &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: unknown key %s", n.Content[i].Line, n.Content[i].Value)}}
		}
		if err := field.UnmarshalYAML(n.Content[i+1]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// leaf is a scalar and its line; the zero value is an absent one.
type leaf struct {
	text string
	line int
}

var _ yaml.Unmarshaler = (*leaf)(nil)

func (l *leaf) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want a single value", n.Line)}}
	}
	l.text, l.line = n.Value, n.Line
	return nil
}

// leafList is one scalar or a list of them.
type leafList []leaf

var _ yaml.Unmarshaler = (*leafList)(nil)

func (l *leafList) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Decode((*[]leaf)(l))
	}
	*l = make(leafList, 1)
	return (*l)[0].UnmarshalYAML(n)
}

// reading turns one raw rule into a Rule and gathers what is wrong with it.
type reading struct {
	rule   Rule
	faults []error
}

var errPushedFile = errors.New("rules kept at the edge cannot name files of the connector's machine; use pin_sha256")

func (r *reading) fault(l leaf, format string, args ...any) {
	line := l.line
	if line == 0 {
		line = r.rule.Line
	}
	r.faults = append(r.faults, at(line, format, args...))
}

func (raw *rawRule) rule(index, line int, pushed bool) (Rule, []error) {
	r := &reading{rule: Rule{Index: index, Line: line, Pushed: pushed}}
	r.match(raw)
	status := raw.Status
	if status.line == 0 && raw.Service.line > 0 {
		status = leaf{line: raw.Service.line, text: strings.TrimPrefix(raw.Service.text, "status:")}
	}
	switch {
	case raw.Origin.line > 0 && len(raw.Origins) > 0:
		r.fault(raw.Origin, "a rule has an origin or a list of origins, not both")
	case status.line > 0 && (raw.Origin.line > 0 || len(raw.Origins) > 0):
		r.fault(status, "a rule has an origin or a status, not both")
	case status.line > 0:
		r.status(raw, status)
	case raw.Origin.line > 0:
		r.origin(raw, []rawOrigin{{URL: raw.Origin}})
	case len(raw.Origins) > 0:
		r.origin(raw, raw.Origins)
	default:
		r.fault(leaf{}, "the rule needs an origin (https://host:port) or a status (404)")
	}
	return r.rule, r.faults
}

var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

func (r *reading) match(raw *rawRule) {
	if r.rule.Host = raw.Host.text; r.rule.Host != "" && !hostForm.MatchString(r.rule.Host) {
		r.fault(raw.Host, "host %q: write the name as it is published, in lower case and without a port", r.rule.Host)
	}
	r.rule.Path = r.path(raw.Path, "/")
}

// path reads a canonical path.
func (r *reading) path(l leaf, absent string) string {
	if l.text == "" {
		return absent
	}
	t, err := urlpath.Parse(l.text, urlpath.Options{RefuseSessionID: true})
	if err != nil || t.String() != l.text || t.HasQuery || strings.Contains(l.text, "*") {
		r.fault(l, "path %q: start with / and use plain segments, without query or *", l.text)
	}
	if len(l.text) > 1 {
		return strings.TrimSuffix(l.text, "/")
	}
	return l.text
}

func (r *reading) status(raw *rawRule, l leaf) {
	status, err := strconv.Atoi(l.text)
	if err != nil || status < 400 || status > 599 {
		r.fault(l, "status %q: use 404 or another from 400 to 599", l.text)
	}
	r.rule.Status = status
	for _, l := range []leaf{
		raw.Preset, raw.Descriptions, raw.Parallel, raw.Queue, raw.Source, raw.TLS.CAFile, raw.TLS.Pin, raw.TLS.ServerName,
		raw.Health.Path, raw.Health.Interval, raw.Health.Timeout, raw.Balance,
	} {
		if l.line > 0 {
			r.fault(l, "this belongs to a rule with an origin")
		}
	}
}

// maxOriginsPerRule bounds the list of one rule.
const maxOriginsPerRule = 8

func (r *reading) origin(raw *rawRule, list []rawOrigin) {
	if len(list) > maxOriginsPerRule {
		r.fault(list[0].URL, "%d origins: a rule has up to %d", len(list), maxOriginsPerRule)
		return
	}
	for i := range list {
		if t, ok := r.target(&list[i], raw.TLS); ok {
			r.rule.Origins = append(r.rule.Origins, t)
		}
	}
	if len(r.rule.Origins) != len(list) {
		return
	}
	r.rule.Origin, r.rule.TLS = r.rule.Origins[0].URL, r.rule.Origins[0].TLS
	switch r.rule.Balance = raw.Balance.text; {
	case raw.Balance.line == 0:
		r.rule.Balance = BalanceFailover
	case len(list) == 1:
		r.fault(raw.Balance, "balance belongs to a list of origins")
	case r.rule.Balance != BalanceFailover && r.rule.Balance != BalanceSpread:
		r.fault(raw.Balance, "balance %q: use failover or spread", raw.Balance.text)
	}
	r.timeouts(raw.Timeouts, raw.Preset.text)
	r.rule.Parallel = r.number(raw.Parallel, "parallel", 100, 1, 1024)
	r.rule.Queue = r.number(raw.Queue, "queue", 256, 0, 4096)
	if raw.Source.text != "" {
		var err error
		if r.rule.Source, err = netip.ParseAddr(raw.Source.text); err != nil {
			r.fault(raw.Source, "source %q: not an IP address", raw.Source.text)
		}
	}
	r.preset(raw)
	r.health(raw.Health)
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// target reads one address; ok is false where there is none to go on with.
func (r *reading) target(raw *rawOrigin, ruleTLS rawTLS) (Target, bool) {
	u, err := url.Parse(raw.URL.text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		r.fault(raw.URL, "origin %q: write http://host:port or https://host:port", raw.URL.text)
		return Target{}, false
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		r.fault(raw.URL, "origin %q: only scheme, host and port; the public path is the origin's path", raw.URL.text)
		return Target{}, false
	}
	t := Target{Name: raw.Name.text, URL: &url.URL{Scheme: u.Scheme, Host: u.Host}}
	if raw.Name.line > 0 && !nameForm.MatchString(t.Name) {
		r.fault(raw.Name, "name %q: up to 32 lower-case letters, digits and hyphens", t.Name)
	}
	for i := range r.rule.Origins {
		if other := &r.rule.Origins[i]; other.URL.String() == t.URL.String() || t.Name != "" && other.Name == t.Name {
			r.fault(raw.URL, "origin %q stands in the list twice, by its address or its name", raw.URL.text)
		}
	}
	if raw.TLS != nil {
		ruleTLS = *raw.TLS
	}
	t.TLS = r.tls(ruleTLS, t.URL.Scheme)
	return t, true
}

func (r *reading) preset(raw *rawRule) {
	switch r.rule.Preset = raw.Preset.text; r.rule.Preset {
	case "":
		if len(raw.Context) > 0 {
			r.fault(raw.Context[0], "context belongs to `preset: oscar`")
		}
		if raw.Descriptions.line > 0 {
			r.fault(raw.Descriptions, "service_descriptions belongs to `preset: oscar`")
		}
		return
	case presetOSCAR:
	default:
		r.fault(raw.Preset, "preset %q is not known; known: oscar", r.rule.Preset)
		return
	}
	for _, l := range raw.Context {
		c := r.path(l, "")
		if c == "" || c == "/" {
			r.fault(l, "context %q: name OSCAR's context path, for instance /oscar", l.text)
			continue
		}
		r.rule.Contexts = append(r.rule.Contexts, c)
	}
	if len(raw.Context) == 0 {
		r.rule.Contexts = []string{defaultContext}
	}
	if r.rule.Source.IsValid() && (r.rule.Source == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || r.rule.Source == netip.IPv6Loopback()) {
		r.fault(raw.Source, "source %s: OSCAR trusts that address; choose another of this machine, such as 127.0.0.2", r.rule.Source)
	}
	switch raw.Descriptions.text {
	case "", "refuse":
	case "allow":
		r.rule.Descriptions = true
	default:
		r.fault(raw.Descriptions, "service_descriptions %q: use refuse or allow", raw.Descriptions.text)
	}
}

func (r *reading) tls(raw rawTLS, scheme string) (t TLS) {
	if scheme == "http" {
		for _, l := range []leaf{raw.CAFile, raw.Pin, raw.ServerName} {
			if l.line > 0 {
				r.fault(l, "tls belongs to an https origin")
				return t
			}
		}
		return t
	}
	if raw.ServerName.text != "" && !hostForm.MatchString(raw.ServerName.text) && net.ParseIP(raw.ServerName.text) == nil {
		r.fault(raw.ServerName, "server_name %q is not a name", raw.ServerName.text)
	}
	t.ServerName = raw.ServerName.text
	if raw.Pin.line > 0 {
		var err error
		if t.Pin, err = parsePin(raw.Pin.text); err != nil {
			r.fault(raw.Pin, "pin_sha256: %v", err)
		}
	}
	if t.CAFile = raw.CAFile.text; raw.CAFile.line > 0 {
		// Before it is opened: whether a file exists here, and how it reads, is none of the edge's business.
		if r.rule.Pushed {
			r.fault(raw.CAFile, "ca_file: %v", errPushedFile)
			return
		}
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			r.fault(raw.CAFile, "ca_file: %v", err)
			return t
		}
		t.Authorities, t.Roots = pem, x509.NewCertPool()
		if !t.Roots.AppendCertsFromPEM(pem) {
			r.fault(raw.CAFile, "ca_file %s holds no certificate in PEM form", t.CAFile)
		}
	}
	return t
}

// parsePin reads "sha256:" and 43 characters of unpadded base64url.
func parsePin(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, pinPrefix)
	pin, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil || len(pin) != 32 {
		return nil, fmt.Errorf("%q is not of the form that `connector ingress pin URL` prints (sha256:…)", text)
	}
	return pin, nil
}

func (r *reading) timeouts(raw rawTimeouts, preset string) {
	t := DefaultTimeouts()
	if preset == presetOSCAR {
		t.KeepAlive = tomcatKeepAlive
	}
	r.duration(raw.Dial, "dial", &t.Dial, time.Second, 5*time.Minute)
	r.duration(raw.TLS, "tls", &t.TLS, time.Second, 5*time.Minute)
	r.duration(raw.ResponseHeader, "response_header", &t.ResponseHeader, 0, 24*time.Hour)
	r.duration(raw.KeepAlive, "keep_alive", &t.KeepAlive, time.Second, time.Hour)
	r.duration(raw.Queue, "queue", &t.Queue, time.Second, time.Hour)
	r.rule.Timeouts = t
}

func (r *reading) health(raw rawHealth) {
	h := Probe{Path: r.path(raw.Path, "/"), Interval: 30 * time.Second, Timeout: 10 * time.Second}
	if raw.Path.line == 0 && len(r.rule.Contexts) > 0 {
		h.Path = r.rule.Contexts[0] + "/index.jsp"
	}
	for _, l := range raw.Status {
		h.Statuses = append(h.Statuses, r.number(l, "status", 0, 200, 499))
	}
	r.duration(raw.Interval, "interval", &h.Interval, time.Second, time.Hour)
	r.duration(raw.Timeout, "timeout", &h.Timeout, 100*time.Millisecond, time.Minute)
	r.rule.Health = h
}

func (r *reading) number(l leaf, name string, absent, least, most int) int {
	if l.line == 0 {
		return absent
	}
	n, err := strconv.Atoi(l.text)
	if err != nil || n < least || n > most {
		r.fault(l, "%s %q: a whole number from %d to %d", name, l.text, least, most)
	}
	return n
}

func (r *reading) duration(l leaf, name string, d *time.Duration, least, most time.Duration) {
	if l.line == 0 {
		return
	}
	v, err := time.ParseDuration(l.text)
	if err != nil || v < least || v > most {
		r.fault(l, "%s %q: a duration from %s to %s, such as 30s or 5m", name, l.text, least, most)
		return
	}
	*d = v
}
