package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// title is what people read in place of a check's name.
func (x Check) title(port string) string {
	switch x.Name {
	case CheckName:
		return "name (DNS)"
	case CheckTCP:
		return "TCP " + port
	case CheckUDP:
		return "UDP " + port
	}
	return x.Name
}

// Write prints the report for people: one line per check, then what to do.
func (r Report) Write(w io.Writer) error {
	port := "443"
	if _, rest, ok := strings.Cut(strings.TrimPrefix(r.Edge, "https://"), ":"); ok {
		port = rest
	}
	var b strings.Builder
	if r.Edge != "" {
		fmt.Fprintf(&b, "The way to %s:\n", r.Edge)
	}
	var todo []string
	for _, c := range r.Checks {
		state := string(c.State)
		if c.State == Problem {
			state = "PROBLEM"
		}
		fmt.Fprintf(&b, "  %-12s %-12s %s\n", state, c.title(port), plain(c.Detail))
		for _, advice := range c.Advice {
			todo = append(todo, c.title(port)+": "+plain(advice))
		}
	}
	if len(todo) == 0 {
		b.WriteString("\nAll is well.\n")
	} else {
		b.WriteString("\nWhat to do:\n")
	}
	for i, advice := range todo {
		fmt.Fprintf(&b, "  %d. %s\n", i+1, advice)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plain keeps what others say from obeying a terminal, and on one line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
