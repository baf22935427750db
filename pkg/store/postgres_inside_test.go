package store

import (
	"testing"
)

// Without sslmode only what stays on the machine goes in the clear.
func TestTLSUnlessNearby(t *testing.T) {
	for url, want := range map[string]bool{
		"postgres://edge@db.example/sallyport":                    true,
		"postgres://edge@a.example,localhost/sallyport":           true,
		"postgres://edge@192.0.2.1:5432/sallyport":                true,
		"postgres://edge@localhost/sallyport":                     false,
		"postgres://edge@127.0.0.1:5432,localhost:5433/sallyport": false,
		"postgres:///sallyport?host=/run/postgresql&user=edge":    false,
		"postgres://edge@db.example/sallyport?sslmode=disable":    false,
		"postgres://edge@localhost/sallyport?sslmode=verify-full": true,
		"postgres:///sallyport?host=db.example&user=edge":         true,
	} {
		config, err := PostgreSQL{URL: url}.config()
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := config.TLSConfig != nil; got != want {
			t.Errorf("%s: TLS %v, want %v", url, got, want)
		}
		if config.TLSConfig != nil && (config.TLSConfig.InsecureSkipVerify || len(config.Fallbacks) > 0 && config.Fallbacks[0].TLSConfig == nil) {
			t.Errorf("%s: the certificate is not verified, or the clear is fallen back to", url)
		}
	}
}
