//go:build !linux

package run

// Slack does nothing here.
func Slack() error { return nil }
