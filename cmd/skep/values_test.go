package main

import (
	"net/netip"
	"testing"
)

func TestPrefixesValue(t *testing.T) {
	for in, want := range map[string]string{
		"": "none", "none": "none", "10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8, ::1": "10.0.0.0/8,::1/128", "192.0.2.7": "192.0.2.7/32",
	} {
		list := []netip.Prefix{netip.MustParsePrefix("1.0.0.0/8")}
		v := prefixesValue{&list}
		if err := v.Set(in); err != nil || v.String() != want || list == nil {
			t.Errorf("Set(%q) = %v, %v, want %s", in, v, err, want)
		}
	}
	for _, in := range []string{"all", "10.0.0.0/33", "10.0.0", "::ffff:10.0.0.0/104", "10.0.0.0/8;::1", "fe80::1%eth0"} {
		var list []netip.Prefix
		if err := (prefixesValue{&list}).Set(in); err == nil {
			t.Errorf("Set(%q) = %v, want an error", in, list)
		}
	}
}
