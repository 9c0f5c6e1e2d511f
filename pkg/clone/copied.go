package clone

import (
	"encoding/json"
	"errors"
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
		err = writeDurably(s.copiedPath(), text)
	}
	if err != nil {
		s.env.Log.Warnf("verify --changed will not know what was copied: %v", err)
	}
}

// addCopied adds to what --verify changed compares what was copied when the clone came in. Where that is not known there may be
// nothing to compare, or a part only, which must not look like a comparison.
func (s *session) addCopied() error {
	if s.verify != config.VerifyChanged {
		return nil
	}
	known, err := s.readCopied()
	if err == nil && known == nil {
		err = report.Fail(report.Refused, "copied-unknown", "what was copied to %s when it came in is not known any more", s.drive.Name).
			Hint("without --changed all of it is compared")
	}
	if err == nil {
		s.copied = s.copied.Or(*known)
	}
	return err
}

// knownCopied adds what an earlier run has noted of this stay, if it has.
func (s *session) knownCopied() error {
	known, err := s.readCopied()
	if err == nil && known != nil {
		s.copied = s.copied.Or(*known)
	}
	return err
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
	return copiedIn(text, stay, s.bitmap), nil
}

// copiedIn is what text says of that stay, as chunks of a bitmap; nil if it does not.
func copiedIn(text []byte, stay string, b *md.Bitmap) *md.Chunks {
	var known copiedChunks
	if err := json.Unmarshal(text, &known); err != nil || known.Stay != stay || known.ChunkBytes != b.ChunkBytes {
		return nil
	}
	out := md.NewChunks(b.Dirty.Len())
	for _, r := range known.Chunks {
		for i := r.First; i <= r.Last && i < out.Len(); i++ {
			out.Add(i)
		}
	}
	return &out
}
