package edgetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// Sink is a mail server that keeps what it gets, in memory, and passes nothing on. It wants STARTTLS before anything else.
type Sink struct {
	server *smtp.Server
	listen net.Listener
	caFile string
	served chan struct{} // closed when the server has ended

	mu      sync.Mutex // guards mails and arrived
	mails   []Mail
	arrived chan struct{} // closed and replaced at each mail
}

// Mail is one message that arrived.
type Mail struct {
	From    string
	To      []string
	Subject string
	Text    string // the plain part, decoded
	Raw     []byte
	At      time.Time
}

// NewSink listens on addr ("127.0.0.1:0" takes a free port) and writes its certificate, which signs itself, to caFile. A key
// that an earlier sink left beside that file is used again.
func NewSink(addr, caFile string) (*Sink, error) {
	cert, err := KeepCertificate(caFile, caFile+".key")
	if err != nil {
		return nil, fmt.Errorf("mail sink certificate: %w", err)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mail sink: %w", err)
	}
	s := &Sink{listen: listener, caFile: caFile, served: make(chan struct{}), arrived: make(chan struct{})}
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &delivery{sink: s, conn: c}, nil }))
	s.server.Domain = "localhost"
	s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.server.MaxMessageBytes = 1 << 20
	s.server.ReadTimeout, s.server.WriteTimeout = time.Minute, time.Minute
	go func() {
		defer close(s.served)
		_ = s.server.Serve(listener)
	}()
	return s, nil
}

// StartSink returns a sink on a free port that ends with the test.
func StartSink(t testing.TB) *Sink {
	t.Helper()
	s, err := NewSink("127.0.0.1:0", filepath.Join(t.TempDir(), "mail-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Close ends the sink and its connections.
func (s *Sink) Close() error {
	err := s.server.Close()
	// The server closes only a listener that Serve has taken over already.
	if e := s.listen.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	<-s.served
	return err
}

// Port is where the sink listens, on 127.0.0.1; clients call it localhost.
func (s *Sink) Port() int { return s.listen.Addr().(*net.TCPAddr).Port }

// CAFile holds the certificate by which clients know the sink.
func (s *Sink) CAFile() string { return s.caFile }

// All returns every mail, oldest first.
func (s *Sink) All() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// To returns the mails to an address, oldest first.
func (s *Sink) To(address string) []Mail {
	mails, _ := s.to(address)
	return mails
}

// Next returns the text of the mail to address that follows the first n, and waits for it until ctx ends.
func (s *Sink) Next(ctx context.Context, address string, n int) (string, error) {
	for {
		mails, arrived := s.to(address)
		if len(mails) > n {
			return mails[n].Text, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return "", fmt.Errorf("%d mails to %s, waiting for another: %w", len(mails), address, ctx.Err())
		}
	}
}

func (s *Sink) to(address string) ([]Mail, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var mails []Mail
	for _, m := range s.mails {
		for _, to := range m.To {
			if strings.EqualFold(to, address) {
				mails = append(mails, m)
				break
			}
		}
	}
	return mails, s.arrived
}

func (s *Sink) deliver(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// delivery is one SMTP connection.
type delivery struct {
	sink *Sink
	conn *smtp.Conn
	from string
	to   []string
}

var _ smtp.Session = (*delivery)(nil)

func (d *delivery) Reset()        { d.from, d.to = "", nil }
func (d *delivery) Logout() error { return nil }

func (d *delivery) Mail(from string, _ *smtp.MailOptions) error {
	if _, ok := d.conn.TLSConnectionState(); !ok {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Must issue a STARTTLS command first"}
	}
	d.from = from
	return nil
}

func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = append(d.to, to)
	return nil
}

func (d *delivery) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := Mail{From: d.from, To: d.to, Raw: raw, At: time.Now()}
	if m.Subject, m.Text, err = readMail(bytes.NewReader(raw)); err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "unreadable message"}
	}
	d.sink.deliver(m)
	return nil
}

// KeepCertificate loads the certificate and key from two files, or makes them, for localhost, where one is missing.
func KeepCertificate(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if !errors.Is(err, os.ErrNotExist) {
		return cert, err
	}
	certPEM, keyPEM, err := selfSigned()
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	if err := os.WriteFile(certFile, certPEM, 0o644); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}
