package kdl

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Number is a number as its shortest plain text in base 10: an integer ("-15"), a number with a point, an exponent or both
// ("2.50", "1E+10", "1.0E-1000"), or one of Inf, NegInf and NaN. It has every digit that the document has. Two Numbers that
// are equal as text are equal; 1.0 and 1.00 are two texts.
type Number string

// The numbers that no digits give.
const (
	Inf    Number = "#inf"
	NegInf Number = "#-inf"
	NaN    Number = "#nan"
)

// Int makes a Number of an integer.
func Int(i int64) Number { return Number(strconv.FormatInt(i, 10)) }

// Float makes a Number of a float; it has a point or an exponent, so it is read back as a float of the same bits.
// All bit patterns of NaN become NaN.
func Float(f float64) Number {
	switch {
	case math.IsNaN(f):
		return NaN
	case math.IsInf(f, 1):
		return Inf
	case math.IsInf(f, -1):
		return NegInf
	}
	s := strconv.FormatFloat(f, 'G', -1, 64)
	if !strings.ContainsAny(s, ".E") {
		s += ".0"
	}
	n, _ := parseNumber(s)
	return n
}

// IsInt says whether n was written without a point and an exponent.
func (n Number) IsInt() bool { return n != "" && n[0] != '#' && !strings.ContainsAny(string(n), ".E") }

// Int64 gives an integer that fits.
func (n Number) Int64() (int64, bool) {
	i, err := strconv.ParseInt(string(n), 10, 64)
	return i, err == nil
}

// Float64 gives the nearest float. It is false if n is finite and the float would not be.
func (n Number) Float64() (float64, bool) {
	switch n {
	case Inf:
		return math.Inf(1), true
	case NegInf:
		return math.Inf(-1), true
	case NaN:
		return math.NaN(), true
	}
	f, err := strconv.ParseFloat(string(n), 64)
	return f, err == nil
}

// valid says whether n is as parseNumber makes it: for Numbers that a program put together.
func (n Number) valid() bool {
	if n == Inf || n == NegInf || n == NaN {
		return true
	}
	if n == "" || len(n) > MaxDigits {
		return false
	}
	m, problem := parseNumber(string(n))
	return problem == "" && m == n
}

// bases has the numbers with a prefix.
var bases = []struct {
	prefix string
	base   int
	digits string
	name   string
}{
	{"0x", 16, "0123456789abcdefABCDEF", "a hexadecimal"},
	{"0o", 8, "01234567", "an octal"},
	{"0b", 2, "01", "a binary"},
}

// parseNumber reads a number that has the whole token for itself, or says what is wrong with it.
func parseNumber(token string) (n Number, problem string) {
	sign, rest := "", token
	if rest[0] == '+' || rest[0] == '-' {
		sign, rest = strings.TrimPrefix(rest[:1], "+"), rest[1:]
	}
	for _, b := range bases {
		if after, is := strings.CutPrefix(rest, b.prefix); is {
			digits, after := digits(after, b.digits)
			if digits == "" || after != "" {
				return "", b.name + " number is " + b.prefix + " and then only the digits " + b.digits + " and _, the first not _"
			}
			i, _ := new(big.Int).SetString(digits, b.base)
			return Number(sign + i.String()), ""
		}
	}
	const form = `a number is digits with an optional fraction and exponent, as 12, 1_000, 0.5 or 1.5e-3; text that starts like one needs quotes`
	const decimal = "0123456789"
	whole, rest := digits(rest, decimal)
	text := sign + plain(whole)
	if whole == "" {
		return "", form
	}
	if after, is := strings.CutPrefix(rest, "."); is {
		var fraction string
		if fraction, rest = digits(after, decimal); fraction == "" {
			return "", form
		}
		text += "." + fraction
	}
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		way := "+"
		if rest != "" && (rest[0] == '+' || rest[0] == '-') {
			way, rest = rest[:1], rest[1:]
		}
		var exponent string
		if exponent, rest = digits(rest, decimal); exponent == "" {
			return "", form
		}
		text += "E" + way + plain(exponent)
	}
	if rest != "" {
		return "", form
	}
	return Number(text), ""
}

// digits cuts digits of a set, between and after which there may be underscores, from the start of s.
func digits(s, set string) (found, rest string) {
	if s == "" || s[0] == '_' {
		return "", s
	}
	end := len(s) - len(strings.TrimLeft(s, set+"_"))
	return strings.ReplaceAll(s[:end], "_", ""), s[end:]
}

// plain drops leading zeros.
func plain(digits string) string {
	if t := strings.TrimLeft(digits, "0"); t != "" || digits == "" {
		return t
	}
	return "0"
}
