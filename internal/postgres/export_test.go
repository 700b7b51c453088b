package postgres

// Number is number, for its own test.
func Number(query string) (string, int) { return number(query) }
