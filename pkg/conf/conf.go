// Package conf owns how configuration reaches a struct: flags before environment before a YAML file before the default that
// the struct already holds. It is strict (a key that nobody knows is an error) and reports every fault at once; it knows
// where each value came from. What the keys mean is documented at the fields of the packages that own them.
package conf

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Options says where Load looks.
type Options struct {
	// File is the YAML file, or empty for none.
	File string
	// Env looks up an environment variable; nil means os.LookupEnv.
	Env func(string) (string, bool)
	// Flags holds the flags that were given, by name.
	Flags map[string]string
}

// EnvPrefix begins the name of every environment variable: the key mail.host is SALLYPORT_MAIL_HOST.
const EnvPrefix = "SALLYPORT_"

// Validator is what a configuration, or a struct inside one, may implement; Load joins its faults to those of reading.
type Validator interface{ Validate() error }

// Load fills dst, a pointer to a struct whose fields carry `conf:"key"` tags, and returns where each value came from.
// The error joins every fault that was found; dst is not to be used then.
func Load(dst any, opt Options) (Settings, error) {
	fields, err := fieldsOf(dst)
	if err != nil {
		return nil, err
	}
	var faults []error
	file := map[string]fileValue{}
	if opt.File != "" {
		text, err := os.ReadFile(opt.File)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		file, faults = readFile(opt.File, text, fields)
	}
	lookup := opt.Env
	if lookup == nil {
		lookup = os.LookupEnv
	}
	settings := make(Settings, 0, len(fields))
	for _, f := range fields {
		source, err := f.fill(opt.Flags, lookup, file)
		if err != nil {
			faults = append(faults, err)
		}
		settings = append(settings, Setting{Key: f.Key, Value: f.display(), Source: source})
	}
	if len(faults) == 0 {
		faults = append(faults, validate(dst, fields)...)
	}
	return settings, errors.Join(faults...)
}

// fill sets the field from the first source that has it and says which one that was.
func (f *Field) fill(flags map[string]string, env func(string) (string, bool), file map[string]fileValue) (string, error) {
	if text, ok := flags[f.Flag()]; ok {
		return fromFlag + f.Flag(), f.wrap(fromFlag+f.Flag(), f.setText(text))
	}
	if text, ok := env(f.Env()); ok && !f.fileOnly() {
		return fromEnvironment + f.Env(), f.wrap(fromEnvironment+f.Env(), f.setText(text))
	}
	if v, ok := file[f.Key]; ok {
		return v.where, f.wrap(v.where, f.setNode(v.node))
	}
	return "default", nil
}

func (f *Field) wrap(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", where, f.Key, err)
}

// How a Setting's Source begins that came from neither the file nor the default.
const (
	fromFlag        = "flag --"
	fromEnvironment = "environment "
)

// Setting is one value and where it came from.
type Setting struct{ Key, Value, Source string }

// Settings is what --show-config prints.
type Settings []Setting

// Given lists the keys whose values came from flags or the environment.
func (s Settings) Given() []string {
	var keys []string
	for _, one := range s {
		if strings.HasPrefix(one.Source, fromFlag) || strings.HasPrefix(one.Source, fromEnvironment) {
			keys = append(keys, one.Key)
		}
	}
	return keys
}

func (s Settings) String() string {
	var b strings.Builder
	for _, one := range s {
		fmt.Fprintf(&b, "%-28s %-40s # %s\n", one.Key+":", one.Value, one.Source)
	}
	return b.String()
}
