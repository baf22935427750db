//go:build !unix

package connector

import "os"

// adopt does nothing where files inherit their owner from the directory.
func adopt(*os.File, string) error { return nil }

// lockState does nothing where the service manager alone starts connectors.
func lockState(string) (*os.File, error) { return nil, nil }
