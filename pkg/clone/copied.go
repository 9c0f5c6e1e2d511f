package clone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mdclone/pkg/config"
	"mdclone/pkg/md"
	"mdclone/pkg/report"
)

// copiedChunks is what was copied to a clone that stays in the array: md clears the marks soon after.
type copiedChunks struct {
	Stay       string     `json:"stay"` // see Env.stay
	ChunkBytes uint32     `json:"chunk_bytes"`
	Chunks     []md.Range `json:"chunks"`
}

func (s *session) copiedPath() string {
	return filepath.Join(s.env.RunDir(), "copied-"+s.drive.Member.Super.Device.Dashed()+".json")
}

// keepCopied notes what was copied for a comparison that is asked for later. It never fails a cycle.
func (s *session) keepCopied() {
	stay, err := s.env.stay(s.Array, s.drive.Name)
	var text []byte
	if err == nil {
		text, err = json.Marshal(copiedChunks{stay, s.bitmap.ChunkBytes, s.copied.Ranges()})
	}
	if err == nil {
		err = errors.Join(os.MkdirAll(s.env.RunDir(), 0o755), os.WriteFile(s.copiedPath(), text, 0o600))
	}
	if err != nil {
		s.env.Log.Warnf("verify --changed will not know what was copied: %v", err)
	}
}

// addCopied adds to what --verify changed compares what was copied when the clone came in. Where that is not known, and nothing is
// marked, there is nothing to compare, which must not look like a comparison.
func (s *session) addCopied() error {
	if s.verify != config.VerifyChanged {
		return nil
	}
	known, err := s.readCopied()
	if err != nil {
		return err
	}
	if known == nil && s.copied.Count() == 0 {
		return report.Fail(report.Refused, "copied-unknown", "nothing is marked as changed, and what was copied to %s is not known any more",
			s.drive.Name).Hint("without --changed all of it is compared")
	}
	if known != nil {
		s.copied = s.copied.Or(*known)
	}
	return nil
}

// readCopied reads what keepCopied noted of this stay in the array; nil if nothing is known of it.
func (s *session) readCopied() (*md.Chunks, error) {
	text, err := os.ReadFile(s.copiedPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stay, err := s.env.stay(s.Array, s.drive.Name)
	if err != nil {
		return nil, err
	}
	return copiedIn(text, stay, s.bitmap)
}

// copiedIn is what text says of that stay, as chunks of a bitmap.
func copiedIn(text []byte, stay string, b *md.Bitmap) (*md.Chunks, error) {
	var known copiedChunks
	if err := json.Unmarshal(text, &known); err != nil {
		return nil, fmt.Errorf("what was copied: %w", err)
	}
	if known.Stay != stay || known.ChunkBytes != b.ChunkBytes {
		return nil, nil
	}
	out := md.NewChunks(b.Dirty.Len())
	for _, r := range known.Chunks {
		for i := r.First; i <= r.Last && i < out.Len(); i++ {
			out.Add(i)
		}
	}
	return &out, nil
}
