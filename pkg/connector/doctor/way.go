package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/quiclink"
)

// checkName resolves the edge's name.
func (x *examination) checkName(ctx context.Context) []Check {
	if x.why != "" {
		return skipped(CheckName, x.why)
	}
	var err error
	proxy, _ := x.way.For(x.address()) // what is wrong with it is the next check's
	if x.addrs, err = tunnel.Resolve(ctx, x.host); err == nil {
		var shown []string
		for _, a := range x.addrs[:min(4, len(x.addrs))] {
			shown = append(shown, a.String())
		}
		return found(CheckName, OK, x.host+" is "+strings.Join(shown, ", "))
	}
	if proxy != nil {
		return skipped(CheckName, "this machine cannot look "+x.host+" up; the proxy does that itself")
	}
	detail := "the name " + x.host + " is not found"
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsNotFound || errors.Is(err, context.DeadlineExceeded) {
		detail = "no name server answers, so that " + x.host + " is not found"
	}
	return found(CheckName, Problem, detail,
		"Check that this machine has a network and a working name server: getent hosts "+x.host+" (servers: /etc/resolv.conf, resolvectl status).",
		"If other names are found and this one is not, compare the edge's name with the invitation, or ask your provider.")
}

// checkProxy goes through the outgoing proxy, if there is one, to the edge.
func (x *examination) checkProxy(ctx context.Context) []Check {
	if x.why != "" {
		return skipped(CheckProxy, x.why)
	}
	u, err := x.way.For(x.address())
	if err != nil {
		x.noTCP = "the proxy's address is malformed"
		return found(CheckProxy, Problem, err.Error(), "Correct the proxy in the configuration, or HTTPS_PROXY in the environment; proxy: none switches it off.")
	}
	if x.proxy = u; u == nil {
		return found(CheckProxy, OK, "none: connections go straight out")
	}
	detail := fmt.Sprintf("%s (from the %s)", egress.Shown(u), x.way.Source())
	if x.conn, err = x.way.Through(ctx, u, x.address()); err == nil {
		return found(CheckProxy, OK, detail+" connects to the edge")
	}
	x.conn = nil
	x.noTCP = "the proxy does not connect to the edge"
	var wrong *egress.Error
	if !errors.As(err, &wrong) {
		return found(CheckProxy, Problem, detail+": "+err.Error(), "Look at the proxy.")
	}
	if wrong.Kind == egress.Upstream {
		x.noTCP = ""
		x.seen.upstream = wrong.Error()
		return found(CheckProxy, OK, detail+" answers")
	}
	return found(CheckProxy, Problem, wrong.Error(), x.proxyAdvice(wrong)...)
}

func (x *examination) proxyAdvice(wrong *egress.Error) []string {
	switch wrong.Kind {
	case egress.Credentials:
		return []string{
			"Ask whoever runs the proxy for a user name and password for a service, with Basic authentication, or for an exception for this machine.",
			"Write the user into proxy (http://USER@" + wrong.Proxy + ") and the password into a file that proxy_password_file names.",
		}
	case egress.Denied:
		return []string{"Ask whoever runs the proxy to allow CONNECT to " + x.address() + " from this machine."}
	case egress.Protocol:
		return []string{"Check the proxy's kind and port: http://, https:// or socks5://host:port."}
	}
	return []string{
		"Check the proxy's name and port, and that it runs and lets this machine in.",
		"If this machine needs no proxy: proxy: none.",
	}
}

// checkTCP connects to the edge; through the proxy that is done already.
func (x *examination) checkTCP(ctx context.Context) []Check {
	switch {
	case x.why != "":
		return skipped(CheckTCP, x.why)
	case x.noTCP != "":
		return skipped(CheckTCP, x.noTCP)
	case x.conn != nil:
		x.tcpOK = true
		return found(CheckTCP, OK, "the edge takes connections through the proxy")
	case x.seen.upstream != "":
		x.noTCP = "there is no TCP connection to the edge"
		return found(CheckTCP, Problem, x.seen.upstream,
			"The proxy is well and cannot reach the edge: compare the edge's name and port with the invitation, and ask whoever runs the proxy or your provider.")
	case len(x.addrs) == 0:
		x.noTCP = "the edge's name is not found"
		return skipped(CheckTCP, x.noTCP)
	}
	var errs []error
	for i, addr := range x.addrs {
		// An address whose packets vanish must leave time for the others.
		deadline, _ := ctx.Deadline()
		share := time.Until(deadline) / time.Duration(len(x.addrs)-i)
		conn, err := (&net.Dialer{Timeout: share}).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, x.port).String())
		if err == nil {
			x.conn, x.tcpOK = conn, true
			return found(CheckTCP, OK, "the edge takes connections at "+conn.RemoteAddr().String())
		}
		errs = append(errs, err)
	}
	x.noTCP = "there is no TCP connection to the edge"
	return x.noConnection(errors.Join(errs...))
}

func (x *examination) noConnection(err error) []Check {
	port := fmt.Sprintf("TCP %d outbound to %s", x.port, x.host)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return found(CheckTCP, Problem, "connections to "+x.address()+" are refused",
			"Either a firewall refuses them: allow "+port+".",
			"Or nothing listens there: compare name and port with the invitation, and ask your provider whether the edge runs.")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return found(CheckTCP, Problem, "this machine has no way to "+x.address()+": "+syscallWords(err),
			"Check its network cable, address and default gateway: ip route.")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return found(CheckTCP, Problem, "this machine's own firewall forbids connections to "+x.address(), "Allow "+port+" in nftables, iptables or ufw here.")
	}
	return found(CheckTCP, Problem, "connections to "+x.address()+" get no answer",
		"A firewall drops them most likely: allow "+port+".",
		"If the clinic goes out through a proxy, configure it: proxy: http://host:port.")
}

func syscallWords(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "unreachable"
}

// checkUDP makes a QUIC handshake with the edge and ends it before anything is said on it.
func (x *examination) checkUDP(ctx context.Context) []Check {
	switch {
	case x.why != "":
		return skipped(CheckUDP, x.why)
	case x.Connector.Transport == connector.TransportWebSocket:
		return skipped(CheckUDP, "the configuration uses WebSocket only")
	case len(x.addrs) == 0:
		return skipped(CheckUDP, "the edge's name is not found here, and QUIC goes through no proxy")
	}
	target := x.target
	// Whether packets come and go is asked here; whose certificate it is, the check of the certificate says.
	target.TLS = unjudged(target.TLS)
	dialer := &quiclink.Dialer{Config: quiclink.Config{Handshake: x.Limit}}
	began := time.Now()
	link, err := dialer.Dial(ctx, target)
	if err == nil {
		took := time.Since(began)
		_ = link.Close(tunnel.Reason{Code: tunnel.ReasonGoodbye, Message: "only looked whether UDP gets through"})
		return found(CheckUDP, OK, fmt.Sprintf("QUIC reaches the edge (%d ms)", took.Milliseconds()))
	}
	var closed *tunnel.ClosedError
	if errors.As(err, &closed) && closed.Reason.Code != tunnel.ReasonTimeout && closed.Reason.Code != tunnel.ReasonLost {
		return found(CheckUDP, Problem, fmt.Sprintf("something answers on UDP %d of %s, but not as an edge does: %s", x.port, x.host, closed.Reason),
			"Compare name and port with the invitation, and ask your provider.")
	}
	return found(CheckUDP, Problem, x.udpDetail(), x.udpAdvice()...)
}

func (x *examination) udpDetail() string {
	switch {
	case x.Connector.Transport == connector.TransportQUIC:
		return fmt.Sprintf("UDP %d gets no answer from %s, and the configuration allows QUIC only", x.port, x.host)
	case x.tcpOK:
		return fmt.Sprintf("UDP %d gets no answer from %s; it works over WebSocket, slower on a bad line", x.port, x.host)
	}
	return fmt.Sprintf("UDP %d gets no answer from %s either", x.port, x.host)
}

func (x *examination) udpAdvice() []string {
	open := fmt.Sprintf("Open UDP %d outbound to %s (%s) in the firewall, with the answers to it", x.port, x.host, x.addrs[0])
	switch {
	case x.Connector.Transport == connector.TransportQUIC:
		return []string{open + "; or set transport: auto."}
	case x.tcpOK:
		return []string{open + ", for speed. Where that is not to be had, transport: websocket ends the attempts."}
	}
	return []string{open + "."}
}
