package conf

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// Field is one configuration key.
type Field struct {
	// Key is the path in the YAML file, with dots.
	Key string
	// Help is the one line that a flag shows.
	Help  string
	value reflect.Value
}

// Flag is the key as a flag's name: mail.host is --mail-host.
func (f *Field) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(f.Key) }

// Env is the key as an environment variable's name.
func (f *Field) Env() string {
	return EnvPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(f.Key))
}

// IsBool reports whether the flag may stand without a value.
func (f *Field) IsBool() bool { return f.value.Kind() == reflect.Bool }

// Default is the present value as text.
func (f *Field) Default() string { return f.display() }

// Scalar reports whether a flag or a variable can hold the value; lists of structs live in the file only.
func (f *Field) Scalar() bool { return !f.fileOnly() }

// Fields lists the keys of dst in the order of its struct, for the command line to offer as flags. It panics on a dst that
// is no pointer to a tagged struct, which is a mistake of the program.
func Fields(dst any) []*Field {
	fields, err := fieldsOf(dst)
	if err != nil {
		panic(err)
	}
	return fields
}

// Changed lists the keys whose values differ between two structs of one type with `conf:"key"` tags, in the order of the
// struct. It panics, as Fields does, on what is none.
func Changed[T any](a, b *T) []string {
	var keys []string
	others := Fields(b)
	for i, f := range Fields(a) {
		if f.value.Kind() == reflect.Slice && f.value.Len()+others[i].value.Len() == 0 {
			continue // a list that is empty is as good as none
		}
		if !reflect.DeepEqual(f.value.Interface(), others[i].value.Interface()) {
			keys = append(keys, f.Key)
		}
	}
	return keys
}

func fieldsOf(dst any) ([]*Field, error) {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("configuration: %T is no pointer to a struct", dst)
	}
	return walk("", v.Elem()), nil
}

func walk(prefix string, v reflect.Value) []*Field {
	var out []*Field
	for i := range v.NumField() {
		t := v.Type().Field(i)
		key, ok := t.Tag.Lookup("conf")
		if !ok {
			continue
		}
		if prefix != "" {
			key = prefix + "." + key
		}
		if inner := v.Field(i); inner.Kind() == reflect.Struct && !isText(inner) {
			out = append(out, walk(key, inner)...)
			continue
		}
		out = append(out, &Field{Key: key, Help: t.Tag.Get("help"), value: v.Field(i)})
	}
	return out
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// fileOnly is true for what one line of text cannot say, and for secrets: an environment or a command line can be read by
// others.
func (f *Field) fileOnly() bool {
	if _, ok := f.value.Interface().(secret.Redacted); ok {
		return true
	}
	return f.value.Kind() == reflect.Slice && f.value.Type().Elem().Kind() != reflect.String
}

func (f *Field) setText(text string) error {
	if f.fileOnly() {
		return fmt.Errorf("can be set in the file only")
	}
	if u, ok := f.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch f.value.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration: write 30s, 5m or 12h", text)
		}
		f.value.SetInt(int64(d))
		return nil
	case []string:
		f.value.Set(reflect.ValueOf(splitList(text)))
		return nil
	}
	return f.setScalar(text)
}

func (f *Field) setScalar(text string) error {
	switch f.value.Kind() {
	case reflect.String:
		f.value.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		f.value.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		f.value.SetInt(n)
	default:
		return fmt.Errorf("cannot hold text")
	}
	return nil
}

func (f *Field) setNode(node *yaml.Node) error {
	if f.value.Kind() == reflect.Slice {
		fresh := reflect.New(f.value.Type())
		if err := decodeStrict(node, fresh.Interface()); err != nil {
			return err
		}
		f.value.Set(fresh.Elem())
		return nil
	}
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("want one value, not a list or a mapping")
	}
	if _, ok := f.value.Interface().(secret.Redacted); ok {
		f.value.Set(reflect.ValueOf(secret.Redact(node.Value)))
		return nil
	}
	return f.setText(node.Value)
}

func (f *Field) display() string {
	switch v := f.value.Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(f.value.Interface())
}

func splitList(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
