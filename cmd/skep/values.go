package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/secret"
)

// quotaValue is a flag like 100/1m, or off.
type quotaValue struct {
	name string
	in   map[string]limit.Quota
	show limit.Quota
}

// Set implements pflag.Value, as all methods here.
func (v *quotaValue) Set(s string) error {
	q, err := limit.ParseQuota(s)
	if err != nil {
		return fmt.Errorf("read quota: %w", err)
	}
	v.in[v.name], v.show = q, q
	return nil
}

func (v *quotaValue) String() string { return v.show.String() }

// Type is how help calls a value.
func (v *quotaValue) Type() string { return "N/TIME" }

// headerValue is a flag with the name of a header that proxies write.
type headerValue struct{ h *peer.Header }

// Set implements pflag.Value, as all methods here.
func (v headerValue) Set(s string) (err error) {
	*v.h, err = peer.ParseHeader(s)
	return err //nolint:wrapcheck // it quotes s
}

func (v headerValue) String() string {
	if v.h == nil || *v.h == "" {
		return string(peer.XForwardedFor)
	}
	return string(*v.h)
}

// Type is how help calls a value.
func (v headerValue) Type() string { return "NAME" }

// none is how people write an empty list where leaving the flag out means something else.
const none = "none"

// prefixesValue is a flag with a list of networks: 10.0.0.0/8,192.0.2.7, or none.
type prefixesValue struct{ list *[]netip.Prefix }

// Set takes all of the list: what was there before is forgotten.
func (v prefixesValue) Set(s string) error {
	list := []netip.Prefix{}
	if s == none {
		s = ""
	}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if a, aerr := netip.ParseAddr(part); aerr == nil && a.Zone() == "" {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return fmt.Errorf("network %q is not like 10.0.0.0/8: %w", part, errkind.Invalid)
		}
		if p.Addr().Is4In6() {
			return fmt.Errorf("network %q: write IPv4 networks as such: %w", part, errkind.Invalid) // it would match nothing
		}
		list = append(list, p.Masked())
	}
	*v.list = list
	return nil
}

func (v prefixesValue) String() string {
	if v.list == nil || len(*v.list) == 0 {
		return none
	}
	var parts []string
	for _, p := range *v.list {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ",")
}

// Type is how help calls a value.
func (v prefixesValue) Type() string { return "CIDRS" }

// timeValue is a flag with a date, or a time as in RFC 3339.
type timeValue struct{ t *time.Time }

// Set implements pflag.Value, as all methods here.
func (v timeValue) Set(s string) error {
	for _, form := range [...]string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			*v.t = t
			return nil
		}
	}
	return fmt.Errorf("it is neither like 2026-05-01 nor like 2026-05-01T10:00:00Z: %w", errkind.Invalid)
}

func (v timeValue) String() string {
	if v.t == nil || v.t.IsZero() {
		return ""
	}
	return v.t.Format(time.RFC3339)
}

// Type is how help calls a value.
func (v timeValue) Type() string { return "TIME" }

// keyValue is a flag with a master key: file:PATH, or in its environment variable the key. It is never printed.
type keyValue struct{ text *string }

// Set implements pflag.Value, as all methods here.
func (v keyValue) Set(s string) error {
	*v.text = s
	return nil
}

func (v keyValue) String() string { return "" }

// Type is how help calls a value.
func (v keyValue) Type() string { return "file:PATH" }

// keysValue is a flag with master keys, between commas.
type keysValue struct{ list *[]string }

// Set takes all of the list: what was there before is forgotten.
func (v keysValue) Set(s string) error {
	*v.list = strings.Split(s, ",")
	return nil
}

func (v keysValue) String() string { return "" }

// Type is how help calls a value.
func (v keysValue) Type() string { return "file:PATH,..." }

// noKeyShown refuses master keys on a command line, which others on the machine can see.
func noKeyShown(flags *pflag.FlagSet) error {
	var err error
	flags.Visit(func(f *pflag.Flag) {
		var texts []string
		switch v := f.Value.(type) {
		case keyValue:
			texts = []string{*v.text}
		case keysValue:
			texts = *v.list
		}
		for _, text := range texts {
			if !secret.IsFile(text) {
				err = usageError{fmt.Errorf("--%s names a file, as file:PATH; a key itself is for its environment variable, which others cannot see", f.Name)}
			}
		}
	})
	return err
}
