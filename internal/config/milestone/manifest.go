package milestone

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// ManifestPath is where a milestone says of itself what programs need.
const ManifestPath = ".conflux/milestone.json"

// formatVersion is of the layout of the manifest and of the files.
const formatVersion = 1

// Manifest is the content of ManifestPath.
type Manifest struct {
	FormatVersion  int       `json:"format_version"`
	OperationCount int       `json:"operation_count"` // since the milestone before
	Environments   []string  `json:"environments"`
	Range          *Range    `json:"hlc_range"` // of these operations; null without any
	CreatedAt      time.Time `json:"created_at"`
	Format         string    `json:"format"`
	Schema         string    `json:"schema"`
	Version        crdt.Dots `json:"version"`
	LogHead        string    `json:"log_head,omitempty"`
	Files          []string  `json:"files"` // what milestones have written and is still there: the next one takes away nothing else
	// Kept are environments that the milestone left as an earlier one had written them, with that one's version.
	Kept map[string]crdt.Dots `json:"kept,omitempty"`
}

// Range is the time of the first and last operation.
type Range struct {
	Start crdt.HLC `json:"start"`
	End   crdt.HLC `json:"end"`
}

// maxFiles bounds the files of a projection: as many types in as many environments as nobody has.
const maxFiles = 10_000

func (m *Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ManifestPath, err)
	}
	return append(data, '\n'), nil
}

// decodeManifest reads a manifest. Whoever can push can write one, so that a path which could not be a projection's is refused: the next
// milestone would delete it.
func decodeManifest(data []byte) (*Manifest, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", ManifestPath, err, errkind.Invalid)
	}
	if m.FormatVersion != formatVersion {
		return nil, fmt.Errorf("read %s: it has format_version %d, and this version reads %d: %w", ManifestPath, m.FormatVersion, formatVersion, errkind.Unsupported)
	}
	if len(m.Files) > maxFiles {
		return nil, fmt.Errorf("read %s: it has %d files, and %d are allowed: %w", ManifestPath, len(m.Files), maxFiles, errkind.TooLarge)
	}
	for _, f := range m.Files {
		env, base := path.Split(f)
		kind, extension, ok := strings.Cut(base, "s.")
		if !ok || kind == "" || extension == "" || !slices.Contains(m.Environments, strings.TrimSuffix(env, "/")) || strings.Count(f, "/") != 1 || strings.HasPrefix(f, ".") {
			return nil, fmt.Errorf("read %s: no milestone writes a file %q: %w", ManifestPath, clip(f), errkind.Invalid)
		}
	}
	return m, nil
}

// version returns what the files of an environment have.
func (m *Manifest) version(env string) crdt.Dots {
	if v, ok := m.Kept[env]; ok {
		return v
	}
	return m.Version
}

// paths returns all that the milestone has written.
func (m *Manifest) paths() []string { return append(slices.Clone(m.Files), ManifestPath) }
