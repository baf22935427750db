package ingress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxPushed bounds rules that are kept at the edge, in bytes: one control message carries them.
const MaxPushed = 128 << 10

// Bounds say which origins rules that come from the edge may name. Whoever holds the edge chooses among these and reaches
// nothing else in the clinic's network. The zero value permits none.
type Bounds struct{ list []bound }

type bound struct {
	loopback bool
	prefix   netip.Prefix
	host     string
	port     string // empty for any
}

// ParseBounds reads a list of "loopback", names, IP addresses and prefixes (10.0.0.0/28), each with or without ":port". The
// error joins every fault.
func ParseBounds(list []string) (Bounds, error) {
	var b Bounds
	var faults []error
	for _, text := range list {
		one, err := parseBound(text)
		if err != nil {
			faults = append(faults, err)
		}
		b.list = append(b.list, one)
	}
	return b, errors.Join(faults...)
}

func parseBound(text string) (bound, error) {
	one, host := bound{}, text
	// A bare IPv6 address or prefix has colons and no port.
	if h, port, err := net.SplitHostPort(text); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return one, fmt.Errorf("%q: bad port", text)
		}
		host, one.port = h, port
	}
	if prefix, err := netip.ParsePrefix(host); err == nil {
		one.prefix = prefix.Masked()
		return one, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		one.prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		return one, nil
	}
	switch host = canonicalHost(host); {
	case host == "loopback":
		one.loopback = true
	case hostForm.MatchString(host) && strings.Trim(host, "0123456789.") != "":
		one.host = host
	default:
		return one, fmt.Errorf("%q: write loopback, a name, an IP address or a prefix, with or without :port", text)
	}
	return one, nil
}

func (b Bounds) permit(origin *url.URL) bool {
	_, port, err := net.SplitHostPort(authority(origin))
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(origin.Hostname()), ".")
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil
	addr = addr.Unmap()
	for _, one := range b.list {
		switch {
		case one.port != "" && one.port != port:
		case one.loopback && (host == "localhost" || isAddr && addr.IsLoopback()):
			return true
		case isAddr && one.prefix.IsValid() && one.prefix.Contains(addr):
			return true
		case one.host != "" && one.host == host:
			return true
		}
	}
	return false
}

// LoadPushed reads rules that are kept at the edge, as Load does, but trusts them less, because they are chosen by whoever
// holds the edge: they name no files of this machine and only origins within bounds, and origins on this machine never see
// them come from 127.0.0.1 or ::1, whatever the preset. At the edge itself bounds is nil: only the connector can judge.
func LoadPushed(text []byte, bounds *Bounds) (*Rules, []error) {
	if len(text) > MaxPushed {
		return nil, []error{fmt.Errorf("rules kept at the edge may have %d bytes; these have %d", MaxPushed, len(text))}
	}
	rules, faults := read(text, true)
	if rules == nil {
		return nil, faults
	}
	for i := range rules.list {
		r := &rules.list[i]
		if r.Origin == nil {
			continue
		}
		for _, o := range r.Origins {
			if bounds != nil && !bounds.permit(o.URL) {
				faults = append(faults, at(r.Line, "origin %s: this connector's ingress_allow does not permit it", o.URL))
			}
		}
		if trusted(r.Source) {
			faults = append(faults, at(r.Line, "source %s: local servers trust that address; rules kept at the edge may not use it", r.Source))
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return rules, nil
}

// trusted reports whether local servers commonly trust an address: 127.0.0.1, however it is written, and ::1.
func trusted(a netip.Addr) bool {
	return a.Unmap() == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
}

// Files lists the files that the rules in text name, whether or not the rules are any good, so that they can be watched.
func Files(text []byte) (names []string) {
	if len(text) > maxFile {
		return nil
	}
	root, err := parse(text)
	if err != nil {
		return nil
	}
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 && c.Value == "ca_file" && n.Content[i+1].Value != "" {
				names = append(names, n.Content[i+1].Value)
			}
			visit(c) // an alias has no Content of its own
		}
	}
	visit(root)
	return names
}
