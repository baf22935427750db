package login

import "strings"

// clientFamily names a browser coarsely ("Firefox on Windows"), for people who look at the list of their sessions. It
// decides about nothing, and keeps no text of the header.
func clientFamily(userAgent string) string {
	browser := first(userAgent, [][2]string{
		{"Edg/", "Edge"},
		{"EdgiOS/", "Edge"},
		{"OPR/", "Opera"},
		{"Firefox/", "Firefox"},
		{"FxiOS/", "Firefox"},
		{"CriOS/", "Chrome"},
		{"Chrome/", "Chrome"},
		{"Safari/", "Safari"},
	}, "Browser")
	system := first(userAgent, [][2]string{
		{"iPhone", "iPhone"},
		{"iPad", "iPad"},
		{"Android", "Android"},
		{"Windows", "Windows"},
		{"Mac OS X", "macOS"},
		{"CrOS", "ChromeOS"},
		{"Linux", "Linux"},
	}, "unknown system")
	return browser + " on " + system
}

func first(text string, marks [][2]string, otherwise string) string {
	for _, m := range marks {
		if strings.Contains(text, m[0]) {
			return m[1]
		}
	}
	return otherwise
}
