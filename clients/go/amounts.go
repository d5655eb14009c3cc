package wallet

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
)

const (
	digits = 6
	micros = 1_000_000
)

// Money is an amount as people write it: Money("USDC", "12.34"). It refuses what is no plain decimal, is too large, or
// would lose digits.
func Money(asset, amount string) (*walletv1.Money, error) {
	count, err := Micros(amount)
	if err != nil {
		return nil, err
	}
	return &walletv1.Money{Asset: asset, Micros: count}, nil
}

// Micros are the millionths in a decimal: 12_340_000 in "12.34". It refuses what Money refuses.
func Micros(amount string) (int64, error) {
	unsigned, negative := strings.CutPrefix(amount, "-")
	whole, fraction, point := strings.Cut(unsigned, ".")
	if !isNumber(whole) || point && !isNumber(fraction) {
		return 0, fmt.Errorf("%q is no amount: digits, with a point before the fraction", amount)
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > digits {
		return 0, fmt.Errorf("%q has more than %d digits after the point", amount, digits)
	}
	count, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", digits-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is larger than any amount", amount)
	}
	if negative {
		return -count, nil
	}
	return count, nil
}

// Decimal is the exact decimal of a count of micros, with two digits after the point at least: "12.34".
func Decimal(count int64) string {
	sign, rest := "", uint64(count)
	if count < 0 {
		sign, rest = "-", uint64(-(count+1))+1
	}
	fraction := strings.TrimRight(fmt.Sprintf("%06d", rest%micros), "0")
	for len(fraction) < 2 {
		fraction += "0"
	}
	return fmt.Sprintf("%s%d.%s", sign, rest/micros, fraction)
}

func isNumber(text string) bool {
	for _, character := range []byte(text) {
		if character < '0' || character > '9' {
			return false
		}
	}
	return text != "" && len(text) < math.MaxInt16
}
