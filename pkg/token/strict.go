package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep claims may nest: an object, its arrays, and the keys of a key set.
const maxDepth = 4

// header is all that the header of a token of ours may say. Members that name a key (jku, jwk, x5u, x5c) or switch rules
// (crit, b64, zip, cty) have no place in it (RFC 8725 §3.1, §3.10).
type header struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ"`
	KeyID     string `json:"kid"`
}

// screen refuses what the JWT library would take although it has two readings: duplicate members, names that differ only in
// case, padding bits, bytes that are no UTF-8, members of the header that are not ours. It checks no signature.
func screen(raw string, kind Kind) (header, error) {
	var h header
	if len(raw) > MaxBytes {
		return h, fmt.Errorf("%d bytes, at most %d", len(raw), MaxBytes)
	}
	parts := strings.SplitN(raw, ".", 4)
	if len(parts) != 3 {
		return h, errors.New("not three segments")
	}
	first, err := object(parts[0])
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if _, err := object(parts[1]); err != nil {
		return h, fmt.Errorf("claims: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(first))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	switch {
	case h.Algorithm != "EdDSA":
		return h, errors.New("alg is not EdDSA")
	case h.Type != string(kind):
		return h, fmt.Errorf("typ is not %s", kind)
	case h.KeyID == "" || len(h.KeyID) > 64:
		return h, errors.New("kid missing or too long")
	}
	return h, nil
}

// object decodes one segment and checks that it is one JSON object with one reading.
func object(segment string) ([]byte, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	// Go's decoder skips CR and LF inside base64, which would give one token many spellings.
	if strings.ContainsAny(segment, "\r\n") {
		return nil, errors.New("line break")
	}
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	if err := members(dec, 1); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("bytes after the object")
	}
	return text, nil
}

// members reads the rest of an object whose brace was read.
func members(dec *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deep")
	}
	seen := make(map[string]bool, 16)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if !plainName(name) {
			return errors.New("member name outside a-z, 0-9 and _")
		}
		if seen[name] {
			return fmt.Errorf("member %s twice", name)
		}
		seen[name] = true
		if err := value(dec, depth); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func value(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		return members(dec, depth+1)
	case json.Delim('['):
		return elements(dec, depth+1)
	}
	return nil
}

func elements(dec *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deep")
	}
	for dec.More() {
		if err := value(dec, depth); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// plainName keeps encoding/json from matching a member to a field by folding its case.
func plainName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
