package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"
)

// rocaModulus has the fingerprint and no known factors: a power of 65537 modulo the product of the small
// primes, made large by a multiple of that product.
func rocaModulus() *big.Int {
	product := big.NewInt(2)
	for n := int64(3); n <= 167; n++ {
		if big.NewInt(n).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(n))
		}
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123456789), product)
	multiple := new(big.Int).Div(modulus(2048), product)
	return n.Add(n, multiple.Mul(multiple, product))
}

func TestROCA(t *testing.T) {
	if !isROCA(rocaModulus()) {
		t.Error("the fingerprint was not found")
	}
	for range 100 {
		n, err := rand.Int(rand.Reader, modulus(2048))
		if err != nil {
			t.Fatal(err)
		}
		if isROCA(n) {
			t.Errorf("false alarm for %d", n)
		}
	}
}

// TestSmallOrder shows for each listed point why it is refused: a signature of zeros, with one of eight
// points as R, holds for some message of a few.
func TestSmallOrder(t *testing.T) {
	points := []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"0000000000000000000000000000000000000000000000000000000000000080",
	}
	for _, text := range points {
		public, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if !forgeable(public) {
			t.Errorf("%s: no forgery found, so the test proves nothing", text)
		}
		if !isSmallOrder(public) {
			t.Errorf("%s is not found", text)
		}
	}
	if isSmallOrder(weakTestKeys(t).ed25519) {
		t.Error("false alarm")
	}
}

// forgeable makes signatures for a public key without its private key: R is the neutral element, S zero.
func forgeable(public ed25519.PublicKey) bool {
	signature := make([]byte, ed25519.SignatureSize)
	signature[0] = 1
	for n := range 1000 {
		if ed25519.Verify(public, []byte(fmt.Sprint(n)), signature) {
			return true
		}
	}
	return false
}
