package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/certs"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/wslink"
)

// maxSkew is how far this machine's clock may be off: certificates and logs bear that much.
const maxSkew = 2 * time.Minute

// shown is what the edge showed over TCP.
type shown struct {
	upstream string // what the proxy said of the edge
	state    tls.ConnectionState
	tlsError error
	// Behind a firewall that opens TLS (tls_inspection): why nothing goes inside; and who issued what the firewall shows, empty where it
	// does not open TLS after all.
	insideError error
	openedBy    string
}

// meet completes TLS on the connection without judging the certificate, and asks for a page that is not there, for the Date
// field of the answer (RFC 9110 §6.6.1). It is not believed for anything but advice. It comes right after TCP, because an edge
// waits for a handshake only so long; what it found is for the checks of clock and certificate.
func (x *examination) meet(ctx context.Context) []Check {
	if x.conn == nil {
		return nil
	}
	if x.target.Outer != nil {
		inner, err := wslink.Inside(ctx, x.target, x.conn)
		if err != nil {
			x.seen.insideError = err
			return nil
		}
		x.conn = inner
	}
	conn := tls.Client(x.conn, unjudged(x.target.ClientTLS("http/1.1")))
	if x.seen.tlsError = conn.HandshakeContext(ctx); x.seen.tlsError != nil {
		return nil
	}
	if inner, ok := x.conn.(*wslink.Inner); ok {
		x.seen.openedBy = inner.OpenedBy(conn.ConnectionState())
	}
	x.seen.state, x.conn = conn.ConnectionState(), conn
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, x.target.URL.String()+"/", nil)
	if err != nil {
		return nil
	}
	request.Close = true
	x.edgeNow, _ = dateOf(conn, request) // stays zero: the clock is not checked then
	return nil
}

func dateOf(conn net.Conn, request *http.Request) (time.Time, error) {
	if err := request.Write(conn); err != nil {
		return time.Time{}, err
	}
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 64<<10)), request)
	if err != nil {
		return time.Time{}, err
	}
	_ = response.Body.Close()
	return http.ParseTime(response.Header.Get("Date"))
}

// noTLS is why nothing is known of the certificate and the clock; empty when something is.
func (x *examination) noTLS() string {
	switch {
	case x.why != "":
		return x.why
	case x.noTCP != "":
		return x.noTCP
	case x.conn == nil:
		return "there is no TCP connection to the edge"
	case x.seen.insideError != nil:
		return "there is no connection inside the TLS that a firewall opens"
	}
	return ""
}

// checkClock compares this machine's clock with the edge's.
func (x *examination) checkClock(context.Context) []Check {
	if why := x.noTLS(); why != "" {
		return skipped(CheckClock, why)
	}
	if x.edgeNow.IsZero() {
		return skipped(CheckClock, "the edge did not tell the time")
	}
	off := x.Now().Sub(x.edgeNow)
	direction := "ahead of"
	if off < 0 {
		direction = "behind"
	}
	if off.Abs() > maxSkew {
		return found(CheckClock, Problem, fmt.Sprintf("this machine's clock is %s %s the edge's", off.Abs().Round(time.Second), direction),
			"Set the clock and keep it right: timedatectl set-ntp true, then timedatectl status. On a virtual machine look at its host's clock too.")
	}
	return found(CheckClock, OK, fmt.Sprintf("within %s of the edge's", max(off.Abs(), time.Second).Round(time.Second)))
}

// checkCertificate judges the edge's certificate as links do.
func (x *examination) checkCertificate(context.Context) []Check {
	if err := x.seen.insideError; err != nil {
		return found(CheckCertificate, Problem, "tls_inspection is set, and no connection can be made inside: "+err.Error(),
			"If the certificate outside is not trusted: name the CA of the firewall, as a PEM file, in ca_file.",
			"If the answer is 404: ask your provider to update the edge. Any other answer is the firewall's: it has to let WebSockets to "+x.host+" pass.",
			"Otherwise have "+x.host+" exempted from inspection; then tls_inspection is not needed.")
	}
	if why := x.noTLS(); why != "" {
		return skipped(CheckCertificate, why)
	}
	if x.seen.tlsError != nil && strings.Contains(x.seen.tlsError.Error(), "unrecognized name") {
		return found(CheckCertificate, Problem, "what listens there has no certificate for "+x.host+": "+x.seen.tlsError.Error(),
			"Compare the edge's name with the invitation, and ask your provider whether the edge has another name now, or a certificate that lacks this one.",
			"If it has another name, ask for a new invitation and enrol anew; otherwise a firewall that filters by name is likely: have "+x.host+" exempted there.")
	}
	if x.seen.tlsError != nil {
		return found(CheckCertificate, Problem, "TCP connects, but TLS does not: "+x.seen.tlsError.Error(),
			"A firewall that filters by name, or opens TLS, is the likeliest cause: have "+x.host+" exempted from inspection there, or set tls_inspection: true.",
			"Otherwise something else than an edge listens there: compare name and port with the invitation.")
	}
	leaf := x.seen.state.PeerCertificates[0]
	err := x.verify(x.Now())
	if err == nil {
		return found(CheckCertificate, OK, fmt.Sprintf("trusted, issued by %s, until %s%s", issuer(leaf), day(leaf.NotAfter), x.inspected()))
	}
	return x.distrust(leaf, err)
}

// inspected says what is known of a firewall that opens TLS.
func (x *examination) inspected() string {
	switch {
	case x.target.Outer == nil:
		return ""
	case x.seen.openedBy == "":
		return "; nothing opens TLS on the way, so that tls_inspection is not needed"
	}
	return fmt.Sprintf("; seen inside, through a firewall that opens TLS (its certificates are issued by %.100q)", x.seen.openedBy)
}

// verify judges what was shown at a time.
func (x *examination) verify(at time.Time) error {
	chain := x.seen.state.PeerCertificates
	conf := x.target.ClientTLS("http/1.1")
	if x.identity.CAPin != "" {
		return certs.VerifyPinned(chain, x.identity.CAPin, conf.ServerName, at)
	}
	others := x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: conf.ServerName, Roots: conf.RootCAs, Intermediates: others, CurrentTime: at})
	return err
}

func (x *examination) distrust(leaf *x509.Certificate, err error) []Check {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return x.outOfTime(leaf)
	case errors.As(err, &name):
		return found(CheckCertificate, Problem, fmt.Sprintf("the certificate is not for %s, but for %s", x.host, names(leaf)),
			"Compare the edge's name with the invitation. If it is right, your provider has to put it into the certificate.")
	}
	detail := "the certificate is not trusted: it was issued by " + issuer(leaf)
	if x.target.Outer != nil {
		return found(CheckCertificate, Problem, detail+", and it was shown inside the TLS that a firewall opens: somebody opens that one too, or the edge is another one",
			"Nothing is sent to it. Ask whoever runs the firewall; the edge's name can only be exempted from what does this.",
			"If the edge was set up anew, ask your provider for a new invitation and enrol anew.")
	}
	inspecting := "If that is a firewall or virus scanner of the clinic, it opens TLS: have " + x.host + " exempted from inspection there; " +
		"or set tls_inspection: true, with ca_file naming its CA. The link is refused otherwise."
	if x.identity.CAPin != "" {
		return found(CheckCertificate, Problem, detail+", which is not what the enrolment pinned", inspecting,
			"If that is your provider's own CA, it was replaced: ask for a new invitation and enrol anew.")
	}
	return found(CheckCertificate, Problem, detail, inspecting,
		"If that is your provider's own CA: use the pin of the invitation (--ca sha256:…), or name its file in ca_file.")
}

// outOfTime tells a certificate that is over from a clock that is wrong.
func (x *examination) outOfTime(leaf *x509.Certificate) []Check {
	words := fmt.Sprintf("expired on %s", day(leaf.NotAfter))
	if x.Now().Before(leaf.NotBefore) {
		words = fmt.Sprintf("is not valid before %s", day(leaf.NotBefore))
	}
	if !x.edgeNow.IsZero() && x.Now().Sub(x.edgeNow).Abs() > maxSkew && x.verify(x.edgeNow) == nil {
		return found(CheckCertificate, Problem, fmt.Sprintf("by this machine's clock the certificate %s; by the edge's clock it is good", words),
			"Nothing is wrong with the certificate: set this machine's clock.")
	}
	return found(CheckCertificate, Problem, "the certificate, or that of its issuer, "+words,
		"Check this machine's date first: date. If it is right, your provider has to renew the edge's certificate.")
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// issuer and names quote what a stranger may have written.
func issuer(c *x509.Certificate) string { return fmt.Sprintf("%.100q", c.Issuer.String()) }

func names(c *x509.Certificate) string {
	if len(c.DNSNames) == 0 {
		return fmt.Sprintf("%.100q", c.Subject.CommonName)
	}
	return fmt.Sprintf("%.100q", c.DNSNames[:min(3, len(c.DNSNames))])
}
