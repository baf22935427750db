// Command smtpsink is the demo's mail server: it keeps what it gets, passes nothing on, and shows the inbox in the browser.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

func main() {
	smtp := flag.String("smtp", "127.0.0.1:2525", "address for SMTP with STARTTLS")
	inbox := flag.String("http", "127.0.0.1:8025", "address for the page that shows the inbox")
	ca := flag.String("ca", "mail-ca.pem", "file for the certificate by which clients know the server; its key lies beside it")
	flag.Parse()
	if err := run(*smtp, *inbox, *ca); err != nil {
		fmt.Fprintln(os.Stderr, "smtpsink:", err)
		os.Exit(1)
	}
}

func run(smtp, inbox, ca string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	sink, err := edgetest.NewSink(smtp, ca)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: inbox, Handler: sink.Inbox(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	select {
	case err = <-served:
	case <-ctx.Done():
		err = errors.Join(server.Close(), ignoreClosed(<-served))
	}
	return errors.Join(err, sink.Close())
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
