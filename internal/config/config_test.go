package config_test

import "flag"

var histories = flag.Int("histories", 300, "how many random histories TestManyHistories goes through")
