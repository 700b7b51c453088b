package config_test

import "flag"

var (
	histories = flag.Int("histories", 100, "how many random histories TestManyHistories goes through")
	first     = flag.Int("first", 0, "the seed of the first of them")
)
