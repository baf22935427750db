package edge

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/guard"
)

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateFindsEveryFaultAtOnce(t *testing.T) {
	c := Config{
		Host: "Edge.example:443", Listen: "443", PublicPort: -1, Loopback: "192.0.2.1:9465",
		Certificates: []Certificate{{Cert: "a", Key: "b"}, {Cert: "a"}},
		Edges:        []EdgeAddress{{URL: "http://edge.example"}},
		Limits:       guard.LimitConfig{Connections: -1},
	}
	err := c.Validate()
	for _, want := range []string{"host:", "listen:", "public_port:", "loopback:", "certificates[1]:", "edges: entry 1", "limits.connections: -1", "state_dir:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in\n%v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "certificates[0]") {
		t.Errorf("a whole pair is called a fault:\n%v", err)
	}
}

func TestAddresses(t *testing.T) {
	for address, valid := range map[string]bool{
		":443": true, "0.0.0.0:0": true, "[::1]:8443": true, "": false, "443": false, ":": false, ":https": false, ":65536": false, "::1:443": false,
	} {
		if isAddress(address) != valid {
			t.Errorf("listen %q: valid is %v", address, !valid)
		}
	}
	for address, valid := range map[string]bool{
		"127.0.0.1:9465": true, "[::1]:0": true, "127.8.8.8:1": true, ":9465": false, "0.0.0.0:1": false, "localhost:1": false, "192.0.2.1:1": false, "127.0.0.1": false,
	} {
		if (loopbackOnly(address) == nil) != valid {
			t.Errorf("loopback %q: valid is %v", address, !valid)
		}
	}
}

func TestThePortThatTheWorldSees(t *testing.T) {
	for _, row := range []struct {
		public, listening int
		want              string
	}{{0, 8443, ":8443"}, {0, 443, ""}, {443, 8443, ""}, {9443, 443, ":9443"}} {
		c := Config{PublicPort: row.public}
		if got := c.port(&net.TCPAddr{Port: row.listening}); got != row.want {
			t.Errorf("public_port %d, listening on %d: %q, want %q", row.public, row.listening, got, row.want)
		}
	}
}

func TestStoreKey(t *testing.T) {
	for value, want := range map[string]string{
		"":                                     "",
		"postgres://edge@db.example/sallyport": "",
		"file:/etc/sallyport/store.url":        "",
		"postgres://edge:secret@db.example/sallyport":          "password",
		"postgres://edge@db.example/sallyport?password=secret": "password",
		"mysql://edge@db.example/sallyport":                    "want postgres://",
		"postgres://edge@db.example/sallyport?sslmode=perhaps": "sslmode",
	} {
		c := Default()
		c.Store = value
		err := c.Validate()
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret@") || strings.Contains(err.Error(), "=secret")) {
			t.Errorf("store %q: %v, want %q", value, err, want)
		}
	}
}

func TestStoreFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := Default()
	c.Store = "file:" + write("url", "postgres://edge:one@db.example/sallyport\n", 0o600)
	c.StorePasswordFile = write("password", "two\n", 0o600)
	got, err := c.storeConfig()
	if err != nil || got.PostgreSQL.URL != "postgres://edge:one@db.example/sallyport" || got.PostgreSQL.Password.Reveal() != "two" {
		t.Errorf("%+v, %v", got.PostgreSQL, err)
	}
	if shown := got.PostgreSQL.String(); strings.Contains(shown, "one") {
		t.Errorf("shown as %s", shown)
	}
	c.StorePasswordFile = write("open", "two", 0o640)
	if _, err := c.storeConfig(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
}
