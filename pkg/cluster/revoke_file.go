package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Sealer seals what lies on the disk; *secret.Sealer is one.
type Sealer interface {
	Seal(purpose string, plain []byte) ([]byte, error)
	Open(purpose string, sealed []byte) ([]byte, error)
}

const pendingPurpose = "cluster/revocations"

// pendingRow is a revocation in the file; names of people may be in it, which is why it is sealed.
type pendingRow struct {
	Tenant string `json:"tenant"`
	Kind   string `json:"kind"`
	ID     string `json:"id"`
}

// save replaces the file; it is on the disk when save returns. Nothing pending leaves no file.
func (r *Revoker) save(pending []change.Change) error {
	if len(pending) == 0 {
		if err := os.Remove(r.cfg.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	rows := make([]pendingRow, len(pending))
	for i, c := range pending {
		rows[i] = pendingRow{string(c.Tenant), string(c.Kind), c.ID}
	}
	plain, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	sealed, err := r.cfg.Sealer.Seal(pendingPurpose, plain)
	if err != nil {
		return err
	}
	fresh := r.cfg.Path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, r.cfg.Path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(r.cfg.Path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (r *Revoker) load() ([]change.Change, error) {
	sealed, err := os.ReadFile(r.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pending revocations: %w", err)
	}
	plain, err := r.cfg.Sealer.Open(pendingPurpose, sealed)
	if err != nil {
		return nil, fmt.Errorf("pending revocations %s: %w", r.cfg.Path, err)
	}
	var rows []pendingRow
	if err := json.Unmarshal(plain, &rows); err != nil {
		return nil, fmt.Errorf("pending revocations %s: %w", r.cfg.Path, err)
	}
	var out []change.Change
	for _, row := range rows {
		out = append(out, change.Change{Tenant: id.Tenant(row.Tenant), Kind: change.Kind(row.Kind), ID: row.ID})
	}
	return out, nil
}
