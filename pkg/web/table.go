package web

import (
	"fmt"
	"strings"

	"golang.org/x/text/language"
)

// Table holds the words of every page in one language, by key. %s stands for what the page puts in.
type Table struct {
	Tag   language.Tag
	Texts map[string]string
}

// text returns the words of a key. A key without words shows itself, which a test keeps from happening.
func (t Table) text(key string, args ...any) string {
	words, ok := t.Texts[key]
	if !ok {
		return key
	}
	// Not every language needs every value.
	takes := strings.Count(words, "%s") + strings.Count(words, "%d")
	if takes == 0 {
		return words
	}
	return fmt.Sprintf(words, args[:min(takes, len(args))]...)
}

// text returns the words of a key in one of the languages, for answers that are not pages.
func (p *Pages) text(index int, key string, args ...any) string {
	return p.tables[index].text(key, args...)
}
