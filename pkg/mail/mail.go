// Package mail owns outgoing mail: the connection to the operator's mail server (TLS always, every wait bounded), a bounded
// queue that retries for a few minutes, and the words of the messages that Sallyport sends. It decides neither who gets
// mail nor what a code is worth, and no address and no text of a message ever reaches a log line.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	netmail "net/mail"
	"os"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// The ways to reach TLS. There is no way without.
const (
	TLSStart    = "starttls" // RFC 3207, required: a server that does not offer it gets nothing
	TLSImplicit = "tls"      // RFC 8314 §3.3
)

// Config says which server takes the mail.
type Config struct {
	// Host is the server's name; its certificate must carry it. Empty means that the edge sends no mail.
	Host string `conf:"host" help:"mail server that takes the edge's outgoing mail"`
	// Port is 587 for starttls and 465 for tls when it is 0.
	Port int `conf:"port" help:"its port; 0 means 587 with starttls and 465 with tls"`
	// From is the sender's address.
	From string `conf:"from" help:"sender address, e.g. signin@msp.example"`
	// Username and Password are for SMTP AUTH (RFC 4954); both empty for none.
	Username string          `conf:"username" help:"user name for the mail server, if it wants one"`
	Password secret.Redacted `conf:"password" help:"its password (in the file only)"`
	// CAFile is a PEM file with the authorities that may sign the server's certificate; empty means the system's.
	CAFile string `conf:"ca_file" help:"PEM file with the authorities to trust instead of the system's"`
	// TLS is "starttls" (the default) or "tls".
	TLS string `conf:"tls" help:"starttls or tls"`
	// Timeout bounds one message from dialling to the server's answer; 30 s when it is 0.
	Timeout time.Duration `conf:"timeout" help:"how long one message may take, dialling included"`
}

// Default is STARTTLS on 587 with 30 s for each message.
func Default() Config { return Config{TLS: TLSStart, Timeout: defaultTimeout} }

const defaultTimeout = 30 * time.Second

// Validate reports every fault at once. A configuration without a host is valid: it sends nothing.
func (c Config) Validate() error {
	if c.Host == "" {
		return nil
	}
	var faults []error
	if _, err := netmail.ParseAddress(c.From); err != nil {
		faults = append(faults, fmt.Errorf("mail from %q: no e-mail address", c.From))
	}
	if c.Port < 0 || c.Port > 65535 {
		faults = append(faults, fmt.Errorf("mail port %d: out of range", c.Port))
	}
	if c.TLS != "" && c.TLS != TLSStart && c.TLS != TLSImplicit {
		faults = append(faults, fmt.Errorf("mail tls %q: use %s or %s; mail is never sent without", c.TLS, TLSStart, TLSImplicit))
	}
	if (c.Username == "") != (c.Password.Reveal() == "") {
		faults = append(faults, errors.New("mail username and password: set both or neither"))
	}
	return errors.Join(faults...)
}

// Message is one plain-text mail to one person.
type Message struct {
	To string
	// FromName is shown before the sender's address: the clinic's name, if set.
	FromName string
	Subject  string
	Text     string
}

// Mailer hands messages to the mail server, one connection each. It is safe for concurrent use.
type Mailer struct {
	cfg  Config
	opts []gomail.Option
}

// New checks the configuration and reads the CA file. It does not dial.
func New(cfg Config) (*Mailer, error) {
	if cfg.Host == "" {
		return nil, errors.New("mail host: not set")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	tlsConf := &tls.Config{ServerName: cfg.Host, MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mail ca_file: %w", err)
		}
		tlsConf.RootCAs = x509.NewCertPool()
		if !tlsConf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mail ca_file %s: holds no PEM certificate", cfg.CAFile)
		}
	}
	m := &Mailer{cfg: cfg, opts: options(cfg, tlsConf)}
	if _, err := gomail.NewClient(cfg.Host, m.opts...); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return m, nil
}

func options(cfg Config, tlsConf *tls.Config) []gomail.Option {
	port := cfg.Port
	opts := []gomail.Option{gomail.WithTLSConfig(tlsConf), gomail.WithTimeout(cfg.Timeout)}
	if cfg.TLS == TLSImplicit {
		if port == 0 {
			port = gomail.DefaultPortSSL
		}
		opts = append(opts, gomail.WithSSL())
	} else {
		if port == 0 {
			port = gomail.DefaultPortTLS
		}
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if cfg.Username != "" {
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(cfg.Username), gomail.WithPassword(cfg.Password.Reveal()))
	}
	return append(opts, gomail.WithPort(port))
}

// Send hands one message over and waits for the server's answer, at most Config.Timeout. Its error is a *SendError, or a
// plain one for a message that cannot be built.
func (m *Mailer) Send(ctx context.Context, msg Message) error {
	built, err := m.build(msg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	client, err := gomail.NewClient(m.cfg.Host, m.opts...)
	if err != nil {
		return sendError("configuration", err)
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return sendError("connect", err)
	}
	// The library renews its own deadline with every command; closing the connection is what bounds them all.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := client.SendWithSMTPClient(conn, built); err != nil {
		_ = conn.Close()
		return sendError("hand over", err)
	}
	// The server has taken the message; a fault while saying good-bye must not send it twice.
	_ = client.CloseWithSMTPClient(conn)
	return nil
}

func (m *Mailer) build(msg Message) (*gomail.Msg, error) {
	if strings.ContainsAny(msg.Subject+msg.FromName+msg.To, "\r\n") {
		return nil, errors.New("mail: line break in a header")
	}
	built := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := built.FromFormat(msg.FromName, m.cfg.From); err != nil {
		return nil, errors.New("mail: sender cannot be written as an address")
	}
	if err := built.To(msg.To); err != nil {
		return nil, errors.New("mail: recipient cannot be written as an address")
	}
	built.Subject(msg.Subject)
	built.SetDate()
	built.SetMessageIDWithValue(messageID(m.cfg.From))
	// RFC 3834 §5: keeps holiday answers away from the sender's mailbox.
	built.SetGenHeader("Auto-Submitted", "auto-generated")
	built.SetBodyString(gomail.TypeTextPlain, msg.Text)
	return built, nil
}
