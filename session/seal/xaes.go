package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// xaesNonce is the length of an XAES-256-GCM nonce.
const xaesNonce = 24

// xaes is XAES-256-GCM as specified at c2sp.org/XAES-256-GCM: AES-256-GCM under a
// key derived for each nonce (NIST SP 800-108 counter mode with CMAC), so that
// random nonces never run out.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // CMAC subkey
}

func newXAES(key []byte) (*xaes, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	// Doubling in GF(2^128) without a branch on key material.
	var msb byte
	for i := len(x.k1) - 1; i >= 0; i-- {
		msb, x.k1[i] = x.k1[i]>>7, x.k1[i]<<1|msb
	}
	x.k1[len(x.k1)-1] ^= msb * 0b10000111
	return x, nil
}

// under returns the GCM for the first half of nonce; the second half is its nonce.
func (x *xaes) under(nonce []byte) (cipher.AEAD, error) {
	var key [2 * aes.BlockSize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		half[1], half[2] = byte(i+1), 'X'
		copy(half[4:], nonce[:12])
		subtle.XORBytes(half, half, x.k1[:])
		x.block.Encrypt(half, half)
	}
	return newGCM(key[:])
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
