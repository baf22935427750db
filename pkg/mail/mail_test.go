package mail_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

func (s *server) config() mail.Config {
	cfg := mail.Default()
	cfg.Host, cfg.Port, cfg.From, cfg.CAFile = "localhost", s.port, "signin@msp.example", s.caFile
	return cfg
}

func mailer(t *testing.T, cfg mail.Config) *mail.Mailer {
	t.Helper()
	m, err := mail.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func codeMessage() mail.Message {
	return mail.English().Code("dr.lee@maple.example", "Maple Family Clinic", "signin.maple.example", "042137", 10*time.Minute)
}

func TestACodeArrivesOverTLS(t *testing.T) {
	for _, mode := range []string{mail.TLSStart, mail.TLSImplicit} {
		s := newServer(t, mode)
		cfg := s.config()
		cfg.TLS = mode
		if err := mailer(t, cfg).Send(context.Background(), codeMessage()); err != nil {
			t.Fatalf("%s: %v: %v", mode, err, detail(err))
		}
		got := s.messages()
		if len(got) != 1 || got[0].from != "signin@msp.example" || got[0].to != "dr.lee@maple.example" || s.plain && mode == mail.TLSStart {
			t.Fatalf("%s: %+v, plain %v", mode, got, s.plain)
		}
		head, body, _ := strings.Cut(got[0].text, "\r\n\r\n")
		for _, want := range []string{"Subject: 042137 is your code for Maple Family Clinic", `From: "Maple Family Clinic" <signin@msp.example>`, "Auto-Submitted: auto-generated", "Message-ID: <", "text/plain"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s: head lacks %q:\n%s", mode, want, head)
			}
		}
		if first, _, _ := strings.Cut(body, "\r\n"); first != "042137" {
			t.Errorf("%s: the first line is %q, not the code alone", mode, first)
		}
	}
}

func detail(err error) string {
	var send *mail.SendError
	if errors.As(err, &send) {
		return send.Detail()
	}
	return ""
}

func TestNothingIsSaidWithoutTLSOrToAStranger(t *testing.T) {
	for name, tc := range map[string]struct {
		mode   string
		change func(*mail.Config)
	}{
		"no STARTTLS offered": {"none", func(*mail.Config) {}},
		"authority not known": {"starttls", func(c *mail.Config) { c.CAFile = "" }},
		"name does not match": {"starttls", func(c *mail.Config) { c.Host = "127.0.0.1" }},
		"implicit, no TLS":    {"none", func(c *mail.Config) { c.TLS = mail.TLSImplicit }},
		"password, no TLS":    {"none", func(c *mail.Config) { c.Username, c.Password = "u", secret.Redact("p") }},
	} {
		s := newServer(t, tc.mode)
		cfg := s.config()
		cfg.Timeout = 3 * time.Second
		tc.change(&cfg)
		err := mailer(t, cfg).Send(context.Background(), codeMessage())
		if err == nil || len(s.messages()) != 0 || s.plain {
			t.Errorf("%s: %v, %d taken, plain %v", name, err, len(s.messages()), s.plain)
		}
	}
}

// Errors go to the log; the person's address must not.
func TestErrorsHoldNoAddress(t *testing.T) {
	s := newServer(t, "starttls")
	for _, code := range []int{451, 550} {
		s.mu.Lock()
		s.refuse = &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "no <dr.lee@maple.example> here"}
		s.mu.Unlock()
		err := mailer(t, s.config()).Send(context.Background(), codeMessage())
		var send *mail.SendError
		if !errors.As(err, &send) || send.Code != code || send.Permanent != (code == 550) {
			t.Fatalf("%d: %#v", code, err)
		}
		if strings.Contains(err.Error(), "lee") || strings.Contains(err.Error(), "@") {
			t.Errorf("%d: %v", code, err)
		}
		if !strings.Contains(send.Detail(), "dr.lee@maple.example") {
			t.Errorf("%d: the tester does not see what the server said: %s", code, send.Detail())
		}
	}
	for _, to := range []string{"", "no address", "a@b.example\r\nBcc: c@d.example"} {
		err := mailer(t, s.config()).Send(context.Background(), mail.Message{To: to, Subject: "s", Text: "t"})
		if err == nil || to != "" && strings.Contains(err.Error(), to) {
			t.Errorf("%q: %v", to, err)
		}
	}
}

// A server that takes the connection and says nothing holds a message no longer than its time-out.
func TestASilentServerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := (&server{port: l.Addr().(*net.TCPAddr).Port}).config()
	cfg.Timeout = 300 * time.Millisecond
	began := time.Now()
	if err := mailer(t, cfg).Send(context.Background(), codeMessage()); err == nil {
		t.Error("sent")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("waited %v", took)
	}
}

func TestConfigurationFaultsAreAllReported(t *testing.T) {
	err := mail.Config{Host: "h", From: "nobody", Port: 70000, TLS: "none", Username: "u"}.Validate()
	for _, want := range []string{"from", "port", "tls", "password"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
	if err := (mail.Config{}).Validate(); err != nil {
		t.Errorf("no mail at all: %v", err)
	}
	if _, err := mail.New(mail.Config{Host: "h", From: "a@b.example", CAFile: "/nonexistent"}); err == nil {
		t.Error("a CA file that is missing")
	}
}
