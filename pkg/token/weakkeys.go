package token

import (
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
	"slices"
)

// isROCA says whether an RSA modulus comes from the key generator of CVE-2017-15361, whose 2048-bit keys can
// be factored: modulo each small prime its product is a power of 65537 (Nemec et al., "The Return of
// Coppersmith's Attack", CCS 2017, section 2). A sound modulus passes by chance once in about 2^27.
func isROCA(modulus *big.Int) bool {
	for _, prime := range []uint64{
		3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
		101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
	} {
		remainder := new(big.Int).Mod(modulus, new(big.Int).SetUint64(prime)).Uint64()
		if !isPowerOf65537(remainder, prime) {
			return false
		}
	}
	return true
}

func isPowerOf65537(n, prime uint64) bool {
	power := uint64(1)
	for {
		if power == n {
			return true
		}
		power = power * 65537 % prime
		if power == 1 {
			return false
		}
	}
}

// isSmallOrder says whether an Ed25519 public key is one of the points of order 1, 2, 4 or 8, for which
// anyone can make signatures (RFC 8032 does not forbid them; crypto/ed25519 accepts them, see the test). A
// broken issuer that exports zeros publishes one. Listed are their y coordinates, the last two the
// non-canonical spellings of 0 and 1; the sign bit is cleared before comparing.
func isSmallOrder(public ed25519.PublicKey) bool {
	y := slices.Clone(public)
	y[len(y)-1] &= 0x7f
	return slices.Contains([]string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	}, hex.EncodeToString(y))
}
