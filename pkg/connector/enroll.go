package connector

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Enrolment is what the pasted line says.
type Enrolment struct {
	// StateDir is made, mode 0700, if it is not there.
	StateDir string
	// Edge is the edge's URL.
	Edge string
	// Code is the single-use code.
	Code string
	// CAPin or CAFile say how to know the edge's certificate; with neither the system's roots count.
	CAPin, CAFile string
	// Way says how to get out of the building: Proxy, ProxyPasswordFile, CAFile and TLSInspection count.
	Way Config
}

// Enroll makes the key on this machine, spends the code and writes down what the edge answered. A directory that holds an
// enrolment is left as it is (fault.Exists).
func Enroll(ctx context.Context, e Enrolment) (Identity, error) {
	edge, err := enroll.EdgeURL(e.Edge)
	if err != nil {
		return Identity{}, err
	}
	if e.Way.TLSInspection && e.CAPin == "" {
		// The code lets whoever has it first enrol a connector of theirs, and the answer says which edge to believe for ever.
		return Identity{}, fault.New(fault.Invalid, "behind a firewall that opens TLS (tls_inspection) only the edge's pin shows who gets the code: "+
			"paste all of the invitation's line, with --ca sha256:…, or ask your provider for the pin")
	}
	i := Identity{Edge: edge, CAPin: e.CAPin}
	if e.CAFile != "" {
		text, err := os.ReadFile(e.CAFile)
		if err != nil {
			return Identity{}, fault.New(fault.Invalid, "CA file: %v", err)
		}
		i.CAPEM = string(text)
	}
	e.Way.StateDir = "" // nothing is remembered of an edge that is not enrolled with
	target, err := e.Way.Target(i)
	if err != nil {
		return Identity{}, err
	}
	key, err := prepare(e.StateDir)
	if err != nil {
		return Identity{}, err
	}
	got, err := controlclient.Enroll(ctx, target, e.Code, key.Public().(ed25519.PublicKey))
	var stranger x509.UnknownAuthorityError
	if errors.As(err, &stranger) && e.CAPin == "" && e.CAFile == "" {
		return Identity{}, fault.New(fault.Unavailable, "nobody whom this machine trusts vouches for the certificate of %s: if the edge has a CA of its own, paste all of the "+
			"invitation's line, with --ca sha256:…, or name the CA's file with --ca-file", edge).Because(err)
	}
	if err != nil {
		return Identity{}, err
	}
	i.Connector, i.Tenant, i.Site, i.RootKey = got.Connector, got.Tenant, got.Site, got.RootKey
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return Identity{}, err
	}
	return i, writeFile(e.StateDir, identityFile, append(text, '\n'))
}

// prepare makes directory and key, so that nothing can fail for want of them once the code is spent.
func prepare(dir string) (ed25519.PrivateKey, error) {
	if _, err := os.Stat(filepath.Join(dir, identityFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Exists, "%s holds an enrolment already; to replace it, stop the connector and remove %s and %s there",
			dir, identityFile, keyFile).Because(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return makeKey(dir)
}
