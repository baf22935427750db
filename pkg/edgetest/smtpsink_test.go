package edgetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"
)

func send(t *testing.T, s *Sink, startTLS bool, message string) error {
	t.Helper()
	client, err := smtp.Dial(fmt.Sprintf("127.0.0.1:%d", s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if startTLS {
		pem, err := os.ReadFile(s.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		if err := client.StartTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Mail("from@maple.example"); err != nil {
		return err
	}
	if err := client.Rcpt("Dr.Lee@maple.example"); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(message)); err != nil {
		return err
	}
	return w.Close()
}

const codeMail = "Subject: =?UTF-8?q?Your_code_=E2=80=93_maple?=\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/html\r\n\r\n<b>no</b>\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nYour code is 4711=\r\n09 <today>.\r\n--b--\r\n"

func TestSinkKeepsAndShowsMail(t *testing.T) {
	s := StartSink(t)
	got := make(chan string, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() {
		text, err := s.Next(ctx, "dr.lee@maple.example", 0)
		got <- fmt.Sprint(text, err)
	}()
	if err := send(t, s, true, codeMail); err != nil {
		t.Fatal(err)
	}
	if text := <-got; !strings.Contains(text, "Your code is 471109 <today>.") {
		t.Errorf("the mail says %q", text)
	}
	w := httptest.NewRecorder()
	s.Inbox().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, want := range []string{`<p class="code">471109</p>`, "Your code – maple", "&lt;today&gt;", `http-equiv="refresh"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the inbox lacks %s:\n%s", want, w.Body)
		}
	}
}

func TestSinkWantsSTARTTLS(t *testing.T) {
	s := StartSink(t)
	if err := send(t, s, false, codeMail); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("mail in the clear: %v", err)
	}
	if n := len(s.All()); n != 0 {
		t.Errorf("%d mails arrived", n)
	}
}

func TestSinkKeepsItsKey(t *testing.T) {
	s := StartSink(t)
	before, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewSink("127.0.0.1:0", s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	after, err := os.ReadFile(s.CAFile())
	if err != nil || string(before) != string(after) {
		t.Errorf("the certificate changed: %v", err)
	}
}
