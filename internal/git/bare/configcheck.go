package bare

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// bools and ints are the settings that this package reads as such. Many of them protect the repository, so that one which cannot be read
// must not count as one which is not there.
var (
	bools = map[string]bool{
		"core.bare": true, "extensions.worktreeconfig": true,
		"http.getanyfile": true, "http.receivepack": true, "http.uploadpack": true,
		"receive.autogc": true, "receive.denydeletes": true, "receive.denynonfastforwards": true, "receive.fsckobjects": true,
		"receive.shallowupdate": true, "receive.updateserverinfo": true, "transfer.fsckobjects": true,
	}
	ints = map[string]bool{
		"core.filesreflocktimeout": true, "core.packedrefstimeout": true, "core.repositoryformatversion": true,
		"gc.auto": true, "receive.maxinputsize": true, "receive.unpacklimit": true, "transfer.unpacklimit": true,
	}
)

// check refuses a setting whose value cannot be read, as git's programs do.
func (s setting) check() error {
	value := s.value
	if s.bare {
		value = "true"
	}
	switch {
	case bools[s.name]:
		if _, ok := parseBool(value); !ok {
			return fmt.Errorf("%s is %q, which is neither true nor false: %w", s.name, value, errkind.Invalid)
		}
	case ints[s.name]:
		if _, err := parseInt(value); err != nil {
			return fmt.Errorf("%s is %q, which is no number; it may end in k, m or g: %w", s.name, value, errkind.Invalid)
		}
	case s.name == "core.logallrefupdates" && !strings.EqualFold(value, "always"):
		if _, ok := parseBool(value); !ok {
			return fmt.Errorf("%s is %q, which is neither true nor false nor always: %w", s.name, value, errkind.Invalid)
		}
	}
	return nil
}
