package adminapi

import (
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Write prints an answer of the API for a program to read: format is "json" or "yaml".
func Write(w io.Writer, format string, answer any) error {
	message, ok := answer.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no answer of the API", answer)
	}
	text, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(message)
	if err != nil {
		return err
	}
	switch format {
	case "json":
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	case "yaml":
		var generic yaml.Node // JSON is YAML; block style makes it readable
		if err := yaml.Unmarshal(text, &generic); err != nil {
			return err
		}
		plain(&generic)
		out, err := yaml.Marshal(&generic)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	}
	return fmt.Errorf("output %q: use table, json or yaml", format)
}

func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}
