package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Amend returns a configuration file's text with the keys set to what they are in src, a pointer to a tagged struct; all else
// in it, comments and order too, stays. Keys that are not there come at its end. It writes no secrets: they are file-only, and an
// error here.
func Amend(text []byte, src any, keys ...string) ([]byte, error) {
	fields, err := fieldsOf(src)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return text, nil
	}
	var doc yaml.Node
	switch err := yaml.Unmarshal(text, &doc); {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("configuration: %w", err)
	case len(doc.Content) == 0: // nothing but comments, which the parser leaves out
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	default:
		text = nil
	}
	for _, key := range keys {
		at := slices.IndexFunc(fields, func(f *Field) bool { return f.Key == key })
		if at < 0 || fields[at].fileOnly() {
			return nil, fmt.Errorf("configuration: %s cannot be written into a file", key)
		}
		if err := put(doc.Content[0], strings.Split(key, "."), fields[at].node()); err != nil {
			return nil, fmt.Errorf("configuration: %s: %w", key, err)
		}
	}
	out := bytes.NewBuffer(slices.Clone(text))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		out.WriteByte('\n')
	}
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return out.Bytes(), nil
}

// put sets the value at a path of keys in a mapping.
func put(in *yaml.Node, path []string, value *yaml.Node) error {
	if in.Kind != yaml.MappingNode {
		return errors.New("the file has something else where a mapping of keys to values belongs")
	}
	for i := 0; i+1 < len(in.Content); i += 2 {
		if in.Content[i].Value != path[0] {
			continue
		}
		if len(path) > 1 {
			return put(in.Content[i+1], path[1:], value)
		}
		value.LineComment, value.FootComment = in.Content[i+1].LineComment, in.Content[i+1].FootComment
		in.Content[i+1] = value
		return nil
	}
	for i := len(path) - 1; i > 0; i-- {
		value = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar(path[i]), value}}
	}
	in.Content = append(in.Content, scalar(path[0]), value)
	return nil
}

// node is the present value as YAML.
func (f *Field) node() *yaml.Node {
	if f.IsBool() {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: f.display()}
	}
	words, isList := f.value.Interface().([]string)
	if !isList {
		return scalar(f.display())
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, word := range words {
		list.Content = append(list.Content, scalar(word))
	}
	return list
}

// scalar is text that is read back as it is; the encoder quotes what YAML would take for something else.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
