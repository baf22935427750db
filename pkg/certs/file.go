package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// file is a pair on disk and what was last read from it. Manager.mu guards it.
type file struct {
	pair Pair
	seen [2]stamp // of the certificate and key when they were last looked at
	cert *tls.Certificate
}

// stamp tells versions of a file apart; a rename changes it even within one tick of the file system's clock.
type stamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

// load reads the pair if it changed since the last look and reports whether there is a new certificate. After an error the
// former one stays, and the pair is read again when it changes again.
func (f *file) load(now time.Time) (fresh bool, err error) {
	var at [2]stamp
	for i, name := range []string{f.pair.CertFile, f.pair.KeyFile} {
		info, err := os.Stat(name)
		if err != nil {
			at[i] = stamp{}
			continue
		}
		at[i] = stamp{info.ModTime(), info.Size(), info}
	}
	if f.cert != nil && slices.EqualFunc(at[:], f.seen[:], stamp.same) {
		return false, nil
	}
	f.seen = at
	cert, err := readPair(f.pair, now)
	if err != nil {
		return false, err
	}
	f.cert = cert
	return true, nil
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == nil && other.info == nil
	}
	return s.modified.Equal(other.modified) && s.size == other.size && os.SameFile(s.info, other.info)
}

// readPair reads a certificate that may be served at now: key and certificate belong together, and it has names and is in
// its time.
func readPair(p Pair, now time.Time) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", p.CertFile, p.KeyFile, err)
	}
	if err := servable(cert.Leaf, now); err != nil {
		return nil, fmt.Errorf("%s: %w", p.CertFile, err)
	}
	return &cert, nil
}

func servable(leaf *x509.Certificate, now time.Time) error {
	switch {
	case len(leaf.DNSNames) == 0:
		return errors.New("it has no DNS names")
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it ended on %s", leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it begins only on %s", leaf.NotBefore.Format(time.DateOnly))
	}
	return nil
}
