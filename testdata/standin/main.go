// Command standin serves the stand-in for the application on Tomcat, for the demo on machines where Tomcat cannot be had.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

func main() {
	address := flag.String("https", "127.0.0.1:9443", "address to listen on")
	dir := flag.String("dir", "", "directory that keeps the certificate; default: one in the user's cache, so that a pin outlives a restart")
	flag.Parse()
	if err := run(*address, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(address, dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		dir = filepath.Join(cache, "sallyport-standin")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cert, err := edgetest.KeepCertificate(filepath.Join(dir, "origin.pem"), filepath.Join(dir, "origin.key"))
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr: address, Handler: edgetest.StandIn(), ReadHeaderTimeout: 20 * time.Second,
		// HTTP/1.1 alone, like the servers that it stands in for.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{cert}},
	}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServeTLS("", "") }()
	select {
	case err = <-served:
	case <-ctx.Done():
		err = server.Close()
		<-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
