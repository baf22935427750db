package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileValue is a value of the file and where it stands.
type fileValue struct {
	node  *yaml.Node
	where string
}

// readFile finds the node of each known key and a fault for everything else. Anchors, aliases and merge keys are refused:
// a reader must see a value where it counts.
func readFile(name string, text []byte, fields []*Field) (map[string]fileValue, []error) {
	known, groups := map[string]bool{}, map[string]bool{}
	for _, f := range fields {
		known[f.Key] = true
		for i, c := range f.Key {
			if c == '.' {
				groups[f.Key[:i]] = true
			}
		}
	}
	var doc yaml.Node
	switch err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, []error{fmt.Errorf("%s: %w", name, err)}
	}
	r := fileReader{name: name, known: known, groups: groups, values: map[string]fileValue{}}
	r.mapping("", doc.Content[0])
	return r.values, r.faults
}

type fileReader struct {
	name          string
	known, groups map[string]bool
	values        map[string]fileValue
	faults        []error
}

func (r *fileReader) mapping(prefix string, node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		r.fault(node, "want a mapping of keys to values")
		return
	}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		path := strings.TrimPrefix(prefix+"."+key.Value, ".")
		_, twice := r.values[path]
		switch {
		case key.Tag == "!!merge" || value.Kind == yaml.AliasNode || value.Anchor != "":
			r.fault(key, "anchors, aliases and merge keys are not allowed")
		case twice:
			r.fault(key, path+" stands here twice")
		case r.known[path]:
			r.values[path] = fileValue{node: value, where: fmt.Sprintf("%s:%d", r.name, value.Line)}
		case r.groups[path]:
			r.mapping(path, value)
		default:
			r.fault(key, fmt.Sprintf("unknown key %s%s", path, r.suggest(path)))
		}
	}
}

func (r *fileReader) fault(at *yaml.Node, what string) {
	r.faults = append(r.faults, fmt.Errorf("%s:%d: %s", r.name, at.Line, what))
}

// suggest names the keys of the same group, so that a typing mistake need not be looked up.
func (r *fileReader) suggest(path string) string {
	group := path[:strings.LastIndexByte(path, '.')+1]
	seen := map[string]bool{}
	for k := range r.known {
		if rest, ok := strings.CutPrefix(k, group); ok {
			first, _, _ := strings.Cut(rest, ".")
			seen[first] = true
		}
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	sort.Strings(names)
	return "; known here: " + strings.Join(names, ", ")
}

// decodeStrict decodes a list; keys that its structs do not have are faults.
func decodeStrict(node *yaml.Node, dst any) error {
	text, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	return dec.Decode(dst)
}

// validate asks dst and each struct inside it.
func validate(dst any, fields []*Field) []error {
	var faults []error
	var ask func(v reflect.Value)
	ask = func(v reflect.Value) {
		if check, ok := v.Addr().Interface().(Validator); ok {
			if err := check.Validate(); err != nil {
				faults = append(faults, err)
			}
		}
		for i := range v.NumField() {
			if inner := v.Field(i); v.Type().Field(i).IsExported() && inner.Kind() == reflect.Struct && inner.CanAddr() {
				ask(inner)
			}
		}
	}
	if len(fields) > 0 {
		ask(reflect.ValueOf(dst).Elem())
	}
	return faults
}
