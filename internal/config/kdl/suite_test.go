package kdl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/kdl"
)

// The KDL project's own test cases: SKEP_KDL_SUITE names its folder tests/test_cases of KDL 2, SKEP_KDL_SUITE_V1 that of the
// branch release/v1; `make kdl-suite` sets them. They are in no package that a machine could install, so this test is
// external: SKEP_TEST_ALL does not ask for it.
func TestOfficialSuite(t *testing.T) {
	for variable, version := range map[string]int{"SKEP_KDL_SUITE": 2, "SKEP_KDL_SUITE_V1": 1} {
		t.Run(variable, func(t *testing.T) {
			dir := os.Getenv(variable)
			if dir == "" {
				t.Skipf("external: %s is not set to the folder tests/test_cases of github.com/kdl-org/kdl", variable)
			}
			inputs, err := filepath.Glob(filepath.Join(dir, "input", "*.kdl"))
			if err != nil || len(inputs) == 0 {
				t.Fatalf("no test cases in %s: %v", dir, err)
			}
			for _, input := range inputs {
				name := filepath.Base(input)
				t.Run(strings.TrimSuffix(name, ".kdl"), func(t *testing.T) {
					official(t, input, filepath.Join(dir, "expected_kdl", name), version)
				})
			}
			t.Logf("%d cases", len(inputs))
		})
	}
}

// official checks one case. Without an expected file the input is to be refused.
func official(t *testing.T, input, expected string, version int) {
	t.Helper()
	data, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := kdl.Parse(data, kdl.Options{Version: version})
	want, missing := os.ReadFile(expected)
	if missing != nil {
		if err == nil {
			t.Errorf("%q was read, and is malformed", data)
		}
		return
	}
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if version == 1 {
		// What is expected is KDL 1 as well.
		old, err := kdl.Parse(want, kdl.Options{Version: 1})
		if err != nil {
			t.Fatalf("the expected %q: %v", want, err)
		}
		want = marshal(t, old)
	}
	if got := marshal(t, doc); string(got) != strings.TrimLeft(string(want), "\n") {
		t.Errorf("%q:\ngot:\n%s\nwant:\n%s", data, got, want)
	}
}

func marshal(t *testing.T, doc *kdl.Document) []byte {
	t.Helper()
	data, err := kdl.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
